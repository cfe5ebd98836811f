/* SPDX-License-Identifier: Apache-2.0 */
/* Writes and checks a worker's record. */
#include "record.h"

static const size_t size_of_version_1 = offsetof(pyglue_record_t, ending);

static int has_texts(const pyglue_record_t *record) {
    return record->version >= 2;
}

int pyglue_record_check(const pyglue_record_t *copy, size_t size) {
    if (size < size_of_version_1 || size > sizeof *copy)
        return PYGLUE_E_PROTOCOL;
    if (copy->version == 0 || copy->version > PYGLUE_RECORD_VERSION)
        return PYGLUE_E_VERSION;
    if (has_texts(copy) && size != sizeof *copy)
        return PYGLUE_E_PROTOCOL;
    return copy->slots <= PYGLUE_RECORD_SLOTS ? 0 : PYGLUE_E_PROTOCOL;
}

static pyglue_str_t within(const char *text, size_t size, size_t room) {
    return (pyglue_str_t){text, size < room ? size : room};
}

void pyglue_record_what(pyglue_str_t *id, pyglue_str_t *line, const pyglue_record_t *copy,
                        unsigned slot) {
    const pyglue_record_text_t *text = &copy->text[slot];

    *id = *line = (pyglue_str_t){"", 0};
    if (!has_texts(copy))
        return;
    *id = within(text->id, text->id_size, sizeof text->id);
    *line = within(text->line, text->line_size, sizeof text->line);
}

int pyglue_record_init(pyglue_record_t *record, size_t size, unsigned slots) {
    if (size < size_of_version_1)
        return PYGLUE_E_VERSION;
    record->slots = slots < PYGLUE_RECORD_SLOTS ? slots : PYGLUE_RECORD_SLOTS;
    record->version = size < sizeof *record ? 1 : PYGLUE_RECORD_VERSION;
    return 0;
}

/* Bytes of room used. */
static size_t append(char *room, size_t used, size_t size, pyglue_str_t text) {
    size_t len = text.len < size - used ? text.len : size - used;

    if (len > 0)
        memcpy(room + used, text.ptr, len);
    return used + len;
}

/* Up to the query: tokens and addresses of people stand there. */
static pyglue_str_t path_of(const pyglue_snapshot_t *snapshot) {
    pyglue_str_t uri = pyglue_snapshot_value(snapshot, pyglue_str("REQUEST_URI"));
    const char *query = uri.len > 0 ? memchr(uri.ptr, '?', uri.len) : NULL;

    if (query != NULL)
        uri.len = (size_t)(query - uri.ptr);
    return uri;
}

static void note(pyglue_record_text_t *text, const pyglue_snapshot_t *snapshot) {
    pyglue_str_t method = pyglue_snapshot_value(snapshot, pyglue_str("REQUEST_METHOD"));
    pyglue_str_t path = path_of(snapshot);
    pyglue_str_t id = pyglue_snapshot_text(snapshot, snapshot->request_id);
    size_t used = append(text->line, 0, sizeof text->line, method);

    used = append(text->line, used, sizeof text->line, (pyglue_str_t){" ", 1});
    text->line_size = (uint16_t)append(text->line, used, sizeof text->line, path);
    if (method.len + 1 + path.len > sizeof text->line)
        memcpy(text->line + sizeof text->line - 3, "...", 3);
    text->id_size = (uint16_t)append(text->id, 0, sizeof text->id, id);
}

void pyglue_record_enter(pyglue_record_t *record, unsigned slot, const pyglue_snapshot_t *snapshot,
                         uint64_t now_ms) {
    if (has_texts(record))
        note(&record->text[slot], snapshot);
    __atomic_fetch_add(&record->requests, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&record->slot[slot].start_ms, now_ms, __ATOMIC_RELAXED);
    __atomic_store_n(&record->slot[slot].number, snapshot->number, __ATOMIC_RELEASE);
}

void pyglue_record_leave(pyglue_record_t *record, unsigned slot) {
    __atomic_store_n(&record->slot[slot].number, 0, __ATOMIC_RELEASE);
}

void pyglue_record_end(pyglue_record_t *record, enum pyglue_record_ending ending) {
    if (has_texts(record))
        __atomic_store_n(&record->ending, ending, __ATOMIC_RELAXED);
}
