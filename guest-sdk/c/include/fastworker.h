// Tasks in C for fastworker: https://github.com/fastworker/fastworker
//
//     #include <fastworker.h>
//
//     static void add(fw_call *call) {
//         fw_return_int(call, fw_int(call, "x") + fw_int(call, "y"));
//     }
//
//     FW_TASKS({
//         .name = "add",
//         .run = add,
//         .doc = "Returns the sum of two numbers.",
//         .params = {{"x", FW_INT}, {"y", FW_INT}},
//         .result = FW_INT,
//     })
//
// `fastworker build` makes a WebAssembly component of it. Text is UTF-8. What the functions return belongs to the
// call, and is valid until the task function returns; so is memory that the task allocates: each attempt runs in a
// new instance of the module.
#ifndef FASTWORKER_H
#define FASTWORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "yyjson.h"

#ifdef __cplusplus
extern "C" {
#endif

// Maximum number of parameters in the table of FW_TASKS.
#define FW_PARAMS_MAX 16
// Maximum number of needs of a task.
#define FW_NEEDS_MAX 32

#if defined(__GNUC__)
#define FW_FORMAT(text, first) __attribute__((__format__(__printf__, text, first)))
#else
#define FW_FORMAT(text, first)
#endif

// One attempt to run a task.
typedef struct fw_call fw_call;

// What a parameter takes, and a result is. Arguments are checked before the task function runs.
typedef enum fw_type {
    FW_ANY,    // any JSON
    FW_INT,    // int64_t
    FW_UINT,   // uint64_t
    FW_DOUBLE, // double
    FW_BOOL,   // bool
    FW_STRING, // text
    FW_BYTES,  // bytes: base64 in JSON
    FW_ARRAY,  // a JSON array
    FW_OBJECT, // a JSON object
    FW_NULL,   // nothing, for results
} fw_type;

typedef struct fw_param {
    const char *name;
    fw_type type;
    // Whether the argument may be missing, or null.
    bool optional;
    // A JSON Schema in place of that of the type, with which calls are checked before they are queued. May be NULL.
    const char *schema;
} fw_param;

// Defaults of a task, or options of a follow-up. What is zero is not set.
typedef struct fw_policy {
    // "critical", "high", "normal" or "low"
    const char *priority;
    // Timeout of each attempt, in seconds.
    double timeout;
    // Maximum number of attempts after the first one.
    unsigned max_retries;
    // Seconds before the second attempt.
    double retry_delay;
    // Factor of the delay before each further attempt.
    double retry_backoff;
    // Maximum seconds between two attempts.
    double retry_backoff_max;
} fw_policy;

// When a task without required parameters runs by itself. What is zero is not set.
typedef struct fw_schedule {
    // Interval in seconds.
    double every;
    // A cron pattern, and its time zone, such as "Europe/Berlin" or "UTC".
    const char *cron, *tz;
    // What happens if the task is still running when it is due again: "skip" or "queue".
    const char *overlap;
    // Maximum number of runs.
    unsigned count;
    // End of the schedule, as RFC 3339.
    const char *until;
} fw_schedule;

// Limits of one attempt. What is zero is not set; the limits of the operator apply as well.
typedef struct fw_limits {
    // Bytes of linear memory.
    int64_t max_memory;
    // Seconds of CPU time.
    double max_cpu_time;
    // Seconds that the attempt waits for the host: for files, and while it sleeps.
    double max_host_time;
    // Bytes that it prints.
    int64_t max_output;
    // Bytes of log lines.
    int64_t max_log;
    // Bytes of the result and the follow-ups.
    int64_t max_result;
    // Connections at a time.
    unsigned max_connections;
    // Bytes through the network.
    int64_t max_received, max_sent;
} fw_limits;

typedef struct fw_task {
    // 1 to 128 bytes without control characters.
    const char *name;
    void (*run)(fw_call *call);
    const char *doc;
    fw_param params[FW_PARAMS_MAX];
    fw_type result;
    // A JSON Schema in place of that of the result's type. May be NULL.
    const char *result_schema;
    fw_policy policy;
    fw_schedule schedule;
    fw_limits limits;
    // The names of grants without which no worker runs the task: "env:NAME", "secret:NAME", "dir:/data:ro",
    // "http:api.example.com" or "tcp:db:5432".
    const char *needs[FW_NEEDS_MAX];
    // For SDKs on top of this one: returns the signature as JSON, in place of params, result and their schemas.
    const char *(*signature)(const struct fw_task *task);
    const void *data;
} fw_task;

// Registers a task, when the module is initialized. The task must live as long as the module.
void fw_register(const fw_task *task);

// The same, with its place in the source for the message if it is refused. The name of the file lives as long, too.
void fw_register_at(const fw_task *task, const char *file, unsigned line);

// Registers a table of tasks. Every source file may have one.
#define FW_TASKS(...)                                                                                                  \
    static const fw_task fw_table_[] = {__VA_ARGS__};                                                                  \
    __attribute__((constructor)) static void fw_register_table_(void) {                                                \
        for (size_t i = 0; i < sizeof fw_table_ / sizeof *fw_table_; i++)                                              \
            fw_register_at(&fw_table_[i], __FILE_NAME__, __LINE__);                                                    \
    }

// Arguments, by the name of the parameter. Each must be declared with the type that is asked for. An optional one
// that is missing is 0, false or NULL.

// Returns whether there is an argument, and it is not null.
bool fw_given(fw_call *call, const char *name);
int64_t fw_int(fw_call *call, const char *name);
uint64_t fw_uint(fw_call *call, const char *name);
double fw_double(fw_call *call, const char *name);
bool fw_bool(fw_call *call, const char *name);
// Returns text with a zero byte after it, and its length unless length is NULL.
const char *fw_string(fw_call *call, const char *name, size_t *length);
const uint8_t *fw_bytes(fw_call *call, const char *name, size_t *length);
// Returns an argument of any type, for the functions of yyjson.h.
yyjson_val *fw_json(fw_call *call, const char *name);

// The result. Without one it is null; the last one counts.

void fw_return_int(fw_call *call, int64_t value);
void fw_return_uint(fw_call *call, uint64_t value);
void fw_return_double(fw_call *call, double value);
void fw_return_bool(fw_call *call, bool value);
void fw_return_string(fw_call *call, const char *text);
void fw_return_text(fw_call *call, const char *text, size_t length);
void fw_return_bytes(fw_call *call, const void *bytes, size_t length);
// Returns the document for values of fw_return_json.
yyjson_mut_doc *fw_doc(fw_call *call);
void fw_return_json(fw_call *call, yyjson_mut_val *value);

// Failures. The task function should return after one of these: an attempt that failed has no result. The kind is a
// machine-readable name such as "NotFound", or NULL.

// The task's policy decides whether there is another attempt.
void fw_fail(fw_call *call, const char *kind, const char *format, ...) FW_FORMAT(3, 4);
// The same, but the next attempt waits for the delay.
void fw_retry_after(fw_call *call, uint64_t delay_ms, const char *kind, const char *format, ...) FW_FORMAT(4, 5);
// Never retried.
void fw_give_up(fw_call *call, const char *kind, const char *format, ...) FW_FORMAT(3, 4);
// The arguments do not match the parameters. Never retried.
void fw_bad_arguments(fw_call *call, const char *format, ...) FW_FORMAT(2, 3);
// Adds machine-readable details to a failure: JSON of at most 2 KiB.
void fw_details(fw_call *call, const char *json);
bool fw_failed(fw_call *call);

// Returns the task of a call.
const fw_task *fw_task_of(fw_call *call);

// Bytes from base64 and to it, as memory that the caller frees. The text has a zero byte after it.
bool fw_decode(const char *text, size_t length, uint8_t **bytes, size_t *count);
char *fw_encode(const void *bytes, size_t count, size_t *length);

// The running attempt. Text that is not there is NULL.
typedef struct fw_attempt {
    // The same for each attempt of the task: the idempotency key of effects that must happen only once.
    const char *task_id;
    const char *name;
    // Counted from 1.
    uint32_t number;
    // Unix time in milliseconds at which the host stops the attempt.
    uint64_t deadline_ms;
    const char *priority;
    // The id of the task that submitted this one as a follow-up.
    const char *parent;
    const char *traceparent;
    size_t tag_count;
    const char *const *tags;
    // All metadata: a JSON object.
    const char *metadata;
} fw_attempt;

const fw_attempt *fw_current(fw_call *call);

typedef enum fw_level { FW_TRACE, FW_DEBUG, FW_INFO, FW_WARN, FW_ERROR } fw_level;

// Adds a line to the log of the task. What is printed to stdout and stderr goes there too.
void fw_log(fw_level level, const char *format, ...) FW_FORMAT(2, 3);

// Reports that done of total steps are done, and what the current one is. A total of 0 means that it is unknown.
void fw_progress(uint64_t done, uint64_t total, const char *message);

// Returns whether the attempt is about to be stopped: cancelled, or past its deadline. An attempt that checks this
// can clean up before it ends.
bool fw_cancelled(void);

// A task to submit when the attempt succeeds.
typedef struct fw_follow_up {
    const char *name;
    // A JSON array, and a JSON object. NULL for none.
    const char *args, *kwargs;
    // Seconds before the first attempt.
    double countdown;
    fw_policy policy;
} fw_follow_up;

// Submits a follow-up and returns its id. If it is refused, the call fails, and NULL is returned.
const char *fw_submit(fw_call *call, const fw_follow_up *task);

// The same without a call: on refusal, NULL and the reason.
const char *fw_try_submit(const fw_follow_up *task, const char **problem);

// Returns a value as JSON text, such as for the arguments of a follow-up.
const char *fw_text_of(fw_call *call, const yyjson_mut_val *value);

#ifdef __cplusplus
}
#endif

#endif
