/* SPDX-License-Identifier: Apache-2.0 */
/* The head of a response in httpd's terms. Up: glue_host.c, which says when there is one. */
#include "glue_head.h"

#include <http_protocol.h>

/* Fields that concern the connection, and are httpd's alone (RFC 9110 section 7.6.1). */
static int is_framing(const char *name) {
    static const char *const names[] = {"Connection", "Keep-Alive",        "Proxy-Connection", "TE",
                                        "Trailer",    "Transfer-Encoding", "Upgrade"};

    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcasecmp(name, names[i]) == 0)
            return 1;
    return 0;
}

/* Kept also where httpd sends an error page of its own in place of the application's. */
static int is_challenge(const char *name) {
    return strcasecmp(name, "WWW-Authenticate") == 0 || strcasecmp(name, "Proxy-Authenticate") == 0;
}

static int set_length(request_rec *r, const char *value) {
    apr_off_t length;
    char *end;
    const char *before = apr_table_get(r->headers_out, "Content-Length");

    if (apr_strtoff(&length, value, &end, 10) != APR_SUCCESS || end == value || *end != '\0' ||
        length < 0 || *value == '-' || *value == '+' || (before != NULL && r->clength != length))
        return PYGLUE_E_HEAD;
    ap_set_content_length(r, length);
    return 0;
}

static int set_field(request_rec *r, const pyglue_header_t *field) {
    char *name = apr_pstrmemdup(r->pool, field->name.ptr, field->name.len);
    char *value = apr_pstrmemdup(r->pool, field->value.ptr, field->value.len);

    if (is_framing(name))
        return 0;
    if (strcasecmp(name, "Content-Length") == 0)
        return set_length(r, value);
    if (strcasecmp(name, "Content-Type") == 0)
        ap_set_content_type(r, value);
    else
        apr_table_addn(is_challenge(name) ? r->err_headers_out : r->headers_out, name, value);
    return 0;
}

/* "404 Not Found"; without a reason httpd's own, or a plain one where httpd knows none. */
static const char *status_line(const pyglue_head_t *head, request_rec *r) {
    const char *own;

    if (head->reason.len > 0)
        return apr_psprintf(r->pool, "%d %.*s", head->status, (int)head->reason.len,
                            head->reason.ptr);
    own = ap_get_status_line(head->status);
    return atoi(own) == head->status
               ? own
               : apr_psprintf(r->pool, "%d Status %d", head->status, head->status);
}

/* What other modules guessed from the script's name says nothing of the response. */
static void forget_guesses(request_rec *r) {
    ap_set_content_type(r, NULL);
    r->content_encoding = NULL;
    r->content_languages = NULL;
    apr_table_unset(r->headers_out, "Content-Length");
}

int glue_head_set(request_rec *r, const pyglue_head_t *head, const pyglue_bounds_t *bounds) {
    int error = pyglue_head_check(head, bounds);

    if (error == 0)
        forget_guesses(r);
    for (size_t i = 0; error == 0 && i < head->header_count; i++)
        error = set_field(r, &head->headers[i]);
    if (error != 0)
        return error;
    r->status = head->status;
    r->status_line = status_line(head, r);
    return 0;
}
