/* SPDX-License-Identifier: Apache-2.0 */
/* How each of our threads is started, woken and ended. What they do is glue_ahead.c's,
 * glue_embed.c's, glue_janitor.c's and glue_watchdog.c's. */
#include "glue_thread.h"

#include <signal.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define END_SECONDS 1

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

void glue_thread_init_polling(glue_thread_t *thread) {
    *thread = (glue_thread_t){.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
}

void glue_thread_init_waiting(glue_thread_t *thread, pthread_cond_t *condition) {
    *thread = (glue_thread_t){.wake = -1, .condition = condition};
}

int glue_thread_need_locked(glue_thread_t *thread, void *(*run)(void *), int is_ending) {
    int can_sleep = thread->condition != NULL || thread->wake >= 0;

    if (!thread->is_running && !is_ending && can_sleep)
        thread->is_running = glue_thread_start(&thread->id, run) == 0;
    return thread->is_running;
}

void glue_thread_wake(const glue_thread_t *thread) {
    uint64_t once = 1;

    if (thread->condition != NULL)
        pthread_cond_signal(thread->condition);
    else if (write(thread->wake, &once, sizeof once) < 0)
        return; /* it is full, and wakes whoever polls anyway */
}

void glue_thread_end(int *is_ending, pthread_mutex_t *lock, glue_thread_t *const *threads,
                     int count) {
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until); /* these waits know no other clock before glibc 2.31 */
    until.tv_sec += END_SECONDS;
    if (pthread_mutex_timedlock(lock, &until) != 0)
        return;
    *is_ending = 1;
    for (int i = 0; i < count; i++)
        if (threads[i]->is_running)
            glue_thread_wake(threads[i]);
    pthread_mutex_unlock(lock);
    for (int i = 0; i < count; i++)
        if (threads[i]->is_running)
            pthread_timedjoin_np(threads[i]->id, NULL, &until);
}
