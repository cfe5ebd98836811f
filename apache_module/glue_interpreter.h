/* SPDX-License-Identifier: Apache-2.0 */
/* <WSGIInterpreterOptions>: settings of the interpreters that its selectors name. Written while
 * httpd reads its configuration, frozen from the end of post_config on. */
#ifndef GLUE_INTERPRETER_H
#define GLUE_INTERPRETER_H

#include "glue_config.h"
#include "glue_json.h"

/* Setter of the section. */
const char *glue_interpreter_directive(cmd_parms *cmd, void *unused, const char *line);

/* WSGIFreeThreading of a process group; "": of httpd's children. */
int glue_interpreter_is_free(const glue_site_t *site, const char *process_group);

/* Writes the sections that are of a process group as a list, docs/plan.md 3: whatever comes later
 * goes before. */
void glue_interpreter_put(glue_json_t *w, const glue_site_t *site, const char *process_group);

#endif
