/* SPDX-License-Identifier: Apache-2.0 */
/* How each of our threads is started. What they do is glue_ahead.c's, glue_embed.c's,
 * glue_janitor.c's and glue_watchdog.c's. */
#include "glue_thread.h"

#include <signal.h>

int glue_thread_start(pthread_t *thread, void *(*run)(void *)) {
    sigset_t all, before;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(thread, NULL, run, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

void glue_thread_condition(pthread_cond_t *condition) {
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}
