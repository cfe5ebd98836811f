/* SPDX-License-Identifier: Apache-2.0 */
/* Reads ahead what workers send while their clients are slow (response-spool).
 *
 * While a request's thread is inside httpd's output filters, which a slow client makes last, the
 * connection to its worker is lent to one thread of this child that serves all of them. It takes
 * what comes into the request's spool, checks each frame's header by the rules that hold anyway,
 * and when the end of the response has come it lets connection and place go: no thread of Python's
 * waits for a client then. What is in the spool is read by the request's thread, as if it came from
 * the socket: there is one way to read a response. */
#ifndef GLUE_AHEAD_H
#define GLUE_AHEAD_H

#include "glue_spool.h"
#include "glue_walk.h"

/* One for a connection, by which the thread knows it. Zeros to begin with. */
typedef struct glue_ahead {
    /* the lender's, before glue_ahead_begin */
    glue_spool_t spool; /* with `most` */
    const pyglue_bounds_t *bounds;
    int fd;
    int whole_frames;  /* receive no byte beyond a frame's end: a descriptor may follow */
    int is_spoilt;     /* the socket serves no other request: the worker is leaving, or, said by
                        * glue_ahead.c, bytes follow the end */
    apr_int64_t asked; /* bytes of a file that come before END; -1: more may be asked for */
    apr_int64_t taken; /* of those, before what follows */
    void (*ended)(struct glue_ahead *ahead); /* END is here: by whichever thread received it */
    /* glue_ahead.c's */
    glue_walk_t walk; /* what follows the last byte received */
    pyglue_exchange_t order;
    enum { GLUE_AHEAD_GOES_ON, GLUE_AHEAD_STOPPED, GLUE_AHEAD_ENDED } state;
    /* guarded by the lock */
    apr_time_t lent; /* when; 0: it is not */
    int is_busy;     /* the thread reads it right now */
} glue_ahead_t;

/* Once in child_init. */
void glue_ahead_child_init(apr_pool_t *pchild);

/* What follows is unknown: the worker's next bytes are `read`, which were received already and not
 * used, starting with `skip` bytes of payload. Calls `ended` if the end is among them. */
void glue_ahead_begin(glue_ahead_t *ahead, const pyglue_exchange_t *order, size_t skip,
                      pyglue_str_t read);

/* Lends it, if there may be something to read. Costs no system call while the thread is awake, or
 * the loan is short, unless the client is known to be slow: then it is read at once. `ended` may be
 * called until it was taken back. Any thread of a child. */
void glue_ahead_lend(glue_ahead_t *ahead, int is_slow);
/* Nothing but the caller touches it when this returns. Ignored if it was not lent. */
void glue_ahead_take_back(glue_ahead_t *ahead);

#endif
