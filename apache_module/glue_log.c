/* SPDX-License-Identifier: Apache-2.0 */
/* Log entries on behalf of an application: text of a stranger, one entry a line.
 * httpd escapes control characters and cuts long lines; level and splitting are ours. */
#include "glue_log.h"

/* httpd cuts an entry at 8 KiB less its own prefix; a longer line becomes several entries. */
#define LINE_MAX_BYTES 7168

static int level_of(int level) {
    return level < APLOG_ERR ? APLOG_ERR : level > APLOG_DEBUG ? APLOG_DEBUG : level;
}

/* The next line of *text, at most LINE_MAX_BYTES of it. 0: there is none. */
static int next_line(pyglue_str_t *line, pyglue_str_t *text) {
    while (text->len > 0 && (*text->ptr == '\n' || *text->ptr == '\r')) {
        text->ptr++;
        text->len--;
    }
    for (line->ptr = text->ptr, line->len = 0; line->len < text->len; line->len++)
        if (line->ptr[line->len] == '\n' || line->len == LINE_MAX_BYTES)
            break;
    text->ptr += line->len;
    text->len -= line->len;
    return line->len > 0;
}

void glue_log_application(request_rec *r, int level, pyglue_str_t text) {
    pyglue_str_t line;

    while (next_line(&line, &text))
        ap_log_rerror(APLOG_MARK, level_of(level) | APLOG_NOERRNO, 0, r, "%.*s", (int)line.len,
                      line.ptr);
}

void glue_log_server(server_rec *s, int level, pyglue_str_t text) {
    pyglue_str_t line;

    while (next_line(&line, &text))
        ap_log_error(APLOG_MARK, level_of(level) | APLOG_NOERRNO, 0, s, "%.*s", (int)line.len,
                     line.ptr);
}
