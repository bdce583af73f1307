# How NNG's C library is built; named by CMAKE_TOOLCHAIN_FILE in config.toml.
#
# NNG hands each step of a message on to another task. With several threads for tasks (two for each
# core by default) every step wakes another thread, which then waits for the lock that the first one
# still holds. One thread takes the steps one after another.
add_compile_definitions(NNG_NUM_TASKQ_THREADS=1)
