// C++ values as JSON, and the JSON Schema of their types, for fastworker.hpp.
//
//     bool, all integers and floats, std::string, std::vector, std::array, std::optional, std::map and
//     std::unordered_map with the keys of text, std::pair, std::tuple, fw::bytes (base64), fw::value (any JSON);
//     structs with FW_STRUCT(Order, id, lines), enums with FW_ENUM(Color, red, green), both after their type and in
//     its namespace.
//
// A type with fw::json<T> of its own works, too.
#ifndef FASTWORKER_JSON_HPP
#define FASTWORKER_JSON_HPP

#include <array>
#include <concepts>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <expected>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fastworker.h"

namespace fw {

// Bytes: base64 in JSON.
struct bytes : std::vector<std::uint8_t> {
    using std::vector<std::uint8_t>::vector;
};

// Any JSON, for the functions of yyjson.h.
struct value {
    yyjson_val* json = nullptr;
};

namespace detail {

[[noreturn]] inline void panic(const std::string& message) {
    std::fprintf(stderr, "fastworker: %s\n", message.c_str());
    std::abort();
}

// Returns text as JSON.
inline std::string quoted(std::string_view text) {
    yyjson_mut_doc* doc = yyjson_mut_doc_new(nullptr);
    char* json = yyjson_mut_val_write(yyjson_mut_strn(doc, text.data(), text.size()), YYJSON_WRITE_NOFLAG, nullptr);
    std::string result = json ? json : "\"\"";
    std::free(json);
    yyjson_mut_doc_free(doc);
    return result;
}

// The schemas of structs: these may contain themselves.
struct definitions {
    std::map<std::string, std::string> schemas;

    // Returns the schema with the definitions.
    std::string added_to(const std::string& schema) const {
        if (schemas.empty()) return schema;
        std::string text = schema.substr(0, schema.size() - 1) + R"(,"$defs":{)";
        const char* comma = "";
        for (const auto& [name, body] : schemas) {
            text += comma + quoted(name) + ":" + body;
            comma = ",";
        }
        return text + "}}";
    }
};

// Appends what was expected and found, after the path to the value.
inline bool wrong_type(std::string& path, std::string_view expected, yyjson_val* found) {
    char* text = yyjson_val_write(found, YYJSON_WRITE_NOFLAG, nullptr);
    path += ": expected " + std::string(expected) + ", found " + std::string(text ? text : "nothing").substr(0, 100);
    std::free(text);
    return false;
}

template <class T>
constexpr const char* integer_name() {
    constexpr const char* names[2][4] = {{"uint8", "uint16", "uint32", "uint64"}, {"int8", "int16", "int32", "int64"}};
    return names[std::is_signed_v<T>][sizeof(T) == 1 ? 0 : sizeof(T) == 2 ? 1 : sizeof(T) == 4 ? 2 : 3];
}

} // namespace detail

// How a type is read from JSON and written to it. There is no general one: an error here means that a type is not
// known; describe it with FW_STRUCT or FW_ENUM.
template <class T>
struct json;

template <>
struct json<bool> {
    static constexpr bool is_optional = false;
    static std::string name() { return "bool"; }
    static std::string schema(detail::definitions&) { return R"({"type":"boolean"})"; }
    static bool read(yyjson_val* from, bool& to, std::string& path) {
        if (!yyjson_is_bool(from)) return detail::wrong_type(path, "true or false", from);
        to = yyjson_get_bool(from);
        return true;
    }
    static yyjson_mut_val* write(yyjson_mut_doc* doc, bool from) { return yyjson_mut_bool(doc, from); }
};

template <std::integral T>
    requires(!std::same_as<T, bool>)
struct json<T> {
    using limits = std::numeric_limits<T>;
    static constexpr bool is_optional = false;
    static std::string name() { return detail::integer_name<T>(); }
    static std::string schema(detail::definitions&) {
        std::string text = R"({"type":"integer","format":")" + name() + "\"";
        if (!std::is_signed_v<T> || sizeof(T) < 8) text += R"(,"minimum":)" + std::to_string(limits::min());
        if (sizeof(T) < 8) text += R"(,"maximum":)" + std::to_string(limits::max());
        return text + "}";
    }
    static bool read(yyjson_val* from, T& to, std::string& path) {
        bool fits = false;
        if (yyjson_is_uint(from)) fits = yyjson_get_uint(from) <= std::uint64_t(limits::max());
        if (yyjson_is_sint(from) && yyjson_get_sint(from) < 0)
            fits = std::is_signed_v<T> && yyjson_get_sint(from) >= std::int64_t(limits::min());
        if (!fits) return detail::wrong_type(path, "an integer of the type " + name(), from);
        to = T(yyjson_get_int_bits(from));
        return true;
    }
    static yyjson_mut_val* write(yyjson_mut_doc* doc, T from) {
        if constexpr (std::is_signed_v<T>) return yyjson_mut_sint(doc, from);
        return yyjson_mut_uint(doc, std::uint64_t(from));
    }

private:
    static std::uint64_t yyjson_get_int_bits(yyjson_val* from) {
        return yyjson_is_uint(from) ? yyjson_get_uint(from) : std::uint64_t(yyjson_get_sint(from));
    }
};

template <std::floating_point T>
struct json<T> {
    static constexpr bool is_optional = false;
    static std::string name() { return sizeof(T) == 4 ? "float" : "double"; }
    static std::string schema(detail::definitions&) { return R"({"type":"number","format":")" + name() + "\"}"; }
    static bool read(yyjson_val* from, T& to, std::string& path) {
        if (!yyjson_is_num(from) && !yyjson_is_raw(from)) return detail::wrong_type(path, "a number", from);
        to = T(yyjson_is_raw(from) ? std::strtod(yyjson_get_raw(from), nullptr) : yyjson_get_num(from));
        return true;
    }
    static yyjson_mut_val* write(yyjson_mut_doc* doc, T from) { return yyjson_mut_real(doc, double(from)); }
};

template <>
struct json<std::string> {
    static constexpr bool is_optional = false;
    static std::string name() { return "string"; }
    static std::string schema(detail::definitions&) { return R"({"type":"string"})"; }
    static bool read(yyjson_val* from, std::string& to, std::string& path) {
        if (!yyjson_is_str(from)) return detail::wrong_type(path, "a string", from);
        to.assign(yyjson_get_str(from), yyjson_get_len(from));
        return true;
    }
    static yyjson_mut_val* write(yyjson_mut_doc* doc, const std::string& from) {
        return yyjson_mut_strncpy(doc, from.data(), from.size());
    }
};

// Arguments are views of the call, which ends after the task function.
template <>
struct json<std::string_view> : json<std::string> {
    static bool read(yyjson_val* from, std::string_view& to, std::string& path) {
        if (!yyjson_is_str(from)) return detail::wrong_type(path, "a string", from);
        to = {yyjson_get_str(from), yyjson_get_len(from)};
        return true;
    }
    static yyjson_mut_val* write(yyjson_mut_doc* doc, std::string_view from) {
        return yyjson_mut_strncpy(doc, from.data(), from.size());
    }
};

template <>
struct json<const char*> : json<std::string_view> {};

template <>
struct json<value> {
    static constexpr bool is_optional = false;
    static std::string name() { return "any"; }
    static std::string schema(detail::definitions&) { return "{}"; }
    static bool read(yyjson_val* from, value& to, std::string&) {
        to.json = from;
        return true;
    }
    static yyjson_mut_val* write(yyjson_mut_doc* doc, const value& from) {
        return from.json ? yyjson_val_mut_copy(doc, from.json) : yyjson_mut_null(doc);
    }
};

template <>
struct json<bytes> {
    static constexpr bool is_optional = false;
    static std::string name() { return "bytes"; }
    static std::string schema(detail::definitions&) { return R"({"type":"string","contentEncoding":"base64"})"; }
    static bool read(yyjson_val* from, bytes& to, std::string& path) {
        uint8_t* decoded = nullptr;
        std::size_t count = 0;
        bool is_base64 = yyjson_is_str(from) && fw_decode(yyjson_get_str(from), yyjson_get_len(from), &decoded, &count);
        if (!is_base64) return detail::wrong_type(path, "base64", from);
        to.assign(decoded, decoded + count);
        std::free(decoded);
        return true;
    }
    static yyjson_mut_val* write(yyjson_mut_doc* doc, const bytes& from) {
        std::size_t count = 0;
        char* text = fw_encode(from.data(), from.size(), &count);
        yyjson_mut_val* written = yyjson_mut_strncpy(doc, text, count);
        std::free(text);
        return written;
    }
};

template <class T>
struct json<std::optional<T>> {
    static constexpr bool is_optional = true;
    static std::string name() { return json<T>::name() + "?"; }
    static std::string schema(detail::definitions& known) {
        return R"({"anyOf":[)" + json<T>::schema(known) + R"(,{"type":"null"}]})";
    }
    static bool read(yyjson_val* from, std::optional<T>& to, std::string& path) {
        if (yyjson_is_null(from)) {
            to.reset();
            return true;
        }
        return json<T>::read(from, to.emplace(), path);
    }
    static yyjson_mut_val* write(yyjson_mut_doc* doc, const std::optional<T>& from) {
        return from ? json<T>::write(doc, *from) : yyjson_mut_null(doc);
    }
};

template <class T>
struct json<std::vector<T>> {
    static constexpr bool is_optional = false;
    static std::string name() { return "[" + json<T>::name() + "]"; }
    static std::string schema(detail::definitions& known) {
        return R"({"type":"array","items":)" + json<T>::schema(known) + "}";
    }
    static bool read(yyjson_val* from, std::vector<T>& to, std::string& path) {
        if (!yyjson_is_arr(from)) return detail::wrong_type(path, "an array", from);
        to.clear();
        to.reserve(yyjson_arr_size(from));
        std::size_t index, max;
        yyjson_val* item;
        yyjson_arr_foreach(from, index, max, item) {
            T each{};
            std::string within = path + "[" + std::to_string(index) + "]";
            if (!json<T>::read(item, each, within)) {
                path = within;
                return false;
            }
            to.push_back(std::move(each));
        }
        return true;
    }
    static yyjson_mut_val* write(yyjson_mut_doc* doc, const std::vector<T>& from) {
        yyjson_mut_val* list = yyjson_mut_arr(doc);
        // A vector of bool has no references.
        for (auto&& each : from) yyjson_mut_arr_append(list, json<T>::write(doc, each));
        return list;
    }
};

namespace detail {

// What std::pair and std::tuple have in common.
template <class Tuple, class... T>
struct tuple_json {
    static constexpr bool is_optional = false;
    static std::string name() {
        std::string text = "(";
        const char* comma = "";
        ((text += comma + json<T>::name(), comma = ", "), ...);
        return text + ")";
    }
    static std::string schema(definitions& known) {
        std::string items, count = std::to_string(sizeof...(T)), comma = "";
        ((items += comma + json<T>::schema(known), comma = ","), ...);
        return R"({"type":"array","prefixItems":[)" + items + R"(],"items":false,"minItems":)" + count + "}";
    }
    static bool read(yyjson_val* from, Tuple& to, std::string& path) {
        if (!yyjson_is_arr(from) || yyjson_arr_size(from) != sizeof...(T))
            return wrong_type(path, "an array of " + std::to_string(sizeof...(T)), from);
        return [&]<std::size_t... I>(std::index_sequence<I...>) {
            return (read_item<T>(yyjson_arr_get(from, I), std::get<I>(to), path, I) && ...);
        }(std::index_sequence_for<T...>{});
    }
    static yyjson_mut_val* write(yyjson_mut_doc* doc, const Tuple& from) {
        yyjson_mut_val* list = yyjson_mut_arr(doc);
        std::apply([&](const auto&... each) { (yyjson_mut_arr_append(list, json<T>::write(doc, each)), ...); }, from);
        return list;
    }

private:
    template <class Item>
    static bool read_item(yyjson_val* from, Item& to, std::string& path, std::size_t index) {
        std::string within = path + "[" + std::to_string(index) + "]";
        if (json<Item>::read(from, to, within)) return true;
        path = within;
        return false;
    }
};

// Maps with the keys of text.
template <class Map, class T>
struct map_json {
    static constexpr bool is_optional = false;
    static std::string name() { return "{string: " + json<T>::name() + "}"; }
    static std::string schema(definitions& known) {
        return R"({"type":"object","additionalProperties":)" + json<T>::schema(known) + "}";
    }
    static bool read(yyjson_val* from, Map& to, std::string& path) {
        if (!yyjson_is_obj(from)) return wrong_type(path, "an object", from);
        std::size_t index, max;
        yyjson_val *key, *item;
        yyjson_obj_foreach(from, index, max, key, item) {
            std::string name(yyjson_get_str(key), yyjson_get_len(key)), within = path + "." + name;
            if (!json<T>::read(item, to[name], within)) {
                path = within;
                return false;
            }
        }
        return true;
    }
    static yyjson_mut_val* write(yyjson_mut_doc* doc, const Map& from) {
        yyjson_mut_val* object = yyjson_mut_obj(doc);
        for (const auto& [key, each] : from)
            yyjson_mut_obj_add(object, yyjson_mut_strncpy(doc, key.data(), key.size()), json<T>::write(doc, each));
        return object;
    }
};

} // namespace detail

template <class T, std::size_t N>
struct json<std::array<T, N>> {
    static constexpr bool is_optional = false;
    static std::string name() { return "[" + json<T>::name() + "; " + std::to_string(N) + "]"; }
    static std::string schema(detail::definitions& known) {
        std::string count = std::to_string(N);
        return R"({"type":"array","items":)" + json<T>::schema(known) + R"(,"minItems":)" + count + R"(,"maxItems":)" + count + "}";
    }
    static bool read(yyjson_val* from, std::array<T, N>& to, std::string& path) {
        std::vector<T> items;
        if (!json<std::vector<T>>::read(from, items, path)) return false;
        if (items.size() != N) return detail::wrong_type(path, "an array of " + std::to_string(N), from);
        std::move(items.begin(), items.end(), to.begin());
        return true;
    }
    static yyjson_mut_val* write(yyjson_mut_doc* doc, const std::array<T, N>& from) {
        return json<std::vector<T>>::write(doc, std::vector<T>(from.begin(), from.end()));
    }
};

template <class... T>
struct json<std::tuple<T...>> : detail::tuple_json<std::tuple<T...>, T...> {};
template <class A, class B>
struct json<std::pair<A, B>> : detail::tuple_json<std::pair<A, B>, A, B> {};
template <class T>
struct json<std::map<std::string, T>> : detail::map_json<std::map<std::string, T>, T> {};
template <class T>
struct json<std::unordered_map<std::string, T>> : detail::map_json<std::unordered_map<std::string, T>, T> {};

// Returns a value as JSON text, or nothing if it has a number that is not finite.
template <class T>
std::optional<std::string> json_text(const T& from) {
    yyjson_mut_doc* doc = yyjson_mut_doc_new(nullptr);
    std::size_t length = 0;
    char* text = yyjson_mut_val_write(json<T>::write(doc, from), YYJSON_WRITE_NOFLAG, &length);
    std::optional<std::string> result;
    if (text) result.emplace(text, length);
    std::free(text);
    yyjson_mut_doc_free(doc);
    return result;
}

} // namespace fw

#include "fastworker_struct.hpp"

#endif
