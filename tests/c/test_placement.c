/* SPDX-License-Identifier: Apache-2.0 */
/* Rows and pages: what is put is found, never torn, never more taken than there are places. */
#include "check.h"
#include "placement.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ROWS = 4, ROUNDS = 20000, THREADS = 3 };

static pyglue_pages_t *new_pages(void) {
    pyglue_pages_t *pages = aligned_alloc(64, (pyglue_pages_size() + 63) & ~(size_t)63);

    memset(pages, 0, pyglue_pages_size());
    pyglue_pages_init(pages);
    return pages;
}

static pyglue_rows_t *new_rows(void) {
    pyglue_rows_t *rows = aligned_alloc(64, (pyglue_rows_size(ROWS) + 63) & ~(size_t)63);

    memset(rows, 0, pyglue_rows_size(ROWS));
    pyglue_rows_init(rows, ROWS);
    return rows;
}

/* An entry all of whose bytes follow from its number, so that a torn one shows. */
static pyglue_worker_entry_t entry_of(uint64_t number) {
    pyglue_worker_entry_t w;

    memset(&w, (int)(number % 127) + 1, sizeof w);
    w.number = number;
    w.path[sizeof w.path - 1] = '\0';
    return w;
}

static void pages_of_another_layout_are_refused(void) {
    pyglue_pages_t *pages = new_pages();

    CHECK(pyglue_pages_check(pages, pyglue_pages_size()) == 0);
    for (size_t size = 0; size < pyglue_pages_size(); size += 4096)
        CHECK(pyglue_pages_check(pages, size) == PYGLUE_E_VERSION);
    for (size_t byte = 0; byte < 16; byte++) { /* magic, version, size */
        ((unsigned char *)pages)[byte] ^= 1;
        CHECK(pyglue_pages_check(pages, pyglue_pages_size()) == PYGLUE_E_VERSION);
        ((unsigned char *)pages)[byte] ^= 1;
    }
    free(pages);
}

static void a_worker_is_found_in_each_slot_until_cleared(void) {
    pyglue_pages_t *pages = new_pages();
    pyglue_worker_entry_t got, none = {0};

    CHECK(pyglue_pages_worker_end(pages) == 0);
    for (unsigned slot = 0; slot < PYGLUE_WORKER_SLOTS; slot++) {
        pyglue_worker_entry_t w = entry_of(slot + 1);

        pyglue_pages_put_worker(pages, slot, &w);
        CHECK(pyglue_pages_get_worker(pages, slot, &got) == 1 && memcmp(&w, &got, sizeof w) == 0);
        CHECK(pyglue_pages_worker_end(pages) == slot + 1);
    }
    pyglue_pages_put_worker(pages, 5, &none);
    CHECK(pyglue_pages_get_worker(pages, 5, &got) == 0);
    CHECK(pyglue_pages_get_worker(pages, 6, &got) == 1);
    free(pages);
}

static void a_group_is_found_by_digest_until_cleared(void) {
    pyglue_pages_t *pages = new_pages();
    pyglue_group_entry_t g = {{1}, PYGLUE_GROUP_DISABLED, "no engine"}, got, none = {0};
    uint8_t other[PYGLUE_DIGEST_SIZE] = {2};

    pyglue_pages_put_group(pages, PYGLUE_GROUP_SLOTS - 1, &g);
    CHECK(pyglue_pages_find_group(pages, g.digest, &got) == 1);
    CHECK(got.state == PYGLUE_GROUP_DISABLED && strcmp(got.cause, "no engine") == 0);
    CHECK(pyglue_pages_find_group(pages, other, &got) == 0);
    pyglue_pages_put_group(pages, PYGLUE_GROUP_SLOTS - 1, &none);
    CHECK(pyglue_pages_find_group(pages, g.digest, &got) == 0);
    free(pages);
}

static void texts_are_ended_for_the_reader(void) {
    pyglue_pages_t *pages = new_pages();
    pyglue_worker_entry_t w, worker;
    pyglue_group_entry_t g = {{1}, PYGLUE_GROUP_DISABLED, ""}, group;

    memset(&w, 'x', sizeof w);
    memset(g.cause, 'x', sizeof g.cause);
    pyglue_pages_put_worker(pages, 0, &w);
    pyglue_pages_put_group(pages, 0, &g);
    CHECK(pyglue_pages_get_worker(pages, 0, &worker) && strlen(worker.path) == sizeof w.path - 1);
    CHECK(pyglue_pages_find_group(pages, g.digest, &group));
    CHECK(strlen(group.cause) == sizeof g.cause - 1);
    free(pages);
}

static void obituaries_replace_the_oldest(void) {
    pyglue_pages_t *pages = new_pages();
    pyglue_obituary_t got;

    for (uint64_t number = 1; number <= PYGLUE_OBITUARY_SLOTS + 1; number++) {
        pyglue_obituary_t dead = {
            .number = number, .complete = 1, .count = 1, .requests = {number}};

        pyglue_pages_put_obituary(pages, &dead);
    }
    CHECK(pyglue_pages_find_obituary(pages, 1, &got) == 0);
    for (uint64_t number = 2; number <= PYGLUE_OBITUARY_SLOTS + 1; number++)
        CHECK(pyglue_pages_find_obituary(pages, number, &got) == 1 && got.requests[0] == number);
    free(pages);
}

static void an_obituary_counts_no_more_than_it_holds(void) {
    pyglue_pages_t *pages = new_pages();
    pyglue_obituary_t dead = {.number = 7, .count = UINT32_MAX}, got;

    pyglue_pages_put_obituary(pages, &dead);
    CHECK(pyglue_pages_find_obituary(pages, 7, &got) && got.count == PYGLUE_OBITUARY_REQUESTS);
    free(pages);
}

static void plan_and_heartbeat_are_told(void) {
    pyglue_pages_t *pages = new_pages();

    pyglue_pages_put_plan(pages, 7, 6);
    pyglue_pages_put_heartbeat(pages, 1234);
    CHECK(pyglue_pages_plan_accepted(pages) == 7 && pyglue_pages_plan_refused(pages) == 6);
    CHECK(pyglue_pages_heartbeat(pages) == 1234);
    free(pages);
}

/* Readers beside the writer. */

struct reading {
    pyglue_pages_t *pages;
    atomic_int *is_over;
    unsigned torn, whole;
};

static void *read_workers(void *arg) {
    struct reading *r = arg;
    pyglue_worker_entry_t got, wanted;

    while (!atomic_load(r->is_over))
        for (unsigned slot = 0; slot < 2; slot++)
            if (pyglue_pages_get_worker(r->pages, slot, &got)) {
                wanted = entry_of(got.number);
                if (memcmp(&got, &wanted, sizeof got) == 0)
                    r->whole++;
                else
                    r->torn++;
            }
    return NULL;
}

static void readers_never_see_a_torn_entry(void) {
    pyglue_pages_t *pages = new_pages();
    pyglue_worker_entry_t none = {0};
    struct reading readings[THREADS];
    pthread_t threads[THREADS];
    atomic_int is_over = 0;

    for (int i = 0; i < THREADS; i++) {
        readings[i] = (struct reading){pages, &is_over, 0, 0};
        pthread_create(&threads[i], NULL, read_workers, &readings[i]);
    }
    for (uint64_t number = 1; number <= ROUNDS; number++) {
        pyglue_worker_entry_t w = entry_of(number);

        pyglue_pages_put_worker(pages, number % 2, number % 7 == 0 ? &none : &w);
    }
    atomic_store(&is_over, 1);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        CHECK(readings[i].torn == 0);
    }
    free(pages);
}

/* Rows. */

static void a_row_belongs_to_one_child(void) {
    pyglue_rows_t *rows = new_rows();

    for (int i = 0; i < ROWS; i++)
        CHECK(pyglue_rows_claim(rows, 100 + i) == i);
    CHECK(pyglue_rows_claim(rows, 200) == -1);
    pyglue_rows_release(rows, ROWS, 102);
    CHECK(pyglue_rows_claim(rows, 200) == 2);
    free(rows);
}

static void no_more_is_taken_than_there_are_places(void) {
    pyglue_rows_t *rows = new_rows();

    CHECK(pyglue_rows_take(rows, 0, 5, 7, 2) == 1 && pyglue_rows_take(rows, 1, 5, 7, 2) == 1);
    CHECK(pyglue_rows_take(rows, 2, 5, 7, 2) == 0 && pyglue_rows_sum(rows, 5, 7) == 2);
    pyglue_rows_give(rows, 1, 5, 7);
    CHECK(pyglue_rows_take(rows, 2, 5, 7, 2) == 1);
    free(rows);
}

static void a_place_at_an_older_worker_counts_for_nobody(void) {
    pyglue_rows_t *rows = new_rows();

    CHECK(pyglue_rows_take(rows, 0, 5, 7, 1) == 1);
    CHECK(pyglue_rows_sum(rows, 5, 8) == 0 && pyglue_rows_take(rows, 0, 5, 8, 1) == 1);
    pyglue_rows_give(rows, 0, 5, 7);
    CHECK(pyglue_rows_sum(rows, 5, 8) == 1);
    free(rows);
}

static void giving_back_twice_does_not_make_room(void) {
    pyglue_rows_t *rows = new_rows();

    pyglue_rows_take(rows, 0, 5, 7, 2);
    pyglue_rows_give(rows, 0, 5, 7);
    pyglue_rows_give(rows, 0, 5, 7);
    CHECK(pyglue_rows_sum(rows, 5, 7) == 0);
    free(rows);
}

static void the_dead_hold_no_places(void) {
    pyglue_rows_t *rows = new_rows();
    int row = pyglue_rows_claim(rows, 100);

    pyglue_rows_take(rows, row, 5, 7, 2);
    pyglue_rows_release(rows, ROWS, 100);
    CHECK(pyglue_rows_sum(rows, 5, 7) == 0);
    free(rows);
}

static const uint8_t one_group[PYGLUE_DIGEST_SIZE] = "one group";
static const uint8_t another[PYGLUE_DIGEST_SIZE] = "another group";

static void no_more_wait_than_may_over_all_children(void) {
    pyglue_rows_t *rows = new_rows();

    CHECK(pyglue_rows_wait(rows, 0, 5, one_group, 2) == 1);
    CHECK(pyglue_rows_wait(rows, 1, 5, one_group, 2) == 1);
    CHECK(pyglue_rows_wait(rows, 2, 5, one_group, 2) == 0);
    CHECK(pyglue_rows_waiting(rows, 5, one_group) == 2);
    pyglue_rows_wait_end(rows, 1, 5, one_group);
    CHECK(pyglue_rows_wait(rows, 2, 5, one_group, 2) == 1);
    CHECK(pyglue_rows_wait(rows, 2, 5, one_group, 0) == 0);
    free(rows);
}

static void who_waits_takes_no_place_and_who_runs_does_not_wait(void) {
    pyglue_rows_t *rows = new_rows();

    for (unsigned slot = 0; slot < PYGLUE_GROUP_SLOTS; slot++)
        pyglue_rows_wait(rows, 0, slot, one_group, 9);
    for (unsigned slot = 0; slot < PYGLUE_WORKER_SLOTS; slot++)
        CHECK(pyglue_rows_take(rows, 0, slot, 7, 1) == 1);
    for (unsigned slot = 0; slot < PYGLUE_GROUP_SLOTS; slot++)
        CHECK(pyglue_rows_waiting(rows, slot, one_group) == 1);
    free(rows);
}

static void a_group_in_the_slot_of_another_starts_at_zero(void) {
    pyglue_rows_t *rows = new_rows();

    pyglue_rows_wait(rows, 0, 5, one_group, 1);
    CHECK(pyglue_rows_waiting(rows, 5, another) == 0);
    CHECK(pyglue_rows_wait(rows, 0, 5, another, 1) == 1);
    pyglue_rows_wait_end(rows, 0, 5, one_group);
    CHECK(pyglue_rows_waiting(rows, 5, another) == 1);
    free(rows);
}

static void the_dead_do_not_wait(void) {
    pyglue_rows_t *rows = new_rows();
    int row = pyglue_rows_claim(rows, 100);

    pyglue_rows_wait(rows, row, PYGLUE_GROUP_SLOTS - 1, one_group, 1);
    pyglue_rows_release(rows, ROWS, 100);
    CHECK(pyglue_rows_waiting(rows, PYGLUE_GROUP_SLOTS - 1, one_group) == 0);
    free(rows);
}

static void a_share_is_a_burst_and_then_so_many_a_second(void) {
    pyglue_rows_t *rows = new_rows();
    pyglue_rate_t rate = {200, 2000};
    uint64_t now = 1000000;

    CHECK(pyglue_rows_spend(rows, 5, now, 1500, rate) == 1500);
    CHECK(pyglue_rows_spend(rows, 5, now, 1500, rate) == 500);
    CHECK(pyglue_rows_spend(rows, 5, now, 1, rate) == 0);
    CHECK(pyglue_rows_spend(rows, 6, now, 1, rate) == 1);
    CHECK(pyglue_rows_spend(rows, 5, now + 1000000, 500, rate) == 200);
    CHECK(pyglue_rows_spend(rows, 5, now + 60000000, 5000, rate) == 2000);
    free(rows);
}

static void a_share_of_a_time_to_come_is_begun_anew(void) {
    pyglue_rows_t *rows = new_rows();

    CHECK(pyglue_rows_spend(rows, 5, UINT64_C(1) << 60, 10, (pyglue_rate_t){1, 10}) == 10);
    CHECK(pyglue_rows_spend(rows, 5, 1000, 10, (pyglue_rate_t){1, 10}) == 10);
    free(rows);
}

static void the_parent_tells_its_state(void) {
    pyglue_rows_t *rows = new_rows();

    CHECK(pyglue_rows_parent(rows) == PYGLUE_PARENT_SERVING);
    pyglue_rows_put_parent(rows, PYGLUE_PARENT_ENDING);
    CHECK(pyglue_rows_parent(rows) == PYGLUE_PARENT_ENDING);
    free(rows);
}

static void the_slot_of_a_group_is_found_by_digest(void) {
    pyglue_pages_t *pages = new_pages();
    pyglue_group_entry_t entry = {.state = PYGLUE_GROUP_SERVING};

    memcpy(entry.digest, one_group, sizeof entry.digest);
    CHECK(pyglue_pages_group_slot(pages, one_group) == -1);
    pyglue_pages_put_group(pages, 9, &entry);
    CHECK(pyglue_pages_group_slot(pages, one_group) == 9);
    CHECK(pyglue_pages_group_slot(pages, another) == -1);
    free(pages);
}

static void children_are_listed_with_their_plans(void) {
    pyglue_rows_t *rows = new_rows();
    uint64_t plan;
    int32_t pid;

    for (int i = 0; i < ROWS; i++)
        CHECK(pyglue_rows_child_started(rows, ROWS, 100 + i, (uint64_t)i) == 0);
    CHECK(pyglue_rows_child_started(rows, ROWS, 200, 9) == PYGLUE_E_TOO_BIG);
    pyglue_rows_child_ended(rows, ROWS, 101);
    CHECK(pyglue_rows_get_child(rows, 1, &pid, &plan) == 0);
    CHECK(pyglue_rows_get_child(rows, 2, &pid, &plan) == 1 && pid == 102 && plan == 2);
    free(rows);
}

static void rows_of_another_layout_are_refused(void) {
    pyglue_rows_t *rows = new_rows();
    uint32_t *words = (uint32_t *)(void *)rows;
    static const uint32_t counts[] = {ROWS + 1, 0x7fffffff, 0xffffffff};

    CHECK(pyglue_rows_check(rows, pyglue_rows_size(ROWS)) == 0);
    for (size_t size = 0; size < pyglue_rows_size(ROWS); size += 7)
        CHECK(pyglue_rows_check(rows, size) == PYGLUE_E_VERSION);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        words[2] = counts[i];
        CHECK(pyglue_rows_check(rows, pyglue_rows_size(ROWS)) == PYGLUE_E_VERSION);
    }
    free(rows);
}

static void the_room_for_rows_follows_from_the_size(void) {
    for (unsigned count = 1; count < 40; count++) {
        CHECK(pyglue_rows_room(pyglue_rows_size(count)) == count);
        CHECK(pyglue_rows_room(pyglue_rows_size(count) - 1) == count - 1);
    }
    CHECK(pyglue_rows_room(0) == 0);
}

/* Behind the memory is none: a look at it would end this program. */
static void a_count_that_a_child_wrote_leads_the_parent_nowhere(void) {
    static const uint32_t counts[] = {0, ROWS - 1, ROWS + 1, 0x7fffffff, 0xffffffff};
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t size = (pyglue_rows_size(ROWS) + page - 1) & ~(page - 1);

    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        char *memory =
            mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        pyglue_rows_t *rows = (pyglue_rows_t *)(void *)memory;

        CHECK(memory != MAP_FAILED && mprotect(memory + size, page, PROT_NONE) == 0);
        pyglue_rows_init(rows, ROWS);
        CHECK(pyglue_rows_claim(rows, 100) == 0 && pyglue_rows_take(rows, 0, 5, 7, 2));
        ((uint32_t *)(void *)rows)[2] = counts[i];
        for (int pid = 100; pid < 100 + ROWS; pid++)
            CHECK(pyglue_rows_child_started(rows, ROWS, pid, 1) == 0);
        CHECK(pyglue_rows_child_started(rows, ROWS, 200, 1) == PYGLUE_E_TOO_BIG);
        pyglue_rows_child_ended(rows, ROWS, 100);
        pyglue_rows_release(rows, ROWS, 100);
        ((uint32_t *)(void *)rows)[2] = ROWS;
        CHECK(pyglue_rows_sum(rows, 5, 7) == 0);
        munmap(memory, size + page);
    }
}

struct taking {
    pyglue_rows_t *rows;
    atomic_uint *running, *most;
    int row;
};

static void *take_and_give(void *arg) {
    struct taking *t = arg;

    for (int i = 0; i < ROUNDS; i++) {
        unsigned now;

        if (!pyglue_rows_take(t->rows, t->row, 5, 7, 2))
            continue;
        now = atomic_fetch_add(t->running, 1) + 1;
        for (unsigned most = atomic_load(t->most);
             now > most && !atomic_compare_exchange_weak(t->most, &most, now);)
            ;
        atomic_fetch_sub(t->running, 1);
        pyglue_rows_give(t->rows, t->row, 5, 7);
    }
    return NULL;
}

/* Two of the threads share a row, as the threads of one child do. */
static void many_takers_never_pass_the_number_of_places(void) {
    pyglue_rows_t *rows = new_rows();
    struct taking takings[THREADS + 1];
    pthread_t threads[THREADS + 1];
    atomic_uint running = 0, most = 0;

    for (int i = 0; i <= THREADS; i++) {
        takings[i] = (struct taking){rows, &running, &most, i / 2};
        pthread_create(&threads[i], NULL, take_and_give, &takings[i]);
    }
    for (int i = 0; i <= THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(atomic_load(&most) <= 2 && atomic_load(&most) > 0);
    CHECK(pyglue_rows_sum(rows, 5, 7) == 0);
    free(rows);
}

int main(void) {
    pages_of_another_layout_are_refused();
    a_worker_is_found_in_each_slot_until_cleared();
    a_group_is_found_by_digest_until_cleared();
    texts_are_ended_for_the_reader();
    obituaries_replace_the_oldest();
    an_obituary_counts_no_more_than_it_holds();
    plan_and_heartbeat_are_told();
    readers_never_see_a_torn_entry();
    a_row_belongs_to_one_child();
    no_more_is_taken_than_there_are_places();
    a_place_at_an_older_worker_counts_for_nobody();
    giving_back_twice_does_not_make_room();
    the_dead_hold_no_places();
    no_more_wait_than_may_over_all_children();
    who_waits_takes_no_place_and_who_runs_does_not_wait();
    a_group_in_the_slot_of_another_starts_at_zero();
    the_dead_do_not_wait();
    a_share_is_a_burst_and_then_so_many_a_second();
    a_share_of_a_time_to_come_is_begun_anew();
    the_parent_tells_its_state();
    the_slot_of_a_group_is_found_by_digest();
    children_are_listed_with_their_plans();
    rows_of_another_layout_are_refused();
    the_room_for_rows_follows_from_the_size();
    a_count_that_a_child_wrote_leads_the_parent_nowhere();
    many_takers_never_pass_the_number_of_places();
    return check_result();
}
