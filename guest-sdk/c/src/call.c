// One attempt: its result or failure, and what it asks of the host.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static char *format_text(const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    char *text = fw_allocate((size_t)(length < 0 ? 0 : length) + 1);
    text[0] = 0;
    vsnprintf(text, (size_t)(length < 0 ? 0 : length) + 1, format, args);
    return text;
}

static void set_failure(fw_call *call, fw_case failure, const char *kind, const char *format, va_list args) {
    call->failure = failure;
    call->message = format_text(format, args);
    call->kind = fw_copy(kind ? kind : "", kind ? strlen(kind) : 0);
}

void fw_fail(fw_call *call, const char *kind, const char *format, ...) {
    va_list args;
    va_start(args, format);
    set_failure(call, FW_CASE_FAILED, kind, format, args);
    va_end(args);
}

void fw_retry_after(fw_call *call, uint64_t delay_ms, const char *kind, const char *format, ...) {
    va_list args;
    va_start(args, format);
    set_failure(call, FW_CASE_TRY_AGAIN_AFTER, kind, format, args);
    call->delay_ms = delay_ms;
    va_end(args);
}

void fw_give_up(fw_call *call, const char *kind, const char *format, ...) {
    va_list args;
    va_start(args, format);
    set_failure(call, FW_CASE_GIVE_UP, kind, format, args);
    va_end(args);
}

void fw_bad_arguments(fw_call *call, const char *format, ...) {
    va_list args;
    va_start(args, format);
    set_failure(call, FW_CASE_BAD_ARGUMENTS, "BadArguments", format, args);
    va_end(args);
}

void fw_details(fw_call *call, const char *json) { call->details = fw_copy(json, strlen(json)); }

bool fw_failed(fw_call *call) { return call->failure != FW_CASE_NONE; }

yyjson_mut_doc *fw_doc(fw_call *call) {
    if (!call->doc) call->doc = yyjson_mut_doc_new(NULL);
    if (!call->doc) fw_panic("out of memory");
    return call->doc;
}

void fw_return_json(fw_call *call, yyjson_mut_val *value) { call->result = value; }

void fw_return_int(fw_call *call, int64_t value) { fw_return_json(call, yyjson_mut_sint(fw_doc(call), value)); }

void fw_return_uint(fw_call *call, uint64_t value) { fw_return_json(call, yyjson_mut_uint(fw_doc(call), value)); }

void fw_return_double(fw_call *call, double value) { fw_return_json(call, yyjson_mut_real(fw_doc(call), value)); }

void fw_return_bool(fw_call *call, bool value) { fw_return_json(call, yyjson_mut_bool(fw_doc(call), value)); }

void fw_return_text(fw_call *call, const char *text, size_t length) {
    fw_return_json(call, yyjson_mut_strncpy(fw_doc(call), text, length));
}

void fw_return_string(fw_call *call, const char *text) { fw_return_text(call, text, strlen(text)); }

void fw_return_bytes(fw_call *call, const void *bytes, size_t length) {
    size_t count;
    char *text = fw_encode(bytes, length, &count);
    fw_return_text(call, text, count);
    free(text);
}

const char *fw_text_of(fw_call *call, const yyjson_mut_val *value) {
    (void)call;
    return fw_json_text(value);
}

const fw_attempt *fw_current(fw_call *call) { return &call->attempt; }

void fw_log(fw_level level, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *text = format_text(format, args);
    va_end(args);
    // So that the lines stay in order.
    fflush(stdout);
    fw_host_log(level, text, strlen(text));
    free(text);
}

void fw_progress(uint64_t done, uint64_t total, const char *message) { fw_host_progress(done, total, message ? message : ""); }

bool fw_cancelled(void) { return fw_host_cancelled(); }

const fw_task *fw_task_of(fw_call *call) { return call->task; }

const char *fw_try_submit(const fw_follow_up *task, const char **problem) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *options = yyjson_mut_obj(doc);
    fw_write_policy(doc, options, &task->policy);
    if (task->countdown != 0) yyjson_mut_obj_add_real(doc, options, "countdown", task->countdown);
    char *text = fw_json_text(options), *id = NULL;
    yyjson_mut_doc_free(doc);
    bool accepted = fw_host_submit(task->name, task->args ? task->args : "[]", task->kwargs ? task->kwargs : "{}", text, &id);
    free(text);
    if (accepted) return id;
    const char *format = "the follow-up '%s' cannot be submitted: %s";
    size_t size = strlen(format) + strlen(task->name) + strlen(id);
    char *reason = fw_allocate(size);
    snprintf(reason, size, format, task->name, id);
    *problem = reason;
    return NULL;
}

const char *fw_submit(fw_call *call, const fw_follow_up *task) {
    const char *problem, *id = fw_try_submit(task, &problem);
    if (!id) fw_fail(call, "FollowUpError", "%s", problem);
    return id;
}

// Reads the metadata that has a name in fw_attempt.
static void read_metadata(fw_attempt *attempt) {
    yyjson_doc *doc = yyjson_read(attempt->metadata, strlen(attempt->metadata), 0);
    yyjson_val *root = yyjson_doc_get_root(doc), *tags = yyjson_obj_get(root, "tags"), *tag;
    attempt->priority = yyjson_get_str(yyjson_obj_get(root, "priority"));
    attempt->parent = yyjson_get_str(yyjson_obj_get(root, "parent"));
    attempt->traceparent = yyjson_get_str(yyjson_obj_get(root, "traceparent"));
    if (!attempt->priority) attempt->priority = "normal";
    const char **list = fw_allocate(yyjson_arr_size(tags) * sizeof *list);
    size_t index, max;
    yyjson_arr_foreach(tags, index, max, tag) {
        if (yyjson_is_str(tag)) list[attempt->tag_count++] = yyjson_get_str(tag);
    }
    attempt->tags = list;
}

static fw_text result_of(fw_call *call) {
    if (!call->result) return (fw_text){fw_copy("null", 4), 4};
    fw_text text = {NULL, 0};
    yyjson_write_err error = {0};
    text.bytes = yyjson_mut_val_write_opts(call->result, YYJSON_WRITE_NOFLAG, NULL, &text.length, &error);
    if (!text.bytes) fw_fail(call, "ResultError", "the result cannot be written as JSON: %s", error.msg);
    return text;
}

fw_text fw_run(fw_call *call, const fw_invocation *invocation) {
    memset(call, 0, sizeof *call);
    call->failure = FW_CASE_NONE;
    call->attempt = (fw_attempt){
        .task_id = invocation->task_id,
        .name = invocation->name,
        .number = invocation->attempt,
        .deadline_ms = invocation->deadline_ms,
        .metadata = invocation->metadata,
    };
    for (size_t i = 0; i < fw_task_count(); i++)
        if (!strcmp(fw_task_at(i)->name, invocation->name)) call->task = fw_task_at(i);
    fw_text nothing = {NULL, 0};
    if (!call->task) {
        fw_bad_arguments(call, "this module has no task '%s'", invocation->name);
        return nothing;
    }
    read_metadata(&call->attempt);
    fw_bind(call, invocation->args, invocation->kwargs);
    if (fw_failed(call)) return nothing;
    call->task->run(call);
    // Nothing else writes what is buffered when an attempt ends.
    fflush(NULL);
    return fw_failed(call) ? nothing : result_of(call);
}
