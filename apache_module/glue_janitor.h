/* SPDX-License-Identifier: Apache-2.0 */
/* Two threads of this child for what may block or last on account of a worker: closing descriptors
 * that a stranger touched, and watching connections whose client has left until the worker has
 * finished. Each starts when it is first needed. Any thread of a child may call. */
#ifndef GLUE_JANITOR_H
#define GLUE_JANITOR_H

#include "glue_place.h"
#include "glue_walk.h"

void glue_janitor_child_init(apr_pool_t *pchild);

/* Closes fd, of which the caller is rid now. Without memory or thread: at once. */
void glue_janitor_close(int fd);

/* A connection on which GONE was sent: read until its END or its end, then closed and the place
 * given back. `read`: the bytes of it that were received already and not used; walk: what
 * comes before them. All are the janitor's from now on. Beyond a bound they are closed and given
 * back at once, and so is one that goes on sending: the worker's own refusal then corrects the
 * count. */
void glue_janitor_watch(int fd, const glue_place_t *place, const glue_walk_t *walk,
                        pyglue_str_t read);

#endif
