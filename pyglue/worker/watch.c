/* SPDX-License-Identifier: Apache-2.0 */
/* The watcher, which never waits for Python and so sees what hangs with it. What wants a GIL is
 * hands.c's: a hand that cannot have its own for deadlock-timeout is how a deadlock is told.
 *
 * The watcher sleeps until the next deadline. Nobody wakes it for a request: one that begins while
 * it sleeps cannot be late before it wakes, as it never sleeps for longer than the time-out. */
#include "watch.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "hands.h"
#include "pool.h"

#define SECOND 1000u /* between two looks at memory */
#define RECENT 1000u /* a dump that shows what runs still */
#define MOMENT 2000u /* for a dump with its GIL, before one is made without */
#define GRACE 500u   /* for the child to end the wait for a client, or a hand to come by */
#define TURN 50u     /* of what is looked at again and again */
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
    wkr_hands_t *hands; /* NULL: nothing that is watched needs them */
    pthread_t watcher;
    int has_watcher;
    pthread_mutex_t lock; /* of the next four */
    pthread_cond_t changed;
    int is_let, ends;
    uint64_t began; /* when it was let */
    /* the watcher's own */
    seen_t *seen;       /* of each slot */
    uint64_t dumped_at; /* when a dump was last asked for; 0: never */
    uint64_t suspected; /* since when it was busy, of a hand that looked stuck */
    uint32_t recycle;   /* the reason that the supervisor is to be told; 0: none */
    uint32_t told;      /* the one that it was told */
    int is_over_limit;  /* of rss_limit, and said */
    int is_too_late;    /* to load a script, and said */
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
        return WKR_NEVER;
    do
        done = write(watch->settings->messages, &message, sizeof message);
    while (done < 0 && errno == EINTR);
    if (done < 0 && errno == EAGAIN)
        return now + SECOND;
    watch->told = watch->recycle;
    return WKR_NEVER;
}

static void recycle(wkr_watch_t *watch, enum wkr_recycle why) {
    if (why > watch->recycle)
        watch->recycle = why;
}

/* Stacks. */

static void ask_for_dump(wkr_watch_t *watch, uint64_t now) {
    watch->dumped_at = now;
    wkr_hands_dump(watch->hands);
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

/* Stacks that a hand owes which has not come by for so long are shown without it. */
static void dump_stuck(const wkr_watch_t *watch, uint64_t now, uint64_t patience) {
    const wkr_pool_t *pool = watch->pool;
    unsigned gil;
    int is_said = 0;

    while (wkr_hands_take_stuck(&gil, watch->hands, patience)) {
        if (!is_said) {
            wkr_say("PG2023: some thread does not let go of its Python interpreter; stacks as they "
                    "are without it:");
            list_running(watch, now);
        }
        is_said = 1;
        pool->ops->dump_stuck(pool->engine, gil, watch->settings->stacks_signal);
    }
}

/* A hand that was busy before may have been so because the process was stopped. */
static uint64_t look_at_dump(wkr_watch_t *watch, uint64_t now) {
    if (watch->hands == NULL || !wkr_hands_owe_dump(watch->hands))
        return WKR_NEVER;
    if (now >= watch->dumped_at + GRACE)
        dump_stuck(watch, now, MOMENT);
    return now + TURN;
}

/* What is watched: each looks, acts, and says when to look again. */

/* What it waited for is seen in the stacks; with them it ends. */
static uint64_t look_at_startup(wkr_watch_t *watch, uint64_t now) {
    const uint32_t patience = watch->settings->startup_timeout;
    uint64_t begun = atomic_load(&watch->pool->begun);

    if (watch->is_too_late) {
        if (wkr_hands_owe_dump(watch->hands))
            return now + TURN;
        pyglue_record_end(watch->pool->record, PYGLUE_ENDING_STARTUP);
        _exit(1);
    }
    if (patience == 0 || watch->pool->ops->has_loaded(watch->pool->engine))
        return WKR_NEVER;
    if (begun == 0 || now < begun + patience)
        return (begun == 0 ? now : begun) + patience;
    wkr_say("PG2006: startup-timeout (%g s) has passed since the first request, and no script is "
            "loaded: this worker ends, and another is started. The stacks of all threads follow",
            seconds(patience));
    watch->is_too_late = 1;
    ask_for_dump(watch, now);
    return now + TURN;
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
    if (watch->dumped_at <= since || now >= watch->dumped_at + RECENT)
        ask_for_dump(watch, now);
    if (watch->settings->interrupt_timeout > 0)
        wkr_hands_interrupt(watch->hands, slot, watch->seen[slot].number);
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

/* A request that waits for its client is told in a moment that nothing more will come, by the
 * child, whose time is over as well (docs/wire.md 12): no client is to cost others their worker. */
static int awaits_client(const wkr_watch_t *watch, unsigned slot) {
    return atomic_load(&watch->pool->threads[slot].host.awaits_client);
}

/* When this slot is to be looked at again. */
static uint64_t look_at_slot(wkr_watch_t *watch, unsigned slot, uint64_t now) {
    seen_t *seen = &watch->seen[slot];
    uint64_t since, number = running(watch, slot, &since);
    uint64_t due = since + watch->settings->request_timeout;
    uint64_t end = due + watch->settings->interrupt_timeout;

    if (number == 0 || now < due)
        return number == 0 ? WKR_NEVER : due;
    if (seen->number != number)
        *seen = (seen_t){number, STAGE_FRESH};
    if (seen->stage == STAGE_FRESH)
        tell_late(watch, slot, since, now);
    if (seen->stage == STAGE_TOLD && now >= end && awaits_client(watch, slot))
        return now + GRACE;
    if (seen->stage == STAGE_TOLD && now >= end)
        give_up(watch, slot);
    return seen->stage == STAGE_TOLD ? end : WKR_NEVER;
}

static uint64_t look_at_requests(wkr_watch_t *watch, uint64_t now) {
    uint64_t next = now + watch->settings->request_timeout;

    if (watch->settings->request_timeout == 0)
        return WKR_NEVER;
    for (unsigned i = 0; i < slots(watch); i++)
        next = sooner(next, look_at_slot(watch, i, now));
    return next;
}

static uint64_t look_at_age(wkr_watch_t *watch, uint64_t now) {
    uint64_t due = watch->began + watch->settings->restart_interval;

    if (watch->settings->restart_interval == 0)
        return WKR_NEVER;
    if (now < due)
        return due;
    recycle(watch, WKR_RECYCLE_INTERVAL);
    return WKR_NEVER;
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
        return WKR_NEVER;
    has = resident();
    if (has <= limit)
        return now + SECOND;
    wkr_say("PG2024: %llu bytes of this worker are in memory, more than rss-limit (%llu): another "
            "worker is to take its place",
            (unsigned long long)has, (unsigned long long)limit);
    recycle(watch, WKR_RECYCLE_RSS);
    watch->is_over_limit = 1;
    return WKR_NEVER;
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
    ask_for_dump(watch, now);
    dump_stuck(watch, now, watch->settings->deadlock_timeout);
    pyglue_record_end(watch->pool->record, PYGLUE_ENDING_DEADLOCK);
    recycle(watch, WKR_RECYCLE_DEADLOCK);
    tell_supervisor(watch, now);
    wkr_process_watchdog(watch->settings->shutdown_timeout);
    wkr_pool_drain(watch->pool);
}

/* A process that was stopped meanwhile has not had its chance: it is looked at twice. */
static uint64_t look_at_hands(wkr_watch_t *watch, uint64_t now) {
    const uint32_t patience = watch->settings->deadlock_timeout;
    uint64_t since;

    if (patience == 0)
        return WKR_NEVER;
    if (watch->is_deadlocked) {
        if (wkr_pool_connections(watch->pool) == 0 && !wkr_hands_owe_dump(watch->hands))
            _exit(1);
        return now + TURN;
    }
    since = wkr_hands_busy_since(watch->hands);
    if (since == 0 || now < since + patience)
        return (since == 0 ? now : since) + patience;
    if (watch->suspected == since)
        die_of_deadlock(watch, now);
    watch->suspected = since;
    return now + SECOND;
}

/* What awaits a dump comes after it; tell_supervisor is the last, for what the others want told. */
static uint64_t (*const looks[])(wkr_watch_t *, uint64_t) = {
    look_at_requests, look_at_dump,  look_at_startup, look_at_age,
    look_at_memory,   look_at_hands, tell_supervisor,
};

/* The thread. */

static void *watcher(void *argument) {
    wkr_watch_t *watch = argument;

    pthread_mutex_lock(&watch->lock);
    while (!watch->is_let && !watch->ends)
        wkr_clock_wait(&watch->changed, &watch->lock, WKR_NEVER);
    while (!watch->ends) {
        uint64_t now = wkr_now_ms(), next = WKR_NEVER;

        pthread_mutex_unlock(&watch->lock);
        for (unsigned i = 0; i < sizeof looks / sizeof looks[0]; i++)
            next = sooner(next, looks[i](watch, now));
        pthread_mutex_lock(&watch->lock);
        while (!watch->ends && wkr_now_ms() < next)
            wkr_clock_wait(&watch->changed, &watch->lock, next);
    }
    pthread_mutex_unlock(&watch->lock);
    return NULL;
}

static int is_wanted(const wkr_settings_t *settings) {
    return settings->startup_timeout > 0 || settings->request_timeout > 0 ||
           settings->deadlock_timeout > 0 || settings->restart_interval > 0 ||
           settings->rss_limit > 0;
}

static int init(wkr_watch_t *watch, wkr_pool_t *pool) {
    watch->pool = pool;
    watch->settings = &pool->settings;
    pthread_mutex_init(&watch->lock, NULL);
    wkr_clock_condition(&watch->changed);
    watch->seen = calloc(slots(watch), sizeof *watch->seen);
    return watch->seen == NULL ? PYGLUE_E_NOMEM : 0;
}

static int start_threads(wkr_watch_t *watch) {
    const wkr_settings_t *settings = watch->settings;
    const wkr_hands_task_t task = {watch->pool->ops, watch->pool->engine, slots(watch),
                                   settings->deadlock_timeout > 0};
    int rv = 0;

    if (settings->startup_timeout > 0 || settings->request_timeout > 0 ||
        settings->deadlock_timeout > 0)
        rv = wkr_hands_start(&watch->hands, &task);
    if (rv == 0)
        watch->has_watcher = (errno = pthread_create(&watch->watcher, NULL, watcher, watch)) == 0;
    return rv != 0 ? rv : watch->has_watcher ? 0 : PYGLUE_E_IO;
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
    if (watch->hands != NULL)
        wkr_hands_let(watch->hands);
}

static void end_watcher(wkr_watch_t *watch) {
    pthread_mutex_lock(&watch->lock);
    watch->ends = 1;
    pthread_cond_broadcast(&watch->changed);
    pthread_mutex_unlock(&watch->lock);
    if (watch->has_watcher)
        pthread_join(watch->watcher, NULL);
}

/* The hands first: a GIL that one cannot have is the watcher's to see, to the end. */
void wkr_watch_stop(wkr_watch_t *watch) {
    if (watch->hands != NULL)
        wkr_hands_stop(watch->hands);
    end_watcher(watch);
    if (watch->hands != NULL)
        wkr_hands_free(watch->hands);
    pthread_cond_destroy(&watch->changed);
    pthread_mutex_destroy(&watch->lock);
    free(watch->seen);
    free(watch);
}
