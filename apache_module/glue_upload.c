/* SPDX-License-Identifier: Apache-2.0 */
/* The body of a request on its way to a worker. A thread of Python's waits for no client as long as
 * the body is no longer than request-buffering. */
#include "glue_upload.h"

#include "glue_body.h"
#include "glue_buffer.h"

/* How much is awaited. Nothing where the client waits to be asked for it, or does not know its
 * length and may be in a dialogue, unless the group asks for more than is usual: then such a body
 * is read ahead, too, if it can be held whole. */
static apr_off_t awaited(const glue_exchange_t *x) {
    apr_off_t limit = x->group->request_buffering;
    apr_int64_t length = x->snapshot->content_length;
    int is_asked_for = limit > GLUE_REQUEST_BUFFERING;

    if (x->r->expecting_100)
        return is_asked_for && length <= limit ? limit : 0;
    return length >= 0 || is_asked_for ? limit : 0;
}

/* Blocks until something has come. The count, 0: the body has ended, or cannot be read. */
static apr_size_t await_some(glue_exchange_t *x, char *memory, apr_size_t room) {
    ssize_t got = glue_exchange_ops(x)->read(&x->host->base, memory, room);

    if (got == 0)
        x->is_whole_body = 1;
    if (got > 0)
        glue_body_at_hand(x->host, memory, 0, &x->is_whole_body);
    return got > 0 ? (apr_size_t)got : 0;
}

static void fill_buffer(glue_exchange_t *x, apr_off_t limit) {
    apr_size_t most = limit < GLUE_BUFFER ? (apr_size_t)limit : GLUE_BUFFER, got;

    while (!x->is_whole_body && x->at_hand < most) {
        got = await_some(x, x->buffer + x->at_hand, most - x->at_hand);
        if (got == 0)
            return;
        x->at_hand += got;
    }
}

static void fill_spool(glue_exchange_t *x, apr_off_t limit) {
    apr_size_t room, got = 1;
    char *memory;

    x->upload.most = limit - GLUE_BUFFER;
    while (got > 0 && !x->is_whole_body && (memory = glue_spool_space(&x->upload, &room)) != NULL) {
        got = await_some(x, memory, room);
        glue_spool_put(&x->upload, got);
    }
    glue_spool_tell(&x->upload, "the body of a request", x->r);
}

static void fill(glue_exchange_t *x, apr_off_t limit) {
    fill_buffer(x, limit);
    if (!x->is_whole_body && limit > GLUE_BUFFER && x->at_hand == GLUE_BUFFER)
        fill_spool(x, limit);
}

/* What has come already goes with the request in any case. */
int glue_upload_gather(glue_exchange_t *x) {
    apr_off_t limit;
    int error;

    x->is_whole_body = (x->snapshot->flags & PYGLUE_REQ_HAS_BODY) == 0;
    if (x->is_whole_body)
        return 0;
    limit = awaited(x);
    x->at_hand = (apr_size_t)glue_body_at_hand(x->host, x->buffer, GLUE_BUFFER, &x->is_whole_body);
    if (x->is_whole_body || (apr_off_t)x->at_hand >= limit)
        return 0;
    error = glue_place_begin_upload(&x->search);
    if (error != 0)
        return error;
    fill(x, limit);
    glue_place_end_upload(x->group);
    return 0;
}

int glue_upload_is_whole(const glue_exchange_t *x) {
    return x->is_whole_body && glue_spool_held(&x->upload) == 0;
}

apr_ssize_t glue_upload_read(glue_exchange_t *x, apr_size_t len, int *is_end) {
    apr_ssize_t got;

    if (len > GLUE_BUFFER)
        len = GLUE_BUFFER;
    if (glue_spool_held(&x->upload) > 0) {
        got = glue_spool_take(&x->upload, x->buffer, len);
        *is_end = glue_upload_is_whole(x);
        glue_spool_tell(&x->upload, "the body of a request", x->r);
        return got < 0 ? PYGLUE_E_BODY : got;
    }
    got = glue_body_read_while(x->host, x->buffer, len, glue_conn_socket(x->conn), x->end_by);
    *is_end = got == 0;
    if (got > 0)
        glue_body_at_hand(x->host, x->buffer, 0, is_end);
    return got;
}
