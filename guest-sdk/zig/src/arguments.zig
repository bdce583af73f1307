//! Assigns the arguments of a call to the parameters of its task, by Python's rules.

const std = @import("std");
const Value = std.json.Value;
const failure = @import("failure.zig");
const host = @import("host.zig");
const schema = @import("schema.zig");

/// Maximum length of an argument in an error message.
const shown_max = 100;

pub const Parameter = struct { name: []const u8, required: bool };

/// Finds the argument of each parameter, null where there is none.
pub fn bind(
    name: []const u8,
    parameters: []const Parameter,
    given: []?Value,
    args: []const u8,
    kwargs: []const u8,
) !void {
    const positional = std.json.parseFromSliceLeaky([]const Value, host.allocator, args, .{}) catch
        return failure.badArguments("the positional arguments are not a JSON array", .{});
    const named = std.json.parseFromSliceLeaky(Value, host.allocator, kwargs, .{}) catch
        return failure.badArguments("the named arguments are not a JSON object", .{});
    if (named != .object) return failure.badArguments("the named arguments are not a JSON object", .{});
    @memset(given, null);
    for (0..@min(given.len, positional.len)) |i| given[i] = positional[i];
    var entries = named.object.iterator();
    while (entries.next()) |entry| {
        const index = indexOf(parameters, entry.key_ptr.*) orelse
            return failure.badArguments("{s}() got an unexpected keyword argument '{s}'", .{ name, entry.key_ptr.* });
        if (given[index] != null)
            return failure.badArguments("{s}() got multiple values for argument '{s}'", .{ name, entry.key_ptr.* });
        given[index] = entry.value_ptr.*;
    }
    if (positional.len > given.len) return tooMany(name, parameters, positional.len);
    try checkMissing(name, parameters, given);
}

fn indexOf(parameters: []const Parameter, name: []const u8) ?usize {
    for (parameters, 0..) |parameter, index| {
        if (std.mem.eql(u8, parameter.name, name)) return index;
    }
    return null;
}

fn plural(count: usize) []const u8 {
    return if (count == 1) "argument" else "arguments";
}

fn tooMany(name: []const u8, parameters: []const Parameter, given: usize) error{BadArguments} {
    var least: usize = 0;
    for (parameters) |parameter| least += @intFromBool(parameter.required);
    const most = parameters.len;
    const were = if (given == 1) "was" else "were";
    if (least < most) return failure.badArguments(
        "{s}() takes from {d} to {d} {s} but {d} {s} given",
        .{ name, least, most, plural(most), given, were },
    );
    return failure.badArguments("{s}() takes {d} {s} but {d} {s} given", .{ name, most, plural(most), given, were });
}

fn checkMissing(name: []const u8, parameters: []const Parameter, given: []const ?Value) !void {
    var missing: usize = 0;
    for (parameters, given) |parameter, value| missing += @intFromBool(parameter.required and value == null);
    if (missing == 0) return;
    var names: std.Io.Writer.Allocating = .init(host.allocator);
    var seen: usize = 0;
    for (parameters, given) |parameter, value| {
        if (!parameter.required or value != null) continue;
        seen += 1;
        if (seen > 1) try names.writer.writeAll(if (seen == missing) " and " else ", ");
        try names.writer.print("'{s}'", .{parameter.name});
    }
    const text = names.written();
    return failure.badArguments("{s}() missing {d} required {s}: {s}", .{ name, missing, plural(missing), text });
}

/// Reads an argument.
pub fn read(comptime T: type, name: []const u8, argument: ?Value, default: ?T) !T {
    const is_optional = @typeInfo(T) == .optional;
    const value = argument orelse return default orelse if (is_optional) null else unreachable;
    const options: std.json.ParseOptions = .{ .ignore_unknown_fields = true };
    return std.json.parseFromValueLeaky(T, host.allocator, value, options) catch {
        const text = std.json.Stringify.valueAlloc(host.allocator, value, .{}) catch "?";
        return failure.badArguments(
            "argument '{s}': expected {s}, found {s}",
            .{ name, comptime schema.nameOf(T), text[0..@min(text.len, shown_max)] },
        );
    };
}
