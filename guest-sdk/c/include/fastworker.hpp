// Tasks in C++23 for fastworker: https://github.com/fastworker/fastworker
//
//     #include <fastworker.hpp>
//
//     std::int64_t add(std::int64_t x, std::int64_t y) { return x + y; }
//
//     FW_TASKS {
//         fw::task("add", add, {"x", "y"}, {.doc = "Returns the sum of two numbers.", .policy = {.max_retries = 3}});
//     }
//
// A task function takes and returns values of the types in fastworker_json.hpp. It returns nothing, a value, or
// fw::result<T>: a value or an error. There are no exceptions: what the standard library would throw ends the attempt
// as a trap, with its message in the log.
#ifndef FASTWORKER_HPP
#define FASTWORKER_HPP

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <expected>
#include <initializer_list>
#include <iterator>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "fastworker.h"
#include "fastworker_json.hpp"

namespace fw {

using policy = fw_policy;
using schedule = fw_schedule;
using limits = fw_limits;
using milliseconds = std::chrono::milliseconds;

// Why an attempt failed. Created by fail, retry_after, give_up and bad_arguments.
class error {
public:
    enum class retry { by_policy, after, never, bad_arguments };

    error(retry again, std::string message) : again_(again), message_(std::move(message)) {}

    // Sets a machine-readable name, such as "NotFound": at most 128 bytes without control characters.
    error&& with_kind(std::string kind) && {
        kind_ = std::move(kind);
        return std::move(*this);
    }
    // Sets machine-readable details: at most 2 KiB of JSON.
    template <class T>
    error&& with_details(const T& details) && {
        details_ = json_text(details).value_or("");
        return std::move(*this);
    }
    error&& with_delay(milliseconds delay) && {
        delay_ = delay;
        return std::move(*this);
    }

    retry again() const { return again_; }
    const std::string& message() const { return message_; }

    void set_on(fw_call* call) const;

    template <class T>
    operator std::expected<T, error>() const {
        return std::unexpected(*this);
    }

private:
    retry again_;
    std::string message_, kind_, details_;
    milliseconds delay_{0};
};

// A value or an error.
template <class T>
using result = std::expected<T, error>;

// The task's policy decides whether there is another attempt.
inline error fail(std::string message) { return {error::retry::by_policy, std::move(message)}; }
// The same, but the next attempt waits for the delay.
inline error retry_after(milliseconds delay, std::string message) {
    return error{error::retry::after, std::move(message)}.with_delay(delay);
}
// Never retried.
inline error give_up(std::string message) { return {error::retry::never, std::move(message)}; }
// The arguments do not match the parameters. Never retried.
inline error bad_arguments(std::string message) { return {error::retry::bad_arguments, std::move(message)}; }

inline void error::set_on(fw_call* call) const {
    const char* kind = kind_.empty() ? nullptr : kind_.c_str();
    switch (again_) {
    case retry::by_policy: fw_fail(call, kind, "%s", message_.c_str()); break;
    case retry::after: fw_retry_after(call, std::uint64_t(delay_.count()), kind, "%s", message_.c_str()); break;
    case retry::never: fw_give_up(call, kind, "%s", message_.c_str()); break;
    case retry::bad_arguments: fw_bad_arguments(call, "%s", message_.c_str()); break;
    }
    if (!details_.empty()) fw_details(call, details_.c_str());
}

// What a task has besides its name, function and parameters.
struct options {
    const char* doc = "";
    fw_policy policy{};
    fw_schedule schedule{};
    fw_limits limits{};
    // The names of grants without which no worker runs the task: "env:NAME", "secret:NAME", "dir:/data:ro",
    // "http:api.example.com" or "tcp:db:5432".
    const char* needs[FW_NEEDS_MAX]{};
};

namespace detail {

inline fw_call*& running() {
    static fw_call* call = nullptr;
    return call;
}

template <class T>
struct returned {
    using type = T;
};
template <class T>
struct returned<std::expected<T, error>> {
    using type = T;
};

template <class Function>
struct typed_task;

template <class R, class... Params>
struct typed_task<R (*)(Params...)> : fw_task {
    using function = R (*)(Params...);
    using values = std::tuple<std::remove_cvref_t<Params>...>;
    using value = typename returned<R>::type;
    static_assert(sizeof...(Params) <= FW_PARAMS_MAX, "a task has at most FW_PARAMS_MAX parameters");

    function call_function;

    typed_task(const char* name, function called, std::initializer_list<const char*> names, const options& with)
        : fw_task{}, call_function(called) {
        this->name = name;
        doc = with.doc;
        policy = with.policy;
        schedule = with.schedule;
        limits = with.limits;
        std::copy(std::begin(with.needs), std::end(with.needs), needs);
        run = &run_it;
        signature = &signature_of;
        constexpr bool is_optional[] = {json<std::remove_cvref_t<Params>>::is_optional..., false};
        std::size_t i = 0;
        for (const char* each : names) {
            if (i < sizeof...(Params)) params[i] = {each, FW_ANY, is_optional[i], nullptr};
            i++;
        }
    }

    static void run_it(fw_call* call) {
        running() = call;
        run_with(call, std::index_sequence_for<Params...>{});
        running() = nullptr;
    }

    template <std::size_t... I>
    static void run_with(fw_call* call, std::index_sequence<I...>) {
        const auto* task = static_cast<const typed_task*>(fw_task_of(call));
        values arguments;
        std::string problem;
        if (!(read_argument(call, task->params[I].name, std::get<I>(arguments), problem) && ...)) {
            fw_bad_arguments(call, "%s", problem.c_str());
            return;
        }
        if constexpr (std::is_void_v<R>) {
            task->call_function(std::get<I>(arguments)...);
        } else {
            return_it(call, task->call_function(std::get<I>(arguments)...));
        }
    }

    template <class T>
    static bool read_argument(fw_call* call, const char* name, T& to, std::string& problem) {
        yyjson_val* value = fw_json(call, name);
        if (!value) return true;
        std::string path;
        if (json<T>::read(value, to, path)) return true;
        problem = "argument '" + std::string(name) + "'" + path;
        return false;
    }

    template <class T>
    static void return_it(fw_call* call, const T& value) {
        fw_return_json(call, json<T>::write(fw_doc(call), value));
    }
    template <class T>
    static void return_it(fw_call* call, const std::expected<T, error>& value) {
        if (!value) {
            value.error().set_on(call);
        } else if constexpr (!std::is_void_v<T>) {
            return_it(call, *value);
        }
    }

    static const char* signature_of(const fw_task* task) {
        static std::string text;
        text = R"({"parameters":[)";
        std::size_t i = 0;
        ((text += (i ? "," : "") + parameter<std::remove_cvref_t<Params>>(task->params[i].name), i++), ...);
        text += R"(],"result":)";
        if constexpr (std::is_void_v<value>) {
            text += R"({"type":"void","schema":{"type":"null"}})";
        } else {
            text += described<value>() + "}";
        }
        text += "}";
        return text.c_str();
    }

    template <class T>
    static std::string parameter(const char* name) {
        return R"({"name":)" + quoted(name) + R"(,"required":)" + (json<T>::is_optional ? "false," : "true,") +
               described<T>().substr(1) + "}";
    }

    // Returns an object that is open at its end.
    template <class T>
    static std::string described() {
        definitions known;
        std::string schema = json<T>::schema(known);
        return R"({"type":)" + quoted(json<T>::name()) + R"(,"schema":)" + known.added_to(schema);
    }
};

} // namespace detail

// Registers a function as the task name. Names are those of the parameters, in their order.
template <class R, class... Params>
void task(const char* name, R (*function)(Params...), std::initializer_list<const char*> names = {},
          const options& with = {}, const char* file = __builtin_FILE_NAME(), unsigned line = __builtin_LINE()) {
    if (names.size() != sizeof...(Params)) {
        detail::panic(std::string(file) + ":" + std::to_string(line) + ": task '" + name +
                      "': it needs a name for each of its parameters");
    }
    // Registered for good.
    fw_register_at(new detail::typed_task<R (*)(Params...)>(name, function, names, with), file, line);
}

// A lambda that captures nothing.
template <class Lambda>
    requires requires(Lambda lambda) { +lambda; }
void task(const char* name, Lambda lambda, std::initializer_list<const char*> names = {}, const options& with = {},
          const char* file = __builtin_FILE_NAME(), unsigned line = __builtin_LINE()) {
    task(name, +lambda, names, with, file, line);
}

// Encloses calls of fw::task. Every source file may have one.
#undef FW_TASKS
#define FW_TASKS                                                                                                       \
    static void fw_tasks_();                                                                                           \
    [[maybe_unused]] static const bool fw_registered_ = (fw_tasks_(), true);                                           \
    static void fw_tasks_()

// The running attempt. Text that is not there is empty.
struct attempt {
    // The same for each attempt of the task: the idempotency key of effects that must happen only once.
    std::string_view task_id, name;
    // Counted from 1.
    std::uint32_t number;
    // When the host stops the attempt.
    std::chrono::system_clock::time_point deadline;
    std::string_view priority;
    // The id of the task that submitted this one as a follow-up.
    std::string_view parent;
    std::string_view traceparent;
    std::vector<std::string_view> tags;
    // All metadata: a JSON object.
    std::string_view metadata;
};

// Returns the attempt in which the task function runs.
inline attempt current() {
    const fw_attempt* from = fw_current(detail::running());
    auto text = [](const char* text) { return text ? std::string_view(text) : std::string_view(); };
    return {
        .task_id = text(from->task_id),
        .name = text(from->name),
        .number = from->number,
        .deadline = std::chrono::system_clock::time_point(milliseconds(from->deadline_ms)),
        .priority = text(from->priority),
        .parent = text(from->parent),
        .traceparent = text(from->traceparent),
        .tags = std::vector<std::string_view>(from->tags, from->tags + from->tag_count),
        .metadata = text(from->metadata),
    };
}

// Add a line to the log of the task. What is printed goes there too.
inline void log(fw_level level, std::string_view message) { fw_log(level, "%.*s", int(message.size()), message.data()); }
inline void trace(std::string_view message) { log(FW_TRACE, message); }
inline void debug(std::string_view message) { log(FW_DEBUG, message); }
inline void info(std::string_view message) { log(FW_INFO, message); }
inline void warn(std::string_view message) { log(FW_WARN, message); }

// Reports that done of total steps are done, and what the current one is. A total of 0 means that it is unknown.
inline void progress(std::uint64_t done, std::uint64_t total, const std::string& message = "") {
    fw_progress(done, total, message.c_str());
}

// Returns whether the attempt is about to be stopped: cancelled, or past its deadline.
inline bool cancelled() { return fw_cancelled(); }

// Arguments of a follow-up, by position.
template <class... Args>
std::tuple<std::decay_t<Args>...> args(Args&&... values) {
    return {std::forward<Args>(values)...};
}

struct follow_up_options {
    milliseconds countdown{0};
    fw_policy policy{};
};

// Submits a task when the attempt succeeds, and returns its id. Kwargs are a map or a struct.
template <class... Args, class Kwargs = std::map<std::string, int>>
result<std::string> submit(const char* name, const std::tuple<Args...>& args, const follow_up_options& with = {},
                           const Kwargs& kwargs = {}) {
    auto by_position = json_text(args), by_name = json_text(kwargs);
    if (!by_position || !by_name) return fail("the arguments of a follow-up cannot be written as JSON");
    fw_follow_up task{name, by_position->c_str(), by_name->c_str(), double(with.countdown.count()) / 1000, with.policy};
    const char* problem = nullptr;
    const char* id = fw_try_submit(&task, &problem);
    if (!id) return fail(problem).with_kind("FollowUpError");
    return std::string(id);
}

} // namespace fw

#endif
