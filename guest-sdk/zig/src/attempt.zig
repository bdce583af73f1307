//! The running attempt, and the tasks that it submits.

const std = @import("std");
const host = @import("host.zig");
const failure = @import("failure.zig");
const options = @import("options.zig");

/// One run of a task.
pub const Attempt = struct {
    /// The same for each attempt of the task: the idempotency key of effects that must happen only once.
    task_id: []const u8 = "",
    name: []const u8 = "",
    /// Counted from 1.
    number: u32 = 1,
    /// Unix time in milliseconds at which the host stops the attempt.
    deadline_ms: u64 = std.math.maxInt(u64),
    priority: options.Priority = .normal,
    /// The id of the task that submitted this one as a follow-up.
    parent: ?[]const u8 = null,
    tags: []const []const u8 = &.{},
    /// The trace context of the task, as in W3C Trace Context.
    traceparent: ?[]const u8 = null,
    /// All metadata: a JSON object.
    metadata: []const u8 = "{}",
};

/// What the host passes.
pub const Invocation = struct {
    task_id: []const u8,
    name: []const u8,
    attempt: u32,
    deadline_ms: u64,
    args: []const u8,
    kwargs: []const u8,
    metadata: []const u8,
};

pub var running: ?Invocation = null;

/// Returns the running attempt.
pub fn current() Attempt {
    const call = running orelse return .{};
    var attempt: Attempt = .{
        .task_id = call.task_id,
        .name = call.name,
        .number = call.attempt,
        .deadline_ms = call.deadline_ms,
        .metadata = call.metadata,
    };
    const parsed = std.json.parseFromSliceLeaky(std.json.Value, host.allocator, call.metadata, .{});
    const metadata = parsed catch return attempt;
    if (metadata != .object) return attempt;
    inline for (.{ "priority", "parent", "tags", "traceparent" }) |key| {
        if (metadata.object.get(key)) |value| {
            const T = @TypeOf(@field(attempt, key));
            // A value of another type is from a later version of the host.
            @field(attempt, key) = std.json.parseFromValueLeaky(T, host.allocator, value, .{}) catch @field(attempt, key);
        }
    }
    return attempt;
}

/// Options of a follow-up.
pub const FollowUp = struct {
    /// Seconds before the first attempt.
    countdown: ?f64 = null,
    policy: options.Policy = .{},
    /// Arguments by name: a JSON object.
    kwargs: []const u8 = "{}",
};

/// Submits a task when this attempt succeeds, and returns its id. `args` is a tuple of its arguments by position.
///
///     const id = try fw.submit("mail", .{ "ada@example.org", 3 }, .{ .countdown = 60 });
pub fn submit(name: []const u8, args: anytype, with: FollowUp) ![]const u8 {
    var text: std.Io.Writer.Allocating = .init(host.allocator);
    var out: std.json.Stringify = .{ .writer = &text.writer };
    try out.beginObject();
    try options.writeFields(&out, with.policy);
    if (with.countdown) |seconds| {
        try out.objectField("countdown");
        try out.write(seconds);
    }
    try out.endObject();
    // An empty tuple would be an object.
    const is_empty = @typeInfo(@TypeOf(args)).@"struct".field_names.len == 0;
    const list = if (is_empty) "[]" else try std.json.Stringify.valueAlloc(host.allocator, args, .{});
    return switch (host.submit(name, list, with.kwargs, text.written())) {
        .id => |id| id,
        .refused => |reason| failure.fail(
            error.FollowUpRefused,
            "the follow-up '{s}' cannot be submitted: {s}",
            .{ name, reason },
        ),
    };
}
