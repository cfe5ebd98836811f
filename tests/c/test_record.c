/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's record: what enter and leave note, and what a reader refuses. */
#include "check.h"
#include "record.h"

static pyglue_record_t record;
static _Alignas(8) char block[4096];

enum { VERSION_1 = offsetof(pyglue_record_t, ending) };

/* A request whose method comes twice: the later one is right. */
static const pyglue_snapshot_t *request(const char *method, const char *uri, const char *id) {
    const pyglue_str_t keys[] = {pyglue_str("REQUEST_METHOD"), pyglue_str("REQUEST_URI"),
                                 pyglue_str("REQUEST_METHOD")};
    const pyglue_str_t values[] = {pyglue_str("FORGED"), pyglue_str(uri), pyglue_str(method)};
    pyglue_snapshot_spec_t spec = {.number = 77, .keys = keys, .values = values, .pair_count = 3};
    size_t size;

    spec.request_id = pyglue_str(id);
    size = pyglue_snapshot_size(&spec);
    CHECK(size > 0 && size <= sizeof block);
    pyglue_snapshot_build(block, size, &spec);
    return (const pyglue_snapshot_t *)block;
}

static void begin(size_t size, unsigned slots) {
    memset(&record, 0, sizeof record);
    CHECK(pyglue_record_init(&record, size, slots) == 0);
}

static int is_told(unsigned slot, const char *id, const char *line) {
    pyglue_str_t told_id, told_line;

    pyglue_record_what(&told_id, &told_line, &record, slot);
    return told_id.len == strlen(id) && told_line.len == strlen(line) &&
           memcmp(told_id.ptr, id, told_id.len) == 0 &&
           memcmp(told_line.ptr, line, told_line.len) == 0;
}

static void what_runs_is_noted_until_it_left(void) {
    begin(sizeof record, 3);
    pyglue_record_enter(&record, 2, request("GET", "/a/b", "aBc"), 1234);
    CHECK(pyglue_record_check(&record, sizeof record) == 0);
    CHECK(record.slot[2].number == 77 && record.slot[2].start_ms == 1234 && record.requests == 1);
    CHECK(is_told(2, "aBc", "GET /a/b"));
    pyglue_record_leave(&record, 2);
    CHECK(record.slot[2].number == 0 && record.requests == 1);
}

static void a_query_is_not_noted(void) {
    begin(sizeof record, 3);
    pyglue_record_enter(&record, 0, request("GET", "/a?token=secret", ""), 1);
    CHECK(is_told(0, "", "GET /a"));
    pyglue_record_enter(&record, 0, request("GET", "?token=secret", ""), 1);
    CHECK(is_told(0, "", "GET "));
}

static void what_is_too_long_is_cut_and_says_so(void) {
    char uri[PYGLUE_RECORD_LINE + 1], id[PYGLUE_RECORD_ID + 2], whole[2 * PYGLUE_RECORD_LINE];

    memset(uri, 'u', sizeof uri - 1), memset(id, 'i', sizeof id - 1);
    uri[sizeof uri - 1] = id[sizeof id - 1] = '\0';
    begin(sizeof record, 3);
    pyglue_record_enter(&record, 1, request("PUT", uri, id), 1);
    snprintf(whole, sizeof whole, "PUT %.*s...", PYGLUE_RECORD_LINE - 7, uri);
    id[PYGLUE_RECORD_ID] = '\0';
    CHECK(is_told(1, id, whole));
    pyglue_record_enter(&record, 1, request(uri, "/", ""), 1); /* a method of such a length */
    snprintf(whole, sizeof whole, "%.*s...", PYGLUE_RECORD_LINE - 3, uri);
    CHECK(is_told(1, "", whole));
    uri[PYGLUE_RECORD_LINE - 4] = '\0'; /* fits exactly */
    pyglue_record_enter(&record, 1, request("PUT", uri, ""), 1);
    snprintf(whole, sizeof whole, "PUT %s", uri);
    CHECK(is_told(1, "", whole));
    CHECK(is_told(0, "", "") && is_told(2, "", "")); /* the neighbours' */
}

static void lengths_beyond_the_memory_are_cut_on_reading(void) {
    pyglue_str_t id, line;

    begin(sizeof record, 3);
    record.text[1].id_size = record.text[1].line_size = 0xffff;
    CHECK(pyglue_record_check(&record, sizeof record) == 0);
    pyglue_record_what(&id, &line, &record, 1);
    CHECK(id.len == PYGLUE_RECORD_ID && line.len == PYGLUE_RECORD_LINE);
}

static void memory_of_version_1_is_served_and_not_overrun(void) {
    static const char zeros[sizeof record - VERSION_1];

    memset(&record, 0, sizeof record);
    CHECK(pyglue_record_init(&record, VERSION_1 - 1, 3) == PYGLUE_E_VERSION);
    begin(VERSION_1, 3);
    CHECK(record.version == 1);
    pyglue_record_enter(&record, 1, request("GET", "/", "id"), 1);
    pyglue_record_end(&record, PYGLUE_ENDING_STARTUP);
    CHECK(record.slot[1].number == 77);
    CHECK(memcmp((const char *)&record + VERSION_1, zeros, sizeof zeros) == 0);
    CHECK(pyglue_record_check(&record, VERSION_1) == 0);
    CHECK(is_told(1, "", ""));
    record.text[1].line_size = 5; /* an older worker in our memory says nothing of it */
    CHECK(is_told(1, "", ""));
}

static void more_threads_than_slots_are_cut(void) {
    begin(sizeof record, PYGLUE_RECORD_SLOTS + 1);
    CHECK(record.slots == PYGLUE_RECORD_SLOTS);
    CHECK(pyglue_record_check(&record, sizeof record) == 0);
}

static void a_copy_of_any_other_size_is_refused(void) {
    begin(sizeof record, 3);
    for (size_t size = 0; size < sizeof record; size++)
        CHECK(pyglue_record_check(&record, size) == PYGLUE_E_PROTOCOL);
    CHECK(pyglue_record_check(&record, sizeof record + 1) == PYGLUE_E_PROTOCOL); /* only compared */
}

static void values_out_of_range_are_refused(void) {
    static const uint32_t slots[] = {PYGLUE_RECORD_SLOTS + 1, 0x7fffffff, 0xffffffff};

    memset(&record, 0, sizeof record);
    CHECK(pyglue_record_check(&record, sizeof record) == PYGLUE_E_VERSION);
    begin(sizeof record, 3);
    for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++) {
        record.slots = slots[i];
        CHECK(pyglue_record_check(&record, sizeof record) == PYGLUE_E_PROTOCOL);
    }
    record.version++;
    CHECK(pyglue_record_check(&record, sizeof record) == PYGLUE_E_VERSION);
}

int main(void) {
    what_runs_is_noted_until_it_left();
    a_query_is_not_noted();
    what_is_too_long_is_cut_and_says_so();
    lengths_beyond_the_memory_are_cut_on_reading();
    memory_of_version_1_is_served_and_not_overrun();
    more_threads_than_slots_are_cut();
    a_copy_of_any_other_size_is_refused();
    values_out_of_range_are_refused();
    return check_result();
}
