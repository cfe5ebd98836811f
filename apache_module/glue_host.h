/* SPDX-License-Identifier: Apache-2.0 */
/* The host operations on request_rec: the only code that writes a response, and with glue_body.c
 * that reads a request body. The engine calls them in embedded mode, glue_exchange.c for a worker:
 * one path. */
#ifndef GLUE_HOST_H
#define GLUE_HOST_H

#include "frame.h"
#include "glue.h"
#include "glue_bucket.h"

/* Lives on the handler's stack or in the request pool. The fields are glue_host.c's, those of the
 * request body glue_body.c's. */
typedef struct glue_host {
    pyglue_host_t base; /* ops first: this is what engines and glue_exchange.c are given */
    request_rec *r;
    apr_bucket_brigade *out; /* what was written and not yet passed down */
    apr_bucket_brigade *in;  /* request body read but not yet given */
    const pyglue_bounds_t *bounds;
    int allows_sendfile;                /* WSGIEnableSendfile On */
    apr_interval_time_t client_timeout; /* response-socket-timeout; 0: httpd's own */
    int interims;                       /* interim heads that may still be sent */
    int has_started;                    /* the head was accepted */
    int has_sent;                       /* something went down the filters, the head with it */
    int has_ended;                      /* EOS went down: nothing may follow */
    int error;                          /* the first PYGLUE_E* of an output operation; sticky */
    int body_error;                     /* reading failed: sticky */
    int body_answered; /* httpd has put its own error answer into the filters: drop ours */
    int body_done;     /* the request body has been read to its end */
    apr_off_t held;    /* bytes in out */
    /* Told before and after output goes down the filters, which a slow client makes last; NULL:
     * nobody. */
    void (*passing)(void *baton, int is_passing);
    void *baton;
} glue_host_t;

/* bounds must live as long as the request. The caller may set allows_sendfile, client_timeout
 * and interims afterwards. */
void glue_host_init(glue_host_t *h, request_rec *r, const pyglue_bounds_t *bounds);

/* Logs that and why a response head was refused: PYGLUE_E_TOO_BIG or another error. */
void glue_host_head_refused(glue_host_t *h, int error);

/* The rest of the response: `length` bytes that `pull` fetches. One bucket of known length and EOS
 * go down in one brigade, so that httpd's range filter works. Returns when all was sent, or an
 * error. */
int glue_host_pulled(glue_host_t *h, glue_pull_fn pull, void *baton, apr_int64_t length);
/* As the operation `file`, but nothing of it is open any more when this returns. */
int glue_host_read_file(glue_host_t *h, int fd, int64_t offset, int64_t len);
/* As the operation `file`, of a whole file that is ours alone: by sendfile, unless EnableSendfile
 * Off says no. */
int glue_host_own_file(glue_host_t *h, int fd, int64_t len);

/* Does a file of our own go by sendfile? Not where EnableSendfile Off is written. */
int glue_host_may_sendfile(const request_rec *r);
/* A part of a file, in buckets that never map it. pool: theirs. */
void glue_host_append_file(apr_bucket_brigade *out, apr_file_t *file, int64_t offset, int64_t len,
                           apr_pool_t *pool);

/* Will its client send nothing more? It may still read. Never blocks; of a stream of HTTP/2: 0. */
int glue_host_is_closing(glue_host_t *h);

/* Ends the response. COMPLETE: EOS. CUT: an error bucket, EOS: the client sees that it is
 * incomplete (HTTPD 2). FAILED: nothing is sent here. Returns what the handler hook returns: OK, or
 * for FAILED the outcome's status. */
int glue_host_end(glue_host_t *h, const pyglue_outcome_t *outcome);

#endif
