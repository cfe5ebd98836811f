/* SPDX-License-Identifier: Apache-2.0 */
/* Writes JSON. What is written is its users' affair: glue_plan.c, glue_embed.c. */
#include "glue_json.h"

#include <stdarg.h>

static void put(glue_json_t *w, const char *bytes, apr_size_t len) {
    if (w->length + len > w->room) {
        char *before = w->text;

        w->room = 2 * (w->length + len) + 4096;
        w->text = apr_palloc(w->pool, w->room);
        if (w->length > 0)
            memcpy(w->text, before, w->length);
    }
    memcpy(w->text + w->length, bytes, len);
    w->length += len;
}

void glue_json_plain(glue_json_t *w, const char *text) {
    put(w, text, strlen(text));
}

void glue_json_format(glue_json_t *w, const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    glue_json_plain(w, apr_pvsprintf(w->pool, format, arguments));
    va_end(arguments);
}

void glue_json_bytes(glue_json_t *w, const char *text, apr_size_t len) {
    char escape[8];

    put(w, "\"", 1);
    for (apr_size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c >= 32 && c < 127 && c != '"' && c != '\\') {
            put(w, text + i, 1);
            continue;
        }
        apr_snprintf(escape, sizeof escape, "\\u%04x", c);
        put(w, escape, 6);
    }
    put(w, "\"", 1);
}

void glue_json_text(glue_json_t *w, const char *text) {
    if (text == NULL)
        glue_json_plain(w, "null");
    else
        glue_json_bytes(w, text, strlen(text));
}

void glue_json_path(glue_json_t *w, const char *path) {
    const char *separator = "";

    glue_json_plain(w, "[");
    while (path != NULL && *path != '\0') {
        apr_size_t len = strcspn(path, ":");

        if (len > 0) {
            glue_json_plain(w, separator);
            glue_json_bytes(w, path, len);
            separator = ", ";
        }
        path += path[len] == ':' ? len + 1 : len;
    }
    glue_json_plain(w, "]");
}
