/* SPDX-License-Identifier: Apache-2.0 */
/* The payload of a HEAD frame. What is accepted is within bounds, and put writes it as it was. */
#include "frame.h"

#include "fuzz.h"

enum { FIELDS = 500 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static pyglue_header_t fields[FIELDS];
    pyglue_head_t head;
    char *again;

    if (pyglue_head_get(&head, fields, FIELDS, data, size, &pyglue_bounds_default))
        return 0;
    fuzz_expect(head.status >= 200 && head.status <= 999 && head.reason.len <= PYGLUE_REASON_MAX);
    for (size_t i = 0; i < head.header_count; i++) {
        fuzz_touch(fields[i].name.ptr, fields[i].name.len);
        fuzz_expect(memchr(fields[i].value.ptr, '\n', fields[i].value.len) == NULL);
    }
    fuzz_expect(pyglue_head_size(&head) == size);
    again = malloc(size);
    pyglue_head_put(again, &head);
    fuzz_expect(memcmp(again, data, size) == 0);
    free(again);
    return 0;
}
