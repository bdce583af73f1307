// The task of `fastworker bench`, in C.
#include <fastworker.h>

// Adds two numbers.
static void add(fw_call *call) { fw_return_int(call, fw_int(call, "x") + fw_int(call, "y")); }

FW_TASKS({
    .name = "add",
    .run = add,
    .doc = "Adds two numbers.",
    .params = {{"x", FW_INT}, {"y", FW_INT}},
    .result = FW_INT,
})
