// Assigns the arguments of a call to the parameters of its task, by Python's rules, and checks their types.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

// Numbers that fit no C type stay as they are.
#define READ_FLAGS YYJSON_READ_BIGNUM_AS_RAW

static size_t parameter_count(const fw_task *task) {
    size_t count = 0;
    while (count < FW_PARAMS_MAX && task->params[count].name) count++;
    return count;
}

static const char *plural(size_t count) { return count == 1 ? "argument" : "arguments"; }

static void too_many(fw_call *call, size_t given) {
    size_t most = parameter_count(call->task), least = 0;
    for (size_t i = 0; i < most; i++) least += !call->task->params[i].optional;
    const char *were = given == 1 ? "was" : "were";
    if (least < most)
        fw_bad_arguments(call, "%s() takes from %zu to %zu %s but %zu %s given", call->task->name, least, most, plural(most), given, were);
    else
        fw_bad_arguments(call, "%s() takes %zu %s but %zu %s given", call->task->name, most, plural(most), given, were);
}

static bool is_missing(fw_call *call, size_t index) {
    return !call->task->params[index].optional && !call->arguments[index];
}

static void check_missing(fw_call *call) {
    size_t count = parameter_count(call->task), missing = 0, length = 1, seen = 0;
    for (size_t i = 0; i < count; i++)
        if (is_missing(call, i)) missing++, length += strlen(call->task->params[i].name) + strlen("'' and ");
    if (!missing) return;
    char *names = fw_allocate(length);
    names[0] = 0;
    for (size_t i = 0; i < count; i++) {
        if (!is_missing(call, i)) continue;
        if (seen++) strcat(names, seen == missing ? " and " : ", ");
        strcat(strcat(strcat(names, "'"), call->task->params[i].name), "'");
    }
    fw_bad_arguments(call, "%s() missing %zu required %s: %s", call->task->name, missing, plural(missing), names);
    free(names);
}

static bool is_integer(yyjson_val *value, bool is_signed) {
    if (!yyjson_is_int(value)) return false;
    return is_signed ? yyjson_is_sint(value) || yyjson_get_uint(value) <= INT64_MAX
                     : yyjson_is_uint(value) || yyjson_get_sint(value) >= 0;
}

// Returns what was expected, or NULL if the value is of the type.
static const char *mismatch(fw_call *call, size_t index, yyjson_val *value) {
    switch (call->task->params[index].type) {
    case FW_INT: return is_integer(value, true) ? NULL : "an integer of 64 bits";
    case FW_UINT: return is_integer(value, false) ? NULL : "an integer of 64 bits that is not negative";
    case FW_DOUBLE: return yyjson_is_num(value) || yyjson_is_raw(value) ? NULL : "a number";
    case FW_BOOL: return yyjson_is_bool(value) ? NULL : "true or false";
    case FW_STRING: return yyjson_is_str(value) ? NULL : "a string";
    case FW_BYTES: {
        bool is_text = yyjson_is_str(value);
        bool is_base64 = is_text && fw_decode(yyjson_get_str(value), yyjson_get_len(value), &call->bytes[index], &call->byte_counts[index]);
        return is_base64 ? NULL : "base64";
    }
    case FW_ARRAY: return yyjson_is_arr(value) ? NULL : "an array";
    case FW_OBJECT: return yyjson_is_obj(value) ? NULL : "an object";
    case FW_NULL: return yyjson_is_null(value) ? NULL : "null";
    case FW_ANY: break;
    }
    return NULL;
}

static void check_types(fw_call *call) {
    for (size_t i = 0; i < parameter_count(call->task); i++) {
        const fw_param *param = &call->task->params[i];
        yyjson_val *value = call->arguments[i];
        if (!value || (param->optional && yyjson_is_null(value))) continue;
        const char *expected = mismatch(call, i, value);
        if (!expected) continue;
        char *text = yyjson_val_write(value, YYJSON_WRITE_NOFLAG, NULL);
        fw_bad_arguments(call, "argument '%s': expected %s, found %.100s", param->name, expected, text ? text : "?");
        free(text);
        return;
    }
}

static void bind_named(fw_call *call, yyjson_val *kwargs) {
    size_t index, max, count = parameter_count(call->task);
    yyjson_val *key, *value;
    yyjson_obj_foreach(kwargs, index, max, key, value) {
        const char *name = yyjson_get_str(key);
        size_t at = 0;
        while (at < count && strcmp(call->task->params[at].name, name)) at++;
        if (at == count) {
            fw_bad_arguments(call, "%s() got an unexpected keyword argument '%s'", call->task->name, name);
            return;
        }
        if (call->arguments[at]) {
            fw_bad_arguments(call, "%s() got multiple values for argument '%s'", call->task->name, name);
            return;
        }
        call->arguments[at] = value;
    }
}

void fw_bind(fw_call *call, const char *args, const char *kwargs) {
    yyjson_doc *positional = yyjson_read(args, strlen(args), READ_FLAGS);
    yyjson_doc *named = yyjson_read(kwargs, strlen(kwargs), READ_FLAGS);
    yyjson_val *list = yyjson_doc_get_root(positional), *object = yyjson_doc_get_root(named);
    if (!yyjson_is_arr(list)) {
        fw_bad_arguments(call, "the positional arguments are not a JSON array");
        return;
    }
    if (!yyjson_is_obj(object)) {
        fw_bad_arguments(call, "the named arguments are not a JSON object");
        return;
    }
    size_t given = yyjson_arr_size(list), index, max;
    yyjson_val *value;
    yyjson_arr_foreach(list, index, max, value) {
        if (index < parameter_count(call->task)) call->arguments[index] = value;
    }
    bind_named(call, object);
    if (!fw_failed(call) && given > parameter_count(call->task)) too_many(call, given);
    if (!fw_failed(call)) check_missing(call);
    if (!fw_failed(call)) check_types(call);
}

// Returns the argument of a parameter. Asking for another parameter is a mistake in the task.
static yyjson_val *argument(fw_call *call, const char *name, fw_type type, size_t *index) {
    for (size_t i = 0; i < parameter_count(call->task); i++) {
        const fw_param *param = &call->task->params[i];
        if (strcmp(param->name, name)) continue;
        if (type != FW_ANY && param->type != type)
            fw_panic("task '%s' asks for the parameter '%s' as another type than it is declared", call->task->name, name);
        if (index) *index = i;
        yyjson_val *value = call->arguments[i];
        return value && param->optional && yyjson_is_null(value) ? NULL : value;
    }
    fw_panic("task '%s' asks for '%s', which is none of its parameters", call->task->name, name);
}

bool fw_given(fw_call *call, const char *name) { return argument(call, name, FW_ANY, NULL) != NULL; }

int64_t fw_int(fw_call *call, const char *name) { return yyjson_get_sint(argument(call, name, FW_INT, NULL)); }

uint64_t fw_uint(fw_call *call, const char *name) { return yyjson_get_uint(argument(call, name, FW_UINT, NULL)); }

double fw_double(fw_call *call, const char *name) {
    yyjson_val *value = argument(call, name, FW_DOUBLE, NULL);
    return yyjson_is_raw(value) ? strtod(yyjson_get_raw(value), NULL) : yyjson_get_num(value);
}

bool fw_bool(fw_call *call, const char *name) { return yyjson_get_bool(argument(call, name, FW_BOOL, NULL)); }

const char *fw_string(fw_call *call, const char *name, size_t *length) {
    yyjson_val *value = argument(call, name, FW_STRING, NULL);
    if (length) *length = yyjson_get_len(value);
    return yyjson_get_str(value);
}

const uint8_t *fw_bytes(fw_call *call, const char *name, size_t *length) {
    size_t index = 0;
    yyjson_val *value = argument(call, name, FW_BYTES, &index);
    if (length) *length = value ? call->byte_counts[index] : 0;
    return value ? call->bytes[index] : NULL;
}

yyjson_val *fw_json(fw_call *call, const char *name) { return argument(call, name, FW_ANY, NULL); }
