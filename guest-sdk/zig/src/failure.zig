//! Failures of attempts. An error that a task function returns fails the attempt, and its name is the kind of the
//! failure; the functions here also give it a message.

const std = @import("std");
const host = @import("host.zig");

/// The cases of a failure in the contract, in its order.
pub const Case = enum(u8) { bad_arguments, failed, try_again_after, give_up };

/// Why an attempt failed.
pub const Failure = struct {
    case: Case,
    message: []const u8,
    kind: []const u8,
    /// JSON, or empty.
    details: []const u8 = "",
    delay_ms: u64 = 0,
};

/// What the running attempt has prepared, with the error that it belongs to.
const Prepared = struct { err: anyerror, failure: Failure };

var prepared: ?Prepared = null;
var details: []const u8 = "";

fn prepare(err: anytype, case: Case, delay_ms: u64, comptime format: []const u8, args: anytype) @TypeOf(err) {
    const message = std.fmt.allocPrint(host.allocator, format, args) catch format;
    const kind: []const u8 = if (case == .bad_arguments) "BadArguments" else @errorName(err);
    prepared = .{ .err = err, .failure = .{ .case = case, .message = message, .kind = kind, .delay_ms = delay_ms } };
    return err;
}

/// Returns the error, with a message: `return fw.fail(error.OutOfStock, "only {d} left", .{n});` The task's policy
/// decides whether there is another attempt.
pub fn fail(err: anytype, comptime format: []const u8, args: anytype) @TypeOf(err) {
    return prepare(err, .failed, 0, format, args);
}

/// The same, but the next attempt waits for the delay.
pub fn retryAfter(delay_ms: u64, err: anytype, comptime format: []const u8, args: anytype) @TypeOf(err) {
    return prepare(err, .try_again_after, delay_ms, format, args);
}

/// The same, but the task is never retried.
pub fn giveUp(err: anytype, comptime format: []const u8, args: anytype) @TypeOf(err) {
    return prepare(err, .give_up, 0, format, args);
}

/// Returns an error for arguments that do not match the parameters. The task is never retried.
pub fn badArguments(comptime format: []const u8, args: anytype) error{BadArguments} {
    return prepare(@as(error{BadArguments}, error.BadArguments), .bad_arguments, 0, format, args);
}

/// Adds machine-readable details to the failure of this attempt: at most 2 KiB of JSON.
pub fn setDetails(value: anytype) void {
    details = std.json.Stringify.valueAlloc(host.allocator, value, .{}) catch "";
}

/// Forgets what an earlier attempt has prepared.
pub fn reset() void {
    prepared = null;
    details = "";
}

/// The failure of an attempt that returned this error.
pub fn of(err: anyerror) Failure {
    const name = @errorName(err);
    const case: Case = if (err == error.BadArguments) .bad_arguments else .failed;
    var failure: Failure = .{ .case = case, .message = name, .kind = name };
    if (prepared) |with| {
        if (with.err == err) failure = with.failure;
    }
    failure.details = details;
    return failure;
}
