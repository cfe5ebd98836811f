/* SPDX-License-Identifier: Apache-2.0 */
/* The watcher, which never waits for Python and so sees what hangs with it, and the hand, which
 * does everything that wants the GIL and is itself watched: a hand that cannot have it for
 * deadlock-timeout is how a deadlock is told.
 *
 * The watcher sleeps until the next deadline. Nobody wakes it for a request: one that begins while
 * it sleeps cannot be late before it wakes, as it never sleeps for longer than the time-out. */
#include "watch.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "pool.h"

#define NEVER UINT64_MAX
#define SECOND 1000u /* between two looks at memory, and two times that the hand takes the GIL */
#define MOMENT 1000u /* for a dump with the GIL, before one is made without */
#define TURN 50u     /* of a process that ends by itself */
#define RECYCLE 6u   /* docs/plan.md 4 */

enum { NAME_SIZE = PYGLUE_RECORD_ID + PYGLUE_RECORD_LINE + 32 };

enum stage { STAGE_FRESH, STAGE_TOLD, STAGE_GIVEN_UP };

/* How far it has come with the request of one slot. */
typedef struct seen {
    uint64_t number;
    enum stage stage;
} seen_t;

struct wkr_watch {
    wkr_pool_t *pool;
    const wkr_settings_t *settings;
    uint64_t began; /* when it was let */
    pthread_t watcher, hand;
    int has_watcher, has_hand;
    pthread_mutex_t lock; /* of what follows, up to the watcher's own */
    pthread_cond_t changed;
    int is_let, hand_ends, watcher_ends;
    int wants_dump;
    int is_dumping;
    uint64_t busy_since;  /* the hand waits for a GIL, or has it; 0: neither */
    uint64_t *interrupts; /* numbers of requests; room for one of each slot */
    unsigned interrupt_count;
    /* the watcher's own */
    seen_t *seen;       /* of each slot */
    uint64_t dumped_at; /* when a dump was last asked for; 0: never */
    uint64_t dump_by;   /* when it is made without the GIL; 0: no dump is awaited */
    uint64_t suspected; /* busy_since of a hand that looked stuck */
    uint32_t recycle;   /* the reason that the supervisor is to be told; 0: none */
    uint32_t told;      /* the one that it was told */
    int is_over_limit;  /* of rss_limit, and said */
    int is_deadlocked;
};

static uint64_t sooner(uint64_t one, uint64_t other) {
    return one < other ? one : other;
}

static double seconds(uint64_t ms) {
    return (double)ms / 1000;
}

static unsigned slots(const wkr_watch_t *watch) {
    return watch->settings->threads + 1;
}

/* The request of a slot, and since when. 0: none runs there. */
static uint64_t running(const wkr_watch_t *watch, unsigned slot, uint64_t *since) {
    const pyglue_record_slot_t *at = &watch->pool->record->slot[slot];
    uint64_t number = __atomic_load_n(&at->number, __ATOMIC_ACQUIRE);

    *since = __atomic_load_n(&at->start_ms, __ATOMIC_RELAXED);
    return number;
}

/* "GET /path (request ID)" as the record has it, or its number, for a line of the log. */
static const char *name_of(char name[NAME_SIZE], const wkr_watch_t *watch, unsigned slot,
                           uint64_t number) {
    pyglue_str_t id = {0}, line = {0};

    pyglue_record_what(&id, &line, watch->pool->record, slot);
    if (line.len == 0 || id.len == 0)
        snprintf(name, NAME_SIZE, "%.*s (request %llu)", (int)line.len, line.ptr,
                 (unsigned long long)number);
    else
        snprintf(name, NAME_SIZE, "%.*s (request %.*s)", (int)line.len, line.ptr, (int)id.len,
                 id.ptr);
    for (char *at = name; *at != '\0'; at++)
        if ((unsigned char)*at < ' ')
            *at = '?';
    return name;
}

/* The supervisor. */

/* The greatest reason, which is the most urgent one. What finds no reader is moot. */
static uint64_t tell_supervisor(wkr_watch_t *watch, uint64_t now) {
    const struct {
        uint32_t type, argument;
        uint64_t value;
    } message = {RECYCLE, watch->recycle, 0};
    ssize_t done;

    if (watch->recycle == watch->told)
        return NEVER;
    do
        done = write(watch->settings->messages, &message, sizeof message);
    while (done < 0 && errno == EINTR);
    if (done < 0 && errno == EAGAIN)
        return now + SECOND;
    watch->told = watch->recycle;
    return NEVER;
}

static void recycle(wkr_watch_t *watch, enum wkr_recycle why) {
    if (why > watch->recycle)
        watch->recycle = why;
}

/* Stacks. */

static void ask_for_dump(wkr_watch_t *watch, uint64_t now) {
    watch->dumped_at = now;
    watch->dump_by = now + MOMENT;
    pthread_mutex_lock(&watch->lock);
    watch->wants_dump = 1;
    pthread_cond_broadcast(&watch->changed);
    pthread_mutex_unlock(&watch->lock);
}

static void list_running(const wkr_watch_t *watch, uint64_t now) {
    for (unsigned i = 0; i < slots(watch); i++) {
        uint64_t since, number = running(watch, i, &since);
        char name[NAME_SIZE];

        if (number != 0)
            wkr_say("PG2022: thread 0x%016lx runs %s, for %.3f s",
                    (unsigned long)watch->pool->threads[i].id, name_of(name, watch, i, number),
                    seconds(now - since));
    }
}

static void dump_stuck(const wkr_watch_t *watch, uint64_t now) {
    wkr_say("PG2023: some thread does not let go of its Python interpreter; stacks as they are "
            "without it:");
    list_running(watch, now);
    watch->pool->ops->dump_stuck(watch->pool->engine, watch->settings->stacks_signal);
}

/* A dump that the hand has not come to make in a moment is made without it. */
static uint64_t look_at_dump(wkr_watch_t *watch, uint64_t now) {
    int is_awaited;

    if (watch->dump_by == 0 || now < watch->dump_by)
        return watch->dump_by == 0 ? NEVER : watch->dump_by;
    watch->dump_by = 0;
    pthread_mutex_lock(&watch->lock);
    is_awaited = watch->wants_dump || watch->is_dumping;
    watch->wants_dump = 0;
    pthread_mutex_unlock(&watch->lock);
    if (is_awaited)
        dump_stuck(watch, now);
    return NEVER;
}

/* What is watched: each looks, acts, and says when to look again. */

static uint64_t look_at_startup(wkr_watch_t *watch, uint64_t now) {
    const uint32_t patience = watch->settings->startup_timeout;
    uint64_t begun = atomic_load(&watch->pool->begun);

    if (patience == 0 || watch->pool->ops->has_loaded(watch->pool->engine))
        return NEVER;
    if (begun == 0 || now < begun + patience)
        return (begun == 0 ? now : begun) + patience;
    wkr_say("PG2006: startup-timeout (%g s) has passed since the first request, and no script is "
            "loaded: this worker ends, and another is started",
            seconds(patience));
    pyglue_record_end(watch->pool->record, PYGLUE_ENDING_STARTUP);
    _exit(1);
}

static void interrupt(wkr_watch_t *watch, uint64_t number) {
    pthread_mutex_lock(&watch->lock);
    if (watch->interrupt_count < slots(watch))
        watch->interrupts[watch->interrupt_count++] = number;
    pthread_cond_broadcast(&watch->changed);
    pthread_mutex_unlock(&watch->lock);
}

/* A dump shows all threads: one serves the requests that are late within the same moment. */
static void tell_late(wkr_watch_t *watch, unsigned slot, uint64_t since, uint64_t now) {
    char name[NAME_SIZE];

    wkr_say(
        "PG2020: request-timeout (%g s) has passed for %s in thread 0x%016lx: the stacks of all "
        "threads follow, or stand above",
        seconds(watch->settings->request_timeout),
        name_of(name, watch, slot, watch->seen[slot].number),
        (unsigned long)watch->pool->threads[slot].id);
    if (watch->dumped_at <= since || now >= watch->dumped_at + MOMENT)
        ask_for_dump(watch, now);
    if (watch->settings->interrupt_timeout > 0)
        interrupt(watch, watch->seen[slot].number);
    watch->seen[slot].stage = STAGE_TOLD;
}

static void give_up(wkr_watch_t *watch, unsigned slot) {
    char name[NAME_SIZE];

    wkr_say("PG2021: %s did not end%s: another worker is to take this one's place",
            name_of(name, watch, slot, watch->seen[slot].number),
            watch->settings->interrupt_timeout > 0 ? " when it was interrupted" : "");
    recycle(watch, WKR_RECYCLE_REQUEST);
    watch->seen[slot].stage = STAGE_GIVEN_UP;
}

/* When this slot is to be looked at again. */
static uint64_t look_at_slot(wkr_watch_t *watch, unsigned slot, uint64_t now) {
    seen_t *seen = &watch->seen[slot];
    uint64_t since, number = running(watch, slot, &since);
    uint64_t due = since + watch->settings->request_timeout;
    uint64_t end = due + watch->settings->interrupt_timeout;

    if (number == 0 || now < due)
        return number == 0 ? NEVER : due;
    if (seen->number != number)
        *seen = (seen_t){number, STAGE_FRESH};
    if (seen->stage == STAGE_FRESH)
        tell_late(watch, slot, since, now);
    if (seen->stage == STAGE_TOLD && now >= end)
        give_up(watch, slot);
    return seen->stage == STAGE_TOLD ? end : NEVER;
}

static uint64_t look_at_requests(wkr_watch_t *watch, uint64_t now) {
    uint64_t next = now + watch->settings->request_timeout;

    if (watch->settings->request_timeout == 0)
        return NEVER;
    for (unsigned i = 0; i < slots(watch); i++)
        next = sooner(next, look_at_slot(watch, i, now));
    return next;
}

static uint64_t look_at_age(wkr_watch_t *watch, uint64_t now) {
    uint64_t due = watch->began + watch->settings->restart_interval;

    if (watch->settings->restart_interval == 0)
        return NEVER;
    if (now < due)
        return due;
    recycle(watch, WKR_RECYCLE_INTERVAL);
    return NEVER;
}

/* Bytes of this process that are in memory; 0: not known. */
static uint64_t resident(void) {
    unsigned long size, pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    if (file == NULL)
        return 0;
    if (fscanf(file, "%lu %lu", &size, &pages) != 2)
        pages = 0;
    fclose(file);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t look_at_memory(wkr_watch_t *watch, uint64_t now) {
    const uint64_t limit = watch->settings->rss_limit;
    uint64_t has;

    if (limit == 0 || watch->is_over_limit)
        return NEVER;
    has = resident();
    if (has <= limit)
        return now + SECOND;
    wkr_say("PG2024: %llu bytes of this worker are in memory, more than rss-limit (%llu): another "
            "worker is to take its place",
            (unsigned long long)has, (unsigned long long)limit);
    recycle(watch, WKR_RECYCLE_RSS);
    watch->is_over_limit = 1;
    return NEVER;
}

/* Nothing of Python can be had any more: what waits goes elsewhere, what runs has shutdown-timeout
 * as at any end. The process must not outlive the last connection: no Python thread would end it.
 */
static void die_of_deadlock(wkr_watch_t *watch, uint64_t now) {
    watch->is_deadlocked = 1;
    wkr_say("PG2025: deadlock-timeout (%g s) has passed: code that runs in this worker, of an "
            "extension most likely, does not let go of its Python interpreter. This worker ends, "
            "and another is started",
            seconds(watch->settings->deadlock_timeout));
    dump_stuck(watch, now);
    pyglue_record_end(watch->pool->record, PYGLUE_ENDING_DEADLOCK);
    recycle(watch, WKR_RECYCLE_DEADLOCK);
    tell_supervisor(watch, now);
    if (wkr_process_watchdog(watch->settings->shutdown_timeout))
        _exit(1);
    wkr_pool_drain(watch->pool);
}

/* A process that was stopped meanwhile has not had its chance: it is looked at twice. */
static uint64_t look_at_hand(wkr_watch_t *watch, uint64_t now) {
    const uint32_t patience = watch->settings->deadlock_timeout;
    uint64_t since;

    if (patience == 0)
        return NEVER;
    if (watch->is_deadlocked) {
        if (wkr_pool_connections(watch->pool) == 0)
            _exit(1);
        return now + TURN;
    }
    pthread_mutex_lock(&watch->lock);
    since = watch->busy_since;
    pthread_mutex_unlock(&watch->lock);
    if (since == 0 || now < since + patience)
        return (since == 0 ? now : since) + patience;
    if (watch->suspected == since)
        die_of_deadlock(watch, now);
    watch->suspected = since;
    return now + SECOND;
}

/* tell_supervisor is the last, for what the others want told. */
static uint64_t (*const looks[])(wkr_watch_t *, uint64_t) = {
    look_at_startup, look_at_requests, look_at_dump,    look_at_age,
    look_at_memory,  look_at_hand,     tell_supervisor,
};

/* Threads. */

static void wait_locked(wkr_watch_t *watch, uint64_t until) {
    struct timespec time = {(time_t)(until / 1000), (long)(until % 1000) * 1000000};

    if (until == NEVER)
        pthread_cond_wait(&watch->changed, &watch->lock);
    else
        pthread_cond_timedwait(&watch->changed, &watch->lock, &time);
}

static void *watcher(void *argument) {
    wkr_watch_t *watch = argument;

    pthread_mutex_lock(&watch->lock);
    while (!watch->is_let && !watch->watcher_ends)
        wait_locked(watch, NEVER);
    while (!watch->watcher_ends) {
        uint64_t now = wkr_now_ms(), next = NEVER;

        pthread_mutex_unlock(&watch->lock);
        for (unsigned i = 0; i < sizeof looks / sizeof looks[0]; i++)
            next = sooner(next, looks[i](watch, now));
        pthread_mutex_lock(&watch->lock);
        while (!watch->watcher_ends && wkr_now_ms() < next)
            wait_locked(watch, next);
    }
    pthread_mutex_unlock(&watch->lock);
    return NULL;
}

/* One thing that wants a GIL, without the lock. */
static void reach_locked(wkr_watch_t *watch) {
    const pyglue_engine_ops_t *ops = watch->pool->ops;
    pyglue_engine_t *engine = watch->pool->engine;
    uint64_t number = 0;

    watch->is_dumping = watch->wants_dump;
    watch->wants_dump = 0;
    if (!watch->is_dumping && watch->interrupt_count > 0)
        number = watch->interrupts[--watch->interrupt_count];
    watch->busy_since = wkr_now_ms();
    pthread_mutex_unlock(&watch->lock);
    if (watch->is_dumping)
        ops->dump(engine);
    else if (number != 0)
        ops->interrupt(engine, number);
    else
        ops->touch(engine);
    pthread_mutex_lock(&watch->lock);
    watch->busy_since = 0;
    watch->is_dumping = 0;
}

static void *hand(void *argument) {
    wkr_watch_t *watch = argument;
    const uint64_t pause = watch->settings->deadlock_timeout > 0 ? SECOND : NEVER;
    uint64_t touch_at;

    pthread_mutex_lock(&watch->lock);
    while (!watch->is_let && !watch->hand_ends)
        wait_locked(watch, NEVER);
    touch_at = watch->began;
    while (!watch->hand_ends) {
        int is_asked = watch->wants_dump || watch->interrupt_count > 0;

        if (is_asked || (pause != NEVER && wkr_now_ms() >= touch_at)) {
            reach_locked(watch);
            touch_at = is_asked ? touch_at : wkr_now_ms() + SECOND;
        } else {
            wait_locked(watch, pause == NEVER ? NEVER : touch_at);
        }
    }
    pthread_mutex_unlock(&watch->lock);
    watch->pool->ops->thread_end(watch->pool->engine);
    return NULL;
}

static int is_wanted(const wkr_settings_t *settings) {
    return settings->startup_timeout > 0 || settings->request_timeout > 0 ||
           settings->deadlock_timeout > 0 || settings->restart_interval > 0 ||
           settings->rss_limit > 0;
}

static int init(wkr_watch_t *watch, wkr_pool_t *pool) {
    pthread_condattr_t monotonic;

    watch->pool = pool;
    watch->settings = &pool->settings;
    watch->seen = calloc(slots(watch), sizeof *watch->seen);
    watch->interrupts = calloc(slots(watch), sizeof *watch->interrupts);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&watch->lock, NULL);
    pthread_cond_init(&watch->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return watch->seen == NULL || watch->interrupts == NULL ? PYGLUE_E_NOMEM : 0;
}

static int start_threads(wkr_watch_t *watch) {
    const wkr_settings_t *settings = watch->settings;
    const int needs_hand = settings->request_timeout > 0 || settings->deadlock_timeout > 0;

    if (needs_hand)
        watch->has_hand = (errno = pthread_create(&watch->hand, NULL, hand, watch)) == 0;
    if (watch->has_hand == needs_hand)
        watch->has_watcher = (errno = pthread_create(&watch->watcher, NULL, watcher, watch)) == 0;
    return watch->has_watcher ? 0 : PYGLUE_E_IO;
}

int wkr_watch_start(wkr_watch_t **result, wkr_pool_t *pool) {
    wkr_watch_t *watch;
    int rv;

    *result = NULL;
    if (!is_wanted(&pool->settings))
        return 0;
    watch = calloc(1, sizeof *watch);
    if (watch == NULL)
        return PYGLUE_E_NOMEM;
    rv = init(watch, pool);
    rv = rv != 0 ? rv : start_threads(watch);
    if (rv == 0) {
        *result = watch;
    } else {
        int saved = errno;

        wkr_watch_stop(watch);
        errno = saved;
    }
    return rv;
}

void wkr_watch_let(wkr_watch_t *watch) {
    pthread_mutex_lock(&watch->lock);
    watch->began = wkr_now_ms();
    watch->is_let = 1;
    pthread_cond_broadcast(&watch->changed);
    pthread_mutex_unlock(&watch->lock);
}

static void end(wkr_watch_t *watch, int *order, const pthread_t *thread) {
    pthread_mutex_lock(&watch->lock);
    *order = 1;
    pthread_cond_broadcast(&watch->changed);
    pthread_mutex_unlock(&watch->lock);
    if (thread != NULL)
        pthread_join(*thread, NULL);
}

/* The hand first: a GIL that it cannot have is the watcher's to see, to the end. */
void wkr_watch_stop(wkr_watch_t *watch) {
    end(watch, &watch->hand_ends, watch->has_hand ? &watch->hand : NULL);
    end(watch, &watch->watcher_ends, watch->has_watcher ? &watch->watcher : NULL);
    pthread_cond_destroy(&watch->changed);
    pthread_mutex_destroy(&watch->lock);
    free(watch->interrupts);
    free(watch->seen);
    free(watch);
}
