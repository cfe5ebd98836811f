/* SPDX-License-Identifier: Apache-2.0 */
/* request_rec to snapshot: the only file that reads a request for the application. */
#ifndef GLUE_SNAPSHOT_H
#define GLUE_SNAPSHOT_H

#include "glue_route.h"
#include "snapshot.h"

/* Once in child_init: what is the same for each request of this child. */
void glue_snapshot_child_init(apr_pool_t *pchild, server_rec *s);

/* Freezes the request into one block of the request's pool. NULL: it does not fit into 32 bits.
 * content_length as the handler has checked it, -1: not known. Any thread of a child. */
const pyglue_snapshot_t *glue_snapshot_make(request_rec *r, const glue_route_t *route,
                                            apr_int64_t content_length);

#endif
