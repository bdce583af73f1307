//! The exports of the module, by the canonical ABI of the component model: what wit/v1 is in WebAssembly. When the
//! module is made a component, the exports and imports are checked against wit/v1.

const std = @import("std");
const attempt = @import("attempt.zig");
const failure = @import("failure.zig");
const host = @import("host.zig");
const Outcome = @import("task.zig").Outcome;
const Task = @import("task.zig").Task;

const Text = extern struct {
    bytes: [*]const u8,
    length: usize,

    fn of(text: []const u8) Text {
        return .{ .bytes = host.address(text), .length = text.len };
    }

    fn slice(self: Text) []const u8 {
        return self.bytes[0..self.length];
    }
};

const List = extern struct { descriptors: [*]const Descriptor, length: usize };

const Descriptor = extern struct { name: Text, documentation: Text, schema: Text, policy: Text };

const TaskError = extern struct { message: Text, kind: Text, details: Text };

const Failure = extern struct {
    case: u8,
    // The payloads of all cases begin with the error, and that with a delay has the alignment of its number.
    err: TaskError align(8),
    delay_ms: u64,
};

const Result = extern struct {
    is_err: u8,
    payload: extern union { text: Text, failure: Failure },
};

var list: List = undefined;
var result: Result = undefined;

pub fn exportTasks(comptime tasks: []const Task) void {
    for (tasks, 0..) |task, i| {
        for (tasks[0..i]) |other| {
            if (std.mem.eql(u8, task.name, other.name)) @compileError("there are two tasks " ++ task.name);
        }
    }
    const exports = struct {
        fn register() callconv(.c) *const List {
            const descriptors = describe(tasks) catch @panic("out of memory");
            list = .{ .descriptors = descriptors.ptr, .length = descriptors.len };
            return &list;
        }

        fn run(
            task_id: [*]const u8,
            task_id_length: usize,
            name: [*]const u8,
            name_length: usize,
            number: u32,
            deadline_ms: u64,
            args: [*]const u8,
            args_length: usize,
            kwargs: [*]const u8,
            kwargs_length: usize,
            metadata: [*]const u8,
            metadata_length: usize,
        ) callconv(.c) *const Result {
            return finish(runTask(tasks, .{
                .task_id = task_id[0..task_id_length],
                .name = name[0..name_length],
                .attempt = number,
                .deadline_ms = deadline_ms,
                .args = args[0..args_length],
                .kwargs = kwargs[0..kwargs_length],
                .metadata = metadata[0..metadata_length],
            }));
        }
    };
    @export(&exports.register, .{ .name = "fastworker:task/tasks@1.0.0#register" });
    @export(&exports.run, .{ .name = "fastworker:task/tasks@1.0.0#run" });
    @export(&reallocate, .{ .name = "cabi_realloc" });
}

fn describe(tasks: []const Task) ![]Descriptor {
    const descriptors = try host.allocator.alloc(Descriptor, tasks.len);
    for (descriptors, tasks) |*descriptor, task| {
        descriptor.* = .{
            .name = .of(task.name),
            .documentation = .of(task.doc),
            .schema = .of(task.signature() catch return error.OutOfMemory),
            .policy = .of(task.policyText() catch return error.OutOfMemory),
        };
    }
    return descriptors;
}

fn runTask(tasks: []const Task, call: attempt.Invocation) Outcome {
    for (tasks) |task| {
        if (std.mem.eql(u8, task.name, call.name)) return task.run(call);
    }
    return .{ .failure = failure.of(failure.badArguments("this module has no task '{s}'", .{call.name})) };
}

fn finish(outcome: Outcome) *const Result {
    result = switch (outcome) {
        .result => |text| .{ .is_err = 0, .payload = .{ .text = .of(text) } },
        .failure => |failed| .{ .is_err = 1, .payload = .{ .failure = .{
            .case = @backingInt(failed.case),
            .err = .{ .message = .of(failed.message), .kind = .of(failed.kind), .details = .of(failed.details) },
            .delay_ms = failed.delay_ms,
        } } },
    };
    return &result;
}

/// The host's allocator in this module.
fn reallocate(old: ?[*]u8, old_size: usize, alignment: usize, size: usize) callconv(.c) [*]u8 {
    if (size == 0) return @ptrFromInt(alignment);
    const memory = host.allocator.rawAlloc(size, .fromByteUnits(alignment), 0) orelse @panic("out of memory");
    if (old) |bytes| @memcpy(memory[0..@min(old_size, size)], bytes[0..@min(old_size, size)]);
    return memory;
}
