/* SPDX-License-Identifier: Apache-2.0 */
/* A stream of a worker's frames through header and order, as an httpd child reads them: the first
 * byte chooses the sender, then a header of 16 bytes each time, the payload left out. */
#include "frame.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    pyglue_exchange_t exchange = {7, PYGLUE_EXCHANGE_SENT};
    enum pyglue_sender sender = size > 0 && data[0] & 1 ? PYGLUE_FROM_CHILD : PYGLUE_FROM_WORKER;
    pyglue_frame_t frame;

    for (size_t at = 1; at + sizeof frame <= size; at += sizeof frame) {
        if (pyglue_frame_get(&frame, data + at, sender, &pyglue_bounds_default))
            return 0;
        fuzz_expect(frame.length <= pyglue_bounds_default.request);
        fuzz_touch(pyglue_frame_name(frame.type), 1);
        if (sender == PYGLUE_FROM_WORKER && pyglue_exchange_accept(&exchange, &frame))
            return 0;
        fuzz_expect(exchange.state <= PYGLUE_EXCHANGE_ENDED);
    }
    return 0;
}
