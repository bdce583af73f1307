#include <fastworker.hpp>
#include <iostream>

static std::int64_t add(std::int64_t x, std::int64_t y) { return x + y; }

static std::string join(std::vector<std::string> words, std::optional<std::string> separator) {
    std::string text;
    for (std::size_t i = 0; i < words.size(); i++) text += (i ? separator.value_or(", ") : "") + words[i];
    return text;
}

static fw::result<void> fail(std::string how) {
    if (how == "bad") return fw::bad_arguments("no 7");
    if (how == "retry") return fw::retry_after(fw::milliseconds(1), "later");
    if (how == "give-up") return fw::give_up("closed").with_details(std::map<std::string, int>{{"account", 17}});
    if (how == "crash") (void)std::vector<int>{}.at(how.size());
    return fw::fail("only 2 left").with_kind("OutOfStock");
}

static fw::result<std::string> whole() {
    fw::attempt attempt = fw::current();
    std::cout << "printed\n";
    fw::warn("slow");
    fw::progress(1, 2, "half");
    auto id = fw::submit("add", fw::args(1, 2), {.countdown = std::chrono::minutes(1)});
    if (!id) return id;
    std::string text(attempt.name);
    return text + " " + std::to_string(attempt.number) + " " + std::string(attempt.priority) + " " + std::to_string(fw::cancelled());
}

FW_TASKS {
    fw::task("add", add, {"x", "y"},
             {.doc = "Returns the sum of two numbers.", .policy = {.priority = "high", .timeout = 90, .max_retries = 3}});
    fw::task("join", join, {"words", "separator"});
    fw::task("fail", fail, {"how"});
    fw::task("whole", whole);
    fw::task("nightly", [] {}, {}, {.schedule = {.cron = "0 3 * * *", .tz = "Europe/Berlin"}});
}
