// What the parts of the SDK share. Not for tasks.
#ifndef FASTWORKER_INTERNAL_H
#define FASTWORKER_INTERNAL_H

#include "fastworker.h"

#ifdef __cplusplus
extern "C" {
#endif

// Text with a zero byte after it.
typedef struct fw_text {
    char *bytes;
    size_t length;
} fw_text;

// The cases of a failure in the contract, in its order.
typedef enum fw_case { FW_CASE_BAD_ARGUMENTS, FW_CASE_FAILED, FW_CASE_TRY_AGAIN_AFTER, FW_CASE_GIVE_UP, FW_CASE_NONE } fw_case;

struct fw_call {
    fw_attempt attempt;
    const fw_task *task;
    // The arguments in the order of the parameters. NULL where there is none.
    yyjson_val *arguments[FW_PARAMS_MAX];
    // What is in the arguments of the type FW_BYTES.
    uint8_t *bytes[FW_PARAMS_MAX];
    size_t byte_counts[FW_PARAMS_MAX];
    yyjson_mut_doc *doc;
    yyjson_mut_val *result;
    fw_case failure;
    char *message, *kind, *details;
    uint64_t delay_ms;
};

// One attempt, as the host passes it.
typedef struct fw_invocation {
    const char *task_id, *name, *args, *kwargs, *metadata;
    uint32_t attempt;
    uint64_t deadline_ms;
} fw_invocation;

size_t fw_task_count(void);
const fw_task *fw_task_at(size_t index);
// Returns the descriptor's JSON. It stops the module with a message if the task is invalid.
char *fw_schema_of(const fw_task *task);
char *fw_policy_of(const fw_task *task);
// Runs one attempt. Returns the result as JSON, or nothing if call->failure is set.
fw_text fw_run(fw_call *call, const fw_invocation *invocation);
// Assigns arguments to parameters. On failure, call->failure is set.
void fw_bind(fw_call *call, const char *args, const char *kwargs);

void fw_write_policy(yyjson_mut_doc *doc, yyjson_mut_val *object, const fw_policy *policy);
// Returns JSON that the caller frees. What cannot be written is null.
char *fw_json_text(const yyjson_mut_val *value);
// Stops the module: it was written wrong.
__attribute__((__noreturn__)) void fw_panic(const char *format, ...) FW_FORMAT(1, 2);
// Returns memory, or stops the module if there is none left.
void *fw_allocate(size_t size);
char *fw_copy(const char *text, size_t length);

// The functions of the host: module.c imports them, testing/host.c has those of tests.
void fw_host_log(fw_level level, const char *message, size_t length);
void fw_host_progress(uint64_t done, uint64_t total, const char *message);
bool fw_host_cancelled(void);
// Returns whether the follow-up was accepted, and its id or the reason.
bool fw_host_submit(const char *name, const char *args, const char *kwargs, const char *options, char **id);

#ifdef __cplusplus
}
#endif

#endif
