/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of ours in a child of httpd: how each is started, woken and ended.
 *
 * httpd's signals are its own threads', so ours block all of them. The module is unmapped soon
 * after a child's end has begun: a thread that sleeps in it must be gone by then. One that blocks
 * in a system call cannot be waited for; it never returns to our code while the child lives.
 * Prefork's signal handler ends the child in the middle of anything, perhaps of what holds a lock
 * of ours, so each wait of an end has a bound. What the threads do is their owners': glue_ahead.c,
 * glue_embed.c, glue_janitor.c, glue_watchdog.c. */
#ifndef GLUE_THREAD_H
#define GLUE_THREAD_H

#include <pthread.h>

/* Starts a thread in which every signal is blocked. 0 or an errno. Any thread of a child. */
int glue_thread_start(pthread_t *thread, void *(*run)(void *));

/* Makes a condition whose timed waits are by CLOCK_MONOTONIC. In child_init. */
void glue_thread_condition(pthread_cond_t *condition);

/* A thread that is started when first needed and ends with its child. It sleeps in poll or at a
 * condition, and looks at its owner's `is_ending` whenever it wakes. Guarded by its owner's lock,
 * but for what is frozen after child_init. */
typedef struct glue_thread {
    pthread_t id;
    int is_running;
    int wake;                  /* an eventfd that its poll listens to; -1: none. Frozen */
    pthread_cond_t *condition; /* NULL: it sleeps in poll. Frozen */
} glue_thread_t;

/* The two kinds. The eventfd is the child's until its process ends. In child_init. */
void glue_thread_init_polling(glue_thread_t *thread);
void glue_thread_init_waiting(glue_thread_t *thread, pthread_cond_t *condition);

/* Does it run? Starts it if it does not yet, unless the child is ending. */
int glue_thread_need_locked(glue_thread_t *thread, void *(*run)(void *), int is_ending);

/* Ends its sleep. One that does not run or sleep has it noted. */
void glue_thread_wake(const glue_thread_t *thread);

/* Sets *is_ending, wakes all threads and waits for those that run, for a second altogether: at the
 * end of a child, in whichever thread brings it about. The lock guards *is_ending; if it cannot be
 * had within that second, nothing is done. */
void glue_thread_end(int *is_ending, pthread_mutex_t *lock, glue_thread_t *const *threads,
                     int count);

#endif
