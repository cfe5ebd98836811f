/* SPDX-License-Identifier: Apache-2.0 */
/* The payload of a REQUEST frame: what is accepted can be read whole, each text NUL-terminated. */
#include "frame.h"

#include "fuzz.h"

static void touch(const pyglue_snapshot_t *snapshot, pyglue_slice_t slice) {
    pyglue_str_t text = pyglue_snapshot_text(snapshot, slice);

    fuzz_touch(text.ptr, text.len);
    fuzz_expect(text.ptr[text.len] == '\0');
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
    }
    free(aligned);
    return 0;
}
