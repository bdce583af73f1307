// Registered tasks, and their description for the host.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

// A registered task, and its place in the source; a file of NULL is not known.
typedef struct {
    const fw_task *task;
    const char *file;
    unsigned line;
} registered;

static registered *tasks;
static size_t task_count;

// The names of the types, and their JSON Schemas, in the order of fw_type.
static const struct {
    const char *name, *schema;
} types[] = {
    {"any", "{}"},
    {"int", "{\"type\":\"integer\",\"format\":\"int64\"}"},
    {"uint", "{\"type\":\"integer\",\"format\":\"uint64\",\"minimum\":0}"},
    {"double", "{\"type\":\"number\",\"format\":\"double\"}"},
    {"bool", "{\"type\":\"boolean\"}"},
    {"string", "{\"type\":\"string\"}"},
    {"bytes", "{\"type\":\"string\",\"contentEncoding\":\"base64\"}"},
    {"array", "{\"type\":\"array\"}"},
    {"object", "{\"type\":\"object\"}"},
    {"null", "{\"type\":\"null\"}"},
};

// Whether a text names a grant. The host checks what comes after its kind.
static bool is_need(const char *text) {
    static const char *kinds[] = {"env:", "secret:", "dir:", "http:", "tcp:"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t length = strlen(kinds[i]);
        if (!strncmp(text, kinds[i], length)) return text[length] != 0;
    }
    return false;
}

// Ends the module because of a task. The reason is one sentence.
#define REFUSE(added, reason, ...)                                                                                     \
    do {                                                                                                               \
        char place_[PLACE_SIZE];                                                                                       \
        write_place(place_, (added), ": ");                                                                            \
        fw_panic("%stask '%s': " reason, place_, (added)->task->name, __VA_ARGS__);                                    \
    } while (0)
#define PLACE_SIZE 280

// Writes "tasks.c:12" and the text after it, or nothing if the place is not known.
static void write_place(char place[PLACE_SIZE], const registered *added, const char *after) {
    place[0] = 0;
    if (added->file) snprintf(place, PLACE_SIZE, "%.255s:%u%s", added->file, added->line, after);
}

static void check_limit(const registered *added, const char *key, double value) {
    if (!(value >= 0)) REFUSE(added, "%s must be more than zero", key);
}

static void check_limits_and_needs(const registered *added) {
    const fw_task *task = added->task;
    const fw_limits *limits = &task->limits;
    check_limit(added, "max_memory", (double)limits->max_memory);
    check_limit(added, "max_cpu_time", limits->max_cpu_time);
    check_limit(added, "max_host_time", limits->max_host_time);
    check_limit(added, "max_output", (double)limits->max_output);
    check_limit(added, "max_log", (double)limits->max_log);
    check_limit(added, "max_result", (double)limits->max_result);
    check_limit(added, "max_received", (double)limits->max_received);
    check_limit(added, "max_sent", (double)limits->max_sent);
    for (size_t i = 0; i < FW_NEEDS_MAX && task->needs[i]; i++)
        if (!is_need(task->needs[i]))
            REFUSE(added, "'%s' names no grant; write it like env:NAME, secret:NAME, dir:/data:ro, "
                   "http:api.example.com or tcp:db:5432", task->needs[i]);
}

static void check_name(const registered *added) {
    char place[PLACE_SIZE];
    write_place(place, added, ": ");
    if (!added->task->name || !added->task->run) fw_panic("%sa task needs a name and a function", place);
    for (size_t i = 0; i < task_count; i++) {
        if (strcmp(tasks[i].task->name, added->task->name)) continue;
        write_place(place, &tasks[i], "");
        REFUSE(added, "another task has this name%s%s; rename one of them", place[0] ? ", at " : "", place);
    }
}

void fw_register(const fw_task *task) { fw_register_at(task, NULL, 0); }

void fw_register_at(const fw_task *task, const char *file, unsigned line) {
    const registered added = {task, file, line};
    check_name(&added);
    check_limits_and_needs(&added);
    tasks = realloc(tasks, (task_count + 1) * sizeof *tasks);
    if (!tasks) fw_panic("out of memory");
    tasks[task_count++] = added;
}

size_t fw_task_count(void) { return task_count; }

const fw_task *fw_task_at(size_t index) { return tasks[index].task; }

// Returns a schema as a value. An optional parameter may be null, too.
static yyjson_mut_val *schema_value(yyjson_mut_doc *doc, const fw_task *task, const char *text, bool optional) {
    yyjson_doc *parsed = yyjson_read(text, strlen(text), 0);
    for (size_t i = 0; !parsed && i < task_count; i++)
        if (tasks[i].task == task) REFUSE(&tasks[i], "a schema is not JSON: %s", text);
    yyjson_mut_val *schema = yyjson_val_mut_copy(doc, yyjson_doc_get_root(parsed));
    yyjson_doc_free(parsed);
    if (!optional) return schema;
    yyjson_mut_val *either = yyjson_mut_obj(doc);
    yyjson_mut_val *cases = yyjson_mut_obj_add_arr(doc, either, "anyOf");
    yyjson_mut_arr_append(cases, schema);
    yyjson_mut_obj_add_str(doc, yyjson_mut_arr_add_obj(doc, cases), "type", "null");
    return either;
}

static void add_parameter(yyjson_mut_doc *doc, yyjson_mut_val *list, const fw_task *task, const fw_param *param) {
    yyjson_mut_val *entry = yyjson_mut_arr_add_obj(doc, list);
    yyjson_mut_obj_add_str(doc, entry, "name", param->name);
    yyjson_mut_obj_add_str(doc, entry, "type", types[param->type].name);
    yyjson_mut_obj_add_bool(doc, entry, "required", !param->optional);
    const char *schema = param->schema ? param->schema : types[param->type].schema;
    yyjson_mut_obj_add_val(doc, entry, "schema", schema_value(doc, task, schema, param->optional));
}

char *fw_schema_of(const fw_task *task) {
    if (task->signature) {
        const char *text = task->signature(task);
        return fw_copy(text, strlen(text));
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *signature = yyjson_mut_obj(doc);
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, signature, "parameters");
    for (size_t i = 0; i < FW_PARAMS_MAX && task->params[i].name; i++) add_parameter(doc, list, task, &task->params[i]);
    yyjson_mut_val *result = yyjson_mut_obj_add_obj(doc, signature, "result");
    yyjson_mut_obj_add_str(doc, result, "type", types[task->result].name);
    const char *schema = task->result_schema ? task->result_schema : types[task->result].schema;
    yyjson_mut_obj_add_val(doc, result, "schema", schema_value(doc, task, schema, false));
    char *text = fw_json_text(signature);
    yyjson_mut_doc_free(doc);
    return text;
}

static void add_seconds(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *key, double value) {
    if (value != 0) yyjson_mut_obj_add_real(doc, object, key, value);
}

static void add_text(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *key, const char *value) {
    if (value) yyjson_mut_obj_add_strcpy(doc, object, key, value);
}

void fw_write_policy(yyjson_mut_doc *doc, yyjson_mut_val *object, const fw_policy *policy) {
    add_text(doc, object, "priority", policy->priority);
    add_seconds(doc, object, "timeout", policy->timeout);
    if (policy->max_retries) yyjson_mut_obj_add_uint(doc, object, "max_retries", policy->max_retries);
    add_seconds(doc, object, "retry_delay", policy->retry_delay);
    add_seconds(doc, object, "retry_backoff", policy->retry_backoff);
    add_seconds(doc, object, "retry_backoff_max", policy->retry_backoff_max);
}

static void add_whole(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *key, int64_t value) {
    if (value) yyjson_mut_obj_add_sint(doc, object, key, value);
}

static void add_limits(yyjson_mut_doc *doc, yyjson_mut_val *object, const fw_limits *limits) {
    add_whole(doc, object, "max_memory", limits->max_memory);
    add_seconds(doc, object, "max_cpu_time", limits->max_cpu_time);
    add_seconds(doc, object, "max_host_time", limits->max_host_time);
    add_whole(doc, object, "max_output", limits->max_output);
    add_whole(doc, object, "max_log", limits->max_log);
    add_whole(doc, object, "max_result", limits->max_result);
    add_whole(doc, object, "max_connections", limits->max_connections);
    add_whole(doc, object, "max_received", limits->max_received);
    add_whole(doc, object, "max_sent", limits->max_sent);
}

static void add_needs(yyjson_mut_doc *doc, yyjson_mut_val *object, const fw_task *task) {
    if (!task->needs[0]) return;
    yyjson_mut_val *needs = yyjson_mut_obj_add_arr(doc, object, "needs");
    for (size_t i = 0; i < FW_NEEDS_MAX && task->needs[i]; i++) yyjson_mut_arr_add_strcpy(doc, needs, task->needs[i]);
}

char *fw_policy_of(const fw_task *task) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *object = yyjson_mut_obj(doc);
    fw_write_policy(doc, object, &task->policy);
    add_seconds(doc, object, "every", task->schedule.every);
    add_text(doc, object, "cron", task->schedule.cron);
    add_text(doc, object, "tz", task->schedule.tz);
    add_text(doc, object, "overlap", task->schedule.overlap);
    if (task->schedule.count) yyjson_mut_obj_add_uint(doc, object, "count", task->schedule.count);
    add_text(doc, object, "until", task->schedule.until);
    add_limits(doc, object, &task->limits);
    add_needs(doc, object, task);
    char *text = fw_json_text(object);
    yyjson_mut_doc_free(doc);
    return text;
}
