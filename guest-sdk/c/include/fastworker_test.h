// Runs tasks in tests of the machine's own compiler: as the host would, from JSON to JSON. Compile the tasks and the
// test with src/*.c but module.c, with testing/host.c and src/yyjson/yyjson.c; `fastworker new --lang c` shows how.
//
//     fw_outcome outcome = fw_test(&(fw_test_call){.name = "add", .args = "[2, 3]"});
//     assert(!strcmp(outcome.result, "5"));
#ifndef FASTWORKER_TEST_H
#define FASTWORKER_TEST_H

#include "fastworker.h"

#ifdef __cplusplus
extern "C" {
#endif

// One attempt. What is zero has a default.
typedef struct fw_test_call {
    const char *name;
    // JSON.
    const char *args, *kwargs, *metadata;
    const char *task_id;
    uint32_t attempt;
    uint64_t deadline_ms;
    // What fw_cancelled returns.
    bool cancelled;
    // Every follow-up is refused with this message.
    const char *refuse_follow_ups;
} fw_test_call;

// How an attempt ended. Text is never NULL, but empty. It is valid until the next test.
typedef struct fw_outcome {
    // JSON.
    const char *result;
    // "bad-arguments", "failed", "try-again-after", "give-up", or empty.
    const char *failure;
    const char *message, *kind, *details;
    uint64_t delay_ms;
    // A line for each: "warn slow", "1/2 half", "mail [\"ada\"] {} {\"countdown\":60.0}".
    const char *log, *progress, *follow_ups;
} fw_outcome;

fw_outcome fw_test(const fw_test_call *call);

// The description of a task for the host, as JSON. NULL if there is no such task.
const char *fw_test_schema(const char *name);
const char *fw_test_policy(const char *name);

#ifdef __cplusplus
}
#endif

#endif
