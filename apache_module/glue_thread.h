/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of ours in a child of httpd: httpd's signals are its own threads'. */
#ifndef GLUE_THREAD_H
#define GLUE_THREAD_H

#include <pthread.h>

/* Starts a thread in which every signal is blocked. 0 or an errno. Any thread of a child. */
int glue_thread_start(pthread_t *thread, void *(*run)(void *));

/* Makes a condition whose timed waits are by CLOCK_MONOTONIC. In child_init. */
void glue_thread_condition(pthread_cond_t *condition);

#endif
