/* SPDX-License-Identifier: Apache-2.0 */
/* The payload of an INTERIM frame. What is accepted is 103, within its bounds and frames nothing.
 */
#include "frame.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static pyglue_header_t fields[PYGLUE_INTERIM_FIELDS];
    pyglue_head_t head;

    if (pyglue_interim_get(&head, fields, data, size))
        return 0;
    fuzz_expect(head.status == 103 && head.content_length == -1 && size <= 8192);
    fuzz_expect(head.header_count <= PYGLUE_INTERIM_FIELDS);
    for (size_t i = 0; i < head.header_count; i++) {
        fuzz_touch(fields[i].name.ptr, fields[i].name.len);
        fuzz_expect(!pyglue_head_is_hop_by_hop(fields[i].name));
        fuzz_expect(memchr(fields[i].value.ptr, '\n', fields[i].value.len) == NULL);
    }
    fuzz_expect(pyglue_head_size(&head) == size);
    return 0;
}
