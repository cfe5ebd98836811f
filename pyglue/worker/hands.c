/* SPDX-License-Identifier: Apache-2.0 */
/* The threads that want a GIL on behalf of the watch, one for each. */
#include "hands.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define TOUCH_EVERY 1000u /* ms */

enum dump { DUMP_NONE, DUMP_WANTED, DUMP_BEGUN };

/* From `dump` on under the lock of all; what stands before is written once. */
typedef struct hand {
    wkr_hands_t *hands;
    unsigned gil;
    pthread_t thread;
    struct hand *next;
    enum dump dump;
    uint64_t busy_since; /* it waits for its GIL, or has it; 0: neither */
    uint64_t late[];     /* of each slot the request to be interrupted; 0: none */
} hand_t;

struct wkr_hands {
    wkr_hands_task_t task;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    int is_let, ends;
    unsigned count; /* of the list: the GILs from 0 on */
    hand_t *list;
};

static void grow_locked(wkr_hands_t *hands);

/* One hand. What it does with its GIL it does without the lock. */

static void begin_locked(hand_t *hand) {
    hand->busy_since = wkr_now_ms();
    pthread_mutex_unlock(&hand->hands->lock);
}

static void end_locked(hand_t *hand) {
    pthread_mutex_lock(&hand->hands->lock);
    hand->busy_since = 0;
}

static void dump_locked(hand_t *hand) {
    const wkr_hands_task_t *task = &hand->hands->task;

    hand->dump = DUMP_BEGUN;
    begin_locked(hand);
    task->ops->dump(task->engine, hand->gil);
    end_locked(hand);
    if (hand->dump == DUMP_BEGUN)
        hand->dump = DUMP_NONE;
}

/* 0: none is to be interrupted. */
static uint64_t take_late_locked(hand_t *hand) {
    uint64_t number = 0;

    for (unsigned slot = 0; number == 0 && slot < hand->hands->task.slots; slot++) {
        number = hand->late[slot];
        hand->late[slot] = 0;
    }
    return number;
}

/* One thing that was asked for: stacks before what changes them. 0: nothing was. */
static int obey_locked(hand_t *hand) {
    const wkr_hands_task_t *task = &hand->hands->task;
    uint64_t number;

    if (hand->dump == DUMP_WANTED) {
        dump_locked(hand);
        return 1;
    }
    number = take_late_locked(hand);
    if (number == 0)
        return 0;
    begin_locked(hand);
    task->ops->interrupt(task->engine, hand->gil, number);
    end_locked(hand);
    return 1;
}

static void touch_locked(hand_t *hand) {
    const wkr_hands_task_t *task = &hand->hands->task;

    begin_locked(hand);
    task->ops->touch(task->engine, hand->gil);
    end_locked(hand);
    if (hand->gil == 0)
        grow_locked(hand->hands);
}

static void *run(void *argument) {
    hand_t *hand = argument;
    wkr_hands_t *hands = hand->hands;
    const wkr_hands_task_t *task = &hands->task;
    uint64_t touch_at;

    pthread_mutex_lock(&hands->lock);
    while (!hands->is_let && !hands->ends)
        wkr_clock_wait(&hands->changed, &hands->lock, WKR_NEVER);
    touch_at = task->touches ? wkr_now_ms() : WKR_NEVER;
    while (!hands->ends || hand->dump == DUMP_WANTED) { /* stacks are owed to the end */
        if (obey_locked(hand))
            continue;
        if (wkr_now_ms() < touch_at) {
            wkr_clock_wait(&hands->changed, &hands->lock, touch_at);
            continue;
        }
        touch_locked(hand);
        touch_at = wkr_now_ms() + TOUCH_EVERY;
    }
    pthread_mutex_unlock(&hands->lock);
    task->ops->thread_end(task->engine);
    return NULL;
}

/* Of the next GIL. 0, or as wkr_hands_start. */
static int make_locked(wkr_hands_t *hands) {
    hand_t *hand = calloc(1, sizeof *hand + hands->task.slots * sizeof hand->late[0]);
    int error;

    if (hand == NULL)
        return PYGLUE_E_NOMEM;
    hand->hands = hands;
    hand->gil = hands->count;
    error = pthread_create(&hand->thread, NULL, run, hand);
    if (error != 0) {
        free(hand);
        errno = error;
        return PYGLUE_E_IO;
    }
    hand->next = hands->list;
    hands->list = hand;
    hands->count++;
    return 0;
}

static void grow_locked(wkr_hands_t *hands) {
    unsigned wanted = hands->ends ? 0 : hands->task.ops->gils(hands->task.engine);

    while (hands->count < wanted && make_locked(hands) == 0)
        continue;
}

/* All of them. */

int wkr_hands_start(wkr_hands_t **result, const wkr_hands_task_t *task) {
    wkr_hands_t *hands = calloc(1, sizeof *hands);
    int rv;

    *result = NULL;
    if (hands == NULL)
        return PYGLUE_E_NOMEM;
    hands->task = *task;
    pthread_mutex_init(&hands->lock, NULL);
    wkr_clock_condition(&hands->changed);
    pthread_mutex_lock(&hands->lock);
    rv = make_locked(hands);
    pthread_mutex_unlock(&hands->lock);
    if (rv == 0) {
        *result = hands;
    } else {
        int saved = errno;

        wkr_hands_free(hands);
        errno = saved;
    }
    return rv;
}

static void set(wkr_hands_t *hands, int *order) {
    pthread_mutex_lock(&hands->lock);
    *order = 1;
    pthread_cond_broadcast(&hands->changed);
    pthread_mutex_unlock(&hands->lock);
}

void wkr_hands_let(wkr_hands_t *hands) {
    set(hands, &hands->is_let);
}

void wkr_hands_stop(wkr_hands_t *hands) {
    set(hands, &hands->ends);
    for (hand_t *hand = hands->list; hand != NULL; hand = hand->next)
        pthread_join(hand->thread, NULL);
}

void wkr_hands_free(wkr_hands_t *hands) {
    while (hands->list != NULL) {
        hand_t *hand = hands->list;

        hands->list = hand->next;
        free(hand);
    }
    pthread_cond_destroy(&hands->changed);
    pthread_mutex_destroy(&hands->lock);
    free(hands);
}

void wkr_hands_interrupt(wkr_hands_t *hands, unsigned slot, uint64_t number) {
    pthread_mutex_lock(&hands->lock);
    grow_locked(hands);
    for (hand_t *hand = hands->list; hand != NULL; hand = hand->next)
        hand->late[slot] = number;
    pthread_cond_broadcast(&hands->changed);
    pthread_mutex_unlock(&hands->lock);
}

/* A hand that has ended comes by no more: it would owe for ever. */
void wkr_hands_dump(wkr_hands_t *hands) {
    pthread_mutex_lock(&hands->lock);
    grow_locked(hands);
    for (hand_t *hand = hands->list; hand != NULL; hand = hand->next)
        if (!hands->ends || hand->busy_since != 0)
            hand->dump = DUMP_WANTED;
    pthread_cond_broadcast(&hands->changed);
    pthread_mutex_unlock(&hands->lock);
}

int wkr_hands_owe_dump(wkr_hands_t *hands) {
    int owe = 0;

    pthread_mutex_lock(&hands->lock);
    for (hand_t *hand = hands->list; hand != NULL; hand = hand->next)
        owe = owe || hand->dump != DUMP_NONE;
    pthread_mutex_unlock(&hands->lock);
    return owe;
}

int wkr_hands_take_stuck(unsigned *gil, wkr_hands_t *hands, uint64_t ms) {
    uint64_t now = wkr_now_ms();
    hand_t *hand;

    pthread_mutex_lock(&hands->lock);
    for (hand = hands->list; hand != NULL; hand = hand->next)
        if (hand->dump != DUMP_NONE && hand->busy_since != 0 && now >= hand->busy_since + ms)
            break;
    if (hand != NULL) {
        hand->dump = DUMP_NONE;
        *gil = hand->gil;
    }
    pthread_mutex_unlock(&hands->lock);
    return hand != NULL;
}

uint64_t wkr_hands_busy_since(wkr_hands_t *hands) {
    uint64_t least = 0;

    pthread_mutex_lock(&hands->lock);
    for (hand_t *hand = hands->list; hand != NULL; hand = hand->next)
        if (hand->busy_since != 0 && (least == 0 || hand->busy_since < least))
            least = hand->busy_since;
    pthread_mutex_unlock(&hands->lock);
    return least;
}
