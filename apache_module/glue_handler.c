/* SPDX-License-Identifier: Apache-2.0 */
/* The content handler: the checks of mod_wsgi, then route, snapshot, and embedded or daemon.
 * The only place where results of the rooms below become HTTP statuses. */
#include "glue_handler.h"

#include <apr_lib.h>
#include <http_core.h>
#include <http_protocol.h>

#include "glue_alias.h"
#include "glue_daemon.h"
#include "glue_embed.h"
#include "glue_log.h"
#include "glue_route.h"
#include "glue_snapshot.h"

static int complain(int status, request_rec *r, const char *what) {
    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "%s: %s", what, r->filename);
    return status;
}

static int check_target(request_rec *r) {
    if (!(ap_allow_options(r) & OPT_EXECCGI) && glue_alias_of(r) == NULL)
        return complain(
            HTTP_FORBIDDEN, r,
            GLUE_ID(0204) "Options ExecCGI is off here and no WSGIScriptAlias leads here");
    if (r->finfo.filetype == APR_NOFILE)
        return complain(
            HTTP_NOT_FOUND, r,
            GLUE_ID(0205) "there is no such script, or httpd's user may not enter a folder "
                          "above it: check the path and its permissions");
    if (r->finfo.filetype == APR_DIR)
        return complain(HTTP_FORBIDDEN, r, GLUE_ID(0206) "the target is a folder, not a script");
    if (r->used_path_info == AP_REQ_REJECT_PATH_INFO && r->path_info && *r->path_info)
        return complain(HTTP_NOT_FOUND, r,
                        GLUE_ID(0207) "AcceptPathInfo Off disallows the path behind");
    return OK;
}

/* A filter of the request's content (mod_deflate's) makes the body longer or shorter than what the
 * client announced: where it ends, the filters tell. */
static int is_body_filtered(const request_rec *r) {
    return r->input_filters != r->proto_input_filters;
}

/* What httpd sends in place of a response that failed (ErrorDocument): a GET of its own. The body
 * was that of the failed request, which may have read it. */
static int is_error_document(const request_rec *r) {
    return r->prev != NULL && ap_is_HTTP_ERROR(r->prev->status);
}

/* *length: of the request body, -1: not known before it was read. */
static int check_body(apr_int64_t *length, request_rec *r, const glue_request_config_t *config) {
    const char *coding = apr_table_get(r->headers_in, "Transfer-Encoding");
    const char *header = apr_table_get(r->headers_in, "Content-Length");
    apr_off_t limit = ap_get_limit_req_body(r), number = 0;
    char *end;

    *length = 0;
    if (is_error_document(r))
        return OK;
    if (coding != NULL) {
        *length = -1;
        if (strcasecmp(coding, "chunked") != 0)
            return complain(HTTP_NOT_IMPLEMENTED, r, GLUE_ID(0208) "unknown Transfer-Encoding");
        if (!config->chunked_request)
            return complain(HTTP_LENGTH_REQUIRED, r, GLUE_ID(0209) "WSGIChunkedRequest is Off");
        return OK;
    }
    if (header == NULL) {
        /* HTTP/2 may send a body without announcing its length. */
        *length = ap_request_has_body(r) ? -1 : 0;
        return OK;
    }
    if (!apr_isdigit(*header) || apr_strtoff(&number, header, &end, 10) != APR_SUCCESS ||
        *end != '\0')
        return complain(HTTP_BAD_REQUEST, r, GLUE_ID(0210) "invalid Content-Length");
    if (limit > 0 && number > limit)
        return complain(HTTP_REQUEST_ENTITY_TOO_LARGE, r,
                        GLUE_ID(0211) "LimitRequestBody is exceeded");
    *length = number > 0 && is_body_filtered(r) ? -1 : number;
    return OK;
}

/* What was not even started: docs of glue_daemon_run and glue_embed_run. */
static int status_of(int error, request_rec *r) {
    switch (error) {
    case PYGLUE_E_GONE:
    case PYGLUE_E_REFUSED:
        apr_table_setn(r->err_headers_out, "Retry-After", "1");
        return HTTP_SERVICE_UNAVAILABLE;
    case PYGLUE_E_TIMEOUT:
        return HTTP_GATEWAY_TIME_OUT;
    case PYGLUE_E_IO:
    case PYGLUE_E_PROTOCOL:
        return HTTP_BAD_GATEWAY;
    default:
        return HTTP_INTERNAL_SERVER_ERROR;
    }
}

static int run(request_rec *r, const glue_route_t *route, const pyglue_snapshot_t *snapshot) {
    glue_host_t host;
    pyglue_outcome_t outcome = {PYGLUE_FAILED, HTTP_INTERNAL_SERVER_ERROR};
    int error;

    glue_host_init(&host, r, route->group ? &route->group->bounds : &pyglue_bounds_default);
    host.allows_sendfile = route->config.enable_sendfile;
    error = route->group ? glue_daemon_run(&outcome, route->group, &host, snapshot)
                         : glue_embed_run(&outcome, &host, snapshot);
    if (error != 0)
        outcome = (pyglue_outcome_t){PYGLUE_FAILED, status_of(error, r)};
    return glue_host_end(&host, &outcome);
}

int glue_handler_withhold(request_rec *r) {
    const glue_alias_t *alias =
        r->finfo.filetype == APR_REG && r->filename != NULL ? glue_alias_to(r, r->filename) : NULL;

    if (alias == NULL)
        return DECLINED;
    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                  GLUE_ID(0213) "%s is the script of a WSGIScriptAlias (%s) and is not sent as a "
                                "file: keep it outside of the folders that httpd serves",
                  r->filename, alias->where);
    return HTTP_FORBIDDEN;
}

int glue_handler(request_rec *r) {
    const pyglue_snapshot_t *snapshot;
    glue_route_t route;
    apr_int64_t length;
    int status;

    if (r->handler == NULL || (strcmp(r->handler, "wsgi-script") != 0 &&
                               strcmp(r->handler, "application/x-httpd-wsgi") != 0))
        return DECLINED;
    if ((status = check_target(r)) != OK)
        return status;
    if (glue_route_find(&route, r) != 0)
        return HTTP_INTERNAL_SERVER_ERROR;
    if ((status = check_body(&length, r, &route.config)) != OK)
        return status;
    snapshot = glue_snapshot_make(r, &route, length);
    if (snapshot == NULL)
        return complain(HTTP_INTERNAL_SERVER_ERROR, r, GLUE_ID(0212) "the request is too large");
    return run(r, &route, snapshot);
}
