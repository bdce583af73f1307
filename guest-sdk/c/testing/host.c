// The host of tests. See fastworker_test.h.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/internal.h"
#include "fastworker_test.h"

static const fw_test_call *running;
static char *log_lines, *progress_lines, *follow_up_lines;
static unsigned follow_up_count;

static void add_line(char **lines, const char *line) {
    size_t before = *lines ? strlen(*lines) : 0;
    *lines = realloc(*lines, before + strlen(line) + 2);
    if (!*lines) fw_panic("out of memory");
    strcat(strcpy(*lines + before, line), "\n");
}

void fw_host_log(fw_level level, const char *message, size_t length) {
    static const char *names[] = {"trace", "debug", "info", "warn", "error"};
    char *line = fw_allocate(length + 16);
    sprintf(line, "%s %s", names[level], message);
    add_line(&log_lines, line);
    free(line);
}

void fw_host_progress(uint64_t done, uint64_t total, const char *message) {
    char *line = fw_allocate(strlen(message) + 64);
    sprintf(line, "%" PRIu64 "/%" PRIu64 " %s", done, total, message);
    add_line(&progress_lines, line);
    free(line);
}

bool fw_host_cancelled(void) { return running && running->cancelled; }

bool fw_host_submit(const char *name, const char *args, const char *kwargs, const char *options, char **id) {
    if (running && running->refuse_follow_ups) {
        *id = fw_copy(running->refuse_follow_ups, strlen(running->refuse_follow_ups));
        return false;
    }
    char *line = fw_allocate(strlen(name) + strlen(args) + strlen(kwargs) + strlen(options) + 8);
    sprintf(line, "%s %s %s %s", name, args, kwargs, options);
    add_line(&follow_up_lines, line);
    free(line);
    *id = fw_allocate(32);
    sprintf(*id, "follow-up-%u", follow_up_count++);
    return true;
}

static void forget(char **lines) {
    free(*lines);
    *lines = fw_copy("", 0);
}

static const char *or_else(const char *text, const char *other) { return text ? text : other; }

fw_outcome fw_test(const fw_test_call *call) {
    static const char *failures[] = {"bad-arguments", "failed", "try-again-after", "give-up", ""};
    forget(&log_lines);
    forget(&progress_lines);
    forget(&follow_up_lines);
    follow_up_count = 0;
    running = call;
    fw_invocation invocation = {
        .task_id = or_else(call->task_id, ""),
        .name = call->name,
        .args = or_else(call->args, "[]"),
        .kwargs = or_else(call->kwargs, "{}"),
        .metadata = or_else(call->metadata, "{}"),
        .attempt = call->attempt ? call->attempt : 1,
        .deadline_ms = call->deadline_ms ? call->deadline_ms : UINT64_MAX,
    };
    // Not freed: the text of the outcome is in it.
    fw_call *attempt = fw_allocate(sizeof *attempt);
    fw_text result = fw_run(attempt, &invocation);
    running = NULL;
    return (fw_outcome){
        .result = or_else(result.bytes, ""),
        .failure = failures[attempt->failure],
        .message = or_else(attempt->message, ""),
        .kind = or_else(attempt->kind, ""),
        .details = or_else(attempt->details, ""),
        .delay_ms = attempt->delay_ms,
        .log = log_lines,
        .progress = progress_lines,
        .follow_ups = follow_up_lines,
    };
}

static const fw_task *find(const char *name) {
    for (size_t i = 0; i < fw_task_count(); i++)
        if (!strcmp(fw_task_at(i)->name, name)) return fw_task_at(i);
    return NULL;
}

const char *fw_test_schema(const char *name) {
    const fw_task *task = find(name);
    return task ? fw_schema_of(task) : NULL;
}

const char *fw_test_policy(const char *name) {
    const fw_task *task = find(name);
    return task ? fw_policy_of(task) : NULL;
}
