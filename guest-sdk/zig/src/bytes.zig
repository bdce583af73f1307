//! Bytes as base64.

const std = @import("std");

/// Bytes: base64 in JSON. A `[]const u8` is text.
pub const Bytes = struct {
    bytes: []const u8,

    pub fn jsonParseFromValue(gpa: std.mem.Allocator, source: std.json.Value, _: std.json.ParseOptions) !Bytes {
        if (source != .string) return error.UnexpectedToken;
        const text = std.mem.trimEnd(u8, source.string, "=");
        const decoder = std.base64.standard_no_pad.Decoder;
        const length = decoder.calcSizeForSlice(text) catch return error.UnexpectedToken;
        const bytes = try gpa.alloc(u8, length);
        decoder.decode(bytes, text) catch return error.UnexpectedToken;
        return .{ .bytes = bytes };
    }

    pub fn jsonParse(gpa: std.mem.Allocator, source: anytype, options: std.json.ParseOptions) !Bytes {
        return jsonParseFromValue(gpa, try std.json.innerParse(std.json.Value, gpa, source, options), options);
    }

    pub fn jsonStringify(self: Bytes, out: anytype) !void {
        try out.beginWriteRaw();
        try out.writer.writeByte('"');
        try std.base64.standard.Encoder.encodeWriter(out.writer, self.bytes);
        try out.writer.writeByte('"');
        out.endWriteRaw();
    }
};
