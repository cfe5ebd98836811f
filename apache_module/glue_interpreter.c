/* SPDX-License-Identifier: Apache-2.0 */
/* <WSGIInterpreterOptions>: read, and handed on for each process group in the order in which its
 * settings win. Which application group an interpreter is of, its process alone knows. */
#include "glue_interpreter.h"

#include "glue_log.h"

/* One section. A selector that is NULL lets all pass; "" is %{GLOBAL}. */
typedef struct glue_block {
    const char *process_group, *application_group;
    const char *python_path;     /* NULL: unset */
    int own_gil, free_threading; /* or GLUE_UNSET */
} glue_block_t;

#define SETTING(name_, type_, field_)                                                              \
    {                                                                                              \
        (name_), {                                                                                 \
            .type = (type_), .home = GLUE_OPTION, .offset = offsetof(glue_block_t, field_)         \
        }                                                                                          \
    }
static const struct setting {
    const char *name;
    glue_row_t row;
} settings[] = {
    SETTING("WSGIPerInterpreterGIL", GLUE_FLAG, own_gil),
    SETTING("WSGIFreeThreading", GLUE_FLAG, free_threading),
    SETTING("WSGIPythonPath", GLUE_TEXT, python_path),
};
#define SETTINGS (sizeof settings / sizeof settings[0])

/* Reading. */

static const struct setting *find(const char *name) {
    for (unsigned i = 0; i < SETTINGS; i++)
        if (strcasecmp(name, settings[i].name) == 0)
            return &settings[i];
    return NULL;
}

/* One line of the section. NULL, or the complaint. */
static const char *read_line(glue_block_t *block, const ap_directive_t *line, apr_pool_t *pool) {
    const struct setting *setting = find(line->directive);
    const char *rest = line->args;
    const char *word, *problem;

    if (setting == NULL)
        return glue_value_complaint("<WSGIInterpreterOptions>", line->directive,
                                    "is no setting of an interpreter; these are: "
                                    "WSGIPerInterpreterGIL, WSGIFreeThreading, WSGIPythonPath",
                                    pool);
    word = ap_getword_conf(pool, &rest);
    if (*rest != '\0')
        return glue_value_complaint(setting->name, rest, "is one word too many", pool);
    problem = glue_value_parse(block, &setting->row, word, pool);
    return problem == NULL ? NULL : glue_value_complaint(setting->name, word, problem, pool);
}

/* The selectors, up to the `>`. NULL, or the complaint. */
static const char *read_selectors(glue_block_t *block, const char *line, apr_pool_t *pool) {
    const char *name, *value;
    int more;

    while ((more = glue_value_option(&name, &value, &line, pool)) > 0) {
        const char **field = strcasecmp(name, "process-group") == 0 ? &block->process_group
                             : strcasecmp(name, "application-group") == 0
                                 ? &block->application_group
                                 : NULL;

        if (field == NULL || *field != NULL)
            return glue_value_complaint(
                "<WSGIInterpreterOptions>", name,
                field ? "is there twice"
                      : "is no selector; these are: process-group, application-group",
                pool);
        *field = strcmp(value, "%{GLOBAL}") == 0 ? "" : value;
    }
    return more == 0 ? NULL
                     : glue_value_complaint("<WSGIInterpreterOptions>", name,
                                            "is not of the form name=value", pool);
}

static void advise(const cmd_parms *cmd, const glue_block_t *block) {
    if (block->application_group != NULL && block->free_threading != GLUE_UNSET)
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, cmd->server,
                     GLUE_ID(0404) "WSGIFreeThreading has no effect where application-group= is "
                                   "given: it is of whole processes (%s)",
                     glue_value_where(cmd));
}

const char *glue_interpreter_directive(cmd_parms *cmd, void *unused, const char *line) {
    const char *end = ap_strrchr_c(line, '>');
    const char *complaint = ap_check_cmd_context(cmd, GLOBAL_ONLY);
    glue_block_t *block = apr_pcalloc(cmd->pool, sizeof *block);

    (void)unused;
    if (complaint == NULL && end == NULL)
        complaint = "<WSGIInterpreterOptions: the closing '>' is missing";
    for (unsigned i = 0; i < SETTINGS; i++)
        glue_value_unset(block, &settings[i].row);
    if (complaint == NULL)
        complaint = read_selectors(block, apr_pstrmemdup(cmd->pool, line, (apr_size_t)(end - line)),
                                   cmd->pool);
    for (const ap_directive_t *at = cmd->directive->first_child; at != NULL && complaint == NULL;
         at = at->next)
        complaint = read_line(block, at, cmd->pool);
    if (complaint != NULL)
        return complaint;
    advise(cmd, block);
    APR_ARRAY_PUSH(glue_config_site(cmd->server)->blocks, glue_block_t *) = block;
    return NULL;
}

/* What holds. */

static int is_of(const glue_block_t *block, const char *process_group) {
    return block->process_group == NULL || strcmp(block->process_group, process_group) == 0;
}

/* How many selectors it has: the more there are, the later it comes. */
static int precision_of(const glue_block_t *block) {
    return (block->process_group != NULL) + (block->application_group != NULL);
}

/* Those of a process group, in the order in which they win: of glue_block_t *. */
static apr_array_header_t *list_blocks(const glue_site_t *site, const char *process_group,
                                       apr_pool_t *pool) {
    apr_array_header_t *list = apr_array_make(pool, 4, sizeof(const glue_block_t *));

    for (int precision = 0; precision <= 2; precision++)
        for (int i = 0; i < site->blocks->nelts; i++) {
            const glue_block_t *block = APR_ARRAY_IDX(site->blocks, i, const glue_block_t *);

            if (precision_of(block) == precision && is_of(block, process_group))
                APR_ARRAY_PUSH(list, const glue_block_t *) = block;
        }
    return list;
}

int glue_interpreter_is_free(const glue_site_t *site, const char *process_group) {
    apr_array_header_t *list = list_blocks(site, process_group, site->blocks->pool);
    int is_free = site->free_threading > 0;

    for (int i = 0; i < list->nelts; i++) {
        const glue_block_t *block = APR_ARRAY_IDX(list, i, const glue_block_t *);

        if (block->application_group == NULL && block->free_threading != GLUE_UNSET)
            is_free = block->free_threading;
    }
    return is_free;
}

void glue_interpreter_put(glue_json_t *w, const glue_site_t *site, const char *process_group) {
    apr_array_header_t *list = list_blocks(site, process_group, w->pool);

    glue_json_plain(w, "[");
    for (int i = 0; i < list->nelts; i++) {
        const glue_block_t *block = APR_ARRAY_IDX(list, i, const glue_block_t *);

        glue_json_plain(w, i ? ", {\"application_group\": " : "{\"application_group\": ");
        glue_json_text(w, block->application_group);
        glue_json_format(w, ", \"own_gil\": %s, \"python_path\": ",
                         block->own_gil == GLUE_UNSET ? "null"
                         : block->own_gil             ? "true"
                                                      : "false");
        glue_json_path(w, block->python_path);
        glue_json_plain(w, "}");
    }
    glue_json_plain(w, "]");
}
