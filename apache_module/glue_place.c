/* SPDX-License-Identifier: Apache-2.0 */
/* Which worker gets a request. The count in the rows is a hint, a worker's refusal the authority.
 */
#include "glue_place.h"

#include <stdatomic.h>

#define WAITING_SHARE 75 /* percent of a child's threads that may wait: child-threads */

static int waiting_max = 1; /* frozen after child_init */
static _Atomic int waiting;
static _Atomic uint64_t draws; /* of random numbers */

void glue_place_child_init(int threads) {
    waiting_max = threads * WAITING_SHARE / 100;
    if (waiting_max < 1)
        waiting_max = 1;
    draws = (uint64_t)apr_time_now() ^ (uint64_t)getpid() << 40;
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

static int is_candidate(const pyglue_worker_entry_t *w, const glue_search_t *search) {
    return w->state == PYGLUE_WORKER_READY && w->number != search->avoided &&
           memcmp(w->digest, search->group->digest, sizeof w->digest) == 0;
}

static int take_slot(glue_place_t *place, const glue_search_t *search, unsigned slot) {
    const glue_placement_t *p = glue_placement();

    place->slot = slot;
    return pyglue_pages_get_worker(p->pages, slot, &place->worker) &&
           is_candidate(&place->worker, search) &&
           (p->row < 0 ||
            pyglue_rows_take(p->rows, p->row, slot, place->worker.number, place->worker.threads));
}

/* One look at all workers of the group, in random order. 1: taken. */
static int look(glue_place_t *place, const glue_search_t *search) {
    const pyglue_pages_t *pages = glue_placement()->pages;
    unsigned end = pyglue_pages_worker_end(pages), count = 0;
    uint16_t slots[PYGLUE_WORKER_SLOTS];

    for (unsigned i = 0; i < end; i++)
        if (pyglue_pages_get_worker(pages, i, &place->worker) &&
            is_candidate(&place->worker, search))
            slots[count++] = (uint16_t)i;
    while (count > 0) {
        unsigned i = (unsigned)(draw() % count);

        if (take_slot(place, search, slots[i]))
            return 1;
        slots[i] = slots[--count];
    }
    return 0;
}

/* May the group still get a worker? 0, or E_STATE with the reason. */
static int expect(glue_search_t *search) {
    const glue_placement_t *p = glue_placement();
    pyglue_group_entry_t entry;
    /* Read before the entry: a plan that was taken up has put its groups into the pages. */
    int is_accepted = pyglue_pages_plan_accepted(p->pages) >= p->plan;

    if (pyglue_pages_find_group(p->pages, search->group->digest, &entry)) {
        if (entry.state != PYGLUE_GROUP_DISABLED)
            return 0;
        memcpy(search->cause, entry.cause, sizeof search->cause);
        search->reason = search->cause;
        return PYGLUE_E_STATE;
    }
    if (pyglue_pages_plan_refused(p->pages) >= p->plan)
        search->reason = "the supervisor refused the configuration";
    else if (is_accepted)
        search->reason = "the supervisor does not know it";
    else
        return 0;
    return PYGLUE_E_STATE;
}

static int wait_and_look(glue_place_t *place, glue_search_t *search) {
    for (;;) {
        int error = expect(search);

        if (error != 0)
            return error;
        if (apr_time_now() >= search->deadline) {
            search->reason = "no worker had a thread free in time";
            return PYGLUE_E_REFUSED;
        }
        glue_place_pause();
        search->avoided = 0;
        if (look(place, search))
            return 0;
    }
}

int glue_place_take(glue_place_t *place, glue_search_t *search) {
    int error = PYGLUE_E_REFUSED;

    if (look(place, search))
        return 0;
    search->reason = "too many requests of this httpd process wait for workers";
    if (atomic_fetch_add(&waiting, 1) < waiting_max)
        error = wait_and_look(place, search);
    atomic_fetch_sub(&waiting, 1);
    return error;
}

void glue_place_give(const glue_place_t *place) {
    const glue_placement_t *p = glue_placement();

    if (p->row >= 0)
        pyglue_rows_give(p->rows, p->row, place->slot, place->worker.number);
}
