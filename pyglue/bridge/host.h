/* SPDX-License-Identifier: Apache-2.0 */
/* The host operations: what an engine may ask of the server that runs it.
 *
 * This table is the centre of mod_pyglue. The engine calls it and knows nothing else. It is
 * implemented on request_rec (apache_module/glue_host.c), on a worker's socket
 * (pyglue/worker/host.c, where each operation becomes a frame) and in memory for tests
 * (tests/engine/memhost). docs/bridge.md is its normative text.
 *
 * Called one operation at a time and (but for gone) with no Python thread state held, between begin
 * and end of the engine's call: by the thread that called, or by one of the application's in its
 * place. Each returns 0 or more, or a negative PYGLUE_E*. After an error only log() may follow.
 * Nothing that is passed in may be kept after the call returns. */
#ifndef PYGLUE_HOST_H
#define PYGLUE_HOST_H

#include <sys/types.h>
#include <sys/uio.h>

#include "types.h"

typedef struct pyglue_header {
    pyglue_str_t name;  /* an RFC 9110 token */
    pyglue_str_t value; /* no CR, LF or NUL */
} pyglue_header_t;

typedef struct pyglue_head {
    int status;                     /* 200 ... 999; of an interim head 103, no other 1xx */
    pyglue_str_t reason;            /* may be empty */
    const pyglue_header_t *headers; /* in the application's order, repeated ones apart */
    size_t header_count;
    int64_t content_length; /* from the Content-Length header; -1: the application gave none */
} pyglue_head_t;

typedef struct pyglue_host pyglue_host_t;

enum pyglue_write_flags {
    PYGLUE_WRITE_LAST = 1 /* no write, file or flush follows: the host may wait for the end */
};

/* Levels are httpd's and syslog's: 0 emerg ... 3 error, 4 warn, 5 notice, 6 info, 7 debug. Those
 * that our own entries have: */
enum pyglue_level { PYGLUE_LEVEL_ERROR = 3, PYGLUE_LEVEL_WARN = 4 };

typedef struct pyglue_host_ops {
    uint32_t size; /* of this table; it only ever grows at its end */
    /* Reads up to len > 0 bytes of the request body; blocks until there is one.
     * Returns the count; 0: end of body; PYGLUE_E_BODY: cut short or malformed. */
    ssize_t (*read)(pyglue_host_t *h, void *buf, size_t len);
    /* The response head: at most once, before write, file or flush. The host may keep it back
     * until the first byte, flush or the end. PYGLUE_E_HEAD: refused, nothing was sent. */
    int (*start)(pyglue_host_t *h, const pyglue_head_t *head);
    /* Body bytes, kept back if the host likes until flush or the end. flags: pyglue_write_flags. */
    int (*write)(pyglue_host_t *h, const struct iovec *v, int n, unsigned flags);
    /* len bytes of a regular file from offset, as the last body bytes. fd stays the caller's and
     * its position is neither used nor moved. A file that turns out shorter cuts the response. */
    int (*file)(pyglue_host_t *h, int fd, int64_t offset, int64_t len);
    /* All that was written goes to the client now. */
    int (*flush)(pyglue_host_t *h);
    /* 1: the client has left, or the host gives the request no more time to begin; 0: as far as
     * known neither. Never blocks, and so may be asked with a thread state held. */
    int (*gone)(pyglue_host_t *h);
    /* One entry of the error log, tied to this request; may hold several lines. Never fails. */
    void (*log)(pyglue_host_t *h, int level, pyglue_str_t text);
    /* An interim head (103, RFC 8297) that goes to the client now: before start, and as often as
     * the snapshot says (pyglue_snapshot_interims); where that is never it may be missing.
     * PYGLUE_E_STATE: after start or beyond that number; PYGLUE_E_HEAD: pyglue_interim_check
     * refuses it. After these two the request goes on. */
    int (*interim)(pyglue_host_t *h, const pyglue_head_t *head);
} pyglue_host_ops_t;

struct pyglue_host {
    const pyglue_host_ops_t *ops; /* first member of every host */
};

#endif
