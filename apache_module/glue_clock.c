/* SPDX-License-Identifier: Apache-2.0 */
/* The one place that asks the clock of deadlines. */
#include "glue_clock.h"

#include <time.h>

apr_time_t glue_clock_now(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return apr_time_make(now.tv_sec, now.tv_nsec / 1000);
}

uint64_t glue_clock_now_ms(void) {
    return (uint64_t)glue_clock_now() / 1000;
}
