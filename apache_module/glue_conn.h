/* SPDX-License-Identifier: Apache-2.0 */
/* One request's connection to a worker: hello, frames in and out, and what is read ahead of a slow
 * client. Its socket comes from glue_link.c and goes back there for the next request.
 *
 * A worker is a stranger: each frame is checked before its payload is looked at, a whole frame has
 * a deadline, and descriptors are taken only where they were asked for. A small exchange costs one
 * sendmsg and one recv: what came beyond the frame asked for waits in a buffer
 * (glue_buffer.h). All functions: any thread of a child; a connection is one thread's at a time. */
#ifndef GLUE_CONN_H
#define GLUE_CONN_H

#include "glue.h"
#include "glue_place.h"

typedef struct glue_conn glue_conn_t;

/* What holds for one use of a connection. */
typedef struct glue_conn_terms {
    const pyglue_bounds_t *bounds;
    apr_interval_time_t frame_timeout; /* socket-timeout: a whole frame, from its first byte */
    apr_interval_time_t hello_timeout; /* until its first byte */
    int takes_descriptors;             /* reads stop at the end of each frame, so that a descriptor
                                        * that comes behind one is not lost */
    apr_off_t spool;                   /* response-spool: bytes that are read ahead; 0: none */
} glue_conn_terms_t;

/* A connection to this worker: an idle one (which may have been closed meanwhile), or a
 * new one after its hello, which is awaited for terms->hello_timeout, but not beyond `deadline`.
 * terms must live until it is put back or closed.
 * 0; PYGLUE_E_GONE: nobody listens any more; PYGLUE_E_REFUSED: it is leaving; PYGLUE_E_TOO_BIG: the
 * queue of its socket is full; PYGLUE_E_TIMEOUT, PYGLUE_E_PROTOCOL: its hello failed;
 * PYGLUE_E_NOMEM; PYGLUE_E_IO: errno says why, and another worker would not help. Logged nowhere.
 */
int glue_conn_get(glue_conn_t **conn, const pyglue_worker_entry_t *worker,
                  const glue_conn_terms_t *terms, apr_time_t deadline);
/* After a whole exchange: kept for the next request, unless bytes are left over. */
void glue_conn_put(glue_conn_t *conn);
void glue_conn_close(glue_conn_t *conn);
/* After GONE was sent: the janitor reads on until the worker has finished, and then gives the place
 * back. The connection is gone. */
void glue_conn_give_up(glue_conn_t *conn, const glue_place_t *place);

/* Where the caller is in a request. */
typedef struct glue_loan {
    const pyglue_exchange_t *order; /* of the frames that it has taken */
    const glue_place_t *place;
    int is_leaving;         /* a goodbye was among them */
    apr_int64_t file_asked; /* bytes of a file that were asked for; -1: that was not all yet */
    apr_int64_t file_taken; /* of those, taken */
    int is_slow;            /* its client is known to be */
} glue_loan_t;

/* While the caller is busy with a client, what comes on the connection is read ahead
 * (glue_ahead.h). It must not be used until it was taken back, but for lending it again. When the
 * end of the response has come, at any time from now on, the worker's socket serves other requests
 * and the place is given back: glue_conn_is_over tells, and what is left can be read, but nothing
 * sent. r: whose log tells of a full disk. */
void glue_conn_lend(glue_conn_t *conn, const glue_loan_t *loan);
void glue_conn_take_back(glue_conn_t *conn, request_rec *r);
int glue_conn_is_over(const glue_conn_t *conn);
/* While it is lent, and is so again afterwards (loan NULL: it is not): waits until the socket
 * `client` can be written, for at most so long (below 0: for ever). 0: it can, or failed; 1: the
 * end of the response is here; PYGLUE_E_TIMEOUT. */
int glue_conn_await(glue_conn_t *conn, const glue_loan_t *loan, int client,
                    apr_interval_time_t timeout);
/* How much of what was read ahead has not been taken. */
apr_off_t glue_conn_spooled(const glue_conn_t *conn);

/* Sends one frame whose header is v[0]; v is used up. 0; PYGLUE_E_REFUSED: the worker has left and
 * cannot have read the whole frame; PYGLUE_E_TIMEOUT: it does not read; PYGLUE_E_IO;
 * PYGLUE_E_STATE: an earlier frame was sent in part. */
int glue_conn_send(glue_conn_t *conn, struct iovec *v, int n);

/* The next frame's header, checked. Waits until `deadline` for its first byte.
 * 0; PYGLUE_E_TIMEOUT: not a byte of it came; PYGLUE_E_IO: the worker has closed or died;
 * PYGLUE_E_PROTOCOL (also: it stopped within a frame), PYGLUE_E_TOO_BIG: it must be closed. What is
 * left of the frame before is skipped. */
int glue_conn_frame(glue_conn_t *conn, pyglue_frame_t *frame, apr_time_t deadline);
/* Some of the payload that is left: 1 ... `most` bytes, valid until the next call on this
 * connection; len 0: all was given. 0 or an error as above. */
int glue_conn_part(glue_conn_t *conn, pyglue_str_t *part, size_t most);
/* The clock of the current frame stood still: the client was waited for, not the worker. */
void glue_conn_paused(glue_conn_t *conn, apr_interval_time_t time);
/* Exactly len bytes of the payload into memory. */
int glue_conn_copy(glue_conn_t *conn, void *memory, size_t len);
/* The socket, to see whether the worker has closed it. */
int glue_conn_socket(const glue_conn_t *conn);
/* Bytes that the worker has sent and nobody has taken, behind the current frame. */
size_t glue_conn_at_hand(const glue_conn_t *conn);
/* Is another frame, or a part of it, already here? Never blocks. */
int glue_conn_has_more(glue_conn_t *conn);
/* The byte that carries a descriptor (TENANTS 5: takes_descriptors). *fd is the caller's.
 * 0, or PYGLUE_E_PROTOCOL: none, or more than one came. */
int glue_conn_descriptor(glue_conn_t *conn, int *fd);

#endif
