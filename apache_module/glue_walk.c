/* SPDX-License-Identifier: Apache-2.0 */
/* From header to header. A header may come in pieces. */
#include "glue_walk.h"

int glue_walk(glue_walk_t *walk, pyglue_frame_t *frame, pyglue_str_t *bytes,
              const pyglue_bounds_t *bounds) {
    while (bytes->len > 0) {
        size_t n = walk->skip > 0 ? walk->skip : sizeof walk->header - walk->have;
        int error;

        n = n < bytes->len ? n : bytes->len;
        if (walk->skip > 0) {
            walk->skip -= n;
        } else {
            memcpy(walk->header + walk->have, bytes->ptr, n);
            walk->have += n;
        }
        bytes->ptr += n;
        bytes->len -= n;
        if (walk->have < sizeof walk->header)
            continue;
        walk->have = 0;
        error = pyglue_frame_get(frame, walk->header, PYGLUE_FROM_WORKER, bounds);
        if (error == 0)
            walk->skip = frame->length;
        return error ? error : 1;
    }
    return 0;
}
