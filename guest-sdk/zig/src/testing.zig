//! Runs tasks in tests: as the host would, from JSON to JSON.
//!
//!     const outcome = try fw.testing.run(&tasks, "add", .{ 2, 3 });
//!     try std.testing.expectEqualStrings("5", outcome.result);

const std = @import("std");
const attempt = @import("attempt.zig");
const failure = @import("failure.zig");
const host = @import("host.zig");
const Task = @import("task.zig").Task;

/// One attempt.
pub const Call = struct {
    name: []const u8,
    /// JSON.
    args: []const u8 = "[]",
    kwargs: []const u8 = "{}",
    metadata: []const u8 = "{}",
    task_id: []const u8 = "",
    attempt: u32 = 1,
    deadline_ms: u64 = std.math.maxInt(u64),
    /// What `fw.cancelled` returns.
    cancelled: bool = false,
    /// Every follow-up is refused with this message.
    refuse_follow_ups: ?[]const u8 = null,
};

/// How an attempt ended. Text is valid until the program ends.
pub const Outcome = struct {
    /// JSON, or empty if the attempt failed.
    result: []const u8 = "",
    failure: ?failure.Failure = null,
    /// A line for each: "warn slow", "1/2 half", "mail [\"ada\"] {} {\"countdown\":60}".
    log: []const u8,
    progress: []const u8,
    follow_ups: []const u8,
};

const gpa = std.heap.page_allocator;
var running: Call = undefined;
var log_lines: std.Io.Writer.Allocating = undefined;
var progress_lines: std.Io.Writer.Allocating = undefined;
var follow_up_lines: std.Io.Writer.Allocating = undefined;
var follow_up_count: usize = 0;

/// Runs one attempt with a tuple of arguments by position.
pub fn run(tasks: []const Task, name: []const u8, args: anytype) !Outcome {
    const is_empty = @typeInfo(@TypeOf(args)).@"struct".field_names.len == 0;
    const list = if (is_empty) "[]" else try std.json.Stringify.valueAlloc(gpa, args, .{});
    return runCall(tasks, .{ .name = name, .args = list });
}

/// Runs one attempt.
pub fn runCall(tasks: []const Task, call: Call) !Outcome {
    running = call;
    follow_up_count = 0;
    for ([_]*std.Io.Writer.Allocating{ &log_lines, &progress_lines, &follow_up_lines }) |lines| lines.* = .init(gpa);
    host.functions = .{ .log = log, .progress = progress, .isCancelled = isCancelled, .submit = submit };
    defer host.functions = null;
    const task = for (tasks) |task| {
        if (std.mem.eql(u8, task.name, call.name)) break task;
    } else return error.NoSuchTask;
    const outcome = task.run(.{
        .task_id = call.task_id,
        .name = call.name,
        .attempt = call.attempt,
        .deadline_ms = call.deadline_ms,
        .args = call.args,
        .kwargs = call.kwargs,
        .metadata = call.metadata,
    });
    var ended: Outcome = .{
        .log = log_lines.written(),
        .progress = progress_lines.written(),
        .follow_ups = follow_up_lines.written(),
    };
    switch (outcome) {
        .result => |text| ended.result = text,
        .failure => |failed| ended.failure = failed,
    }
    return ended;
}

fn log(level: host.Level, message: []const u8) void {
    const name = if (level == .err) "error" else @tagName(level);
    log_lines.writer.print("{s} {s}\n", .{ name, message }) catch @panic("out of memory");
}

fn progress(done: u64, total: u64, message: []const u8) void {
    progress_lines.writer.print("{d}/{d} {s}\n", .{ done, total, message }) catch @panic("out of memory");
}

fn isCancelled() bool {
    return running.cancelled;
}

fn submit(name: []const u8, args: []const u8, kwargs: []const u8, options: []const u8) host.Submitted {
    if (running.refuse_follow_ups) |reason| return .{ .refused = reason };
    follow_up_lines.writer.print("{s} {s} {s} {s}\n", .{ name, args, kwargs, options }) catch @panic("out of memory");
    defer follow_up_count += 1;
    return .{ .id = std.fmt.allocPrint(gpa, "follow-up-{d}", .{follow_up_count}) catch @panic("out of memory") };
}
