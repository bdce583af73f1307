//! A long computation that reports its progress and stops when it is cancelled: the Mandelbrot set as an image.
//!
//!     fastworker build examples/tasks/zig-mandelbrot/mandelbrot.zig
//!     fastworker dev examples/tasks/zig-mandelbrot/mandelbrot.wasm mandelbrot --kwargs width=640 height=480 |
//!         tr -d '"' | base64 -d >mandelbrot.ppm

const std = @import("std");
const fw = @import("fastworker");

pub const tasks = [_]fw.Task{
    fw.task("mandelbrot", mandelbrot, .{
        .doc = "Draws the Mandelbrot set as a PPM image. Zoom 1 shows all of it.",
        .policy = .{ .timeout = 120 },
    }),
};

comptime {
    fw.exportTasks(&tasks);
}

/// The parameters of the task: all of them have defaults.
const View = struct {
    width: u16 = 320,
    height: u16 = 240,
    /// The centre of the image.
    x: f64 = -0.5,
    y: f64 = 0,
    zoom: f64 = 1,
    iterations: u16 = 200,
};

fn mandelbrot(gpa: std.mem.Allocator, view: View) !fw.Bytes {
    if (view.width == 0 or view.height == 0) return fw.badArguments("the image needs a width and a height", .{});
    if (!(view.zoom > 0)) return fw.badArguments("argument 'zoom': must be positive", .{});
    var image: std.Io.Writer.Allocating = .init(gpa);
    try image.writer.print("P6\n{d} {d}\n255\n", .{ view.width, view.height });
    for (0..view.height) |row| {
        if (fw.cancelled()) return error.Cancelled;
        for (0..view.width) |column| try image.writer.writeAll(&color(view, column, row));
        fw.progress(row + 1, view.height, "drawing");
    }
    return .{ .bytes = image.written() };
}

/// The color of a pixel: how soon its number escapes.
fn color(view: View, column: usize, row: usize) [3]u8 {
    // The image shows 3 units of the plane at its width.
    const step = 3 / (view.zoom * @as(f64, @floatFromInt(view.width)));
    const x = view.x + step * (middle(column) - half(view.width));
    const y = view.y + step * (middle(row) - half(view.height));
    var a: f64 = 0;
    var b: f64 = 0;
    for (0..view.iterations) |iteration| {
        const next = a * a - b * b + x;
        b = 2 * a * b + y;
        a = next;
        if (a * a + b * b > 4) return shade(iteration);
    }
    return .{ 0, 0, 0 };
}

fn middle(index: usize) f64 {
    return @as(f64, @floatFromInt(index)) + 0.5;
}

fn half(side: u16) f64 {
    return @as(f64, @floatFromInt(side)) / 2;
}

fn shade(iteration: usize) [3]u8 {
    const phase: u8 = @truncate(iteration * 7);
    return .{ phase, phase *| 2, 255 - phase / 2 };
}

test "an image has a header and all pixels" {
    const image = try mandelbrot(fw.allocator, .{ .width = 4, .height = 3 });
    try std.testing.expectStringStartsWith(image.bytes, "P6\n4 3\n255\n");
    try std.testing.expectEqual("P6\n4 3\n255\n".len + 4 * 3 * 3, image.bytes.len);
}

test "the middle of the set is black and its surroundings are not" {
    const view: View = .{ .width = 3, .height = 1, .zoom = 0.5 };
    try std.testing.expectEqual([3]u8{ 0, 0, 0 }, color(view, 1, 0));
    try std.testing.expect(!std.meta.eql([3]u8{ 0, 0, 0 }, color(view, 2, 0)));
}

test "progress is reported by rows" {
    const outcome = try fw.testing.runCall(&tasks, .{ .name = "mandelbrot", .kwargs = "{\"width\": 2, \"height\": 2}" });
    try std.testing.expectEqualStrings("1/2 drawing\n2/2 drawing\n", outcome.progress);
}

test "a cancelled attempt stops" {
    const outcome = try fw.testing.runCall(&tasks, .{ .name = "mandelbrot", .cancelled = true });
    try std.testing.expectEqualStrings("Cancelled", outcome.failure.?.kind);
}
