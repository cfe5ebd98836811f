/* SPDX-License-Identifier: Apache-2.0 */
/* Layout and races of rows and pages. Entries of the pages are guarded by their own number: the
 * writer sets it to 0, writes the fields, then sets it with release; a reader compares it before
 * and after its copy. Fields are copied as relaxed atomic words, so that a race is no undefined
 * behaviour but a copy that is thrown away. */
#include "placement.h"

#include <stdatomic.h>

#define MAGIC 0x70796c67u /* "pylg" */

/* A guarded entry: its guard, then the bytes of the public struct as words. */
#define WORDS(type) ((sizeof(type) + 7) / 8)

struct worker_slot {
    _Atomic uint64_t guard;
    _Atomic uint64_t words[WORDS(pyglue_worker_entry_t)];
};
struct group_slot {
    _Atomic uint64_t guard;
    _Atomic uint64_t words[WORDS(pyglue_group_entry_t)];
};
struct obituary_slot {
    _Atomic uint64_t guard;
    _Atomic uint64_t words[WORDS(pyglue_obituary_t)];
};

struct pyglue_pages {
    uint32_t magic;
    uint32_t version;
    uint64_t size;
    _Atomic uint64_t heartbeat;
    _Atomic uint64_t plan_accepted;
    _Atomic uint64_t plan_refused;
    _Atomic uint64_t writes; /* makes each guard unique */
    _Atomic uint32_t worker_end;
    _Atomic uint32_t group_end;
    uint64_t obituaries; /* the writer's own count */
    struct worker_slot workers[PYGLUE_WORKER_SLOTS];
    struct group_slot groups[PYGLUE_GROUP_SLOTS];
    struct obituary_slot obituary[PYGLUE_OBITUARY_SLOTS];
};

static void put_words(pyglue_pages_t *pages, _Atomic uint64_t *guard, _Atomic uint64_t *words,
                      const void *entry, size_t size) {
    uint64_t ticket = atomic_fetch_add_explicit(&pages->writes, 1, memory_order_relaxed) + 1;

    atomic_store_explicit(guard, 0, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    for (size_t i = 0; i * 8 < size; i++) {
        uint64_t word = 0;

        memcpy(&word, (const char *)entry + i * 8, size - i * 8 < 8 ? size - i * 8 : 8);
        atomic_store_explicit(&words[i], word, memory_order_relaxed);
    }
    atomic_store_explicit(guard, ticket, memory_order_release);
}

static void clear_words(_Atomic uint64_t *guard) {
    atomic_store_explicit(guard, 0, memory_order_release);
}

static int get_words(const _Atomic uint64_t *guard, const _Atomic uint64_t *words, void *entry,
                     size_t size) {
    uint64_t before = atomic_load_explicit(guard, memory_order_acquire);

    if (before == 0)
        return 0;
    for (size_t i = 0; i * 8 < size; i++) {
        uint64_t word = atomic_load_explicit(&words[i], memory_order_relaxed);

        memcpy((char *)entry + i * 8, &word, size - i * 8 < 8 ? size - i * 8 : 8);
    }
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(guard, memory_order_relaxed) == before;
}

static void raise_end(_Atomic uint32_t *end, unsigned slot) {
    if (atomic_load_explicit(end, memory_order_relaxed) <= slot)
        atomic_store_explicit(end, slot + 1, memory_order_release);
}

size_t pyglue_pages_size(void) {
    return sizeof(pyglue_pages_t);
}

void pyglue_pages_init(pyglue_pages_t *pages) {
    pages->size = sizeof *pages;
    pages->version = PYGLUE_PLACEMENT_VERSION;
    pages->magic = MAGIC;
}

int pyglue_pages_check(const pyglue_pages_t *pages, size_t size) {
    if (size < sizeof *pages || pages->magic != MAGIC || pages->size != sizeof *pages ||
        pages->version != PYGLUE_PLACEMENT_VERSION)
        return PYGLUE_E_VERSION;
    return 0;
}

void pyglue_pages_put_worker(pyglue_pages_t *pages, unsigned slot, const pyglue_worker_entry_t *w) {
    struct worker_slot *s = &pages->workers[slot];

    if (w->number == 0) {
        clear_words(&s->guard);
        return;
    }
    put_words(pages, &s->guard, s->words, w, sizeof *w);
    raise_end(&pages->worker_end, slot);
}

void pyglue_pages_put_group(pyglue_pages_t *pages, unsigned slot, const pyglue_group_entry_t *g) {
    struct group_slot *s = &pages->groups[slot];

    if (g->state == PYGLUE_GROUP_NONE) {
        clear_words(&s->guard);
        return;
    }
    put_words(pages, &s->guard, s->words, g, sizeof *g);
    raise_end(&pages->group_end, slot);
}

void pyglue_pages_put_obituary(pyglue_pages_t *pages, const pyglue_obituary_t *obituary) {
    struct obituary_slot *s = &pages->obituary[pages->obituaries++ % PYGLUE_OBITUARY_SLOTS];

    put_words(pages, &s->guard, s->words, obituary, sizeof *obituary);
}

void pyglue_pages_put_plan(pyglue_pages_t *pages, uint64_t accepted, uint64_t refused) {
    atomic_store_explicit(&pages->plan_refused, refused, memory_order_release);
    atomic_store_explicit(&pages->plan_accepted, accepted, memory_order_release);
}

void pyglue_pages_put_heartbeat(pyglue_pages_t *pages, uint64_t now_ms) {
    atomic_store_explicit(&pages->heartbeat, now_ms, memory_order_release);
}

/* What is read was written by another process, root's, but is kept within its type all the same. */
int pyglue_pages_get_worker(const pyglue_pages_t *pages, unsigned slot, pyglue_worker_entry_t *w) {
    const struct worker_slot *s = &pages->workers[slot];

    if (!get_words(&s->guard, s->words, w, sizeof *w))
        return 0;
    w->path[sizeof w->path - 1] = '\0';
    return w->number != 0;
}

/* The slot, and in *g what is there; -1. */
static int find_group(const pyglue_pages_t *pages, const uint8_t *digest, pyglue_group_entry_t *g) {
    unsigned end = atomic_load_explicit(&pages->group_end, memory_order_acquire);

    for (unsigned i = 0; i < end && i < PYGLUE_GROUP_SLOTS; i++) {
        const struct group_slot *s = &pages->groups[i];

        if (!get_words(&s->guard, s->words, g, sizeof *g) ||
            memcmp(g->digest, digest, sizeof g->digest) != 0)
            continue;
        g->cause[sizeof g->cause - 1] = '\0';
        return (int)i;
    }
    return -1;
}

int pyglue_pages_find_group(const pyglue_pages_t *pages, const uint8_t *digest,
                            pyglue_group_entry_t *g) {
    return find_group(pages, digest, g) >= 0;
}

int pyglue_pages_group_slot(const pyglue_pages_t *pages, const uint8_t *digest) {
    pyglue_group_entry_t unused;

    return find_group(pages, digest, &unused);
}

int pyglue_pages_find_obituary(const pyglue_pages_t *pages, uint64_t number,
                               pyglue_obituary_t *obituary) {
    for (unsigned i = 0; i < PYGLUE_OBITUARY_SLOTS; i++) {
        const struct obituary_slot *s = &pages->obituary[i];

        if (!get_words(&s->guard, s->words, obituary, sizeof *obituary) ||
            obituary->number != number)
            continue;
        if (obituary->count > PYGLUE_OBITUARY_REQUESTS)
            obituary->count = PYGLUE_OBITUARY_REQUESTS;
        obituary->cause[sizeof obituary->cause - 1] = '\0';
        return 1;
    }
    return 0;
}

uint64_t pyglue_pages_plan_accepted(const pyglue_pages_t *pages) {
    return atomic_load_explicit(&pages->plan_accepted, memory_order_acquire);
}

uint64_t pyglue_pages_plan_refused(const pyglue_pages_t *pages) {
    return atomic_load_explicit(&pages->plan_refused, memory_order_acquire);
}

uint64_t pyglue_pages_heartbeat(const pyglue_pages_t *pages) {
    return atomic_load_explicit(&pages->heartbeat, memory_order_acquire);
}

unsigned pyglue_pages_worker_end(const pyglue_pages_t *pages) {
    unsigned end = atomic_load_explicit(&pages->worker_end, memory_order_acquire);

    return end < PYGLUE_WORKER_SLOTS ? end : PYGLUE_WORKER_SLOTS;
}

/* Rows.
 * A column is a worker's slot, or behind those a group's: its cells, one a row, lie side by side,
 * so that a sum walks few cache lines. A cell is one word: 48 bits that tell whose column it is
 * now, the low ones of the worker's number or the first of the group's digest, then the count. */

struct listed_child {
    _Atomic uint64_t plan;
    _Atomic int32_t pid; /* 0: empty */
};

struct row {
    _Atomic int32_t pid;        /* of the child that owns this row; 0: free */
    struct listed_child listed; /* the parent's list, unrelated to the row beside it */
};

struct pyglue_rows {
    uint32_t magic;
    uint32_t version;
    uint32_t count;
    _Atomic uint32_t parent;                    /* pyglue_parent_state */
    _Atomic uint64_t spent[PYGLUE_GROUP_SLOTS]; /* until when, in us, the group's share is used */
    struct row row[];                           /* count of them, then the cells */
};

#define COLUMNS (PYGLUE_WORKER_SLOTS + PYGLUE_GROUP_SLOTS)
#define COUNT_BITS 16
#define COUNT_MASK 0xffffu

static size_t cells_offset(unsigned count) {
    return (sizeof(pyglue_rows_t) + count * sizeof(struct row) + 63) & ~(size_t)63;
}

static _Atomic uint64_t *cell_of(const pyglue_rows_t *rows, unsigned count, unsigned column,
                                 int row) {
    _Atomic uint64_t *cells =
        (_Atomic uint64_t *)(uintptr_t)((const char *)rows + cells_offset(count));

    return &cells[(size_t)column * count + (unsigned)row];
}

static _Atomic uint64_t *cell(const pyglue_rows_t *rows, unsigned column, int row) {
    return cell_of(rows, rows->count, column, row);
}

static uint64_t tag_of(uint64_t number) {
    return number << COUNT_BITS;
}

static uint64_t tag_of_group(const uint8_t *digest) {
    uint64_t start;

    memcpy(&start, digest, sizeof start);
    return tag_of(start);
}

size_t pyglue_rows_size(unsigned rows) {
    return cells_offset(rows) + (size_t)rows * COLUMNS * sizeof(uint64_t);
}

/* What fills up to the cells is less than a row, so one step back is all. */
unsigned pyglue_rows_room(size_t size) {
    size_t each = sizeof(struct row) + COLUMNS * sizeof(uint64_t);
    size_t count = size > sizeof(pyglue_rows_t) ? (size - sizeof(pyglue_rows_t)) / each : 0;

    return (unsigned)(count > 0 && pyglue_rows_size((unsigned)count) > size ? count - 1 : count);
}

void pyglue_rows_init(pyglue_rows_t *rows, unsigned count) {
    rows->magic = MAGIC;
    rows->version = PYGLUE_PLACEMENT_VERSION;
    rows->count = count;
}

static void zero_row(pyglue_rows_t *rows, unsigned count, int row) {
    for (unsigned column = 0; column < COLUMNS; column++)
        atomic_store_explicit(cell_of(rows, count, column, row), 0, memory_order_relaxed);
}

int pyglue_rows_claim(pyglue_rows_t *rows, int32_t pid) {
    for (unsigned i = 0; i < rows->count; i++) {
        int32_t none = 0;

        if (atomic_compare_exchange_strong(&rows->row[i].pid, &none, pid)) {
            zero_row(rows, rows->count, (int)i);
            return (int)i;
        }
    }
    return -1;
}

void pyglue_rows_release(pyglue_rows_t *rows, unsigned count, int32_t pid) {
    for (unsigned i = 0; i < count; i++)
        if (atomic_load_explicit(&rows->row[i].pid, memory_order_relaxed) == pid) {
            zero_row(rows, count, (int)i);
            atomic_store(&rows->row[i].pid, 0);
        }
}

/* Adds delta (1 or -1) to the own cell. A taker with another tag starts at zero; a give-back with a
 * foreign tag, or below zero, does nothing. The loop is among threads of one child. */
static void change(pyglue_rows_t *rows, int row, unsigned column, uint64_t tag, int delta) {
    _Atomic uint64_t *at = cell(rows, column, row);
    uint64_t old = atomic_load_explicit(at, memory_order_relaxed);
    uint64_t new;

    do {
        int is_ours = (old & ~(uint64_t)COUNT_MASK) == tag;
        uint64_t count = is_ours ? old & COUNT_MASK : 0;

        if (delta < 0 && count == 0)
            return;
        new = tag | (delta > 0 ? count + 1 : count - 1);
    } while (!atomic_compare_exchange_weak(at, &old, new));
}

static unsigned sum_of(const pyglue_rows_t *rows, unsigned column, uint64_t tag) {
    unsigned sum = 0;

    for (unsigned i = 0; i < rows->count; i++) {
        uint64_t word = atomic_load_explicit(cell(rows, column, (int)i), memory_order_seq_cst);

        if ((word & ~(uint64_t)COUNT_MASK) == tag)
            sum += (unsigned)(word & COUNT_MASK);
    }
    return sum;
}

/* Look-then-add would let many pass at once (TENANTS 1). */
static int add_then_look(pyglue_rows_t *rows, int row, unsigned column, uint64_t tag,
                         unsigned most) {
    change(rows, row, column, tag, 1);
    if (sum_of(rows, column, tag) <= most)
        return 1;
    change(rows, row, column, tag, -1);
    return 0;
}

int pyglue_rows_take(pyglue_rows_t *rows, int row, unsigned slot, uint64_t number,
                     unsigned threads) {
    return add_then_look(rows, row, slot, tag_of(number), threads);
}

void pyglue_rows_give(pyglue_rows_t *rows, int row, unsigned slot, uint64_t number) {
    change(rows, row, slot, tag_of(number), -1);
}

unsigned pyglue_rows_sum(const pyglue_rows_t *rows, unsigned slot, uint64_t number) {
    return sum_of(rows, slot, tag_of(number));
}

int pyglue_rows_wait(pyglue_rows_t *rows, int row, unsigned slot, const uint8_t *digest,
                     unsigned most) {
    return add_then_look(rows, row, PYGLUE_WORKER_SLOTS + slot, tag_of_group(digest), most);
}

void pyglue_rows_wait_end(pyglue_rows_t *rows, int row, unsigned slot, const uint8_t *digest) {
    change(rows, row, PYGLUE_WORKER_SLOTS + slot, tag_of_group(digest), -1);
}

unsigned pyglue_rows_waiting(const pyglue_rows_t *rows, unsigned slot, const uint8_t *digest) {
    return sum_of(rows, PYGLUE_WORKER_SLOTS + slot, tag_of_group(digest));
}

/* Each thing moves the time until which the share is used by its part of a second; how far that may
 * lie ahead is the burst. */
unsigned pyglue_rows_spend(pyglue_rows_t *rows, unsigned slot, uint64_t now_us, unsigned wanted,
                           pyglue_rate_t rate) {
    _Atomic uint64_t *at = &rows->spent[slot];
    uint64_t each = 1000000u / rate.a_second, most = each * rate.burst;
    uint64_t old = atomic_load_explicit(at, memory_order_relaxed), from, granted;

    do {
        /* Beyond its range it is of another time, or of another group's rate. */
        from = old > now_us && old - now_us <= most ? old : now_us;
        granted = (now_us + most - from) / each;
        if (granted > wanted)
            granted = wanted;
        if (granted == 0)
            return 0;
    } while (!atomic_compare_exchange_weak(at, &old, from + granted * each));
    return (unsigned)granted;
}

void pyglue_rows_put_parent(pyglue_rows_t *rows, enum pyglue_parent_state state) {
    atomic_store_explicit(&rows->parent, state, memory_order_release);
}

enum pyglue_parent_state pyglue_rows_parent(const pyglue_rows_t *rows) {
    return (enum pyglue_parent_state)atomic_load_explicit(&rows->parent, memory_order_acquire);
}

int pyglue_rows_child_started(pyglue_rows_t *rows, unsigned count, int32_t pid, uint64_t plan) {
    for (unsigned i = 0; i < count; i++) {
        struct listed_child *listed = &rows->row[i].listed;

        if (atomic_load_explicit(&listed->pid, memory_order_relaxed) == 0) {
            atomic_store_explicit(&listed->plan, plan, memory_order_relaxed);
            atomic_store_explicit(&listed->pid, pid, memory_order_release);
            return 0;
        }
    }
    return PYGLUE_E_TOO_BIG;
}

void pyglue_rows_child_ended(pyglue_rows_t *rows, unsigned count, int32_t pid) {
    for (unsigned i = 0; i < count; i++)
        if (atomic_load_explicit(&rows->row[i].listed.pid, memory_order_relaxed) == pid)
            atomic_store_explicit(&rows->row[i].listed.pid, 0, memory_order_release);
}

int pyglue_rows_get_child(const pyglue_rows_t *rows, unsigned i, int32_t *pid, uint64_t *plan) {
    *pid = atomic_load_explicit(&rows->row[i].listed.pid, memory_order_acquire);
    *plan = atomic_load_explicit(&rows->row[i].listed.plan, memory_order_relaxed);
    return *pid != 0;
}

unsigned pyglue_rows_count(const pyglue_rows_t *rows) {
    return rows->count;
}

int pyglue_rows_check(const pyglue_rows_t *rows, size_t size) {
    if (size < sizeof *rows || rows->magic != MAGIC || rows->version != PYGLUE_PLACEMENT_VERSION ||
        size < pyglue_rows_size(rows->count))
        return PYGLUE_E_VERSION;
    return 0;
}
