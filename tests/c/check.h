/* SPDX-License-Identifier: Apache-2.0 */
/* Assertions of the C tests: a failed one names itself, and the program goes on to the next. */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#include <stdio.h>

static int check_failures;

/* Is it so? Counts and prints where it is not. Callers are many threads only after their joins. */
static inline void check_at(int is_so, const char *what, const char *file, int line) {
    if (is_so)
        return;
    check_failures++;
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
}

#define CHECK(condition) check_at((condition) != 0, #condition, __FILE__, __LINE__)

/* The end of main. */
static inline int check_result(void) {
    return check_failures != 0;
}

#endif
