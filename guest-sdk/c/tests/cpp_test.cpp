// Tests of the SDK for C++: `tests/run` compiles and runs them.
#include <memory>

#include "check.h"
#include "fastworker.hpp"
#include "fastworker_test.h"

namespace shop {

enum class Size { small, large };
FW_ENUM(Size, small, large)

struct Line {
    std::string sku;
    double price = 0;
    std::optional<std::string> note;
};
FW_STRUCT(Line, sku, price, note)

struct Order {
    std::uint32_t id = 0;
    std::vector<Line> lines;
    std::map<std::string, Size> sizes;
    std::vector<Order> parts;
};
FW_STRUCT(Order, id, lines, sizes, parts)

} // namespace shop

static std::int64_t add(std::int64_t x, std::int64_t y) { return x + y; }

static double total(const shop::Order& order, std::optional<double> factor) {
    double sum = 0;
    for (const auto& line : order.lines) sum += line.price;
    return sum * factor.value_or(1);
}

static shop::Order echo(shop::Order order) { return order; }

static fw::result<std::string> fail(std::string how) {
    if (how == "fail") return fw::fail("no x").with_kind("NotFound");
    if (how == "retry") return fw::retry_after(fw::milliseconds(1500), "later");
    if (how == "give up") return fw::give_up("closed").with_details(std::map<std::string, int>{{"account", 17}});
    if (how == "bad") return fw::bad_arguments("no 7");
    return "fine";
}

using Everything = std::tuple<bool, std::int8_t, std::uint64_t, float, fw::bytes, std::array<int, 2>, std::pair<int, std::string>,
                              std::unordered_map<std::string, int>, fw::value, std::vector<bool>>;
static Everything everything(Everything all) { return all; }

static fw::result<std::string> whole() {
    fw::attempt attempt = fw::current();
    fw::warn("slow");
    fw::progress(1, 2, "half");
    auto id = fw::submit("mail", fw::args("ada", 3), {.countdown = std::chrono::minutes(1), .policy = {.priority = "low"}});
    if (!id) return id;
    return std::string(attempt.task_id) + " " + std::to_string(attempt.number) + " " + std::string(attempt.priority) + " " +
           std::string(attempt.parent) + " " + std::to_string(attempt.tags.size()) + " " + *id;
}

static int calls;

FW_TASKS {
    fw::task("add", add, {"x", "y"}, {.doc = "Adds.", .policy = {.timeout = 90, .max_retries = 3}});
    fw::task("total", total, {"order", "factor"});
    fw::task("echo", echo, {"order"});
    fw::task("fail", fail, {"how"});
    fw::task("everything", everything, {"all"});
    fw::task("whole", whole);
    fw::task("nothing", [] { calls++; }, {}, {.schedule = {.every = 60}});
    fw::task("confined", [] {}, {}, {.limits = {.max_memory = 64 << 20, .max_cpu_time = 5}, .needs = {"env:A", "tcp:db:5432"}});
    fw::task("checked", []() -> fw::result<void> { return calls ? fw::result<void>{} : fw::fail("not yet"); });
}

static fw_outcome run(const char* name, const char* args) {
    fw_test_call call{};
    call.name = name;
    call.args = args;
    return fw_test(&call);
}

static void values_are_read_and_written() {
    CHECK_TEXT(run("add", "[2, 3]").result, "5");
    CHECK_TEXT(run("total", R"([{"id": 1, "lines": [{"sku": "a", "price": 2}, {"sku": "b", "price": 3}], "sizes": {}, "parts": []}, 10])").result, "50.0");
    const char* order = R"({"id":1,"lines":[{"sku":"a","price":2.0,"note":null}],"sizes":{"x":"large"},"parts":[{"id":2,"lines":[],"sizes":{},"parts":[]}]})";
    CHECK_TEXT(run("echo", (std::string("[") + order + "]").c_str()).result, order);
    const char* all = R"([true,-128,18446744073709551615,1.5,"aGk=",[1,2],[3,"x"],{"a":1},{"b":[null]},[true,false]])";
    CHECK_TEXT(run("everything", (std::string("[") + all + "]").c_str()).result, all);
    CHECK_TEXT(run("nothing", "[]").result, "null");
    CHECK_TEXT(run("checked", "[]").result, "null");
}

static void wrong_values_are_refused_with_their_path() {
    CHECK_TEXT(run("add", "[2]").message, "add() missing 1 required argument: 'y'");
    CHECK_TEXT(run("add", "[2, 3, 4]").message, "add() takes 2 arguments but 3 were given");
    CHECK_TEXT(run("add", "[2, 1.5]").message, "argument 'y': expected an integer of the type int64, found 1.5");
    CHECK_TEXT(run("add", "[2, 9223372036854775808]").failure, "bad-arguments");
    CHECK_TEXT(run("echo", R"([{"id": 4294967296}])").message, "argument 'order'.id: expected an integer of the type uint32, found 4294967296");
    CHECK_TEXT(run("echo", R"([{"id": -1}])").failure, "bad-arguments");
    CHECK_TEXT(run("echo", R"([{"id": 1, "lines": [{"sku": "a", "price": "x"}]}])").message, R"(argument 'order'.lines[0].price: expected a number, found "x")");
    CHECK_TEXT(run("echo", R"([{"id": 1, "lines": []}])").message, "argument 'order': the field 'sizes' is missing");
    CHECK_TEXT(run("echo", R"([{"id": 1, "lines": [], "sizes": {"x": "huge"}, "parts": []}])").message, R"(argument 'order'.sizes.x: expected one of "small","large", found "huge")");
}

static void failures_have_their_case_kind_and_details() {
    CHECK_TEXT(run("fail", R"(["fail"])").kind, "NotFound");
    CHECK_TEXT(run("fail", R"(["fail"])").failure, "failed");
    fw_outcome retry = run("fail", R"(["retry"])");
    CHECK_TEXT(retry.failure, "try-again-after");
    CHECK_TEXT(retry.delay_ms == 1500 ? "1500" : "?", "1500");
    fw_outcome closed = run("fail", R"(["give up"])");
    CHECK_TEXT(closed.failure, "give-up");
    CHECK_TEXT(closed.details, R"({"account":17})");
    CHECK_TEXT(run("fail", R"(["bad"])").failure, "bad-arguments");
    CHECK_TEXT(run("fail", R"(["no"])").result, R"("fine")");
}

static void an_attempt_knows_itself_and_talks_to_the_host() {
    fw_test_call call{};
    call.name = "whole";
    call.task_id = "t1";
    call.attempt = 2;
    call.metadata = R"({"priority": "low", "parent": "p1", "tags": ["a", "b"]})";
    fw_outcome outcome = fw_test(&call);
    CHECK_TEXT(outcome.result, R"("t1 2 low p1 2 follow-up-0")");
    CHECK_TEXT(outcome.log, "warn slow\n");
    CHECK_TEXT(outcome.follow_ups, "mail [\"ada\",3] {} {\"priority\":\"low\",\"countdown\":60.0}\n");
    call.refuse_follow_ups = "too many";
    outcome = fw_test(&call);
    CHECK_TEXT(outcome.message, "the follow-up 'mail' cannot be submitted: too many");
    CHECK_TEXT(outcome.kind, "FollowUpError");
}

static void types_become_schemas() {
    CHECK_TEXT(fw_test_schema("add"),
               R"({"parameters":[{"name":"x","required":true,"type":"int64","schema":{"type":"integer","format":"int64"}},)"
               R"({"name":"y","required":true,"type":"int64","schema":{"type":"integer","format":"int64"}}],)"
               R"("result":{"type":"int64","schema":{"type":"integer","format":"int64"}}})");
    CHECK_TEXT(fw_test_policy("nothing"), R"({"every":60.0})");
    CHECK_TEXT(fw_test_policy("confined"), R"({"max_memory":67108864,"max_cpu_time":5.0,"needs":["env:A","tcp:db:5432"]})");
    std::string total = fw_test_schema("total");
    for (const char* part : {R"({"name":"factor","required":false,"type":"double?","schema":{"anyOf":[{"type":"number","format":"double"},{"type":"null"}]}})",
                             R"("Line":{"type":"object","properties":{"sku":{"type":"string"},"price":{"type":"number","format":"double"},"note":{"anyOf":[{"type":"string"},{"type":"null"}]}},"required":["sku","price"]})",
                             R"("sizes":{"type":"object","additionalProperties":{"enum":["small","large"]}})",
                             R"("parts":{"type":"array","items":{"$ref":"#/$defs/Order"}})", R"("result":{"type":"double")"})
        { CHECK_TEXT(total.contains(part) ? part : total.c_str(), part); }
}

int main() {
    values_are_read_and_written();
    wrong_values_are_refused_with_their_path();
    failures_have_their_case_kind_and_details();
    an_attempt_knows_itself_and_talks_to_the_host();
    types_become_schemas();
    return failed_checks != 0;
}
