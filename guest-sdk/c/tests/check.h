// Checks of tests that say where they fail, and go on.
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <string.h>

static int failed_checks;

#define CHECK_TEXT(got, want)                                                                                          \
    do {                                                                                                               \
        const char *got_ = (got), *want_ = (want);                                                                     \
        if (strcmp(got_, want_)) {                                                                                     \
            fprintf(stderr, "%s:%d: got  %s\n    want %s\n", __FILE__, __LINE__, got_, want_);                         \
            failed_checks++;                                                                                           \
        }                                                                                                              \
    } while (0)

#endif
