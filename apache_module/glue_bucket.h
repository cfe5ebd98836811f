/* SPDX-License-Identifier: Apache-2.0 */
/* A bucket of known length whose bytes are fetched when a filter wants them (HTTPD 4): httpd's
 * range filter works on it, and what no client asks for is never fetched. It may be split and
 * copied, like any of APR's shared buckets. In the request's own thread. */
#ifndef GLUE_BUCKET_H
#define GLUE_BUCKET_H

#include "glue.h"

#define GLUE_PULL_MAX 65536

/* Bytes of an announced file that a filter wants now, and what it is likely to want then. */
typedef struct glue_wanted {
    apr_int64_t offset;
    apr_size_t len;  /* above 0, at most GLUE_PULL_MAX */
    apr_int64_t end; /* of the part that is read in order from here, in steps of GLUE_PULL_MAX */
    int is_last;     /* nothing but that part will be wanted */
} glue_wanted_t;

/* Fetches up to wanted->len bytes into buf. Returns the count, or a negative PYGLUE_E*: the
 * response is then cut. Never called once its source was closed. */
typedef apr_ssize_t (*glue_pull_fn)(void *baton, void *buf, const glue_wanted_t *wanted);

/* Where bytes come from. In the request's pool: buckets may outlive the handler that made them, so
 * whoever fetches closes it when it returns, by setting pull to NULL. */
typedef struct glue_source {
    glue_pull_fn pull; /* NULL: closed, or a pull failed */
    void *baton;
    int has_failed; /* the response is to be cut */
} glue_source_t;

apr_bucket *glue_bucket_create(glue_source_t *source, apr_int64_t length, apr_bucket_alloc_t *list);

#endif
