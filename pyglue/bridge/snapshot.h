/* SPDX-License-Identifier: Apache-2.0 */
/* The request as one relocatable block: what httpd knows of it, frozen.
 *
 * httpd's side builds it (pyglue_snapshot_build), the engine reads it, in the same process or at
 * the other end of a socket; the block is the same. All positions are offsets from its start, so
 * it may be copied. Every text in it is followed by a NUL that is not part of its length.
 * A block from a socket is to be passed through pyglue_snapshot_check before anything else. */
#ifndef PYGLUE_SNAPSHOT_H
#define PYGLUE_SNAPSHOT_H

#include "types.h"

#define PYGLUE_SNAPSHOT_VERSION 1u

enum pyglue_request_flags {
    PYGLUE_REQ_HTTPS = 1 << 0,        /* wsgi.url_scheme is https */
    PYGLUE_REQ_RELOADING = 1 << 1,    /* WSGIScriptReloading On */
    PYGLUE_REQ_SENDFILE = 1 << 2,     /* WSGIEnableSendfile On: a file may leave as a descriptor */
    PYGLUE_REQ_MULTITHREAD = 1 << 3,  /* wsgi.multithread */
    PYGLUE_REQ_MULTIPROCESS = 1 << 4, /* wsgi.multiprocess */
    PYGLUE_REQ_RUN_ONCE = 1 << 5,     /* wsgi.run_once */
    PYGLUE_REQ_HAS_BODY = 1 << 6,     /* a Content-Length above 0, or chunked */
    PYGLUE_REQ_HEAD = 1 << 7,         /* the client's method was HEAD: no body will be sent */
    PYGLUE_REQ_INTERIM = 1 << 8       /* times 0 ... PYGLUE_INTERIMS_MAX: interim heads allowed */
};

#define PYGLUE_INTERIMS_MAX 4u

typedef struct pyglue_slice {
    uint32_t offset; /* from the start of the block */
    uint32_t length;
} pyglue_slice_t;

typedef struct pyglue_pair {
    pyglue_slice_t key;
    pyglue_slice_t value;
} pyglue_pair_t;

/* Head of the block. Same machine at both ends: native byte order. */
typedef struct pyglue_snapshot {
    uint32_t version;
    uint32_t size; /* of the whole block, this head included */
    uint32_t flags;
    uint32_t pair_count;
    uint64_t number;              /* of this request, unique among all httpd children of a server */
    int64_t content_length;       /* of the request body; -1: not known (chunked, inflated) */
    int64_t request_start;        /* µs since the epoch: httpd read the request line */
    int64_t queue_start;          /* µs since the epoch: the snapshot was made */
    int32_t httpd_version[3];     /* major, minor, patch: apache.version */
    int32_t reserved;             /* 0 */
    pyglue_slice_t script;        /* path of the file to load */
    pyglue_slice_t process_group; /* "" in embedded mode */
    pyglue_slice_t application_group; /* "" is the main interpreter */
    pyglue_slice_t callable;
    pyglue_slice_t handler;    /* r->handler: mod_wsgi.request_handler */
    pyglue_slice_t request_id; /* httpd's log id; empty if nobody makes one */
    pyglue_slice_t connection_id;
    pyglue_pair_t pairs[]; /* pair_count CGI variables, then the texts */
} pyglue_snapshot_t;

/* What a snapshot is made of. The texts are copied by build. */
typedef struct pyglue_snapshot_spec {
    uint32_t flags;
    uint64_t number;
    int64_t content_length;
    int64_t request_start;
    int64_t queue_start;
    int32_t httpd_version[3];
    pyglue_str_t script, process_group, application_group, callable, handler;
    pyglue_str_t request_id, connection_id;
    const pyglue_str_t *keys; /* pair_count each; a key is not empty and has no NUL */
    const pyglue_str_t *values;
    uint32_t pair_count;
} pyglue_snapshot_spec_t;

/* Bytes that build needs for this spec; 0 when they would not fit into 32 bits. */
size_t pyglue_snapshot_size(const pyglue_snapshot_spec_t *spec);

/* Writes the block into memory of at least that many bytes, aligned for a uint64_t. */
void pyglue_snapshot_build(void *memory, size_t size, const pyglue_snapshot_spec_t *spec);

/* Is this a whole, well-formed block? Every offset is checked, every text ends in NUL.
 * 0, PYGLUE_E_VERSION or PYGLUE_E_PROTOCOL. The memory must be aligned for a uint64_t. */
int pyglue_snapshot_check(const void *memory, size_t size);

/* A text of a checked block; NUL-terminated, lives as long as the block. */
static inline pyglue_str_t pyglue_snapshot_text(const pyglue_snapshot_t *snapshot,
                                                pyglue_slice_t slice) {
    return (pyglue_str_t){(const char *)snapshot + slice.offset, slice.length};
}

/* How many interim heads may be sent: three bits of the flags. */
static inline unsigned pyglue_snapshot_interims(const pyglue_snapshot_t *snapshot) {
    return snapshot->flags / PYGLUE_REQ_INTERIM & 7u;
}

/* The value of a variable of a checked block, as above: the last pair of this key, which wins over
 * earlier ones. Empty if there is none. */
pyglue_str_t pyglue_snapshot_value(const pyglue_snapshot_t *snapshot, pyglue_str_t key);

#endif
