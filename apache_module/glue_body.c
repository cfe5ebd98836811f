/* SPDX-License-Identifier: Apache-2.0 */
/* The body of a request, from httpd's input filters: the only file that reads one. Which engine or
 * worker asks for it is unknown here. Neighbour: glue_host.c writes the response; up: glue_upload.c
 * reads ahead for workers. */
#include "glue_body.h"

#include <http_core.h>
#include <http_protocol.h>
#include <poll.h>
#include <util_filter.h>

#include "glue_clock.h"
#include "glue_log.h"

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

/* Until the client's socket can be read, or the peer of fd has closed it: then PYGLUE_E_IO. A
 * second at most, because filters of httpd have deadlines of their own. Streams of HTTP/2 have no
 * socket: they wait in the read. */
static int await_client(glue_host_t *h, int fd, apr_read_type_e *mode) {
    conn_rec *c = h->r->connection;
    struct pollfd p[] = {{.fd = fd, .events = POLLRDHUP}, {.events = POLLIN}};

    if (c->master != NULL || apr_os_sock_get(&p[1].fd, ap_get_conn_socket(c)) != APR_SUCCESS)
        *mode = APR_BLOCK_READ;
    else
        poll(p, 2, 1000);
    return p[0].revents != 0 ? PYGLUE_E_IO : 0;
}

ssize_t glue_body_read_while(glue_host_t *h, void *buf, size_t len, int fd) {
    /* Only a read that waits has httpd send 100 Continue. */
    apr_read_type_e mode = h->r->expecting_100 ? APR_BLOCK_READ : APR_NONBLOCK_READ;
    apr_interval_time_t patience = h->r->server->timeout;
    apr_time_t began = glue_clock_now();
    apr_ssize_t taken = 0;
    int error = 0;

    if (h->r->connection->master == NULL)
        apr_socket_timeout_get(ap_get_conn_socket(h->r->connection), &patience);
    while (error == 0 && taken == 0 && !h->body_done && !h->body_error) {
        apr_status_t rv = fetch_body(h, mode, len);
        int is_nothing = rv == APR_SUCCESS && APR_BRIGADE_EMPTY(h->in);

        if (!is_nothing && !APR_STATUS_IS_EAGAIN(rv))
            taken = rv == APR_SUCCESS ? take_body(h, buf, len) : body_failed(h, rv);
        else if (glue_clock_now() - began > patience)
            taken = body_failed(h, APR_TIMEUP);
        else
            error = await_client(h, fd, &mode);
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

    if (!ap_request_has_body(h->r))
        h->body_done = 1;
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
