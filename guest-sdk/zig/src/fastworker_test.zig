//! Tests of the SDK.

const std = @import("std");
const fw = @import("fastworker.zig");
const expectEqualStrings = std.testing.expectEqualStrings;

const Size = enum { small, large };

const Line = struct { sku: []const u8, price: f64, note: ?[]const u8 = null };

const Order = struct {
    id: u32,
    lines: []const Line = &.{},
    sizes: std.json.ArrayHashMap(Size) = .{},
    parts: []const Order = &.{},
};

fn unnamed(x: union(enum) { a: i32, b: []const u8 }) bool {
    return x == .a;
}

const Shape = union(enum) { circle: f64, square: struct { side: f64 }, none: void };

fn add(x: i64, y: i64) i64 {
    return x + y;
}

fn total(args: struct { order: Order, factor: f64 = 2, rounded: ?bool }) f64 {
    var sum: f64 = 0;
    for (args.order.lines) |line| sum += line.price;
    sum *= args.factor;
    return if (args.rounded orelse false) @round(sum) else sum;
}

fn echo(order: Order) Order {
    return order;
}

fn greet(gpa: std.mem.Allocator, name: ?[]const u8) ![]const u8 {
    return std.fmt.allocPrint(gpa, "Hello, {s}!", .{name orelse "you"});
}

const Everything = struct { bool, i8, u64, f32, fw.Bytes, [2]i32, Size, std.json.Value, Shape };

fn everything(all: Everything) Everything {
    return all;
}

fn failing(how: []const u8) !void {
    if (std.mem.eql(u8, how, "plain")) return error.OutOfStock;
    if (std.mem.eql(u8, how, "fail")) return fw.fail(error.OutOfStock, "only {d} left", .{2});
    if (std.mem.eql(u8, how, "retry")) return fw.retryAfter(1500, error.Busy, "later", .{});
    if (std.mem.eql(u8, how, "bad")) return fw.badArguments("no {d}", .{7});
    if (std.mem.eql(u8, how, "give up")) {
        fw.setDetails(.{ .account = 17 });
        return fw.giveUp(error.Closed, "closed", .{});
    }
}

fn whole(gpa: std.mem.Allocator) ![]const u8 {
    const attempt = fw.current();
    fw.log(.warn, "slow {d}", .{3});
    fw.progress(1, 2, "half");
    const options: fw.FollowUp = .{ .countdown = 60, .policy = .{ .priority = .low, .max_retries = 0 } };
    const id = try fw.submit("mail", .{ "ada", 3 }, options);
    _ = try fw.submit("sweep", .{}, .{ .kwargs = "{\"all\":true}" });
    return std.fmt.allocPrint(gpa, "{s} {s} {d} {s} {s} {d} {s} {s} {}", .{
        attempt.task_id,  attempt.name,     attempt.number, @tagName(attempt.priority),
        attempt.parent.?, attempt.tags.len, id,             attempt.traceparent.?,
        fw.cancelled(),
    });
}

fn nothing() void {}

const tasks = [_]fw.Task{
    fw.task("add", add, .{
        .params = &.{ "x", "y" },
        .doc = "Adds.",
        .policy = .{ .max_retries = 3, .timeout = 90, .priority = .high },
    }),
    fw.task("total", total, .{}),
    fw.task("echo", echo, .{ .params = &.{"order"} }),
    fw.task("greet", greet, .{ .params = &.{"name"} }),
    fw.task("unnamed", unnamed, .{ .params = &.{"x"} }),
    fw.task("everything", everything, .{ .params = &.{"all"} }),
    fw.task("fail", failing, .{ .params = &.{"how"} }),
    fw.task("whole", whole, .{}),
    fw.task("nothing", nothing, .{ .schedule = .{ .every = 3600, .overlap = .skip, .count = 3 } }),
    fw.task("confined", nothing, .{
        .needs = &.{ "http:api.example.com", "secret:KEY" },
        .limits = .{
            .max_memory = 64 << 20,
            .max_cpu_time = 0.5,
            .max_host_time = 60,
            .max_output = 1 << 10,
            .max_log = 2048,
            .max_result = 1 << 20,
            .max_connections = 4,
            .max_received = 1 << 40,
            .max_sent = 1000,
        },
    }),
    fw.task("nightly", nothing, .{ .schedule = .{ .cron = "0 3 * * *", .tz = "UTC" } }),
};

fn expectResult(want: []const u8, name: []const u8, args: []const u8) !void {
    const outcome = try fw.testing.runCall(&tasks, .{ .name = name, .args = args });
    if (outcome.failure) |failed| try expectEqualStrings("", failed.message);
    try expectEqualStrings(want, outcome.result);
}

fn expectRefused(want: []const u8, name: []const u8, args: []const u8, kwargs: []const u8) !void {
    const outcome = try fw.testing.runCall(&tasks, .{ .name = name, .args = args, .kwargs = kwargs });
    try expectEqualStrings(want, outcome.failure.?.message);
    try expectEqualStrings("BadArguments", outcome.failure.?.kind);
    try std.testing.expectEqual(.bad_arguments, outcome.failure.?.case);
}

test "values are read and written" {
    try expectResult("5", "add", "[2, 3]");
    try expectResult("9223372036854775807", "add", "[9223372036854775806, 1]");
    try expectResult("\"Hello, you!\"", "greet", "[]");
    try expectResult("\"Hello, you!\"", "greet", "[null]");
    try expectResult("\"Hello, Ada!\"", "greet", "[\"Ada\"]");
    try expectResult("null", "nothing", "[]");
    const order = "{\"id\":1,\"lines\":[{\"sku\":\"a\",\"price\":2.5,\"note\":null}],\"sizes\":{\"x\":\"large\"}," ++
        "\"parts\":[{\"id\":2,\"lines\":[],\"sizes\":{},\"parts\":[]}]}";
    try expectResult(order, "echo", "[" ++ order ++ "]");
    const all = "[true,-128,18446744073709551615,1.5,\"aGk=\",[1,2],\"large\",{\"b\":[null]},{\"square\":{\"side\":2.5}}]";
    try expectResult(all, "everything", "[" ++ all ++ "]");
}

test "the fields of a struct are parameters" {
    const order = "{\"id\": 1, \"lines\": [{\"sku\": \"a\", \"price\": 1.25}]}";
    try expectResult("2.5", "total", "[" ++ order ++ "]");
    try expectResult("5", "total", "[" ++ order ++ ", 4]");
    const named: fw.testing.Call = .{ .name = "total", .kwargs = "{\"order\": " ++ order ++ ", \"rounded\": true}" };
    try expectEqualStrings("3", (try fw.testing.runCall(&tasks, named)).result);
}

test "wrong arguments are refused" {
    try expectRefused("add() missing 2 required arguments: 'x' and 'y'", "add", "[]", "{}");
    try expectRefused("add() missing 1 required argument: 'y'", "add", "[1]", "{}");
    try expectRefused("add() takes 2 arguments but 3 were given", "add", "[1, 2, 3]", "{}");
    try expectRefused("greet() takes from 0 to 1 argument but 2 were given", "greet", "[1, 2]", "{}");
    try expectRefused("add() got multiple values for argument 'x'", "add", "[1, 2]", "{\"x\": 1}");
    try expectRefused("add() got an unexpected keyword argument 'z'", "add", "[1, 2]", "{\"z\": 1}");
    try expectRefused("argument 'y': expected i64, found \"x\"", "add", "[1, \"x\"]", "{}");
    try expectRefused("argument 'y': expected i64, found null", "add", "[1, null]", "{}");
    try expectRefused("argument 'order': expected Order, found {\"id\":-1}", "echo", "[{\"id\": -1}]", "{}");
    try expectRefused("the positional arguments are not a JSON array", "add", "7", "{}");
    try expectRefused("the named arguments are not a JSON object", "add", "[]", "[]");
}

test "errors become failures" {
    const Failure = @TypeOf((try fw.testing.run(&tasks, "fail", .{"plain"})).failure.?);
    for ([_]struct { []const u8, Failure }{
        .{ "plain", .{ .case = .failed, .message = "OutOfStock", .kind = "OutOfStock" } },
        .{ "fail", .{ .case = .failed, .message = "only 2 left", .kind = "OutOfStock" } },
        .{ "retry", .{ .case = .try_again_after, .message = "later", .kind = "Busy", .delay_ms = 1500 } },
        .{ "bad", .{ .case = .bad_arguments, .message = "no 7", .kind = "BadArguments" } },
        .{ "give up", .{ .case = .give_up, .message = "closed", .kind = "Closed", .details = "{\"account\":17}" } },
    }) |case| {
        const outcome = try fw.testing.run(&tasks, "fail", .{case[0]});
        try std.testing.expectEqualDeep(case[1], outcome.failure.?);
    }
    try expectEqualStrings("null", (try fw.testing.run(&tasks, "fail", .{"no"})).result);
}

test "an attempt knows itself and talks to the host" {
    const call: fw.testing.Call = .{
        .name = "whole",
        .task_id = "t1",
        .attempt = 3,
        .cancelled = true,
        .metadata = "{\"priority\": \"low\", \"parent\": \"p1\", \"tags\": [\"a\"], \"traceparent\": \"00-1\", \"x\": 1}",
    };
    const outcome = try fw.testing.runCall(&tasks, call);
    try expectEqualStrings("\"t1 whole 3 low p1 1 follow-up-0 00-1 true\"", outcome.result);
    try expectEqualStrings("warn slow 3\n", outcome.log);
    try expectEqualStrings("1/2 half\n", outcome.progress);
    try expectEqualStrings("mail [\"ada\",3] {} {\"priority\":\"low\",\"max_retries\":0,\"countdown\":60}\n" ++
        "sweep [] {\"all\":true} {}\n", outcome.follow_ups);
    const refused = try fw.testing.runCall(&tasks, .{ .name = "whole", .refuse_follow_ups = "too many" });
    try expectEqualStrings("the follow-up 'mail' cannot be submitted: too many", refused.failure.?.message);
    try expectEqualStrings("FollowUpRefused", refused.failure.?.kind);
}

fn find(name: []const u8) fw.Task {
    for (tasks) |task| if (std.mem.eql(u8, task.name, name)) return task;
    unreachable;
}

test "types become schemas" {
    try expectEqualStrings("{\"parameters\":[" ++
        "{\"name\":\"x\",\"required\":true,\"type\":\"i64\",\"schema\":{\"type\":\"integer\",\"format\":\"int64\"}}," ++
        "{\"name\":\"y\",\"required\":true,\"type\":\"i64\",\"schema\":{\"type\":\"integer\",\"format\":\"int64\"}}]," ++
        "\"result\":{\"type\":\"i64\",\"schema\":{\"type\":\"integer\",\"format\":\"int64\"}}}", try find("add").signature());
    const signature = try find("total").signature();
    for ([_][]const u8{
        "{\"name\":\"factor\",\"required\":false,\"type\":\"f64\",\"schema\":{\"type\":\"number\"}}",
        "{\"name\":\"rounded\",\"required\":false,\"type\":\"?bool\"",
        "\"schema\":{\"$ref\":\"#/$defs/Order\",\"$defs\":{\"Order\":{\"type\":\"object\"",
        "\"id\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":4294967295}",
        "\"sizes\":{\"type\":\"object\",\"additionalProperties\":{\"enum\":[\"small\",\"large\"]}}",
        "\"parts\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/Order\"}}",
        "\"required\":[\"sku\",\"price\"]",
    }) |part| {
        if (std.mem.find(u8, signature, part) == null) try expectEqualStrings(part, signature);
    }
    const unnamed_union = "{\"name\":\"x\",\"required\":true,\"type\":\"union { a, b }\",\"schema\":{\"$ref\":";
    const found = try find("unnamed").signature();
    if (std.mem.find(u8, found, unnamed_union) == null) try expectEqualStrings(unnamed_union, found);
    const shapes = try find("everything").signature();
    for ([_][]const u8{
        "{\"type\":\"object\",\"properties\":{\"circle\":{\"type\":\"number\"}},\"required\":[\"circle\"],",
        "\"minItems\":9",
        "{\"type\":\"string\",\"contentEncoding\":\"base64\"}",
    }) |part| {
        if (std.mem.find(u8, shapes, part) == null) try expectEqualStrings(part, shapes);
    }
}

test "policies and schedules are written" {
    try expectEqualStrings("{\"priority\":\"high\",\"timeout\":90,\"max_retries\":3}", try find("add").policyText());
    try expectEqualStrings("{\"every\":3600,\"overlap\":\"skip\",\"count\":3}", try find("nothing").policyText());
    try expectEqualStrings("{\"cron\":\"0 3 * * *\",\"tz\":\"UTC\"}", try find("nightly").policyText());
}

test "limits and needs are written, and wrong ones are refused" {
    try expectEqualStrings("{\"max_memory\":67108864,\"max_cpu_time\":0.5,\"max_host_time\":60,\"max_output\":1024," ++
        "\"max_log\":2048,\"max_result\":1048576,\"max_connections\":4,\"max_received\":1099511627776,\"max_sent\":1000," ++
        "\"needs\":[\"http:api.example.com\",\"secret:KEY\"]}", try find("confined").policyText());
    const problemOf = @import("options.zig").problemOf;
    inline for (.{
        .{ fw.Options{ .limits = .{ .max_memory = 0 } }, "max_memory must be more than zero" },
        .{ fw.Options{ .limits = .{ .max_cpu_time = -1 } }, "max_cpu_time must be more than zero" },
        .{ fw.Options{ .limits = .{ .max_host_time = std.math.nan(f64) } }, "max_host_time must be" },
        .{ fw.Options{ .needs = &.{"disk"} }, "\"disk\" names no grant" },
        .{ fw.Options{ .needs = &.{ "env:A", "env:" } }, "\"env:\" names no grant" },
        .{ fw.Options{ .needs = &@as([101][]const u8, @splat("env:A")) }, "it has more than 100 needs" },
    }) |case| {
        const problem = comptime problemOf(case[0]) orelse "none";
        try std.testing.expectStringStartsWith(problem, case[1]);
    }
    try std.testing.expectEqual(null, comptime problemOf(.{ .needs = &.{"dir:/data:ro"}, .limits = .{ .max_log = 1 } }));
}
