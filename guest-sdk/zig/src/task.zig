//! Zig functions as tasks.

const std = @import("std");
const Allocator = std.mem.Allocator;
const Stringify = std.json.Stringify;
const attempt = @import("attempt.zig");
const failure = @import("failure.zig");
const host = @import("host.zig");
const options = @import("options.zig");
const schema = @import("schema.zig");
const arguments = @import("arguments.zig");

/// Maximum length of a task name in bytes.
const name_max = 128;

/// A task of a module. Created by `task`.
pub const Task = struct {
    name: []const u8,
    doc: []const u8,
    policy: options.Policy,
    schedule: options.Schedule,
    limits: options.Limits,
    needs: []const []const u8,
    writeSignature: *const fn (out: *Stringify) anyerror!void,
    call: *const fn (args: []const u8, kwargs: []const u8) anyerror![]const u8,

    /// Runs one attempt, and returns the result as JSON.
    pub fn run(self: Task, call: attempt.Invocation) Outcome {
        failure.reset();
        attempt.running = call;
        defer attempt.running = null;
        const result = self.call(call.args, call.kwargs) catch |err| return .{ .failure = failure.of(err) };
        return .{ .result = result };
    }

    /// Returns the signature as JSON.
    pub fn signature(self: Task) ![]const u8 {
        var text: std.Io.Writer.Allocating = .init(host.allocator);
        var out: Stringify = .{ .writer = &text.writer };
        try self.writeSignature(&out);
        return text.written();
    }

    /// Returns the policy, the schedule, the limits and the needs as JSON.
    pub fn policyText(self: Task) ![]const u8 {
        var text: std.Io.Writer.Allocating = .init(host.allocator);
        var out: Stringify = .{ .writer = &text.writer };
        try out.beginObject();
        try options.writeFields(&out, self.policy);
        try options.writeFields(&out, self.schedule);
        try options.writeFields(&out, self.limits);
        if (self.needs.len > 0) {
            try out.objectField("needs");
            try out.write(self.needs);
        }
        try out.endObject();
        return text.written();
    }
};

/// How an attempt ended.
pub const Outcome = union(enum) { result: []const u8, failure: failure.Failure };

/// Makes a task of a function.
///
/// It takes any values that std.json can read, optionally after an allocator for its memory, and returns nothing or a
/// value that std.json can write, or an error. `params` names the parameters; if there are no names and its only
/// parameter is a struct, then the fields of the struct are the parameters of the task, and those with a default are
/// optional. An optional type makes a parameter optional, too.
pub fn task(comptime name: []const u8, comptime function: anytype, comptime with: options.Options) Task {
    comptime {
        if (name.len == 0 or name.len > name_max) @compileError("a task name has 1 to 128 bytes: " ++ name);
        for (name) |byte| if (byte < 0x20 or byte == 0x7f) @compileError("a task name has no control characters");
        if (options.problemOf(with)) |problem| @compileError("task " ++ name ++ ": " ++ problem);
    }
    const typed = Typed(name, function, with);
    return .{
        .name = name,
        .doc = with.doc,
        .policy = with.policy,
        .schedule = with.schedule,
        .limits = with.limits,
        .needs = with.needs,
        .writeSignature = typed.writeSignature,
        .call = typed.call,
    };
}

fn Typed(comptime name: []const u8, comptime function: anytype, comptime with: options.Options) type {
    return struct {
        const info = @typeInfo(@TypeOf(function)).@"fn";
        const first: usize = if (info.param_types.len > 0 and info.param_types[0] == Allocator) 1 else 0;
        const count = info.param_types.len - first;
        const is_spread = with.params.len == 0 and count == 1 and isPlainStruct(info.param_types[first].?);
        const Struct = if (is_spread) info.param_types[first].? else void;
        const parameters = if (is_spread) ofStruct(Struct) else ofFunction();

        fn ofFunction() [count]arguments.Parameter {
            if (with.params.len != count) @compileError("task " ++ name ++ ": params must name each of its parameters");
            var list: [count]arguments.Parameter = undefined;
            for (&list, with.params, info.param_types[first..]) |*parameter, param, T| {
                parameter.* = .{ .name = param, .required = @typeInfo(T.?) != .optional };
            }
            return list;
        }

        /// Calls the function with the arguments, and returns its result as JSON.
        fn call(args: []const u8, kwargs: []const u8) anyerror![]const u8 {
            const list = parameters;
            var given: [list.len]?std.json.Value = undefined;
            try arguments.bind(name, &list, &given, args, kwargs);
            var values: std.meta.ArgsTuple(@TypeOf(function)) = undefined;
            if (first == 1) values[0] = host.allocator;
            if (is_spread) {
                const fields = @typeInfo(Struct).@"struct";
                inline for (fields.field_names, fields.field_types, fields.field_attrs, 0..) |field, T, attributes, i| {
                    const default = comptime attributes.defaultValue(T);
                    @field(values[first], field) = try arguments.read(T, field, given[i], default);
                }
            } else {
                inline for (info.param_types[first..], 0..) |T, i| {
                    values[first + i] = try arguments.read(T.?, with.params[i], given[i], null);
                }
            }
            const returned = @call(.auto, function, values);
            const value = if (@typeInfo(@TypeOf(returned)) == .error_union) try returned else returned;
            if (@TypeOf(value) == void) return "null";
            return Stringify.valueAlloc(host.allocator, value, .{});
        }

        fn writeSignature(out: *Stringify) anyerror!void {
            try out.beginObject();
            try out.objectField("parameters");
            try out.beginArray();
            if (is_spread) {
                const fields = @typeInfo(Struct).@"struct";
                inline for (fields.field_types, 0..) |T, i| try writeParameter(out, i, T);
            } else {
                inline for (info.param_types[first..], 0..) |T, i| try writeParameter(out, i, T.?);
            }
            try out.endArray();
            try out.objectField("result");
            try out.beginObject();
            const Returned = info.return_type.?;
            const T = if (@typeInfo(Returned) == .error_union) @typeInfo(Returned).error_union.payload else Returned;
            try writeType(out, T);
            try out.endObject();
            try out.endObject();
        }

        fn writeParameter(out: *Stringify, comptime index: usize, comptime T: type) anyerror!void {
            const list = parameters;
            try out.beginObject();
            try out.objectField("name");
            try out.write(list[index].name);
            try out.objectField("required");
            try out.write(list[index].required);
            try writeType(out, T);
            try out.endObject();
        }

        fn writeType(out: *Stringify, comptime T: type) anyerror!void {
            try out.objectField("type");
            try out.write(comptime schema.nameOf(T));
            try out.objectField("schema");
            try schema.write(T, host.allocator, out);
        }
    };
}

/// Whether the fields of a type can be the parameters of a task.
fn isPlainStruct(comptime T: type) bool {
    const info = @typeInfo(T);
    return info == .@"struct" and !info.@"struct".is_tuple and !std.meta.hasFn(T, "jsonParseFromValue");
}

fn ofStruct(comptime T: type) [@typeInfo(T).@"struct".field_names.len]arguments.Parameter {
    const info = @typeInfo(T).@"struct";
    var list: [info.field_names.len]arguments.Parameter = undefined;
    for (&list, info.field_names, info.field_types, info.field_attrs) |*parameter, name, Field, attributes| {
        const is_optional = @typeInfo(Field) == .optional or attributes.default_value_ptr != null;
        parameter.* = .{ .name = name, .required = !is_optional };
    }
    return list;
}
