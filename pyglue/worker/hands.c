/* SPDX-License-Identifier: Apache-2.0 */
/* The thread that wants the GIL on behalf of the watch. */
#include "hands.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define TOUCH_EVERY 1000u /* ms */

struct wkr_hands {
    wkr_hands_task_t task;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    int is_let, ends;
    int wants_dump;
    int is_dumping;
    uint64_t busy_since;  /* it waits for a GIL, or has it; 0: neither */
    uint64_t *interrupts; /* numbers of requests; room for task.requests */
    unsigned interrupt_count;
};

/* One thing that wants a GIL, without the lock. */
static void reach_locked(wkr_hands_t *hand) {
    const wkr_hands_task_t *task = &hand->task;
    uint64_t number = 0;

    hand->is_dumping = hand->wants_dump;
    hand->wants_dump = 0;
    if (!hand->is_dumping && hand->interrupt_count > 0)
        number = hand->interrupts[--hand->interrupt_count];
    hand->busy_since = wkr_now_ms();
    pthread_mutex_unlock(&hand->lock);
    if (hand->is_dumping)
        task->ops->dump(task->engine);
    else if (number != 0)
        task->ops->interrupt(task->engine, number);
    else
        task->ops->touch(task->engine);
    pthread_mutex_lock(&hand->lock);
    hand->busy_since = 0;
    hand->is_dumping = 0;
}

static void *run(void *argument) {
    wkr_hands_t *hand = argument;
    uint64_t touch_at;

    pthread_mutex_lock(&hand->lock);
    while (!hand->is_let && !hand->ends)
        wkr_clock_wait(&hand->changed, &hand->lock, WKR_NEVER);
    touch_at = hand->task.touches ? wkr_now_ms() : WKR_NEVER;
    while (!hand->ends) {
        int is_asked = hand->wants_dump || hand->interrupt_count > 0;

        if (!is_asked && wkr_now_ms() < touch_at) {
            wkr_clock_wait(&hand->changed, &hand->lock, touch_at);
            continue;
        }
        reach_locked(hand);
        if (!is_asked)
            touch_at = wkr_now_ms() + TOUCH_EVERY;
    }
    pthread_mutex_unlock(&hand->lock);
    hand->task.ops->thread_end(hand->task.engine);
    return NULL;
}

int wkr_hands_start(wkr_hands_t **result, const wkr_hands_task_t *task) {
    wkr_hands_t *hand = calloc(1, sizeof *hand);
    int error, rv;

    *result = NULL;
    if (hand == NULL)
        return PYGLUE_E_NOMEM;
    hand->task = *task;
    hand->interrupts = calloc(task->requests, sizeof *hand->interrupts);
    pthread_mutex_init(&hand->lock, NULL);
    wkr_clock_condition(&hand->changed);
    error = hand->interrupts != NULL ? pthread_create(&hand->thread, NULL, run, hand) : ENOMEM;
    if (error == 0) {
        *result = hand;
        return 0;
    }
    rv = hand->interrupts != NULL ? PYGLUE_E_IO : PYGLUE_E_NOMEM;
    wkr_hands_free(hand);
    errno = error;
    return rv;
}

static void set(wkr_hands_t *hand, int *order) {
    pthread_mutex_lock(&hand->lock);
    *order = 1;
    pthread_cond_broadcast(&hand->changed);
    pthread_mutex_unlock(&hand->lock);
}

void wkr_hands_let(wkr_hands_t *hand) {
    set(hand, &hand->is_let);
}

void wkr_hands_stop(wkr_hands_t *hand) {
    set(hand, &hand->ends);
    pthread_join(hand->thread, NULL);
}

void wkr_hands_free(wkr_hands_t *hand) {
    pthread_cond_destroy(&hand->changed);
    pthread_mutex_destroy(&hand->lock);
    free(hand->interrupts);
    free(hand);
}

void wkr_hands_interrupt(wkr_hands_t *hand, uint64_t number) {
    pthread_mutex_lock(&hand->lock);
    if (hand->interrupt_count < hand->task.requests)
        hand->interrupts[hand->interrupt_count++] = number;
    pthread_cond_broadcast(&hand->changed);
    pthread_mutex_unlock(&hand->lock);
}

void wkr_hands_dump(wkr_hands_t *hand) {
    set(hand, &hand->wants_dump);
}

int wkr_hands_dump_no_more(wkr_hands_t *hand) {
    int is_owed;

    pthread_mutex_lock(&hand->lock);
    is_owed = hand->wants_dump || hand->is_dumping;
    hand->wants_dump = 0;
    pthread_mutex_unlock(&hand->lock);
    return is_owed;
}

uint64_t wkr_hands_busy_since(wkr_hands_t *hand) {
    uint64_t since;

    pthread_mutex_lock(&hand->lock);
    since = hand->busy_since;
    pthread_mutex_unlock(&hand->lock);
    return since;
}
