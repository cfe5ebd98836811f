/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's record: what enter and leave note, and what a reader refuses. */
#include "check.h"
#include "record.h"

static pyglue_record_t record;

static void what_runs_is_noted_until_it_left(void) {
    memset(&record, 0, sizeof record);
    pyglue_record_init(&record, 3);
    pyglue_record_enter(&record, 2, 77, 1234);
    CHECK(pyglue_record_check(&record, sizeof record) == 0);
    CHECK(record.slot[2].number == 77 && record.slot[2].start_ms == 1234 && record.requests == 1);
    pyglue_record_leave(&record, 2);
    CHECK(record.slot[2].number == 0 && record.requests == 1);
}

static void more_threads_than_slots_are_cut(void) {
    memset(&record, 0, sizeof record);
    pyglue_record_init(&record, PYGLUE_RECORD_SLOTS + 1);
    CHECK(record.slots == PYGLUE_RECORD_SLOTS);
    CHECK(pyglue_record_check(&record, sizeof record) == 0);
}

static void a_copy_of_any_other_size_is_refused(void) {
    memset(&record, 0, sizeof record);
    pyglue_record_init(&record, 3);
    for (size_t size = 0; size < sizeof record; size++)
        CHECK(pyglue_record_check(&record, size) == PYGLUE_E_PROTOCOL);
    CHECK(pyglue_record_check(&record, sizeof record + 1) == PYGLUE_E_PROTOCOL); /* only compared */
}

static void values_out_of_range_are_refused(void) {
    static const uint32_t slots[] = {PYGLUE_RECORD_SLOTS + 1, 0x7fffffff, 0xffffffff};

    memset(&record, 0, sizeof record);
    CHECK(pyglue_record_check(&record, sizeof record) == PYGLUE_E_VERSION);
    pyglue_record_init(&record, 3);
    for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++) {
        record.slots = slots[i];
        CHECK(pyglue_record_check(&record, sizeof record) == PYGLUE_E_PROTOCOL);
    }
    record.version++;
    CHECK(pyglue_record_check(&record, sizeof record) == PYGLUE_E_VERSION);
}

int main(void) {
    what_runs_is_noted_until_it_left();
    more_threads_than_slots_are_cut();
    a_copy_of_any_other_size_is_refused();
    values_out_of_range_are_refused();
    return check_result();
}
