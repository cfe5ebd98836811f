/* SPDX-License-Identifier: Apache-2.0 */
/* Stacks while some GIL is kept. Each GIL is asked for by a thread of its own, a visitor. Under
 * those that come in, requests go on running, and each visitor shows the stacks there by itself:
 * faulthandler, which reads frames without the GIL, would follow ones that are gone meanwhile. It
 * is for the interpreters whose visitor does not come in. */
#include "eng.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

enum { PATIENCE_S = 1 };

enum turn { TURN_COMES, TURN_CAME, TURN_SHOWS, TURN_DONE };

/* Of one GIL, and of two threads: the last one frees it. */
typedef struct visitor {
    struct visitor *next; /* the caller's */
    pyglue_engine_t *engine;
    eng_interp_t *interp; /* whose GIL it is, or the main one for all that share its GIL */
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    enum turn turn;
    bool is_alone; /* the other thread has gone */
} visitor_t;

static bool has_gil_of(const eng_interp_t *interp, const eng_interp_t *owner) {
    return interp == owner || (!interp->has_own_gil && !owner->has_own_gil);
}

static bool is_owner(const eng_interp_t *interp) {
    return interp->has_own_gil || eng_interp_is_main(interp);
}

/* Visitors. */

static void count(pyglue_engine_t *engine, int more) {
    pthread_mutex_lock(&engine->lock);
    engine->visitors += (unsigned)more;
    pthread_cond_broadcast(&engine->changed);
    pthread_mutex_unlock(&engine->lock);
}

static visitor_t *new_visitor(pyglue_engine_t *engine, eng_interp_t *interp) {
    visitor_t *visitor = malloc(sizeof *visitor);
    pthread_condattr_t monotonic;

    if (visitor == NULL)
        return NULL;
    *visitor = (visitor_t){.engine = engine, .interp = interp};
    pthread_mutex_init(&visitor->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&visitor->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return visitor;
}

static void free_visitor(visitor_t *visitor) {
    pthread_cond_destroy(&visitor->changed);
    pthread_mutex_destroy(&visitor->lock);
    free(visitor);
}

/* By either thread, which then knows it no more. */
static void part_with(visitor_t *visitor) {
    bool is_last;

    pthread_mutex_lock(&visitor->lock);
    is_last = visitor->is_alone;
    visitor->is_alone = true;
    pthread_cond_broadcast(&visitor->changed);
    pthread_mutex_unlock(&visitor->lock);
    if (is_last)
        free_visitor(visitor);
}

static void take_turn(visitor_t *visitor, enum turn turn) {
    pthread_mutex_lock(&visitor->lock);
    visitor->turn = turn;
    pthread_cond_broadcast(&visitor->changed);
    pthread_mutex_unlock(&visitor->lock);
}

/* Whether it is the visitor's turn to show what it can. */
static bool is_let(visitor_t *visitor) {
    bool is_let;

    pthread_mutex_lock(&visitor->lock);
    while (visitor->turn != TURN_SHOWS && !visitor->is_alone)
        pthread_cond_wait(&visitor->changed, &visitor->lock);
    is_let = visitor->turn == TURN_SHOWS;
    pthread_mutex_unlock(&visitor->lock);
    return is_let;
}

static void show(const visitor_t *visitor) {
    eng_interp_t *interp = NULL;

    while ((interp = eng_interp_next(visitor->engine, interp)) != NULL)
        if (has_gil_of(interp, visitor->interp))
            eng_interrupt_visit_nogil(visitor->engine, interp, true);
}

/* One that comes in late finds itself alone. */
static void *visit(void *argument) {
    visitor_t *visitor = argument;
    pyglue_engine_t *engine = visitor->engine;
    bool has_come = eng_interrupt_visit_nogil(engine, visitor->interp, false);

    atomic_store(&visitor->interp->is_visited, false);
    if (has_come) {
        take_turn(visitor, TURN_CAME);
        if (is_let(visitor))
            show(visitor);
        take_turn(visitor, TURN_DONE);
    }
    part_with(visitor);
    count(engine, -1);
    return NULL;
}

/* The caller. */

/* NULL: nobody can come, or an earlier visitor waits there still. */
static visitor_t *send_visitor(pyglue_engine_t *engine, eng_interp_t *interp) {
    visitor_t *visitor;
    pthread_t thread;

    if (atomic_exchange(&interp->is_visited, true))
        return NULL;
    visitor = new_visitor(engine, interp);
    count(engine, 1);
    if (visitor != NULL && pthread_create(&thread, NULL, visit, visitor) == 0) {
        pthread_detach(thread);
        return visitor;
    }
    count(engine, -1);
    atomic_store(&interp->is_visited, false);
    if (visitor != NULL)
        free_visitor(visitor);
    return NULL;
}

static visitor_t *send_visitors(pyglue_engine_t *engine) {
    visitor_t *visitors = NULL, *visitor;
    eng_interp_t *interp = NULL;

    while ((interp = eng_interp_next(engine, interp)) != NULL) {
        if (!is_owner(interp) || (visitor = send_visitor(engine, interp)) == NULL)
            continue;
        visitor->next = visitors;
        visitors = visitor;
    }
    return visitors;
}

static void in_a_moment(struct timespec *end) {
    clock_gettime(CLOCK_MONOTONIC, end);
    end->tv_sec += PATIENCE_S;
}

static bool await(visitor_t *visitor, enum turn turn, const struct timespec *end) {
    bool is_there;

    pthread_mutex_lock(&visitor->lock);
    while (visitor->turn < turn &&
           pthread_cond_timedwait(&visitor->changed, &visitor->lock, end) != ETIMEDOUT)
        ;
    is_there = visitor->turn >= turn;
    pthread_mutex_unlock(&visitor->lock);
    return is_there;
}

static void await_all(visitor_t *visitors) {
    struct timespec end;

    in_a_moment(&end);
    for (visitor_t *visitor = visitors; visitor != NULL; visitor = visitor->next)
        await(visitor, TURN_CAME, &end);
}

/* That of an interpreter's GIL, taken off the list if it came. NULL: that GIL is kept. */
static visitor_t *take_visitor(visitor_t **visitors, const eng_interp_t *interp) {
    static const struct timespec past = {0};

    for (visitor_t **at = visitors; *at != NULL; at = &(*at)->next) {
        visitor_t *visitor = *at;

        if (visitor->interp != interp || !await(visitor, TURN_CAME, &past))
            continue;
        *at = visitor->next;
        return visitor;
    }
    return NULL;
}

static void let(visitor_t *visitor) {
    struct timespec end;

    in_a_moment(&end);
    take_turn(visitor, TURN_SHOWS);
    await(visitor, TURN_DONE, &end);
    part_with(visitor);
}

typedef struct witness {
    pyglue_engine_t *engine;
    eng_interp_t *interp;
    int signal;
} witness_t;

/* faulthandler shows the interpreter of the first thread state that a thread has, which may be made
 * without the GIL. It is ended with those of other threads that never say so. */
static void *witness(void *argument) {
    const witness_t *witness = argument;

    eng_thread_witness_nogil(witness->engine, witness->interp);
    pthread_kill(pthread_self(), witness->signal);
    return NULL;
}

static void have_witnessed(pyglue_engine_t *engine, const eng_interp_t *owner, int number) {
    eng_interp_t *interp = NULL;
    pthread_t thread;

    while ((interp = eng_interp_next(engine, interp)) != NULL) {
        witness_t one = {engine, interp, number};

        if (has_gil_of(interp, owner) && pthread_create(&thread, NULL, witness, &one) == 0)
            pthread_join(thread, NULL);
    }
}

void eng_gils_dump_nogil(pyglue_engine_t *engine, int number) {
    struct sigaction action;
    visitor_t *visitors, *visitor;
    eng_interp_t *interp = NULL;

    if (number == 0 || sigaction(number, NULL, &action) || action.sa_handler == SIG_DFL)
        return;
    visitors = send_visitors(engine);
    await_all(visitors);
    while ((interp = eng_interp_next(engine, interp)) != NULL) {
        if (!is_owner(interp))
            continue;
        visitor = take_visitor(&visitors, interp);
        if (visitor != NULL)
            let(visitor);
        else
            have_witnessed(engine, interp, number);
    }
    while ((visitor = visitors) != NULL) {
        visitors = visitor->next;
        part_with(visitor);
    }
}

bool eng_gils_settle_nogil(pyglue_engine_t *engine) {
    struct timespec end;
    bool is_settled;

    in_a_moment(&end);
    pthread_mutex_lock(&engine->lock);
    while (engine->visitors > 0 &&
           pthread_cond_timedwait(&engine->changed, &engine->lock, &end) != ETIMEDOUT)
        ;
    is_settled = engine->visitors == 0;
    pthread_mutex_unlock(&engine->lock);
    return is_settled;
}
