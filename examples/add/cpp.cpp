// The task of `fastworker bench`, in C++.
#include <fastworker.hpp>

static std::int64_t add(std::int64_t x, std::int64_t y) { return x + y; }

FW_TASKS {
    fw::task("add", add, {"x", "y"}, {.doc = "Adds two numbers."});
}
