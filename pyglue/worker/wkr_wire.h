/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of one request, out and in, for the operations of its host (docs/wire.md). All functions:
 * the thread that runs the request. What they answer with PYGLUE_E_GONE was told, and the
 * connection, or the request on it, is over. */
#ifndef WKR_WIRE_H
#define WKR_WIRE_H

#include "worker.h"

/* The connection is of no more use; told once, unless the peer just left. PYGLUE_E_GONE. */
int wkr_wire_broken(wkr_host_t *host, int error);

/* Has the child said GONE, or gone away itself? Nothing else may come unasked. */
int wkr_wire_is_gone(wkr_host_t *host);

/* Room for a whole frame of this payload in the buffer, to be filled by wkr_wire_put, which takes
 * the payload from where it lies, or leaves it to the caller: NULL. NULL: there is none. */
char *wkr_wire_room(wkr_host_t *host, size_t payload);
void wkr_wire_put(wkr_host_t *host, char *at, enum pyglue_frame_type type, unsigned flags,
                  const void *payload, size_t length);
/* A frame of a few bytes: always finds room. 0 or PYGLUE_E_GONE, as the two below. */
int wkr_wire_put_small(wkr_host_t *host, enum pyglue_frame_type type, unsigned flags,
                       const void *payload, size_t length);

/* Sends what is gathered. */
int wkr_wire_flush(wkr_host_t *host);
/* The same, then v. v[0] is kept free by the caller for what is gathered. */
int wkr_wire_send(wkr_host_t *host, struct iovec *v, size_t count);

/* The next frame that the child owes us: of this type, or GONE. 0 or PYGLUE_E_GONE. */
int wkr_wire_expect(wkr_host_t *host, pyglue_frame_t *frame, enum pyglue_frame_type type);

#endif
