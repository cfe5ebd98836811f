/* SPDX-License-Identifier: Apache-2.0 */
/* Which worker gets a request. The count in the rows is a hint, the worker has the last word.
 * Neighbours: glue_daemon.c asks; the bridge's placement.h has the memories. */
#include "glue_place.h"

#include <limits.h>
#include <stdatomic.h>
#include <unistd.h>

#include "glue_clock.h"
#include "glue_placement.h"

/* Percent of a child's threads that may wait, for workers of all groups and for what their clients
 * send, however many child-threads gives to one of them (SUCCESSION 11). */
#define WAITING_SHARE 75
#define CLIENT_CHECK 64u               /* looks for a place between two looks for the client */
#define LATE_FOR apr_time_from_sec(30) /* a worker whose hello was late is the last to be asked */
#define REST_MOST 7u                   /* the longest sleep is of 2 to the power of this pauses */

/* Of a group: threads of this child. */
struct usage {
    _Atomic int held, uploading;
};

static int threads_here;       /* of this child; frozen after child_init */
static _Atomic int waiting;    /* threads, those that upload included */
static _Atomic int uploading;  /* threads */
static struct usage *usages;   /* by the group's position; frozen but for its atomics */
static _Atomic uint64_t draws; /* of random numbers */
static _Atomic uint64_t absent[PYGLUE_WORKER_SLOTS]; /* number of the worker that was not there */
static struct {
    _Atomic uint64_t number; /* of the worker whose hello did not come in time */
    _Atomic apr_time_t until;
} late[PYGLUE_WORKER_SLOTS];

void glue_place_child_init(apr_pool_t *pchild, int threads, int groups) {
    threads_here = threads;
    usages = apr_pcalloc(pchild, (apr_size_t)groups * sizeof *usages);
    draws = (uint64_t)apr_time_now() ^ (uint64_t)getpid() << 40;
}

/* Of this child's threads, at least one. */
static int share_of(int percent) {
    int share = threads_here * percent / 100;

    return share > 1 ? share : 1;
}

/* One more, if there are fewer than that. */
static int count_in(_Atomic int *count, int most) {
    int now = atomic_load(count);

    while (now < most)
        if (atomic_compare_exchange_weak(count, &now, now + 1))
            return 1;
    return 0;
}

/* splitmix64: no state a thread, and good enough to spread requests. */
static uint64_t draw(void) {
    uint64_t x = atomic_fetch_add(&draws, 1) * UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

void glue_place_pause(void) {
    apr_sleep((apr_interval_time_t)(1000 + draw() % 4001));
}

static int is_candidate(const pyglue_worker_entry_t *w, const glue_search_t *search,
                        unsigned slot) {
    return w->state == PYGLUE_WORKER_READY && w->number != search->avoided &&
           memcmp(w->digest, search->group->digest, sizeof w->digest) == 0 &&
           w->number != atomic_load_explicit(&absent[slot], memory_order_relaxed);
}

static int take_slot(glue_place_t *place, const glue_search_t *search, unsigned slot) {
    const glue_placement_t *p = glue_placement();

    place->slot = slot;
    return pyglue_pages_get_worker(p->pages, slot, &place->worker) &&
           is_candidate(&place->worker, search, slot) &&
           (p->row < 0 ||
            pyglue_rows_take(p->rows, p->row, slot, place->worker.number, place->worker.threads));
}

enum sight { SIGHT_NOBODY, SIGHT_FULL, SIGHT_TAKEN };

/* Workers that may get a request. */
typedef struct choice {
    unsigned count;
    struct {
        uint64_t number;
        uint16_t slot, threads;
    } workers[PYGLUE_WORKER_SLOTS];
} choice_t;

static void note(choice_t *choice, unsigned slot, const pyglue_worker_entry_t *w) {
    choice->workers[choice->count].number = w->number;
    choice->workers[choice->count].slot = (uint16_t)slot;
    choice->workers[choice->count++].threads = (uint16_t)w->threads; /* PYGLUE_RECORD_SLOTS */
}

/* The one with the fewest requests of those that have a free thread: its Python may be held by a
 * request, so that another one waits behind it though a worker beside it is idle. An idle one ends
 * the look, which begins anywhere. Returns an index, or `count` if none has a free thread. */
static unsigned least_busy(const choice_t *choice) {
    const glue_placement_t *p = glue_placement();
    unsigned start = (unsigned)(draw() % choice->count), best = choice->count, least = UINT_MAX;

    for (unsigned i = 0; i < choice->count && least > 0; i++) {
        unsigned at = (start + i) % choice->count, slot = choice->workers[at].slot;
        unsigned busy = p->row < 0 ? 0 : pyglue_rows_sum(p->rows, slot, choice->workers[at].number);

        if (busy < choice->workers[at].threads && busy < least) {
            best = at;
            least = busy;
        }
    }
    return best;
}

static int take_one_of(glue_place_t *place, const glue_search_t *search, choice_t *choice) {
    while (choice->count > 0) {
        unsigned i = least_busy(choice);

        if (i == choice->count)
            return 0;
        if (take_slot(place, search, choice->workers[i].slot))
            return 1;
        choice->workers[i] = choice->workers[--choice->count];
    }
    return 0;
}

static int is_late(const pyglue_worker_entry_t *w, unsigned slot) {
    return w->number == atomic_load_explicit(&late[slot].number, memory_order_relaxed) &&
           glue_clock_now() < atomic_load_explicit(&late[slot].until, memory_order_relaxed);
}

/* One look at all workers of the group, the least busy one first; those that were late with a hello
 * are the last. */
static enum sight look(glue_place_t *place, const glue_search_t *search) {
    const pyglue_pages_t *pages = glue_placement()->pages;
    unsigned end = pyglue_pages_worker_end(pages);
    choice_t prompt, tardy;

    prompt.count = tardy.count = 0;
    for (unsigned i = 0; i < end; i++)
        if (pyglue_pages_get_worker(pages, i, &place->worker) &&
            is_candidate(&place->worker, search, i))
            note(is_late(&place->worker, i) ? &tardy : &prompt, i, &place->worker);
    if (prompt.count + tardy.count == 0)
        return SIGHT_NOBODY;
    return take_one_of(place, search, &prompt) || take_one_of(place, search, &tardy) ? SIGHT_TAKEN
                                                                                     : SIGHT_FULL;
}

/* Waiting. */

static int fail(glue_search_t *search, enum glue_refusal refusal) {
    search->refusal = refusal;
    return glue_refusal_error(refusal);
}

static int is_accepted(const glue_placement_t *p) {
    return pyglue_pages_plan_accepted(p->pages) >= p->plan;
}

/* May the group still get a worker? 0, or E_STATE with the reason. */
static int expect_group(glue_search_t *search) {
    const glue_placement_t *p = glue_placement();
    pyglue_group_entry_t entry;
    /* Read before the entry: a plan that was taken up has put its groups into the pages. And behind
     * it: the next supervisor takes that back before it clears them. */
    int was_accepted = is_accepted(p);

    if (pyglue_pages_find_group(p->pages, search->group->digest, &entry)) {
        if (entry.state != PYGLUE_GROUP_DISABLED)
            return 0;
        memcpy(search->cause, entry.cause, sizeof search->cause);
        return fail(search, GLUE_REFUSAL_DISABLED);
    }
    if (pyglue_pages_plan_refused(p->pages) >= p->plan)
        return fail(search, GLUE_REFUSAL_PLAN);
    if (was_accepted && is_accepted(p))
        return fail(search, GLUE_REFUSAL_UNKNOWN);
    return 0;
}

/* Is there anything to wait for? The parent knows what a child cannot see: in a graceful restart
 * too its MPM calls the child stopping, but what waits then is still served. */
static int expect(glue_search_t *search, enum sight sight) {
    enum pyglue_parent_state parent = pyglue_rows_parent(glue_placement()->rows);

    if (parent == PYGLUE_PARENT_ENDING)
        return fail(search, GLUE_REFUSAL_ENDING);
    if (parent == PYGLUE_PARENT_HELPLESS && sight == SIGHT_NOBODY && glue_placement_is_late())
        return fail(search, GLUE_REFUSAL_HELPLESS);
    return expect_group(search);
}

/* A client that does not wait any more: one that only closed its sending side too, because who
 * gives up a page closes just so, and what waits is not run for nobody. */
static int has_left(const glue_search_t *search) {
    return search->host->base.ops->gone(&search->host->base) || glue_host_is_closing(search->host);
}

static void sleep_longer(const glue_search_t *search) {
    unsigned power = search->refusals < REST_MOST ? search->refusals : REST_MOST;

    for (unsigned i = 0; i < 1u << power; i++)
        glue_place_pause();
}

int glue_place_rest(glue_search_t *search) {
    int error;

    sleep_longer(search);
    error = expect(search, SIGHT_FULL);
    if (error == 0 && has_left(search))
        error = fail(search, GLUE_REFUSAL_LEFT);
    return error;
}

enum { STILL = 1 }; /* it waits, and nothing is decided */

/* Some looks. 0: *place is taken. */
static int look_on(glue_place_t *place, glue_search_t *search) {
    for (unsigned looks = 0; looks < CLIENT_CHECK; looks++) {
        enum sight sight;
        int error;

        sleep_longer(search);
        search->avoided = 0;
        sight = look(place, search);
        if (sight == SIGHT_TAKEN)
            return 0;
        error = expect(search, sight);
        if (error != 0)
            return error;
        if (glue_clock_now() >= search->deadline)
            return fail(search, GLUE_REFUSAL_QUEUE_TIMEOUT);
        if (looks == 0 && has_left(search))
            return fail(search, GLUE_REFUSAL_LEFT);
    }
    return STILL;
}

/* Counts the request among those that wait for the group, within its bound over all children, by
 * the group's slot in the pages: the supervisor starts and adds workers by that. The slot changes
 * (-1: none): a group gets into the pages, and the next supervisor may put it elsewhere. */
static int count_waiting(glue_search_t *search, int *slot) {
    const glue_placement_t *p = glue_placement();
    const glue_group_t *group = search->group;
    int now = p->row < 0 ? -1 : pyglue_pages_group_slot(p->pages, group->digest);

    if (now == *slot)
        return 0;
    if (*slot >= 0)
        pyglue_rows_wait_end(p->rows, p->row, (unsigned)*slot, group->digest);
    *slot = now;
    if (now < 0 || pyglue_rows_wait(p->rows, p->row, (unsigned)now, group->digest,
                                    (unsigned)group->listen_backlog))
        return 0;
    *slot = -1;
    return fail(search, GLUE_REFUSAL_BACKLOG);
}

static int wait_among_all(glue_place_t *place, glue_search_t *search) {
    const glue_placement_t *p = glue_placement();
    int slot = -1, rv;

    do {
        rv = count_waiting(search, &slot);
        if (rv == 0)
            rv = look_on(place, search);
    } while (rv == STILL);
    if (slot >= 0)
        pyglue_rows_wait_end(p->rows, p->row, (unsigned)slot, search->group->digest);
    if (rv != 0 || !has_left(search))
        return rv;
    glue_place_give(place);
    return fail(search, GLUE_REFUSAL_LEFT);
}

int glue_place_take(glue_place_t *place, glue_search_t *search) {
    int error;

    if (look(place, search) == SIGHT_TAKEN)
        return 0;
    if (!count_in(&waiting, share_of(WAITING_SHARE)))
        return fail(search, GLUE_REFUSAL_ALL_WAIT);
    error = wait_among_all(place, search);
    atomic_fetch_sub(&waiting, 1);
    return error;
}

void glue_place_give(const glue_place_t *place) {
    const glue_placement_t *p = glue_placement();

    if (p->row >= 0)
        pyglue_rows_give(p->rows, p->row, place->slot, place->worker.number);
}

void glue_place_strike(const glue_place_t *place) {
    atomic_store_explicit(&absent[place->slot], place->worker.number, memory_order_relaxed);
    glue_place_give(place);
}

void glue_place_note_late(const glue_place_t *place) {
    atomic_store(&late[place->slot].until, glue_clock_now() + LATE_FOR);
    atomic_store(&late[place->slot].number, place->worker.number);
}

/* A group's share of this child. */

static struct usage *usage_of(const glue_group_t *group) {
    return &usages[group->position];
}

int glue_place_enter(glue_search_t *search) {
    if (glue_placement()->pages == NULL)
        return fail(search, GLUE_REFUSAL_NO_PLACEMENT);
    return count_in(&usage_of(search->group)->held, share_of(search->group->child_threads))
               ? 0
               : fail(search, GLUE_REFUSAL_CHILD_THREADS);
}

void glue_place_leave(const glue_group_t *group) {
    atomic_fetch_sub(&usage_of(group)->held, 1);
}

/* Of the share of a group, or of all: a third is left to requests that need nothing of a client. */
static int uploads_of(int share) {
    return share > 2 ? share * 2 / 3 : 1;
}

static int count_upload_of_all(glue_search_t *search) {
    if (!count_in(&uploading, uploads_of(share_of(WAITING_SHARE))))
        return fail(search, GLUE_REFUSAL_ALL_UPLOAD);
    if (count_in(&waiting, share_of(WAITING_SHARE)))
        return 0;
    atomic_fetch_sub(&uploading, 1);
    return fail(search, GLUE_REFUSAL_ALL_WAIT);
}

int glue_place_begin_upload(glue_search_t *search) {
    struct usage *usage = usage_of(search->group);
    int error;

    if (!count_in(&usage->uploading, uploads_of(share_of(search->group->child_threads))))
        return fail(search, GLUE_REFUSAL_UPLOADS);
    error = count_upload_of_all(search);
    if (error != 0)
        atomic_fetch_sub(&usage->uploading, 1);
    return error;
}

void glue_place_end_upload(const glue_group_t *group) {
    atomic_fetch_sub(&waiting, 1);
    atomic_fetch_sub(&uploading, 1);
    atomic_fetch_sub(&usage_of(group)->uploading, 1);
}
