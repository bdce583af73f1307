#include <fastworker.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add(fw_call *call) { fw_return_int(call, fw_int(call, "x") + fw_int(call, "y")); }

static void join(fw_call *call) {
    const char *separator = fw_given(call, "separator") ? fw_string(call, "separator", NULL) : ", ";
    size_t length = 0, used = 0, index, max;
    yyjson_val *words = fw_json(call, "words"), *word;
    yyjson_arr_foreach(words, index, max, word) length += yyjson_get_len(word) + strlen(separator);
    char *text = malloc(length + 1);
    yyjson_arr_foreach(words, index, max, word) {
        if (index) used += (size_t)sprintf(text + used, "%s", separator);
        memcpy(text + used, yyjson_get_str(word), yyjson_get_len(word));
        used += yyjson_get_len(word);
    }
    fw_return_text(call, text, used);
}

static void fail(fw_call *call) {
    const char *how = fw_string(call, "how", NULL);
    if (!strcmp(how, "bad")) fw_bad_arguments(call, "no %d", 7);
    if (!strcmp(how, "retry")) fw_retry_after(call, 1, NULL, "later");
    if (!strcmp(how, "give-up")) fw_give_up(call, NULL, "closed"), fw_details(call, "{\"account\":17}");
    if (!strcmp(how, "crash")) abort();
    if (!strcmp(how, "failed")) fw_fail(call, "OutOfStock", "only %d left", 2);
}

static void whole(fw_call *call) {
    const fw_attempt *attempt = fw_current(call);
    printf("printed\n");
    fw_log(FW_WARN, "slow");
    fw_progress(1, 2, "half");
    if (!fw_submit(call, &(fw_follow_up){.name = "add", .args = "[1, 2]", .countdown = 60})) return;
    char text[100];
    snprintf(text, sizeof text, "%s %u %s %d", attempt->name, (unsigned)attempt->number, attempt->priority, fw_cancelled());
    fw_return_string(call, text);
}

static void nightly(fw_call *call) { (void)call; }

FW_TASKS(
    {.name = "add", .run = add, .doc = "Returns the sum of two numbers.", .params = {{"x", FW_INT}, {"y", FW_INT}},
     .result = FW_INT, .policy = {.priority = "high", .timeout = 90, .max_retries = 3}},
    {.name = "join", .run = join,
     .params = {{"words", FW_ARRAY, .schema = "{\"type\": \"array\", \"items\": {\"type\": \"string\"}}"},
                {"separator", FW_STRING, .optional = true}},
     .result = FW_STRING},
    {.name = "fail", .run = fail, .params = {{"how", FW_STRING}}},
    {.name = "whole", .run = whole, .result = FW_STRING},
    {.name = "nightly", .run = nightly, .result = FW_NULL, .schedule = {.cron = "0 3 * * *", .tz = "Europe/Berlin"}})
