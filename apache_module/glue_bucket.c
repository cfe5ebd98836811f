/* SPDX-License-Identifier: Apache-2.0 */
/* A bucket whose bytes are fetched when a filter wants them (HTTPD 4). Up: glue_host.c. */
#include "glue_bucket.h"

typedef struct data {
    apr_bucket_refcount refcount; /* first: APR's shared buckets */
    glue_source_t *source;        /* in the request's pool */
} data_t;

static const apr_bucket_type_t pulled;

static void bucket_destroy(void *data) {
    if (apr_bucket_shared_destroy(data))
        apr_bucket_free(data);
}

/* Turns the bucket into a heap bucket of what was fetched, with the rest behind it. */
static void bucket_split_off(apr_bucket *b, char *buf, apr_size_t n) {
    data_t *data = b->data;
    apr_off_t start = b->start;
    apr_size_t rest = b->length - n;
    apr_bucket *next;

    apr_bucket_heap_make(b, buf, n, apr_bucket_free);
    if (rest == 0) {
        bucket_destroy(data);
        return;
    }
    next = apr_bucket_alloc(sizeof *next, b->list);
    APR_BUCKET_INIT(next);
    next->free = apr_bucket_free;
    next->list = b->list;
    next->type = &pulled;
    next->data = data;
    next->start = start + (apr_off_t)n;
    next->length = rest;
    APR_BUCKET_INSERT_AFTER(b, next);
}

static apr_status_t bucket_read(apr_bucket *b, const char **text, apr_size_t *length,
                                apr_read_type_e mode) {
    data_t *data = b->data;
    glue_source_t *source = data->source;
    glue_wanted_t wanted = {b->start, b->length < GLUE_PULL_MAX ? b->length : GLUE_PULL_MAX,
                            b->start + (apr_off_t)b->length, data->refcount.refcount == 1};
    apr_ssize_t got = PYGLUE_E_STATE;
    char *buf;

    (void)mode;
    *text = NULL;
    *length = 0;
    if (source->pull == NULL)
        return APR_EGENERAL;
    buf = apr_bucket_alloc(wanted.len, b->list);
    got = source->pull(source->baton, buf, &wanted);
    if (got <= 0 || (apr_size_t)got > wanted.len) {
        source->pull = NULL;
        source->has_failed = 1;
        apr_bucket_free(buf);
        return APR_EOF;
    }
    bucket_split_off(b, buf, (apr_size_t)got);
    *text = buf;
    *length = (apr_size_t)got;
    return APR_SUCCESS;
}

/* Whoever sets aside drops what fails, and the head before it: so what cannot be had becomes empty,
 * and has_failed tells that the response is to be cut. */
static apr_status_t bucket_setaside(apr_bucket *b, apr_pool_t *pool) {
    data_t *data = b->data;
    const char *text;
    apr_size_t length;

    (void)pool;
    if (bucket_read(b, &text, &length, APR_BLOCK_READ) == APR_SUCCESS)
        return APR_SUCCESS;
    data->source->has_failed = 1;
    bucket_destroy(data);
    apr_bucket_immortal_make(b, "", 0);
    return APR_SUCCESS;
}

static const apr_bucket_type_t pulled = {"PYGLUE_PULLED",
                                         5,
                                         APR_BUCKET_DATA,
                                         bucket_destroy,
                                         bucket_read,
                                         bucket_setaside,
                                         apr_bucket_shared_split,
                                         apr_bucket_shared_copy};

/* APR's shared buckets keep the length in an apr_size_t. */
apr_bucket *glue_bucket_create(glue_source_t *source, apr_int64_t length,
                               apr_bucket_alloc_t *list) {
    apr_bucket *b = apr_bucket_alloc(sizeof *b, list);
    data_t *data = apr_bucket_alloc(sizeof *data, list);

    APR_BUCKET_INIT(b);
    b->free = apr_bucket_free;
    b->list = list;
    data->source = source;
    b = apr_bucket_shared_make(b, data, 0, (apr_size_t)length);
    b->type = &pulled;
    return b;
}
