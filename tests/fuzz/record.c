/* SPDX-License-Identifier: Apache-2.0 */
/* A copy of a worker's record: what is accepted names texts that lie inside of it. The first byte
 * of the input says how much was read, one half of the rest is the record's beginning (head and
 * slots), the other what lies behind the slots. */
#include "record.h"

#include "fuzz.h"

static size_t fill(char *room, size_t size, const uint8_t *data, size_t len) {
    len = len < size ? len : size;
    if (len > 0)
        memcpy(room, data, len);
    return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const size_t sizes[] = {sizeof(pyglue_record_t), offsetof(pyglue_record_t, ending),
                                   offsetof(pyglue_record_t, text), 24, 0};
    const size_t behind = offsetof(pyglue_record_t, ending);
    pyglue_record_t *record = calloc(1, sizeof *record);
    pyglue_str_t id, line;

    if (record == NULL || size == 0) {
        free(record);
        return 0;
    }
    fill((char *)record, behind, data + 1, (size - 1) / 2);
    fill((char *)record + behind, sizeof *record - behind, data + 1 + (size - 1) / 2, size / 2);
    if (pyglue_record_check(record, sizes[data[0] % (sizeof sizes / sizeof sizes[0])]) == 0) {
        fuzz_expect(record->slots <= PYGLUE_RECORD_SLOTS);
        for (unsigned i = 0; i < record->slots; i++) {
            pyglue_record_what(&id, &line, record, i);
            fuzz_expect(id.len <= PYGLUE_RECORD_ID && line.len <= PYGLUE_RECORD_LINE);
            fuzz_touch(id.ptr, id.len);
            fuzz_touch(line.ptr, line.len);
        }
    }
    free(record);
    return 0;
}
