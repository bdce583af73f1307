//! The functions of the host: imports of a module, and those of `testing` elsewhere.

const std = @import("std");
const builtin = @import("builtin");

pub const Level = enum(u8) { trace, debug, info, warn, err };

/// Memory is never freed in a module: an instance lives as long as an attempt.
pub const allocator: std.mem.Allocator = if (builtin.is_test)
    std.heap.page_allocator
else if (builtin.link_libc)
    std.heap.c_allocator
else if (is_module)
    std.heap.wasm_allocator
else
    std.heap.page_allocator;

const is_module = builtin.target.cpu.arch.isWasm();

/// The functions that a test puts in place of the host's.
pub const Functions = struct {
    log: *const fn (level: Level, message: []const u8) void,
    progress: *const fn (done: u64, total: u64, message: []const u8) void,
    isCancelled: *const fn () bool,
    submit: *const fn (name: []const u8, args: []const u8, kwargs: []const u8, options: []const u8) Submitted,
};

/// The id of a follow-up, or why it was refused.
pub const Submitted = union(enum) { id: []const u8, refused: []const u8 };

pub var functions: ?Functions = null;

const imports = struct {
    const Result = extern struct { is_err: u8, text: [*]const u8, length: usize };
    extern "fastworker:task/host@1.0.0" fn log(level: u32, message: [*]const u8, length: usize) void;
    extern "fastworker:task/host@1.0.0" fn progress(done: u64, total: u64, message: [*]const u8, length: usize) void;
    extern "fastworker:task/host@1.0.0" fn @"is-cancelled"() u32;
    extern "fastworker:task/host@1.0.0" fn submit(
        name: [*]const u8,
        name_length: usize,
        args: [*]const u8,
        args_length: usize,
        kwargs: [*]const u8,
        kwargs_length: usize,
        options: [*]const u8,
        options_length: usize,
        result: *Result,
    ) void;
};

/// The address of text. Empty text may be anywhere in Zig, but the host takes only addresses in memory.
pub fn address(text: []const u8) [*]const u8 {
    return if (text.len == 0) "" else text.ptr;
}

pub fn log(level: Level, message: []const u8) void {
    if (functions) |host| return host.log(level, message);
    if (is_module) imports.log(@backingInt(level), address(message), message.len);
}

pub fn progress(done: u64, total: u64, message: []const u8) void {
    if (functions) |host| return host.progress(done, total, message);
    if (is_module) imports.progress(done, total, address(message), message.len);
}

pub fn isCancelled() bool {
    if (functions) |host| return host.isCancelled();
    return if (is_module) imports.@"is-cancelled"() != 0 else false;
}

pub fn submit(name: []const u8, args: []const u8, kwargs: []const u8, options: []const u8) Submitted {
    if (functions) |host| return host.submit(name, args, kwargs, options);
    if (!is_module) return .{ .refused = "there is no attempt: use fw.testing in tests" };
    var result: imports.Result = undefined;
    imports.submit(
        address(name),
        name.len,
        address(args),
        args.len,
        address(kwargs),
        kwargs.len,
        address(options),
        options.len,
        &result,
    );
    const text = result.text[0..result.length];
    return if (result.is_err != 0) .{ .refused = text } else .{ .id = text };
}
