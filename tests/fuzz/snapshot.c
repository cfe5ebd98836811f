/* SPDX-License-Identifier: Apache-2.0 */
/* The payload of a REQUEST frame: what is accepted can be read whole, each text NUL-terminated. */
#include "frame.h"
#include "record.h"

#include "fuzz.h"

static void touch(const pyglue_snapshot_t *snapshot, pyglue_slice_t slice) {
    pyglue_str_t text = pyglue_snapshot_text(snapshot, slice);

    fuzz_touch(text.ptr, text.len);
    fuzz_expect(text.ptr[text.len] == '\0');
}

/* What a worker writes of it into its record. */
static void note(const pyglue_snapshot_t *snapshot) {
    pyglue_record_t *record = calloc(1, sizeof *record);
    pyglue_str_t id, line;

    if (record == NULL)
        return;
    fuzz_expect(pyglue_record_init(record, sizeof *record, 1) == 0);
    pyglue_record_enter(record, 0, snapshot, 1);
    pyglue_record_what(&id, &line, record, 0);
    fuzz_expect(memchr(line.ptr, ' ', line.len) != NULL || line.len == PYGLUE_RECORD_LINE);
    fuzz_expect(record->text[1].id_size == 0 && record->text[1].line_size == 0);
    free(record);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const pyglue_snapshot_t *snapshot;
    pyglue_str_t body;
    char *aligned = malloc(size + 1); /* libFuzzer's own need not be */

    memcpy(aligned, data, size);
    if (pyglue_request_get(&snapshot, &body, aligned, size) == 0) {
        touch(snapshot, snapshot->script);
        touch(snapshot, snapshot->connection_id);
        for (uint32_t i = 0; i < snapshot->pair_count; i++) {
            touch(snapshot, snapshot->pairs[i].key);
            touch(snapshot, snapshot->pairs[i].value);
        }
        fuzz_touch(body.ptr, body.len);
        note(snapshot);
    }
    free(aligned);
    return 0;
}
