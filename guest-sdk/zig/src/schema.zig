//! The JSON Schema of Zig types, as std.json reads and writes them.

const std = @import("std");
const Stringify = std.json.Stringify;
const Bytes = @import("bytes.zig").Bytes;

const Error = Stringify.Error || std.mem.Allocator.Error;

/// Returns the name of a type in signatures: as in Zig, but without the files of structs.
pub fn nameOf(comptime T: type) []const u8 {
    return switch (@typeInfo(T)) {
        .optional => |info| "?" ++ nameOf(info.child),
        .pointer => |info| if (info.size != .slice)
            nameOf(info.child)
        else if (info.child == u8)
            "[]const u8"
        else
            "[]" ++ nameOf(info.child),
        .array => |info| std.fmt.comptimePrint("[{d}]", .{info.len}) ++ nameOf(info.child),
        .@"struct", .@"enum", .@"union" => titleOf(T),
        else => @typeName(T),
    };
}

/// The name of a declared type, and the names of the fields of one without a name.
fn titleOf(comptime T: type) []const u8 {
    const name = shortName(@typeName(T));
    inline for (.{ "struct", "enum", "union" }) |keyword| {
        if (std.mem.find(u8, name, "__" ++ keyword ++ "_") != null) {
            var text: []const u8 = keyword ++ " { ";
            for (std.meta.fieldNames(T), 0..) |field_name, index| text = text ++ (if (index > 0) ", " else "") ++ field_name;
            return text ++ " }";
        }
    }
    return name;
}

fn shortName(comptime name: []const u8) []const u8 {
    const end = std.mem.findScalar(u8, name, '(') orelse name.len;
    const start = if (std.mem.findScalarLast(u8, name[0..end], '.')) |dot| dot + 1 else 0;
    return name[start..];
}

/// Writes a schema with the definitions of the structs in it.
pub fn write(comptime T: type, gpa: std.mem.Allocator, out: *Stringify) Error!void {
    var writer: Writer = .{ .gpa = gpa, .out = out };
    try out.beginObject();
    try writer.fields(T);
    var index: usize = 0;
    if (writer.definitions.items.len > 0) {
        try out.objectField("$defs");
        try out.beginObject();
        // A definition may add others.
        while (index < writer.definitions.items.len) : (index += 1) {
            const definition = writer.definitions.items[index];
            try out.objectField(definition.name);
            try definition.write(&writer);
        }
        try out.endObject();
    }
    try out.endObject();
}

const Definition = struct { name: []const u8, write: *const fn (*Writer) Error!void };

const Writer = struct {
    gpa: std.mem.Allocator,
    out: *Stringify,
    definitions: std.ArrayList(Definition) = .empty,

    fn schema(self: *Writer, comptime T: type) Error!void {
        try self.out.beginObject();
        try self.fields(T);
        try self.out.endObject();
    }

    fn field(self: *Writer, name: []const u8, value: anytype) Error!void {
        try self.out.objectField(name);
        try self.out.write(value);
    }

    /// Writes the fields of the object that is the schema.
    fn fields(self: *Writer, comptime T: type) Error!void {
        if (T == std.json.Value) return;
        if (T == Bytes) {
            try self.field("type", "string");
            return self.field("contentEncoding", "base64");
        }
        switch (@typeInfo(T)) {
            .void, .null => try self.field("type", "null"),
            .bool => try self.field("type", "boolean"),
            .int => |info| try self.integer(T, info.signedness == .unsigned),
            .float => try self.field("type", "number"),
            .optional => |info| try self.optional(info.child),
            .pointer => |info| if (info.size == .slice) try self.slice(info.child) else try self.fields(info.child),
            .array => |info| try self.array(info.child, info.len),
            .@"enum" => |info| try self.field("enum", info.field_names),
            .@"struct" => |info| if (info.is_tuple) try self.tuple(T) else try self.named(T),
            .@"union" => try self.named(T),
            else => @compileError(@typeName(T) ++ " cannot be read from JSON"),
        }
    }

    fn integer(self: *Writer, comptime T: type, comptime is_unsigned: bool) Error!void {
        try self.field("type", "integer");
        if (is_unsigned or @bitSizeOf(T) < 64) try self.field("minimum", std.math.minInt(T));
        if (@bitSizeOf(T) < 64) try self.field("maximum", std.math.maxInt(T));
        if (@bitSizeOf(T) >= 64) try self.field("format", if (is_unsigned) "uint64" else "int64");
    }

    fn optional(self: *Writer, comptime T: type) Error!void {
        try self.out.objectField("anyOf");
        try self.out.beginArray();
        try self.schema(T);
        try self.schema(void);
        try self.out.endArray();
    }

    fn slice(self: *Writer, comptime T: type) Error!void {
        if (T == u8) return self.field("type", "string");
        try self.field("type", "array");
        try self.out.objectField("items");
        try self.schema(T);
    }

    fn array(self: *Writer, comptime T: type, length: usize) Error!void {
        if (T == u8) return self.field("type", "string");
        try self.slice(T);
        try self.field("minItems", length);
        try self.field("maxItems", length);
    }

    fn tuple(self: *Writer, comptime T: type) Error!void {
        const info = @typeInfo(T).@"struct";
        try self.field("type", "array");
        try self.out.objectField("prefixItems");
        try self.out.beginArray();
        inline for (info.field_types) |Item| try self.schema(Item);
        try self.out.endArray();
        try self.field("minItems", info.field_types.len);
        try self.field("maxItems", info.field_types.len);
    }

    /// A struct or union: a reference, since it may contain itself.
    fn named(self: *Writer, comptime T: type) Error!void {
        if (comptime isMap(T)) {
            try self.field("type", "object");
            try self.out.objectField("additionalProperties");
            return self.schema(MapValue(T));
        }
        if (comptime std.meta.hasFn(T, "jsonParseFromValue")) return;
        const definition: Definition = .{ .name = comptime shortName(@typeName(T)), .write = definitionOf(T) };
        const is_known = for (self.definitions.items) |known| {
            if (known.write == definition.write) break true;
        } else false;
        if (!is_known) try self.definitions.append(self.gpa, definition);
        try self.field("$ref", "#/$defs/" ++ comptime shortName(@typeName(T)));
    }

    fn definitionOf(comptime T: type) *const fn (*Writer) Error!void {
        return struct {
            fn write(self: *Writer) Error!void {
                try self.out.beginObject();
                switch (@typeInfo(T)) {
                    .@"struct" => try self.structBody(T),
                    .@"union" => try self.unionBody(T),
                    else => unreachable,
                }
                try self.out.endObject();
            }
        }.write;
    }

    fn structBody(self: *Writer, comptime T: type) Error!void {
        const info = @typeInfo(T).@"struct";
        try self.field("type", "object");
        try self.out.objectField("properties");
        try self.out.beginObject();
        inline for (info.field_names, info.field_types) |name, Field| {
            try self.out.objectField(name);
            try self.schema(Field);
        }
        try self.out.endObject();
        try self.out.objectField("required");
        try self.out.beginArray();
        inline for (info.field_names, info.field_attrs) |name, attributes| {
            if (attributes.default_value_ptr == null) try self.out.write(name);
        }
        try self.out.endArray();
    }

    /// A tagged union is an object with one of its fields.
    fn unionBody(self: *Writer, comptime T: type) Error!void {
        const info = @typeInfo(T).@"union";
        try self.out.objectField("anyOf");
        try self.out.beginArray();
        inline for (info.field_names, info.field_types) |name, Field| {
            try self.out.beginObject();
            try self.field("type", "object");
            try self.out.objectField("properties");
            try self.out.beginObject();
            try self.out.objectField(name);
            // std.json has an empty object for a field without a value.
            if (Field == void) try self.out.write(.{ .type = "object" }) else try self.schema(Field);
            try self.out.endObject();
            try self.field("required", [_][]const u8{name});
            try self.field("additionalProperties", false);
            try self.out.endObject();
        }
        try self.out.endArray();
    }
};

/// Whether a type is std.json.ArrayHashMap.
fn isMap(comptime T: type) bool {
    if (@typeInfo(T) != .@"struct" or !@hasField(T, "map")) return false;
    return std.mem.startsWith(u8, @typeName(T), "json.hashmap.ArrayHashMap(");
}

fn MapValue(comptime T: type) type {
    const Entry = @FieldType(T, "map").KV;
    return @FieldType(Entry, "value");
}
