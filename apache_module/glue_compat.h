/* SPDX-License-Identifier: Apache-2.0 */
/* Every difference between the versions of httpd that we build for: 2.4.37 and later. */
#ifndef GLUE_COMPAT_H
#define GLUE_COMPAT_H

#include <ap_mmn.h>
#include <httpd.h>

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

#endif
