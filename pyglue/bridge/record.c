/* SPDX-License-Identifier: Apache-2.0 */
/* Writes and checks a worker's record. */
#include "record.h"

int pyglue_record_check(const pyglue_record_t *copy, size_t size) {
    if (size != sizeof *copy)
        return PYGLUE_E_PROTOCOL;
    if (copy->version != PYGLUE_RECORD_VERSION)
        return PYGLUE_E_VERSION;
    return copy->slots <= PYGLUE_RECORD_SLOTS ? 0 : PYGLUE_E_PROTOCOL;
}

void pyglue_record_init(pyglue_record_t *record, unsigned slots) {
    record->slots = slots < PYGLUE_RECORD_SLOTS ? slots : PYGLUE_RECORD_SLOTS;
    record->version = PYGLUE_RECORD_VERSION;
}

void pyglue_record_enter(pyglue_record_t *record, unsigned slot, uint64_t number, uint64_t now_ms) {
    __atomic_fetch_add(&record->requests, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&record->slot[slot].start_ms, now_ms, __ATOMIC_RELAXED);
    __atomic_store_n(&record->slot[slot].number, number, __ATOMIC_RELEASE);
}

void pyglue_record_leave(pyglue_record_t *record, unsigned slot) {
    __atomic_store_n(&record->slot[slot].number, 0, __ATOMIC_RELEASE);
}
