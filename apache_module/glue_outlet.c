/* SPDX-License-Identifier: Apache-2.0 */
/* Buckets go from the brigade that came into `out`, and from there to httpd's own filter, which
 * looks at each pass whether more lies in memory than FlushMaxThreshold, or a FLUSH bucket is
 * there: for these it would wait, so neither reaches it. Files do not count, for either. */
#include "glue_outlet.h"

#include <ap_mpm.h>
#include <http_connection.h>
#include <http_core.h>
#include <http_request.h>
#include <poll.h>
#include <util_filter.h>

#include "glue_compat.h"
#include "glue_host.h"
#include "glue_passed.h"
#include "glue_rest.h"

#define LEAST_LIMIT 4096 /* however low FlushMaxThreshold is */
#define LEAST_WRITE 4096 /* httpd's own filter keeps less than this without trying to send it */
#define GRACE 10000      /* µs that a client may be slow before anything is done about it */

/* Of a connection. */
typedef struct outlet_home {
    struct outlet *current; /* whose response passes; NULL: one that is no matter of ours */
    apr_size_t below;       /* when the last one had passed */
} outlet_home_t;

/* Of one response, in its request's pool. */
typedef struct outlet {
    outlet_home_t *home;
    request_rec *r;
    glue_outlet_wait_fn wait; /* NULL: all of it is here */
    void *baton;
    apr_bucket_brigade *out;
    apr_size_t limit; /* bytes in memory that httpd's own filter takes without waiting */
    apr_size_t below; /* so many may be there, with those in out */
    /* The last: the file has gone down, or there can be none. */
    enum { OUTLET_PASSES, OUTLET_STORES, OUTLET_STORED } state;
    glue_rest_t rest;
} outlet_t;

static ap_filter_rec_t *record; /* frozen after register */
static int is_async;            /* frozen after child_init */

/* Sending. */

static int is_pending(const outlet_t *o) {
    return o->r->connection->data_in_output_filters != 0;
}

static apr_status_t note_sent(outlet_t *o, apr_status_t rv) {
    if (!is_pending(o))
        o->below = 0;
    return rv;
}

static apr_status_t pass(outlet_t *o, ap_filter_t *f) {
    apr_status_t rv = APR_BRIGADE_EMPTY(o->out) ? APR_SUCCESS : ap_pass_brigade(f->next, o->out);

    apr_brigade_cleanup(o->out);
    return note_sent(o, rv);
}

/* What is there already, as far as the client takes it now: by the call that the event MPM makes
 * when a socket can be written. */
static apr_status_t push(outlet_t *o, ap_filter_t *f) {
    ap_filter_t *last = f->next;

    while (last->next != NULL)
        last = last->next;
    return note_sent(o, last->frec->filter_func.out_func(last, NULL));
}

static int wait_plainly(int client, apr_interval_time_t timeout) {
    struct pollfd p = {.fd = client, .events = POLLOUT};

    return poll(&p, 1, timeout < 0 ? -1 : (int)apr_time_as_msec(timeout)) == 0 ? PYGLUE_E_TIMEOUT
                                                                               : 0;
}

/* As glue_outlet_wait_fn; 1 only where what follows can be stored. */
static int wait_for_client(const outlet_t *o) {
    apr_socket_t *client = ap_get_conn_socket(o->r->connection);
    apr_interval_time_t timeout;
    int fd;

    if (apr_socket_timeout_get(client, &timeout) != APR_SUCCESS ||
        apr_os_sock_get(&fd, client) != APR_SUCCESS)
        return PYGLUE_E_TIMEOUT;
    if (o->state == OUTLET_STORED)
        return wait_plainly(fd, timeout);
    if (wait_plainly(fd, GRACE) == 0)
        return 0;
    return o->wait != NULL ? o->wait(o->baton, fd, timeout) : 1;
}

/* Until the client has taken all, or what is left can be stored. */
static apr_status_t drain(outlet_t *o, ap_filter_t *f) {
    apr_status_t rv = pass(o, f);

    if (rv == APR_SUCCESS && is_pending(o) && o->below < LEAST_WRITE)
        rv = push(o, f);
    while (rv == APR_SUCCESS && is_pending(o)) {
        int result = wait_for_client(o);

        if (result == 1) {
            o->state = glue_passed_keep(o->r->pool) ? OUTLET_STORES : OUTLET_STORED;
            if (o->state == OUTLET_STORES)
                break;
        }
        rv = result < 0 ? APR_TIMEUP : push(o, f);
    }
    return rv;
}

/* Storing. */

/* The file goes down, behind what went before. It is the request's until the client has it. */
static void append_stored(outlet_t *o) {
    apr_int32_t flags = APR_FOPEN_READ | APR_FOPEN_BINARY;
    apr_file_t *file;

    if (o->state == OUTLET_STORES)
        o->state = OUTLET_STORED;
    if (o->rest.length == 0)
        return;
    if (glue_host_may_sendfile(o->r))
        flags |= APR_FOPEN_SENDFILE_ENABLED;
    apr_os_file_put(&file, &o->rest.fd, flags, o->r->pool);
    glue_host_append_file(o->out, file, 0, o->rest.length, o->r->pool);
    o->rest.length = 0;
}

/* Not more than fits, of which the rest stays where it is. Less than asked for is no error: some
 * buckets cannot be split. */
static void take(outlet_t *o, apr_bucket *b, apr_size_t len, apr_size_t room) {
    if (len > room && apr_bucket_split(b, room) == APR_SUCCESS)
        len = room;
    APR_BUCKET_REMOVE(b);
    APR_BRIGADE_INSERT_TAIL(o->out, b);
    o->below += len;
}

static apr_status_t take_data(outlet_t *o, ap_filter_t *f, apr_bucket *b) {
    const char *bytes;
    apr_size_t len;
    apr_status_t rv = apr_bucket_read(b, &bytes, &len, APR_BLOCK_READ);

    if (rv == APR_SUCCESS && o->state != OUTLET_STORES && o->below >= o->limit)
        rv = drain(o, f);
    if (rv != APR_SUCCESS)
        return rv;
    if (o->state != OUTLET_STORES)
        take(o, b, len, o->limit - o->below);
    else if (glue_rest_add(&o->rest, (pyglue_str_t){bytes, len}))
        apr_bucket_delete(b);
    else
        append_stored(o);
    return APR_SUCCESS;
}

/* Buckets. */

static int is_end(const apr_bucket *b) {
    return APR_BUCKET_IS_EOS(b) || AP_BUCKET_IS_EOR(b);
}

/* The response ends, and with its last bucket its pool may: nothing of it is used after that. */
static apr_status_t end(outlet_t *o, ap_filter_t *f, apr_bucket_brigade *in) {
    append_stored(o);
    o->home->current = NULL;
    o->home->below = o->below;
    APR_BRIGADE_PREPEND(in, o->out);
    return ap_pass_brigade(f->next, in);
}

static apr_status_t take_one(outlet_t *o, ap_filter_t *f, apr_bucket *b) {
    if (APR_BUCKET_IS_FLUSH(b)) {
        apr_bucket_delete(b);
        return o->state == OUTLET_STORES ? APR_SUCCESS : drain(o, f);
    }
    if (!APR_BUCKET_IS_METADATA(b) && !APR_BUCKET_IS_FILE(b))
        return take_data(o, f, b);
    if (APR_BUCKET_IS_FILE(b))
        append_stored(o);
    APR_BUCKET_REMOVE(b);
    APR_BRIGADE_INSERT_TAIL(o->out, b);
    return APR_SUCCESS;
}

/* httpd's own filter does the same where a client takes nothing in time. */
static apr_status_t give_up(outlet_t *o, apr_status_t rv, apr_bucket_brigade *in) {
    o->r->connection->aborted = 1;
    apr_brigade_cleanup(o->out);
    apr_brigade_cleanup(in);
    return rv;
}

static apr_status_t filter(ap_filter_t *f, apr_bucket_brigade *in) {
    outlet_t *o = ((outlet_home_t *)f->ctx)->current;
    apr_status_t rv = APR_SUCCESS;

    if (o == NULL || f->c->aborted)
        return ap_pass_brigade(f->next, in);
    while (rv == APR_SUCCESS && !APR_BRIGADE_EMPTY(in)) {
        if (is_end(APR_BRIGADE_FIRST(in)))
            return end(o, f, in);
        rv = take_one(o, f, APR_BRIGADE_FIRST(in));
    }
    if (rv == APR_SUCCESS)
        rv = pass(o, f);
    return rv == APR_SUCCESS ? rv : give_up(o, rv, in);
}

/* Its life. */

void glue_outlet_register(void) {
    record = ap_register_output_filter("PYGLUE_OUTLET", filter, NULL, AP_FTYPE_NETWORK - 1);
}

void glue_outlet_child_init(void) {
    if (ap_mpm_query(AP_MPMQ_IS_ASYNC, &is_async) != APR_SUCCESS)
        is_async = 0;
}

/* On each connection, because its filters may be changed at its beginning alone. Where no response
 * of a worker passes it costs a call. */
int glue_outlet_pre_connection(conn_rec *c, void *csd) {
    outlet_home_t *home;

    (void)csd;
    if (!is_async || c->master != NULL)
        return OK;
    home = apr_pcalloc(c->pool, sizeof *home);
    ap_set_module_config(c->conn_config, &wsgi_module, home);
    ap_add_output_filter_handle(record, home, NULL, c);
    return OK;
}

static outlet_home_t *home_of(const request_rec *r) {
    return ap_get_module_config(r->connection->conn_config, &wsgi_module);
}

static apr_status_t forget(void *outlet) {
    outlet_t *o = outlet;

    if (o->home->current == o)
        o->home->current = NULL;
    glue_rest_end(&o->rest);
    return APR_SUCCESS;
}

static outlet_t *create(request_rec *r, outlet_home_t *home) {
    outlet_t *o = apr_pcalloc(r->pool, sizeof *o);
    apr_size_t limit = glue_compat_flush_threshold(r->connection->base_server);

    o->home = home;
    o->r = r;
    o->limit = limit > LEAST_LIMIT ? limit : LEAST_LIMIT;
    o->out = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    o->below = is_pending(o) ? home->below : 0;
    apr_pool_cleanup_register(r->pool, o, forget, apr_pool_cleanup_null);
    return home->current = o;
}

/* The end of a subrequest's response is never seen here. */
int glue_outlet_begin(request_rec *r, glue_outlet_wait_fn wait, void *baton) {
    outlet_home_t *home = home_of(r);
    outlet_t *o;

    if (home == NULL || r->main != NULL)
        return 0;
    o = home->current != NULL && home->current->r == r ? home->current : create(r, home);
    o->wait = wait;
    o->baton = baton;
    return 1;
}

void glue_outlet_end(request_rec *r, int has_started) {
    outlet_home_t *home = home_of(r);

    if (home == NULL || home->current == NULL || home->current->r != r)
        return;
    home->current->wait = NULL;
    if (!has_started)
        home->current = NULL;
}
