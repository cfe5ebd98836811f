/* SPDX-License-Identifier: Apache-2.0 */
/* Walks over what a worker sends, from one frame's header to the next, without looking at what the
 * frames say: for those who receive bytes that others will read, or nobody. */
#ifndef GLUE_WALK_H
#define GLUE_WALK_H

#include "frame.h"
#include "glue.h"

/* Zeros: a header comes next. */
typedef struct glue_walk {
    size_t skip; /* payload bytes that come before the next header */
    size_t have; /* bytes of that header */
    char header[sizeof(pyglue_frame_t)];
} glue_walk_t;

/* Up to the end of the next header in bytes, which are used up so far. 1: *frame is that header,
 * and its payload follows; 0: all bytes are used up; or an error of pyglue_frame_get. */
int glue_walk(glue_walk_t *walk, pyglue_frame_t *frame, pyglue_str_t *bytes,
              const pyglue_bounds_t *bounds);

#endif
