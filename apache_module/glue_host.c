/* SPDX-License-Identifier: Apache-2.0 */
/* The host operations on request_rec, but for `read`, which is glue_body.c's. The only file that
 * writes a response; which engine or worker calls is unknown here.
 * Output is gathered in one brigade and goes down when it is flushed, large, or at its end: a small
 * response is head, body and EOS in one pass, which httpd sends with one writev. */
#include "glue_host.h"

#include <http_core.h>
#include <http_protocol.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <util_filter.h>

#include "glue_body.h"
#include "glue_head.h"
#include "glue_log.h"

#define HELD_MAX 16384 /* more than this is not copied and held, but passed on */

static glue_host_t *host_of(pyglue_host_t *base) {
    return (glue_host_t *)(void *)base;
}

/* The response head. */

void glue_host_head_refused(glue_host_t *h, int error) {
    const char *remedy =
        error == PYGLUE_E_TOO_BIG
            ? apr_psprintf(h->r->pool,
                           " (a reason of more than %u bytes, a field of more than %u bytes, more "
                           "than %u fields, or more than %u bytes in all; in WSGIDaemonProcess "
                           "header-buffer-size=, response-header-count= and response-header-size= "
                           "allow more)",
                           PYGLUE_REASON_MAX, h->bounds->field, h->bounds->fields, h->bounds->head)
            : " (status, a field, or two lengths that differ)";

    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, h->r,
                  GLUE_ID(0302) "the response head was refused: %s%s", pyglue_error_text(error),
                  remedy);
}

static int op_start(pyglue_host_t *base, const pyglue_head_t *head) {
    glue_host_t *h = host_of(base);
    request_rec *r = h->r;
    int error = h->has_started ? PYGLUE_E_STATE : glue_head_set(r, head, h->bounds);

    if (error != 0) {
        glue_host_head_refused(h, error);
        apr_table_clear(r->headers_out);
        apr_table_clear(r->err_headers_out);
        return error;
    }
    h->has_started = 1;
    return 0;
}

/* Output. */

/* The client gets the group's time to take it, and httpd's again for whatever follows. A stream of
 * HTTP/2 has no socket of its own. send: what goes down httpd's filters. */
static apr_status_t send_in_time(glue_host_t *h, apr_status_t (*send)(glue_host_t *h)) {
    conn_rec *c = h->r->connection;
    apr_socket_t *client =
        h->client_timeout > 0 && c->master == NULL ? ap_get_conn_socket(c) : NULL;
    apr_interval_time_t before;
    apr_status_t rv;

    if (client != NULL && apr_socket_timeout_get(client, &before) != APR_SUCCESS)
        client = NULL;
    if (h->passing != NULL)
        h->passing(h->baton, 1);
    if (client != NULL)
        apr_socket_timeout_set(client, h->client_timeout);
    rv = send(h);
    if (client != NULL)
        apr_socket_timeout_set(client, before);
    if (h->passing != NULL)
        h->passing(h->baton, 0);
    return rv;
}

static apr_status_t pass_out(glue_host_t *h) {
    return ap_pass_brigade(h->r->output_filters, h->out);
}

static int pass_down(glue_host_t *h) {
    request_rec *r = h->r;
    apr_status_t rv;

    /* A 100 Continue that was never sent leaves the client undecided whether it sends its body:
     * only closing is safe, and then httpd does not wait for the body either (HTTPD 3). */
    if (!h->has_sent && r->expecting_100)
        r->connection->keepalive = AP_CONN_CLOSE;
    h->has_sent = 1;
    h->held = 0;
    rv = send_in_time(h, pass_out);
    apr_brigade_cleanup(h->out);
    if (rv != APR_SUCCESS || r->connection->aborted)
        h->error = PYGLUE_E_GONE;
    return h->error;
}

/* httpd's own way, which writes to the connection past the filters of the response, and clears the
 * table. Some versions take any interim head for the 100 Continue that may still be owed. */
static apr_status_t pass_interim(glue_host_t *h) {
    request_rec *r = h->r;
    unsigned expecting_100 = r->expecting_100;

    ap_send_interim_response(r, 1);
    r->expecting_100 = expecting_100;
    return r->connection->aborted ? APR_ECONNABORTED : APR_SUCCESS;
}

/* What stands in the request's head meanwhile is for this alone. */
static int op_interim(pyglue_host_t *base, const pyglue_head_t *head) {
    glue_host_t *h = host_of(base);
    request_rec *r = h->r;
    apr_table_t *headers = r->headers_out;
    const char *line = r->status_line;
    int status = r->status;

    if (h->error != 0 || h->body_answered)
        return h->error;
    if (h->has_started || h->interims == 0)
        return PYGLUE_E_STATE;
    if (pyglue_interim_check(head))
        return PYGLUE_E_HEAD;
    h->interims--;
    r->headers_out = apr_table_make(r->pool, (int)head->header_count + 1);
    for (size_t i = 0; i < head->header_count; i++)
        apr_table_addn(
            r->headers_out,
            apr_pstrmemdup(r->pool, head->headers[i].name.ptr, head->headers[i].name.len),
            apr_pstrmemdup(r->pool, head->headers[i].value.ptr, head->headers[i].value.len));
    r->status = head->status;
    r->status_line = "103 Early Hints";
    if (send_in_time(h, pass_interim) != APR_SUCCESS)
        h->error = PYGLUE_E_GONE;
    r->headers_out = headers;
    r->status = status;
    r->status_line = line;
    return h->error;
}

/* May this operation do anything? 0: yes. */
static int refuse(const glue_host_t *h) {
    if (h->error == 0 && (!h->has_started || h->has_ended))
        return PYGLUE_E_STATE;
    return h->error;
}

static void append(glue_host_t *h, apr_bucket *b) {
    APR_BRIGADE_INSERT_TAIL(h->out, b);
}

static void append_eos(glue_host_t *h) {
    append(h, apr_bucket_eos_create(h->out->bucket_alloc));
    h->has_ended = 1;
}

/* The bytes are the caller's, so they are copied while few, and passed on at once otherwise: never
 * together with EOS, also where they are the last. A worker's come in pieces, and httpd, which
 * finds out lengths and serves ranges where it sees a whole body, is to see the same in both
 * modes. */
static int op_write(pyglue_host_t *base, const struct iovec *v, int n, unsigned flags) {
    glue_host_t *h = host_of(base);
    int error = refuse(h), is_copied;
    apr_off_t total = h->held;

    (void)flags;
    if (error != 0 || h->body_answered)
        return error;
    for (int i = 0; i < n; i++)
        total += (apr_off_t)v[i].iov_len;
    is_copied = total <= HELD_MAX;
    for (int i = 0; i < n; i++)
        if (is_copied)
            apr_brigade_write(h->out, NULL, NULL, v[i].iov_base, v[i].iov_len);
        else
            append(h,
                   apr_bucket_transient_create(v[i].iov_base, v[i].iov_len, h->out->bucket_alloc));
    h->held = total;
    return is_copied ? 0 : pass_down(h);
}

static int op_flush(pyglue_host_t *base) {
    glue_host_t *h = host_of(base);
    int error = refuse(h);

    if (error != 0 || h->body_answered)
        return error;
    append(h, apr_bucket_flush_create(h->out->bucket_alloc));
    return pass_down(h);
}

/* Files. */

int glue_host_pulled(glue_host_t *h, glue_pull_fn pull, void *baton, apr_int64_t length) {
    glue_source_t *source = apr_palloc(h->r->pool, sizeof *source);
    int error = refuse(h);

    if (error != 0 || h->body_answered)
        return error;
    *source = (glue_source_t){pull, baton, 0};
    append(h, glue_bucket_create(source, length, h->out->bucket_alloc));
    append_eos(h);
    pass_down(h);
    /* What is still set aside somewhere must not reach a connection that serves another request. */
    source->pull = NULL;
    if (source->has_failed && h->error == 0)
        h->error = PYGLUE_E_BODY;
    return h->error;
}

struct plain_file {
    int fd;
    int64_t offset;
};

static apr_ssize_t pull_plain(void *baton, void *buf, const glue_wanted_t *wanted) {
    const struct plain_file *file = baton;
    ssize_t got;

    do
        got = pread(file->fd, buf, wanted->len, file->offset + wanted->offset);
    while (got < 0 && errno == EINTR);
    return got > 0 ? got : PYGLUE_E_IO;
}

int glue_host_read_file(glue_host_t *h, int fd, int64_t offset, int64_t len) {
    return glue_host_pulled(h, pull_plain, &(struct plain_file){fd, offset}, len);
}

/* mmap stays off on every bucket: a file cut short under it would kill the child (TENANTS 5). */
void glue_host_append_file(apr_bucket_brigade *out, apr_file_t *file, int64_t offset, int64_t len,
                           apr_pool_t *pool) {
    apr_bucket *first = apr_brigade_insert_file(out, file, offset, len, pool);

    for (; first != APR_BRIGADE_SENTINEL(out); first = APR_BUCKET_NEXT(first))
        if (APR_BUCKET_IS_FILE(first))
            apr_bucket_file_enable_mmap(first, 0);
}

static int send_file(glue_host_t *h, int fd, int64_t offset, int64_t len, int by_sendfile) {
    apr_int32_t flags = APR_FOPEN_READ | APR_FOPEN_BINARY | APR_FOPEN_NONBLOCK;
    char path[32];
    apr_file_t *file;
    int error = refuse(h);

    if (error != 0 || h->body_answered)
        return error;
    if (by_sendfile)
        flags |= APR_FOPEN_SENDFILE_ENABLED;
    /* Opened anew, for an offset of its own: APR's file bucket seeks, and the application may send
     * one file object in several responses at once (TENANTS 5). Without waiting: its owner may have
     * taken a lease on it. */
    apr_snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (apr_file_open(&file, path, flags, APR_FPROT_OS_DEFAULT, h->r->pool) != APR_SUCCESS)
        return glue_host_read_file(h, fd, offset, len);
    glue_host_append_file(h->out, file, offset, len, h->r->pool);
    append_eos(h);
    return pass_down(h);
}

static int enable_sendfile(const request_rec *r) {
    const core_dir_config *core = ap_get_core_module_config(r->per_dir_config);

    return (int)core->enable_sendfile;
}

static int op_file(pyglue_host_t *base, int fd, int64_t offset, int64_t len) {
    glue_host_t *h = host_of(base);

    return send_file(h, fd, offset, len,
                     h->allows_sendfile && enable_sendfile(h->r) == ENABLE_SENDFILE_ON);
}

/* Without sendfile httpd reads such a file into memory before it sees what the client takes, and
 * waits with a thread until that is little. What makes sendfile a question, a file on another
 * machine or one that somebody else cuts short, is no matter for our own. */
int glue_host_may_sendfile(const request_rec *r) {
    return enable_sendfile(r) != ENABLE_SENDFILE_OFF;
}

int glue_host_own_file(glue_host_t *h, int fd, int64_t len) {
    return send_file(h, fd, 0, len, glue_host_may_sendfile(h->r));
}

/* The client, the log, the end. */

/* Has this happened to the client's socket? */
static int has_event(conn_rec *c, short events) {
    struct pollfd p = {.fd = -1, .events = events & POLLRDHUP};

    if (c->master != NULL || apr_os_sock_get(&p.fd, ap_get_conn_socket(c)) != APR_SUCCESS)
        return 0;
    return poll(&p, 1, 0) > 0 && (p.revents & events) != 0;
}

/* A client that only closed its sending side is still there to read: POLLHUP means both. */
static int op_gone(pyglue_host_t *base) {
    glue_host_t *h = host_of(base);

    return h->r->connection->aborted || h->error == PYGLUE_E_GONE ||
           has_event(h->r->connection, POLLHUP | POLLERR);
}

int glue_host_is_closing(glue_host_t *h) {
    return has_event(h->r->connection, POLLRDHUP);
}

static void op_log(pyglue_host_t *base, int level, pyglue_str_t text) {
    glue_log_application(host_of(base)->r, level, text);
}

static const pyglue_host_ops_t ops = {
    .size = sizeof ops,
    .read = glue_body_read,
    .start = op_start,
    .write = op_write,
    .file = op_file,
    .flush = op_flush,
    .gone = op_gone,
    .log = op_log,
    .interim = op_interim,
};

void glue_host_init(glue_host_t *h, request_rec *r, const pyglue_bounds_t *bounds) {
    memset(h, 0, sizeof *h);
    h->base.ops = &ops;
    h->r = r;
    h->bounds = bounds;
    h->out = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    h->in = apr_brigade_create(r->pool, r->connection->bucket_alloc);
}

/* Does the end of the connection end the body? So it is in HTTP/1.0 without a length, and in 1.1
 * where the connection was to be closed before the head went. */
static int is_ended_by_close(const request_rec *r) {
    return r->proto_num < HTTP_VERSION(2, 0) && !r->chunked && !r->header_only &&
           !AP_STATUS_IS_HEADER_ONLY(r->status) &&
           apr_table_get(r->headers_out, "Content-Length") == NULL;
}

/* Then only a reset tells that the body is not whole. */
static void reset(conn_rec *c) {
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    int fd;

    if (apr_os_sock_get(&fd, ap_get_conn_socket(c)) == APR_SUCCESS)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    c->aborted = 1;
}

/* What is not whole is kept by no cache: mod_cache asks for this, and for no error bucket. */
static void forbid_caching(request_rec *r) {
    r->no_cache = 1;
    if (r->main != NULL)
        r->main->no_cache = 1;
}

/* An error bucket, EOS and OK: nothing else looks incomplete in HTTP/1.1 and HTTP/2 (HTTPD 2). What
 * is held goes first, or httpd would answer with an error page in place of the head. After an error
 * of a filter (a file that turned out shorter) the same is said once more to those below it. */
static void cut(glue_host_t *h) {
    request_rec *r = h->r;

    forbid_caching(r);
    if (h->error == 0 && !h->has_ended)
        op_flush(&h->base);
    if (r->connection->aborted)
        return;
    r->connection->keepalive = AP_CONN_CLOSE;
    append(h, ap_bucket_error_create(HTTP_BAD_GATEWAY, NULL, r->pool, h->out->bucket_alloc));
    append_eos(h);
    pass_down(h);
    if (is_ended_by_close(r))
        reset(r->connection);
}

int glue_host_end(glue_host_t *h, const pyglue_outcome_t *outcome) {
    if (h->body_answered)
        return OK;
    if (!h->has_started) {
        /* ap_die discards the body first, and would wait for one that was never invited, or that
         * a client sends slowly to a worker that is no more. */
        if (h->r->expecting_100 || outcome->status == HTTP_BAD_GATEWAY ||
            outcome->status == HTTP_GATEWAY_TIME_OUT)
            h->r->connection->keepalive = AP_CONN_CLOSE;
        return outcome->status;
    }
    if (outcome->kind != PYGLUE_COMPLETE || h->error != 0) {
        cut(h);
    } else if (!h->has_ended) {
        append_eos(h);
        pass_down(h);
    }
    return OK;
}
