const std = @import("std");
const fw = @import("fastworker");

pub const tasks = [_]fw.Task{
    fw.task("add", add, .{
        .params = &.{ "x", "y" },
        .doc = "Returns the sum of two numbers.",
        .policy = .{ .priority = .high, .timeout = 90, .max_retries = 3 },
    }),
    fw.task("join", join, .{}),
    fw.task("fail", fail, .{ .params = &.{"how"} }),
    fw.task("whole", whole, .{}),
    fw.task("nightly", nightly, .{ .schedule = .{ .cron = "0 3 * * *", .tz = "Europe/Berlin" } }),
};

comptime {
    fw.exportTasks(&tasks);
}

fn add(x: i64, y: i64) i64 {
    return x + y;
}

fn join(gpa: std.mem.Allocator, args: struct { words: []const []const u8, separator: []const u8 = ", " }) ![]const u8 {
    return std.mem.join(gpa, args.separator, args.words);
}

fn fail(how: []const u8) !void {
    const Way = enum { bad, retry, @"give-up", crash, failed };
    switch (std.meta.stringToEnum(Way, how) orelse .failed) {
        .bad => return fw.badArguments("no {d}", .{7}),
        .retry => return fw.retryAfter(1, error.Busy, "later", .{}),
        .@"give-up" => {
            fw.setDetails(.{ .account = 17 });
            return fw.giveUp(error.Closed, "closed", .{});
        },
        .crash => _ = how[how.len + how[0]],
        .failed => return fw.fail(error.OutOfStock, "only {d} left", .{2}),
    }
}

fn whole(gpa: std.mem.Allocator) ![]const u8 {
    const attempt = fw.current();
    std.debug.print("printed\n", .{});
    fw.log(.warn, "slow", .{});
    fw.progress(1, 2, "half");
    _ = try fw.submit("add", .{ 1, 2 }, .{ .countdown = 60 });
    const cancelled = @intFromBool(fw.cancelled());
    const priority = @tagName(attempt.priority);
    return std.fmt.allocPrint(gpa, "{s} {d} {s} {d}", .{ attempt.name, attempt.number, priority, cancelled });
}

fn nightly() void {}
