/* SPDX-License-Identifier: Apache-2.0 */
/* JSON that is written: for plans and for the settings of an engine. Texts are bytes written as
 * latin-1 characters, so that any path survives (docs/plan.md 3). */
#ifndef GLUE_JSON_H
#define GLUE_JSON_H

#include "glue.h"

/* A text that grows in a pool. Starts as {.pool = pool}; length bytes of text are written, without
 * an ending zero. */
typedef struct glue_json {
    char *text;
    apr_size_t length, room;
    apr_pool_t *pool;
} glue_json_t;

/* As it is: punctuation, names, numbers. */
void glue_json_plain(glue_json_t *w, const char *text);
__attribute__((format(printf, 2, 3))) void glue_json_format(glue_json_t *w, const char *format,
                                                            ...);

/* A text in quotes, escaped. */
void glue_json_bytes(glue_json_t *w, const char *text, apr_size_t len);
/* The same up to its ending zero; NULL: null. */
void glue_json_text(glue_json_t *w, const char *text);
/* A list of texts. path: folders apart by colons, as in PATH; NULL: an empty list. */
void glue_json_path(glue_json_t *w, const char *path);

#endif
