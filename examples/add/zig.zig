//! The task of `fastworker bench`, in Zig.

const fw = @import("fastworker");

pub const tasks = [_]fw.Task{
    fw.task("add", add, .{ .params = &.{ "x", "y" }, .doc = "Adds two numbers." }),
};

comptime {
    fw.exportTasks(&tasks);
}

fn add(x: i64, y: i64) i64 {
    return x + y;
}
