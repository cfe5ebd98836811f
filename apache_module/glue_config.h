/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: its structs, who writes them when, how to get at them.
 *
 * Three structs. The request level lies in httpd's per-directory vector, which httpd also keeps and
 * merges for servers. The site is one for the whole configuration, for directives of the main
 * server and for lists over all servers. A server's own list of aliases is glue_alias.c's. All are
 * written while httpd reads its configuration and frozen from the end of post_config on; they live
 * in the configuration pool (merged request levels: in the request's). */
#ifndef GLUE_CONFIG_H
#define GLUE_CONFIG_H

#include <apr_hash.h>

#include "glue_value.h"

typedef struct glue_alias glue_alias_t; /* one WSGIScriptAlias: glue_alias.h */

typedef struct glue_request_config {
    const char *process_group;                  /* as written: may be a token */
    const char *application_group;              /* as written; NULL: %{RESOURCE} */
    const char *callable;                       /* as written; NULL: application */
    const apr_array_header_t *restrict_process; /* names that may serve; NULL: all */
    int script_reloading, pass_authorization, chunked_request, enable_sendfile;
} glue_request_config_t;

/* A place where WSGIProcessGroup was written. glue_group.c looks for names that nothing defines,
 * glue_alias.c for what reaches a group. */
typedef struct glue_mention {
    const char *process_group;
    const char *section; /* "<Directory", "<Location", ...; NULL: server level */
    const char *path;    /* of the section */
    const char *where;   /* "file:line", for messages */
    const server_rec *server;
} glue_mention_t;

typedef struct glue_site {
    const char *python_home;   /* NULL: the Python that mod_pyglue was installed for */
    const char *python_path;   /* embedded mode only */
    const char *socket_prefix; /* absolute; NULL: <runtime folder>/wsgi */
    int restrict_embedded;
    int own_gil, free_threading;  /* WSGIPerInterpreterGIL, WSGIFreeThreading */
    apr_array_header_t *blocks;   /* <WSGIInterpreterOptions>: glue_interpreter.c */
    apr_array_header_t *groups;   /* of glue_group_t *, in the order of the file */
    apr_array_header_t *scripts;  /* of glue_script_t */
    apr_array_header_t *mentions; /* of glue_mention_t */
    apr_hash_t *targets;          /* file -> glue_alias_t *, of all servers */
} glue_site_t;

typedef struct glue_server_config {
    glue_site_t *site;           /* the one of all servers */
    apr_array_header_t *aliases; /* of glue_alias_t *; merged: the server's own come first */
} glue_server_config_t;

extern const command_rec glue_config_directives[];

void *glue_config_create_server(apr_pool_t *pool, server_rec *s);
void *glue_config_merge_server(apr_pool_t *pool, void *base, void *add);
void *glue_config_create_request(apr_pool_t *pool, char *dir);
void *glue_config_merge_request(apr_pool_t *pool, void *base, void *add);

glue_server_config_t *glue_config_server(const server_rec *s);
/* Any server's gives the same. Defaults of numbers have been applied from check_config on. */
glue_site_t *glue_config_site(const server_rec *s);
/* What holds for this request, defaults applied. */
void glue_config_request(glue_request_config_t *config, const request_rec *r);
/* WSGIScriptReloading at server level: of scripts that no request has asked for yet. */
int glue_config_is_reloading(const server_rec *s);
/* Once the configuration has been read. */
void glue_config_finish(server_rec *s);

#endif
