/* SPDX-License-Identifier: Apache-2.0 */
/* Time as this process waits by it: milliseconds of CLOCK_MONOTONIC. Knows nothing of the worker.
 */
#include <time.h>

#include "worker.h"

uint64_t wkr_now_ms(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void wkr_clock_condition(pthread_cond_t *condition) {
    pthread_condattr_t monotonic;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

void wkr_clock_wait(pthread_cond_t *condition, pthread_mutex_t *lock, uint64_t until) {
    struct timespec time = {(time_t)(until / 1000), (long)(until % 1000) * 1000000};

    if (until == WKR_NEVER)
        pthread_cond_wait(condition, lock);
    else
        pthread_cond_timedwait(condition, lock, &time);
}
