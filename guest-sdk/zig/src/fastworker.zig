//! Tasks in Zig for fastworker: https://github.com/fastworker/fastworker
//!
//!     const fw = @import("fastworker");
//!
//!     fn add(x: i64, y: i64) i64 {
//!         return x + y;
//!     }
//!
//!     pub const tasks = [_]fw.Task{
//!         fw.task("add", add, .{ .params = &.{ "x", "y" }, .doc = "Returns the sum of two numbers." }),
//!     };
//!
//!     comptime {
//!         fw.exportTasks(&tasks);
//!     }
//!
//! `fastworker build` makes a WebAssembly component of it. See `task` for what a function may take and return.

const std = @import("std");
const builtin = @import("builtin");
const Allocator = std.mem.Allocator;

pub const Policy = @import("options.zig").Policy;
pub const Priority = @import("options.zig").Priority;
pub const Schedule = @import("options.zig").Schedule;
pub const Limits = @import("options.zig").Limits;
pub const Options = @import("options.zig").Options;
pub const Task = @import("task.zig").Task;
pub const task = @import("task.zig").task;
pub const Attempt = @import("attempt.zig").Attempt;
pub const FollowUp = @import("attempt.zig").FollowUp;
pub const current = @import("attempt.zig").current;
pub const submit = @import("attempt.zig").submit;
pub const fail = @import("failure.zig").fail;
pub const giveUp = @import("failure.zig").giveUp;
pub const retryAfter = @import("failure.zig").retryAfter;
pub const badArguments = @import("failure.zig").badArguments;
pub const setDetails = @import("failure.zig").setDetails;
pub const Bytes = @import("bytes.zig").Bytes;
pub const testing = @import("testing.zig");
const host = @import("host.zig");

/// Memory that lives as long as the attempt. Nothing needs to be freed: every attempt runs in a new instance.
pub const allocator: Allocator = host.allocator;

/// Exports the tasks of the module. Call it once, in a comptime block of the root file. It does nothing in tests.
pub fn exportTasks(comptime tasks: []const Task) void {
    if (builtin.target.cpu.arch.isWasm()) @import("module.zig").exportTasks(tasks);
}

pub const Level = host.Level;

/// Adds a line to the log of the task. What `std.debug.print` prints goes there, too.
pub fn log(level: Level, comptime format: []const u8, args: anytype) void {
    host.log(level, std.fmt.allocPrint(allocator, format, args) catch format);
}

/// Has `std.log` write to the log of the task, with levels:
/// `pub const std_options: std.Options = .{ .logFn = fw.logFn };`
pub fn logFn(
    comptime level: std.log.Level,
    comptime scope: @EnumLiteral(),
    comptime format: []const u8,
    args: anytype,
) void {
    const prefix = if (scope == .default) "" else "(" ++ @tagName(scope) ++ ") ";
    log(switch (level) {
        .err => .err,
        .warn => .warn,
        .info => .info,
        .debug => .debug,
    }, prefix ++ format, args);
}

/// Reports that `done` of `total` steps are done, and what the current one is. A total of 0 means that it is unknown.
pub fn progress(done: u64, total: u64, message: []const u8) void {
    host.progress(done, total, message);
}

/// Returns whether the attempt is about to be stopped: cancelled, or past its deadline. An attempt that checks this
/// can clean up before it ends.
pub fn cancelled() bool {
    return host.isCancelled();
}

test {
    std.testing.refAllDecls(@This());
    _ = @import("fastworker_test.zig");
}
