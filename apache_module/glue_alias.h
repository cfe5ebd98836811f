/* SPDX-License-Identifier: Apache-2.0 */
/* WSGIScriptAlias and WSGIScriptAliasMatch: from a URL to a script. */
#ifndef GLUE_ALIAS_H
#define GLUE_ALIAS_H

#include "glue_config.h"

/* Written while the configuration is read, but for `is_alone`: check_config. Then frozen. */
struct glue_alias {
    const char *url;           /* prefix, or the text of the expression */
    ap_regex_t *expression;    /* NULL: url is a prefix */
    const char *target;        /* file or folder; of an expression with $1 */
    const char *process_group; /* of the options, each NULL when not given; "" : embedded */
    const char *application_group;
    const char *callable;   /* taken as it is: no token */
    int pass_authorization; /* GLUE_UNSET: as the directive says */
    int is_alone; /* nothing else reaches its group: the main interpreter is its default */
    server_rec *server;
    const char *where; /* "file:line", for messages */
};

/* Setters of the two directives. */
const char *glue_alias_prefix_directive(cmd_parms *cmd, void *unused, const char *line);
const char *glue_alias_match_directive(cmd_parms *cmd, void *unused, const char *line);

/* Hook translate_name. */
int glue_alias_translate(request_rec *r);

/* The alias that mapped this request; NULL: another way did. */
const glue_alias_t *glue_alias_of(const request_rec *r);

/* An alias of any server whose target is this very file; NULL: there is none. What an expression
 * puts together from the URL, and what lies below a target folder, is not known here. */
const glue_alias_t *glue_alias_to(const request_rec *r, const char *file);

/* Is the path of a file or URL the folder or prefix itself, or below it? */
int glue_alias_is_below(const char *path, const char *folder);

/* $1 in the target: it is known only with a URL. */
int glue_alias_is_pattern(const glue_alias_t *alias);

/* 1: whatever the request, httpd's children run it. Configuration time, when all of it is read. */
int glue_alias_is_embedded(const glue_alias_t *alias);

/* Logs what an administrator should know of the aliases: at `httpd -t`, and once at a start. */
void glue_alias_advise(server_rec *main_server);

/* Hook check_config's part: which aliases are alone in their process group (DESIGN 9). */
void glue_alias_find_alone(server_rec *main_server);

#endif
