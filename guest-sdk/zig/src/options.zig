//! The options of tasks and follow-ups, and how they are written as JSON. What is null is not set.

const std = @import("std");

/// The priority among the waiting tasks.
pub const Priority = enum { critical, high, normal, low };

/// Defaults of a task, or options of a follow-up. Times are in seconds.
pub const Policy = struct {
    priority: ?Priority = null,
    /// Timeout of each attempt.
    timeout: ?f64 = null,
    /// Maximum number of attempts after the first one.
    max_retries: ?u32 = null,
    /// Delay before the second attempt.
    retry_delay: ?f64 = null,
    /// Factor of the delay before each further attempt.
    retry_backoff: ?f64 = null,
    /// Maximum delay between two attempts.
    retry_backoff_max: ?f64 = null,
};

/// When a task without required parameters runs by itself.
pub const Schedule = struct {
    /// Interval in seconds.
    every: ?f64 = null,
    /// A cron pattern.
    cron: ?[]const u8 = null,
    /// The time zone of the pattern, such as "Europe/Berlin" or "UTC".
    tz: ?[]const u8 = null,
    /// What happens if the task is still running when it is due again.
    overlap: ?enum { skip, queue } = null,
    /// Maximum number of runs.
    count: ?u64 = null,
    /// End of the schedule, as RFC 3339.
    until: ?[]const u8 = null,
};

/// What a task has besides its name and its function.
pub const Options = struct {
    /// The names of the parameters, in their order, without an allocator.
    params: []const []const u8 = &.{},
    doc: []const u8 = "",
    policy: Policy = .{},
    schedule: Schedule = .{},
};

/// Writes the fields of a policy or a schedule that are set.
pub fn writeFields(out: *std.json.Stringify, options: anytype) std.json.Stringify.Error!void {
    const info = @typeInfo(@TypeOf(options)).@"struct";
    inline for (info.field_names) |name| {
        if (@field(options, name)) |value| {
            try out.objectField(name);
            try out.write(value);
        }
    }
}
