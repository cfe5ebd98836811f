/* SPDX-License-Identifier: Apache-2.0 */
/* One request and a worker: a REQUEST out, frames in, each of which becomes the host operation that
 * embedded mode calls too. What a worker may send is decided by the tables of the bridge (frame.c).
 * Up: glue_daemon.c, which chooses workers and judges failures; down: glue_conn.c, glue_host.c. */
#ifndef GLUE_EXCHANGE_H
#define GLUE_EXCHANGE_H

#include "glue_conn.h"
#include "glue_flood.h"
#include "glue_host.h"
#include "glue_rest.h"
#include "glue_spool.h"

/* One request, over all its tries. Lives on the handler's stack; its fields are written by
 * glue_daemon.c before the first try, those of a try by glue_exchange.c. */
typedef struct glue_exchange {
    glue_host_t *host;
    request_rec *r;
    const glue_group_t *group;
    const pyglue_snapshot_t *snapshot;
    pyglue_outcome_t *outcome;
    glue_conn_terms_t terms;
    glue_search_t search;
    apr_interval_time_t response_timeout;
    apr_time_t answer_by;  /* until when the worker's next word is awaited (docs/wire.md 12) */
    apr_time_t end_by;     /* until when it may run: request-timeout and interrupt-timeout */
    apr_time_t look_at;    /* when the client is looked after next */
    apr_time_t flush_by;   /* when body bytes are flushed though nothing asks for it */
    char *buffer;          /* GLUE_BUFFER bytes: the body at hand, later what passes by */
    size_t at_hand;        /* body bytes in it, for each try */
    glue_spool_t upload;   /* those that were read ahead and did not fit */
    int is_whole_body;     /* the client has sent all of it */
    int has_died;          /* a worker died under it: no second repetition */
    int cannot_connect;    /* to any worker: the reason has been logged */
    apr_time_t connect_by; /* until when full queues are tried again; 0: none was full yet */
    glue_flood_t flood;
    /* of this try */
    glue_place_t place;
    glue_conn_t *conn;
    pyglue_exchange_t order;
    int was_started; /* a frame came that only a started request sends */
    int is_leaving;  /* the worker said goodbye: the connection is not kept */
    int will_refuse; /* the worker refused it, and will take nothing any more */
    int wants_flush;
    apr_int64_t unflushed;  /* body bytes since the last flush */
    apr_int64_t left;       /* body bytes that may follow by Content-Length; -1: no bound */
    int is_bodyless;        /* HEAD, 204, 304 */
    apr_int64_t file_asked; /* glue_loan_t */
    apr_int64_t file_taken;
    int has_outlet;   /* glue_outlet.h */
    int is_passing;   /* what it says is read ahead */
    glue_rest_t rest; /* of the body, once all of it is here while its client is slow */
    apr_int64_t late; /* bytes that the worker had sent before end_by; -1: it is not over */
} glue_exchange_t;

static inline const pyglue_host_ops_t *glue_exchange_ops(const glue_exchange_t *x) {
    return x->host->base.ops;
}

/* One try on x->conn, up to END or REFUSE. 0: *outcome is filled. PYGLUE_E_REFUSED: it did not
 * start. PYGLUE_E_GONE: the client has left; PYGLUE_E_TIMEOUT: no answer within response-timeout,
 * or x->late is 0: no end within request-timeout; PYGLUE_E_IO: the worker has closed or died;
 * anything else: it broke the wire's rules. */
int glue_exchange_run(glue_exchange_t *x);

/* For glue_pull.c, which follows a file while the response goes down httpd's filters. */

/* The next frame of this request, in order. 0 or an error as above. */
int glue_exchange_next(glue_exchange_t *x, pyglue_frame_t *frame);
/* Logs the payload of a LOG frame. */
int glue_exchange_log(glue_exchange_t *x, const pyglue_frame_t *frame);
/* Sends frames of a request that has started: one that cannot be sent is no refusal any more. */
int glue_exchange_send(glue_exchange_t *x, struct iovec *v, int n);
/* The calling thread is inside httpd's filters from now on, or is not any more: what the worker
 * says meanwhile is read ahead. baton: the exchange. */
void glue_exchange_passing(void *baton, int is_passing);

#endif
