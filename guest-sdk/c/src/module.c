// The exports and imports of the module, on the generated bindings.
#include <stdlib.h>
#include <string.h>

#include "../bindings/task_module.h"
#include "internal.h"

typedef task_module_string_t wit_text;

// The bindings refer to it to have an object file linked that has the type of the component. `fastworker build` adds
// the type to the module instead.
void __component_type_object_force_link_task_module(void);
void __component_type_object_force_link_task_module(void) {}

// The host takes no text without an address, not even an empty one.
static wit_text owned(char *text) {
    if (!text) text = fw_copy("", 0);
    return (wit_text){(uint8_t *)text, strlen(text)};
}

static wit_text copied(const char *text) { return owned(fw_copy(text ? text : "", text ? strlen(text) : 0)); }

// Text that the host only reads.
static wit_text borrowed(const char *text, size_t length) { return (wit_text){(uint8_t *)text, length}; }

static const char *terminated(wit_text text) { return fw_copy((const char *)text.ptr, text.len); }

void exports_fastworker_task_tasks_register(exports_fastworker_task_tasks_list_descriptor_t *list) {
    list->len = fw_task_count();
    list->ptr = fw_allocate(list->len * sizeof *list->ptr);
    for (size_t i = 0; i < list->len; i++) {
        const fw_task *task = fw_task_at(i);
        list->ptr[i].name = copied(task->name);
        list->ptr[i].documentation = copied(task->doc);
        list->ptr[i].schema = owned(fw_schema_of(task));
        list->ptr[i].policy = owned(fw_policy_of(task));
    }
}

static void set_error(exports_fastworker_task_tasks_task_error_t *error, fw_call *call) {
    error->message = owned(call->message);
    error->kind = owned(call->kind);
    error->details = owned(call->details);
}

static void set_failure(exports_fastworker_task_tasks_failure_t *failure, fw_call *call) {
    failure->tag = (uint8_t)call->failure;
    switch (call->failure) {
    case FW_CASE_BAD_ARGUMENTS: set_error(&failure->val.bad_arguments, call); break;
    case FW_CASE_GIVE_UP: set_error(&failure->val.give_up, call); break;
    case FW_CASE_TRY_AGAIN_AFTER:
        set_error(&failure->val.try_again_after.error, call);
        failure->val.try_again_after.delay_ms = call->delay_ms;
        break;
    default: set_error(&failure->val.failed, call);
    }
}

bool exports_fastworker_task_tasks_run(exports_fastworker_task_tasks_invocation_t *from, wit_text *result,
                                       exports_fastworker_task_tasks_failure_t *failure) {
    fw_invocation invocation = {
        .task_id = terminated(from->task_id),
        .name = terminated(from->name),
        .args = terminated(from->args),
        .kwargs = terminated(from->kwargs),
        .metadata = terminated(from->metadata),
        .attempt = from->attempt,
        .deadline_ms = from->deadline_ms,
    };
    exports_fastworker_task_tasks_invocation_free(from);
    fw_call *call = fw_allocate(sizeof *call);
    fw_text text = fw_run(call, &invocation);
    if (fw_failed(call)) {
        set_failure(failure, call);
        return false;
    }
    *result = (wit_text){(uint8_t *)text.bytes, text.length};
    return true;
}

void fw_host_log(fw_level level, const char *message, size_t length) {
    wit_text text = borrowed(message, length);
    fastworker_task_host_log((fastworker_task_host_level_t)level, &text);
}

void fw_host_progress(uint64_t done, uint64_t total, const char *message) {
    wit_text text = borrowed(message, strlen(message));
    fastworker_task_host_progress(done, total, &text);
}

bool fw_host_cancelled(void) { return fastworker_task_host_is_cancelled(); }

bool fw_host_submit(const char *name, const char *args, const char *kwargs, const char *options, char **id) {
    fastworker_task_host_follow_up_t task = {
        borrowed(name, strlen(name)),
        borrowed(args, strlen(args)),
        borrowed(kwargs, strlen(kwargs)),
        borrowed(options, strlen(options)),
    };
    wit_text accepted, refused;
    bool is_accepted = fastworker_task_host_submit(&task, &accepted, &refused);
    *id = (char *)terminated(is_accepted ? accepted : refused);
    return is_accepted;
}
