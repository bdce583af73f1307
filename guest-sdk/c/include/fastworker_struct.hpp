// Structs and enums as JSON, for fastworker_json.hpp.
#ifndef FASTWORKER_STRUCT_HPP
#define FASTWORKER_STRUCT_HPP

#include <string>
#include <string_view>

#include "fastworker_json.hpp"

namespace fw::detail {

// Types that FW_STRUCT and FW_ENUM describe: they add these functions to the namespace of the type.
template <class T>
concept described_struct = requires(T& value) { fw_describe_fields(value, [](const char*, auto&) {}); };
template <class T>
concept described_enum = requires(T value) { fw_describe_values(value, [](const char*, T) {}); };

} // namespace fw::detail

namespace fw {

template <detail::described_struct T>
struct json<T> {
    static constexpr bool is_optional = false;
    static std::string name() { return fw_describe_name(static_cast<const T*>(nullptr)); }
    static std::string schema(detail::definitions& known) {
        if (!known.schemas.contains(name())) {
            // Before its fields: one of them may contain the type again.
            known.schemas[name()] = "{}";
            known.schemas[name()] = body(known);
        }
        return R"({"$ref":"#/$defs/)" + name() + "\"}";
    }
    static bool read(yyjson_val* from, T& to, std::string& path) {
        if (!yyjson_is_obj(from)) return detail::wrong_type(path, "an object", from);
        bool is_read = true;
        fw_describe_fields(to, [&]<class Field>(const char* key, Field& field) {
            if (is_read) is_read = read_field(from, key, field, path);
        });
        return is_read;
    }
    static yyjson_mut_val* write(yyjson_mut_doc* doc, const T& from) {
        yyjson_mut_val* object = yyjson_mut_obj(doc);
        fw_describe_fields(from, [&]<class Field>(const char* key, const Field& field) {
            yyjson_mut_obj_add_val(doc, object, key, json<Field>::write(doc, field));
        });
        return object;
    }

private:
    static std::string body(detail::definitions& known) {
        std::string properties, required;
        T example{};
        fw_describe_fields(example, [&]<class Field>(const char* key, Field&) {
            properties += (properties.empty() ? "" : ",") + detail::quoted(key) + ":" + json<Field>::schema(known);
            if (!json<Field>::is_optional) required += (required.empty() ? "" : ",") + detail::quoted(key);
        });
        return R"({"type":"object","properties":{)" + properties + R"(},"required":[)" + required + "]}";
    }

    template <class Field>
    static bool read_field(yyjson_val* from, const char* key, Field& field, std::string& path) {
        yyjson_val* value = yyjson_obj_get(from, key);
        std::string within = path + "." + key;
        if (value ? json<Field>::read(value, field, within) : json<Field>::is_optional) return true;
        path = value ? within : path + ": the field '" + key + "' is missing";
        return false;
    }
};

// By the name of the value.
template <detail::described_enum T>
struct json<T> {
    static constexpr bool is_optional = false;
    static std::string name() { return fw_describe_name(static_cast<const T*>(nullptr)); }
    static std::string schema(detail::definitions&) { return R"({"enum":[)" + names() + "]}"; }
    static bool read(yyjson_val* from, T& to, std::string& path) {
        bool is_found = false;
        fw_describe_values(T{}, [&](const char* name, T value) {
            if (!yyjson_equals_str(from, name)) return;
            to = value;
            is_found = true;
        });
        return is_found || detail::wrong_type(path, "one of " + names(), from);
    }
    static yyjson_mut_val* write(yyjson_mut_doc* doc, T from) {
        yyjson_mut_val* written = yyjson_mut_sint(doc, std::int64_t(from));
        fw_describe_values(T{}, [&](const char* name, T value) {
            if (value == from) written = yyjson_mut_str(doc, name);
        });
        return written;
    }

private:
    static std::string names() {
        std::string text;
        fw_describe_values(T{}, [&](const char* name, T) { text += (text.empty() ? "" : ",") + detail::quoted(name); });
        return text;
    }
};

} // namespace fw

// Applies a macro to each of up to 256 names.
#define FW_PARENS_ ()
#define FW_EXPAND_(...) FW_EXPAND4_(FW_EXPAND4_(FW_EXPAND4_(FW_EXPAND4_(__VA_ARGS__))))
#define FW_EXPAND4_(...) FW_EXPAND3_(FW_EXPAND3_(FW_EXPAND3_(FW_EXPAND3_(__VA_ARGS__))))
#define FW_EXPAND3_(...) FW_EXPAND2_(FW_EXPAND2_(FW_EXPAND2_(FW_EXPAND2_(__VA_ARGS__))))
#define FW_EXPAND2_(...) FW_EXPAND1_(FW_EXPAND1_(FW_EXPAND1_(FW_EXPAND1_(__VA_ARGS__))))
#define FW_EXPAND1_(...) __VA_ARGS__
#define FW_EACH_(macro, with, ...) __VA_OPT__(FW_EXPAND_(FW_EACH_STEP_(macro, with, __VA_ARGS__)))
#define FW_EACH_STEP_(macro, with, first, ...) macro(with, first) __VA_OPT__(FW_EACH_AGAIN_ FW_PARENS_(macro, with, __VA_ARGS__))
#define FW_EACH_AGAIN_() FW_EACH_STEP_

#define FW_FIELD_(with, field) visit(#field, value.field);
#define FW_VALUE_(type, name) visit(#name, type::name);

// Describes a struct by the names of its fields. Those of the type std::optional may be missing.
#define FW_STRUCT(type, ...)                                                                                           \
    [[maybe_unused]] constexpr const char* fw_describe_name(const type*) { return #type; }                             \
    template <class Visit>                                                                                             \
    void fw_describe_fields([[maybe_unused]] type& value, [[maybe_unused]] Visit visit) {                              \
        FW_EACH_(FW_FIELD_, , __VA_ARGS__)                                                                             \
    }                                                                                                                  \
    template <class Visit>                                                                                             \
    void fw_describe_fields([[maybe_unused]] const type& value, [[maybe_unused]] Visit visit) {                        \
        FW_EACH_(FW_FIELD_, , __VA_ARGS__)                                                                             \
    }

// Describes an enum by the names of its values.
#define FW_ENUM(type, ...)                                                                                             \
    [[maybe_unused]] constexpr const char* fw_describe_name(const type*) { return #type; }                             \
    template <class Visit>                                                                                             \
    void fw_describe_values(type, Visit visit) {                                                                       \
        FW_EACH_(FW_VALUE_, type, __VA_ARGS__)                                                                         \
    }

#endif
