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

/// Limits of one attempt: sizes in bytes, times in seconds. Those of the operator apply as well.
pub const Limits = struct {
    /// Linear memory.
    max_memory: ?u64 = null,
    /// CPU time.
    max_cpu_time: ?f64 = null,
    /// Time that the attempt waits for the host: for files, and while it sleeps.
    max_host_time: ?f64 = null,
    /// What is printed.
    max_output: ?u64 = null,
    /// The lines of the log.
    max_log: ?u64 = null,
    /// The result and the follow-ups.
    max_result: ?u64 = null,
    /// Connections at a time.
    max_connections: ?u32 = null,
    /// Received through the network.
    max_received: ?u64 = null,
    /// Sent through the network.
    max_sent: ?u64 = null,
};

/// What a task has besides its name and its function.
pub const Options = struct {
    /// The names of the parameters, in their order, without an allocator.
    params: []const []const u8 = &.{},
    doc: []const u8 = "",
    policy: Policy = .{},
    schedule: Schedule = .{},
    limits: Limits = .{},
    /// The names of grants without which no worker runs the task: "env:NAME", "secret:NAME", "dir:/data:ro",
    /// "http:api.example.com" or "tcp:db:5432".
    needs: []const []const u8 = &.{},
};

/// Maximum number of needs, as in the host.
const needs_max = 100;
/// What a need starts with. The host checks what comes after it.
const kinds = [_][]const u8{ "env:", "secret:", "dir:", "http:", "tcp:" };

/// Returns what is wrong with the limits and needs of a task, or null.
pub fn problemOf(comptime with: Options) ?[]const u8 {
    const info = @typeInfo(Limits).@"struct";
    inline for (info.field_names) |name| {
        if (@field(with.limits, name)) |value| {
            if (!(value > 0)) return name ++ " must be more than zero; without it, the limit is that of the operator";
        }
    }
    if (with.needs.len > needs_max) return "it has more than 100 needs";
    inline for (with.needs) |need| {
        if (!isNeed(need)) return "\"" ++ need ++ "\" names no grant; write it like \"env:NAME\", \"secret:NAME\", " ++
            "\"dir:/data:ro\", \"http:api.example.com\" or \"tcp:db:5432\"";
    }
    return null;
}

fn isNeed(need: []const u8) bool {
    for (kinds) |kind| if (std.mem.startsWith(u8, need, kind)) return need.len > kind.len;
    return false;
}

/// Writes the fields of a policy, a schedule or limits that are set.
pub fn writeFields(out: *std.json.Stringify, options: anytype) std.json.Stringify.Error!void {
    const info = @typeInfo(@TypeOf(options)).@"struct";
    inline for (info.field_names) |name| {
        if (@field(options, name)) |value| {
            try out.objectField(name);
            try out.write(value);
        }
    }
}
