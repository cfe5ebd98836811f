/* SPDX-License-Identifier: Apache-2.0 */
/* Every difference between the versions of httpd that we build for, 2.4.37 and later, and between C
 * libraries. */
#ifndef GLUE_COMPAT_H
#define GLUE_COMPAT_H

#include <ap_mmn.h>
#include <apr_poll.h>
#include <http_core.h>
#include <httpd.h>
#include <stdlib.h>
#include <unistd.h>

#if AP_MODULE_MAGIC_AT_LEAST(20120211, 109)
#include <http_ssl.h>
#define glue_compat_is_tls(connection) ap_ssl_conn_is_ssl(connection)
#else
#include <apr_optional.h>
APR_DECLARE_OPTIONAL_FN(int, ssl_is_https, (conn_rec *));
/* Is this connection encrypted by httpd? Asked once a request: one look into a small hash. */
static inline int glue_compat_is_tls(conn_rec *c) {
    APR_OPTIONAL_FN_TYPE(ssl_is_https) *is_https = APR_RETRIEVE_OPTIONAL_FN(ssl_is_https);

    return is_https != NULL && is_https(c->master ? c->master : c);
}
#endif

/* What can be polled for more of the connection's input, and its time-out. APR_ENOTIMPL: nothing.
 */
#if AP_MODULE_MAGIC_AT_LEAST(20120211, 129)
#define glue_compat_pollfd(connection, p, timeout) ap_get_pollfd_from_conn(connection, p, timeout)
#else
static inline apr_status_t glue_compat_pollfd(conn_rec *c, apr_pollfd_t *p,
                                              apr_interval_time_t *timeout) {
    if (c->master != NULL) /* a stream of HTTP/2 */
        return APR_ENOTIMPL;
    p->desc_type = APR_POLL_SOCKET;
    p->desc.s = ap_get_conn_socket(c);
    return apr_socket_timeout_get(p->desc.s, timeout);
}
#endif

/* So many bytes in memory httpd's own output filter takes without waiting for the client. */
static inline apr_size_t glue_compat_flush_threshold(const server_rec *s) {
#if AP_MODULE_MAGIC_AT_LEAST(20120211, 97)
    const core_server_config *core = ap_get_core_module_config(s->module_config);

    return core->flush_max_threshold;
#else
    (void)s;
    return 65535;
#endif
}

/* Has exit() end the process with its status at once, without the handlers that were registered
 * before this. Where none is told the status it is 0. */
#ifdef __GLIBC__
static inline void glue_compat_leave(int status, void *unused) {
    (void)unused;
    _exit(status);
}
static inline int glue_compat_exit_at_once(void) {
    return on_exit(glue_compat_leave, NULL);
}
#else
static inline void glue_compat_leave(void) {
    _exit(0);
}
static inline int glue_compat_exit_at_once(void) {
    return atexit(glue_compat_leave);
}
#endif

#endif
