// Tests of the SDK for C: `tests/run` compiles and runs them.
#include <math.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "fastworker.h"
#include "fastworker_test.h"

static void add(fw_call *call) { fw_return_int(call, fw_int(call, "x") + fw_int(call, "y")); }

static void scale(fw_call *call) {
    double factor = fw_given(call, "factor") ? fw_double(call, "factor") : 2;
    fw_return_double(call, fw_double(call, "x") * factor);
}

static void all_types(fw_call *call) {
    yyjson_mut_doc *doc = fw_doc(call);
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    size_t length;
    yyjson_mut_arr_add_uint(doc, list, fw_uint(call, "uint"));
    yyjson_mut_arr_add_bool(doc, list, fw_bool(call, "flag"));
    yyjson_mut_arr_add_strcpy(doc, list, fw_string(call, "text", &length));
    yyjson_mut_arr_add_uint(doc, list, length);
    fw_bytes(call, "bytes", &length);
    yyjson_mut_arr_add_uint(doc, list, length);
    yyjson_mut_arr_append(list, yyjson_val_mut_copy(doc, fw_json(call, "any")));
    yyjson_mut_arr_add_uint(doc, list, yyjson_arr_size(fw_json(call, "list")));
    yyjson_mut_arr_add_uint(doc, list, yyjson_obj_size(fw_json(call, "object")));
    fw_return_json(call, list);
}

static void echo_bytes(fw_call *call) {
    size_t length;
    const uint8_t *bytes = fw_bytes(call, "bytes", &length);
    fw_return_bytes(call, bytes, length);
}

static void fail(fw_call *call) {
    const char *how = fw_string(call, "how", NULL);
    if (!strcmp(how, "fail")) fw_fail(call, "NotFound", "no %s", "x");
    if (!strcmp(how, "retry")) fw_retry_after(call, 1500, NULL, "later");
    if (!strcmp(how, "give up")) fw_give_up(call, "Closed", "closed"), fw_details(call, "{\"account\":17}");
    if (!strcmp(how, "bad")) fw_bad_arguments(call, "no %d", 7);
    if (!strcmp(how, "nan")) fw_return_double(call, NAN);
}

static void whole(fw_call *call) {
    const fw_attempt *attempt = fw_current(call);
    fw_log(FW_WARN, "slow %d", 3);
    fw_progress(1, 2, "half");
    fw_follow_up mail = {.name = "mail", .args = "[\"ada\"]", .countdown = 60, .policy = {.priority = "low", .max_retries = 2}};
    const char *id = fw_submit(call, &mail);
    if (!id) return;
    char text[200];
    snprintf(text, sizeof text, "%s %s %u %s %s %s %zu %s %s %d", attempt->task_id, attempt->name, attempt->number,
             attempt->priority, attempt->parent, attempt->traceparent, attempt->tag_count,
             attempt->tag_count ? attempt->tags[0] : "", id, fw_cancelled());
    fw_return_string(call, text);
}

static void nothing(fw_call *call) { (void)call; }

FW_TASKS(
    {.name = "add", .run = add, .doc = "Adds.", .params = {{"x", FW_INT}, {"y", FW_INT}}, .result = FW_INT,
     .policy = {.priority = "high", .timeout = 90, .max_retries = 3}},
    {.name = "scale", .run = scale, .params = {{"x", FW_DOUBLE}, {"factor", FW_DOUBLE, .optional = true}},
     .result = FW_DOUBLE},
    {.name = "all", .run = all_types,
     .params = {{"uint", FW_UINT}, {"flag", FW_BOOL}, {"text", FW_STRING}, {"bytes", FW_BYTES}, {"any", FW_ANY},
                {"list", FW_ARRAY, .schema = "{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}"},
                {"object", FW_OBJECT}}},
    {.name = "bytes", .run = echo_bytes, .params = {{"bytes", FW_BYTES}}, .result = FW_BYTES},
    {.name = "fail", .run = fail, .params = {{"how", FW_STRING}}},
    {.name = "whole", .run = whole, .result = FW_STRING},
    {.name = "nothing", .run = nothing, .result = FW_NULL,
     .schedule = {.every = 3600, .overlap = "skip", .count = 3, .until = "2030-01-01T00:00:00Z"}},
    {.name = "confined", .run = nothing, .needs = {"http:api.example.com", "secret:KEY"},
     .limits = {.max_memory = 64 << 20, .max_cpu_time = 0.5, .max_host_time = 60, .max_output = 1 << 10, .max_log = 2048,
                .max_result = 1 << 20, .max_connections = 4, .max_received = (int64_t)1 << 40, .max_sent = 1000}},
    {.name = "nightly", .run = nothing, .schedule = {.cron = "0 3 * * *", .tz = "Europe/Berlin"},
     .policy = {.retry_delay = 1, .retry_backoff = 2, .retry_backoff_max = 60}}, )

static fw_outcome run(const char *name, const char *args) { return fw_test(&(fw_test_call){.name = name, .args = args}); }

static void arguments_are_passed_by_position_and_by_name(void) {
    CHECK_TEXT(run("add", "[2, 3]").result, "5");
    CHECK_TEXT(run("add", "[9223372036854775806, 1]").result, "9223372036854775807");
    CHECK_TEXT(fw_test(&(fw_test_call){.name = "add", .args = "[2]", .kwargs = "{\"y\": 3}"}).result, "5");
    CHECK_TEXT(run("scale", "[1.5]").result, "3.0");
    CHECK_TEXT(run("scale", "[1.5, null]").result, "3.0");
    CHECK_TEXT(run("scale", "[2, 10]").result, "20.0");
    CHECK_TEXT(run("nothing", "[]").result, "null");
    CHECK_TEXT(run("all", "[18446744073709551615, true, \"\\u00fcx\", \"aGk\", {\"n\": 123456789012345678901234567890}, [1, 2], {\"a\": 1}]").result,
               "[18446744073709551615,true,\"\xc3\xbcx\",3,2,{\"n\":123456789012345678901234567890},2,1]");
}

static void bytes_travel_as_base64(void) {
    const char *texts[] = {"\"\"", "\"YQ==\"", "\"YWI=\"", "\"YWJj\"", "\"AP+/\""};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char args[32];
        snprintf(args, sizeof args, "[%s]", texts[i]);
        CHECK_TEXT(run("bytes", args).result, texts[i]);
    }
    CHECK_TEXT(run("bytes", "[\"YQ\"]").result, "\"YQ==\"");
    CHECK_TEXT(run("bytes", "[\"Y\"]").message, "argument 'bytes': expected base64, found \"Y\"");
    CHECK_TEXT(run("bytes", "[\"Y%==\"]").failure, "bad-arguments");
}

static void wrong_arguments_are_refused(void) {
    CHECK_TEXT(run("add", "[]").message, "add() missing 2 required arguments: 'x' and 'y'");
    CHECK_TEXT(run("add", "[1]").message, "add() missing 1 required argument: 'y'");
    CHECK_TEXT(run("add", "[1, 2, 3]").message, "add() takes 2 arguments but 3 were given");
    CHECK_TEXT(run("scale", "[1, 2, 3]").message, "scale() takes from 1 to 2 arguments but 3 were given");
    CHECK_TEXT(run("add", "[1, \"2\"]").message, "argument 'y': expected an integer of 64 bits, found \"2\"");
    CHECK_TEXT(run("add", "[1, 2.5]").message, "argument 'y': expected an integer of 64 bits, found 2.5");
    CHECK_TEXT(run("add", "[1, 9223372036854775808]").failure, "bad-arguments");
    CHECK_TEXT(run("add", "[1, null]").failure, "bad-arguments");
    CHECK_TEXT(run("absent", "[]").message, "this module has no task 'absent'");
    CHECK_TEXT(fw_test(&(fw_test_call){.name = "add", .args = "[1, 2]", .kwargs = "{\"x\": 1}"}).message,
               "add() got multiple values for argument 'x'");
    CHECK_TEXT(fw_test(&(fw_test_call){.name = "add", .args = "[1, 2]", .kwargs = "{\"z\": 1}"}).message,
               "add() got an unexpected keyword argument 'z'");
    CHECK_TEXT(run("add", "7").message, "the positional arguments are not a JSON array");
}

static void failures_have_their_case_kind_and_details(void) {
    fw_outcome outcome = run("fail", "[\"fail\"]");
    CHECK_TEXT(outcome.failure, "failed");
    CHECK_TEXT(outcome.message, "no x");
    CHECK_TEXT(outcome.kind, "NotFound");
    outcome = run("fail", "[\"retry\"]");
    CHECK_TEXT(outcome.failure, "try-again-after");
    CHECK_TEXT(outcome.delay_ms == 1500 ? "1500" : "?", "1500");
    outcome = run("fail", "[\"give up\"]");
    CHECK_TEXT(outcome.failure, "give-up");
    CHECK_TEXT(outcome.details, "{\"account\":17}");
    outcome = run("fail", "[\"bad\"]");
    CHECK_TEXT(outcome.failure, "bad-arguments");
    CHECK_TEXT(outcome.message, "no 7");
    outcome = run("fail", "[\"nan\"]");
    CHECK_TEXT(outcome.kind, "ResultError");
}

static void an_attempt_knows_itself_and_talks_to_the_host(void) {
    fw_test_call call = {.name = "whole", .task_id = "t1", .attempt = 3, .cancelled = true,
                         .metadata = "{\"priority\": \"low\", \"parent\": \"p1\", \"tags\": [\"a\", \"b\"], \"traceparent\": \"00-1\"}"};
    fw_outcome outcome = fw_test(&call);
    CHECK_TEXT(outcome.result, "\"t1 whole 3 low p1 00-1 2 a follow-up-0 1\"");
    CHECK_TEXT(outcome.log, "warn slow 3\n");
    CHECK_TEXT(outcome.progress, "1/2 half\n");
    CHECK_TEXT(outcome.follow_ups, "mail [\"ada\"] {} {\"priority\":\"low\",\"max_retries\":2,\"countdown\":60.0}\n");
    outcome = fw_test(&(fw_test_call){.name = "whole", .refuse_follow_ups = "too many"});
    CHECK_TEXT(outcome.message, "the follow-up 'mail' cannot be submitted: too many");
}

static void tasks_describe_themselves(void) {
    CHECK_TEXT(fw_test_schema("add"),
               "{\"parameters\":[{\"name\":\"x\",\"type\":\"int\",\"required\":true,\"schema\":{\"type\":\"integer\",\"format\":\"int64\"}},"
               "{\"name\":\"y\",\"type\":\"int\",\"required\":true,\"schema\":{\"type\":\"integer\",\"format\":\"int64\"}}],"
               "\"result\":{\"type\":\"int\",\"schema\":{\"type\":\"integer\",\"format\":\"int64\"}}}");
    CHECK_TEXT(fw_test_policy("add"), "{\"priority\":\"high\",\"timeout\":90.0,\"max_retries\":3}");
    CHECK_TEXT(fw_test_policy("nothing"),
               "{\"every\":3600.0,\"overlap\":\"skip\",\"count\":3,\"until\":\"2030-01-01T00:00:00Z\"}");
    CHECK_TEXT(fw_test_policy("nightly"),
               "{\"retry_delay\":1.0,\"retry_backoff\":2.0,\"retry_backoff_max\":60.0,\"cron\":\"0 3 * * *\",\"tz\":\"Europe/Berlin\"}");
    CHECK_TEXT(fw_test_policy("confined"),
               "{\"max_memory\":67108864,\"max_cpu_time\":0.5,\"max_host_time\":60.0,\"max_output\":1024,\"max_log\":2048,"
               "\"max_result\":1048576,\"max_connections\":4,\"max_received\":1099511627776,\"max_sent\":1000,"
               "\"needs\":[\"http:api.example.com\",\"secret:KEY\"]}");
    const char *optional = "{\"name\":\"factor\",\"type\":\"double\",\"required\":false,\"schema\":{\"anyOf\":[{\"type\":\"number\",\"format\":\"double\"},{\"type\":\"null\"}]}}";
    CHECK_TEXT(strstr(fw_test_schema("scale"), optional) ? "" : fw_test_schema("scale"), "");
}

// Registers a task in a child process, as line 12 of x.c if `file` says so, and checks what it says as it ends.
static void check_refused_at(const fw_task *task, const char *file, const char *want) {
    int ends[2];
    char text[256] = "";
    if (pipe(ends)) perror("pipe");
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        fw_register_at(task, file, 12);
        _exit(0);
    }
    close(ends[1]);
    FILE *output = fdopen(ends[0], "r");
    fread(text, 1, sizeof text - 1, output);
    fclose(output);
    waitpid(child, NULL, 0);
    CHECK_TEXT(strstr(text, want) ? want : text, want);
}

static void check_refused(const fw_task *task, const char *want) { check_refused_at(task, NULL, want); }

static void a_refused_task_is_named_with_its_place(void) {
    check_refused_at(&(fw_task){.name = "a", .run = nothing, .needs = {"disk"}}, "x.c", "fastworker: x.c:12: task 'a': 'disk' names");
    check_refused_at(&(fw_task){.name = "a"}, "x.c", "fastworker: x.c:12: a task needs a name and a function");
    check_refused(&(fw_task){.name = "a"}, "fastworker: a task needs a name and a function");
    check_refused_at(&(fw_task){.name = "add", .run = nothing}, "x.c",
                     "fastworker: x.c:12: task 'add': another task has this name, at c_test.c:83; rename one of them");
}

static void wrong_limits_and_needs_are_refused(void) {
    check_refused(&(fw_task){.name = "a", .run = nothing, .limits.max_memory = -1}, "task 'a': max_memory must be more than zero");
    check_refused(&(fw_task){.name = "a", .run = nothing, .limits.max_host_time = -0.5}, "max_host_time must be more than zero");
    check_refused(&(fw_task){.name = "a", .run = nothing, .needs = {"env:A", "disk"}}, "task 'a': 'disk' names no grant");
    check_refused(&(fw_task){.name = "a", .run = nothing, .needs = {"env:"}}, "'env:' names no grant");
}

int main(void) {
    a_refused_task_is_named_with_its_place();
    wrong_limits_and_needs_are_refused();
    arguments_are_passed_by_position_and_by_name();
    bytes_travel_as_base64();
    wrong_arguments_are_refused();
    failures_have_their_case_kind_and_details();
    an_attempt_knows_itself_and_talks_to_the_host();
    tasks_describe_themselves();
    return failed_checks != 0;
}
