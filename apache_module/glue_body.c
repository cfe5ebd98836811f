/* SPDX-License-Identifier: Apache-2.0 */
/* The body of a request, from httpd's input filters: the only file that reads one. Which engine or
 * worker asks for it is unknown here. Neighbour: glue_host.c writes the response; up: glue_upload.c
 * reads ahead for workers. */
#include "glue_body.h"

#include <apr_portable.h>
#include <http_protocol.h>
#include <poll.h>
#include <util_filter.h>

#include "glue_clock.h"
#include "glue_compat.h"
#include "glue_log.h"

#define SLICE_MS 1000   /* of waiting: filters of httpd have deadlines of their own */
#define REST_MOST_MS 32 /* where it cannot be known when more has come */

/* What a failed read of httpd's input filters means. For a malformed chunk httpd puts its own
 * answer into the output filters by itself; its EOS tells. */
static int body_failed(glue_host_t *h, apr_status_t rv) {
    h->body_error = 1;
    h->body_answered = rv == AP_FILTER_ERROR || h->r->eos_sent;
    h->r->connection->keepalive = AP_CONN_CLOSE;
    ap_log_rerror(APLOG_MARK, APLOG_INFO, rv, h->r,
                  GLUE_ID(0301) "the request body was cut short or is malformed");
    return PYGLUE_E_BODY;
}

/* Moves at most len bytes of what was read into buf; sets body_done at the end of the body. */
static apr_ssize_t take_body(glue_host_t *h, char *buf, apr_size_t len) {
    apr_size_t taken = 0;

    while (taken < len && !h->body_done && !APR_BRIGADE_EMPTY(h->in)) {
        apr_bucket *b = APR_BRIGADE_FIRST(h->in);
        const char *data = NULL;
        apr_size_t n = 0;
        apr_status_t rv = APR_SUCCESS;

        if (APR_BUCKET_IS_EOS(b))
            h->body_done = 1;
        else if (!APR_BUCKET_IS_METADATA(b))
            rv = apr_bucket_read(b, &data, &n, APR_BLOCK_READ);
        if (rv != APR_SUCCESS)
            return body_failed(h, rv);
        if (n > len - taken) {
            apr_bucket_split(b, len - taken);
            n = len - taken;
        }
        if (n > 0)
            memcpy(buf + taken, data, n);
        taken += n;
        apr_bucket_delete(b);
    }
    return (apr_ssize_t)taken;
}

static apr_status_t fetch_body(glue_host_t *h, apr_read_type_e mode, apr_size_t len) {
    if (!APR_BRIGADE_EMPTY(h->in))
        return APR_SUCCESS;
    return ap_get_brigade(h->r->input_filters, h->in, AP_MODE_READBYTES, mode, (apr_off_t)len);
}

/* httpd sends 100 Continue in the first read that waits, which those of glue_body_read_while do
 * not. Nobody is invited to send the body of a request that has been answered. Returns how to read:
 * an application that has begun an error gets no body from httpd, and no wait either. */
static apr_read_type_e invite(glue_host_t *h) {
    request_rec *r = h->r;
    const char *line = r->status_line;
    int status = r->status;

    if (!r->expecting_100 || h->has_sent || r->proto_num < HTTP_VERSION(1, 1))
        return APR_NONBLOCK_READ;
    if (!ap_is_HTTP_SUCCESS(status))
        return APR_BLOCK_READ;
    r->status = HTTP_CONTINUE;
    r->status_line = NULL;
    ap_send_interim_response(r, 0);
    r->status = status;
    r->status_line = line;
    return APR_NONBLOCK_READ;
}

/* What can be read when more of the body has come: the client's socket, for a stream of HTTP/2 a
 * pipe. -1: nothing tells. *patience: how long the client may be silent. */
static int find_descriptor(glue_host_t *h, apr_interval_time_t *patience) {
    apr_pollfd_t p = {.desc_type = APR_NO_DESC};
    int fd = -1;

    *patience = h->r->server->timeout;
    if (glue_compat_pollfd(h->r->connection, &p, patience) != APR_SUCCESS)
        return -1;
    if (p.desc_type == APR_POLL_SOCKET)
        apr_os_sock_get(&fd, p.desc.s);
    else if (p.desc_type == APR_POLL_FILE)
        apr_os_file_get(&fd, p.desc.f);
    return fd;
}

/* Until more of the body may be there, at most so many ms. PYGLUE_E_IO: the peer of p[1] has closed
 * it; PYGLUE_E_TIMEOUT: it is later than `until`. */
static int await_more(struct pollfd p[2], int most, apr_time_t until) {
    apr_time_t left = until - glue_clock_now();

    if (left <= 0)
        return PYGLUE_E_TIMEOUT;
    p[0].revents = p[1].revents = 0;
    poll(p, 2, left < apr_time_from_msec(most) ? (int)apr_time_as_msec(left) + 1 : most);
    return p[1].revents != 0 ? PYGLUE_E_IO : 0;
}

ssize_t glue_body_read_while(glue_host_t *h, void *buf, size_t len, int fd, apr_time_t until) {
    apr_read_type_e mode = invite(h);
    apr_interval_time_t patience;
    struct pollfd p[] = {{.fd = find_descriptor(h, &patience), .events = POLLIN},
                         {.fd = fd, .events = POLLRDHUP}};
    apr_time_t began = glue_clock_now();
    apr_ssize_t taken = 0;
    int error = 0, rest = 1;

    while (error == 0 && taken == 0 && !h->body_done && !h->body_error) {
        apr_status_t rv = fetch_body(h, mode, len);
        int is_nothing = APR_STATUS_IS_EAGAIN(rv);

        if (!is_nothing && (rv != APR_SUCCESS || !APR_BRIGADE_EMPTY(h->in)))
            taken = rv == APR_SUCCESS ? take_body(h, buf, len) : body_failed(h, rv);
        else if (glue_clock_now() - began > patience)
            taken = body_failed(h, APR_TIMEUP);
        else
            /* A filter that took something and gave nothing may hold what no poll shows. */
            error = await_more(p, is_nothing && p[0].fd >= 0 ? SLICE_MS : rest, until);
        rest = rest < REST_MOST_MS ? 2 * rest : rest;
    }
    return error ? error : h->body_error ? PYGLUE_E_BODY : taken;
}

ssize_t glue_body_read(pyglue_host_t *base, void *buf, size_t len) {
    glue_host_t *h = (glue_host_t *)(void *)base;
    apr_ssize_t taken = 0;

    while (taken == 0 && !h->body_done && !h->body_error) {
        apr_status_t rv = fetch_body(h, APR_BLOCK_READ, len);

        if (rv != APR_SUCCESS)
            return body_failed(h, rv);
        taken = take_body(h, buf, len);
    }
    return h->body_error ? PYGLUE_E_BODY : taken;
}

apr_ssize_t glue_body_at_hand(glue_host_t *h, void *buf, apr_size_t len, int *is_end) {
    apr_ssize_t taken = 0;

    /* The first read would send 100 Continue, which is the application's to ask for. */
    while (!h->r->expecting_100 && !h->body_done && !h->body_error && (apr_size_t)taken < len) {
        apr_status_t rv = fetch_body(h, APR_NONBLOCK_READ, len - (apr_size_t)taken);
        apr_ssize_t more;

        if (APR_STATUS_IS_EAGAIN(rv) || (rv == APR_SUCCESS && APR_BRIGADE_EMPTY(h->in)))
            break;
        more = rv == APR_SUCCESS ? take_body(h, (char *)buf + taken, len - (apr_size_t)taken)
                                 : body_failed(h, rv);
        if (more < 0)
            break; /* the next read tells */
        taken += more;
    }
    *is_end = h->body_done;
    return taken;
}
