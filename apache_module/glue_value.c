/* SPDX-License-Identifier: Apache-2.0 */
/* The types of configuration values: one parser, one unset value, one sentence each.
 * Knows no directive and no option; glue_config.c and glue_options.c hold those. */
#include "glue_value.h"

#include <apr_lib.h>

static const char *const flag_words[] = {"Off", "On", NULL};

/* The field as each C type that a row may stand for. */
static int *as_int(void *base, const glue_row_t *row) {
    return (int *)(void *)((char *)base + row->offset);
}

static glue_range_t *as_range(void *base, const glue_row_t *row) {
    return (glue_range_t *)(void *)((char *)base + row->offset);
}

static apr_int64_t *as_long(void *base, const glue_row_t *row) {
    return (apr_int64_t *)(void *)((char *)base + row->offset);
}

static const void **as_pointer(void *base, const glue_row_t *row) {
    return (const void **)(void *)((char *)base + row->offset);
}

static const char *choose(int *value, const char *const *allowed, const char *word,
                          apr_pool_t *pool) {
    const char *list = "";

    for (int i = 0; allowed[i] != NULL; i++)
        if (strcasecmp(word, allowed[i]) == 0) {
            *value = i;
            return NULL;
        }
    for (int i = 0; allowed[i] != NULL; i++)
        list = apr_pstrcat(pool, allowed[i], i > 0 ? ", " : "", list, NULL);
    return apr_pstrcat(pool, "is not one of ", list, NULL);
}

/* A number without sign and blanks; *end: what follows it. */
static int is_number(apr_int64_t *value, const char **end, const char *word, int base) {
    char *after;

    if (!apr_isdigit(*word))
        return 0;
    errno = 0;
    *value = apr_strtoi64(word, &after, base);
    *end = after;
    return errno == 0;
}

static const char *integer(int *value, const glue_row_t *row, const char *word, apr_pool_t *pool) {
    int is_negative = row->least < 0 && *word == '-';
    apr_int64_t number;
    const char *end;

    if (is_number(&number, &end, word + is_negative, 10) && *end == '\0') {
        number = is_negative ? -number : number;
        if (number >= row->least && number <= row->most) {
            *value = (int)number;
            return NULL;
        }
    }
    return apr_psprintf(pool,
                        "is not a whole number from %" APR_INT64_T_FMT " to %" APR_INT64_T_FMT,
                        row->least, row->most);
}

/* One number alone is both ends and must be above the least that a range may begin with. */
static const char *range(glue_range_t *value, const glue_row_t *row, const char *word,
                         apr_pool_t *pool) {
    apr_int64_t least, most;
    const char *end;
    int is_range = is_number(&least, &end, word, 10) && *end == '-';

    if (is_range ? is_number(&most, &end, end + 1, 10) : is_number(&most, &end, word, 10))
        if (*end == '\0' && most > row->least && most <= row->most &&
            (!is_range || (least >= row->least && least <= most))) {
            *value = (glue_range_t){(int)most, (int)(is_range ? least : most)};
            return NULL;
        }
    return apr_psprintf(pool,
                        "is not a whole number from %" APR_INT64_T_FMT " to %" APR_INT64_T_FMT
                        ", or two of them as LEAST-MOST, where LEAST may be %" APR_INT64_T_FMT,
                        row->least + 1, row->most, row->least);
}

static const char *percent(int *value, const glue_row_t *row, const char *word, apr_pool_t *pool) {
    apr_size_t length = strlen(word);
    const char *problem;

    if (length > 1 && word[length - 1] == '%')
        length--;
    problem = integer(value, row, apr_pstrmemdup(pool, word, length), pool);
    return problem != NULL ? apr_pstrcat(pool, problem, " percent", NULL) : NULL;
}

static const char *octal(int *value, const glue_row_t *row, const char *word, apr_pool_t *pool) {
    apr_int64_t number;
    const char *end;

    if (is_number(&number, &end, word, 8) && *end == '\0' && number <= row->most) {
        *value = (int)number;
        return NULL;
    }
    return apr_psprintf(pool, "is not an octal number from 0 to %o", (unsigned)row->most);
}

typedef struct unit {
    const char *name;
    apr_int64_t factor;
} unit_t;

static const unit_t size_units[] = {
    {"", 1},  {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"T", (apr_int64_t)1 << 40},
    {NULL, 0}};
static const unit_t time_units[] = {{"", APR_USEC_PER_SEC},         {"ms", 1000},
                                    {"s", APR_USEC_PER_SEC},        {"m", 60 * APR_USEC_PER_SEC},
                                    {"h", 3600 * APR_USEC_PER_SEC}, {NULL, 0}};
static const unit_t delay_units[] = {{"", 1000}, {"ms", 1000}, {"s", APR_USEC_PER_SEC}, {NULL, 0}};

/* A number and its unit, of either case; overflow is no number. */
static int is_measure(apr_int64_t *value, const char *word, const unit_t *units) {
    const char *end;

    if (!is_number(value, &end, word, 10))
        return 0;
    for (; units->name != NULL; units++)
        if (strcasecmp(end, units->name) == 0) {
            if (*value > APR_INT64_MAX / units->factor)
                return 0;
            *value *= units->factor;
            return 1;
        }
    return 0;
}

static const char *size(apr_int64_t *bytes, const glue_row_t *row, const char *word,
                        apr_pool_t *pool) {
    if (is_measure(bytes, word, size_units) &&
        ((*bytes >= row->least && *bytes <= row->most) || *bytes == row->also))
        return NULL;
    return apr_psprintf(
        pool,
        "is not a size (bytes, or a number with K, M, G or T) from %" APR_INT64_T_FMT
        " to %" APR_INT64_T_FMT "%s",
        row->least, row->most, row->also == 0 ? ", or 0" : "");
}

static const char *duration(apr_interval_time_t *value, const glue_row_t *row, const char *word,
                            apr_pool_t *pool) {
    int is_delay = row->type == GLUE_DELAY;
    apr_int64_t time;

    if (is_measure(&time, word, is_delay ? delay_units : time_units) && time >= row->least &&
        time <= row->most) {
        *value = time;
        return NULL;
    }
    return apr_psprintf(pool, "is not a duration (%s) of at most %" APR_INT64_T_FMT " seconds",
                        is_delay ? "milliseconds, or a number with ms or s"
                                 : "seconds, or a number with ms, s, m or h",
                        row->most / APR_USEC_PER_SEC);
}

static const char *text(const void **value, const glue_row_t *row, const char *word,
                        apr_pool_t *pool) {
    if (row->type == GLUE_NAME && *word == '\0')
        return "is empty";
    if (row->type == GLUE_PATH && *word != '/')
        return "is not an absolute path";
    *value = apr_pstrdup(pool, word);
    return NULL;
}

/* Words of one directive arrive one by one and in the order of the file; the caller begins a new
 * list for each directive. */
static const char *append(const void **value, const char *word, apr_pool_t *pool) {
    apr_array_header_t *list = (apr_array_header_t *)*value;

    if (list == NULL)
        *value = list = apr_array_make(pool, 4, sizeof(const char *));
    APR_ARRAY_PUSH(list, const char *) = apr_pstrdup(pool, word);
    return NULL;
}

const char *glue_value_parse(void *base, const glue_row_t *row, const char *word,
                             apr_pool_t *pool) {
    const char *problem;
    apr_int64_t bytes;

    switch ((enum glue_value_type)row->type) {
    case GLUE_FLAG:
        return choose(as_int(base, row), flag_words, word, pool);
    case GLUE_CHOICE:
        return choose(as_int(base, row), row->allowed, word, pool);
    case GLUE_INTEGER:
        return integer(as_int(base, row), row, word, pool);
    case GLUE_RANGE:
        return range(as_range(base, row), row, word, pool);
    case GLUE_PERCENT:
        return percent(as_int(base, row), row, word, pool);
    case GLUE_OCTAL:
        return octal(as_int(base, row), row, word, pool);
    case GLUE_SIZE:
        problem = size(&bytes, row, word, pool);
        if (problem == NULL)
            *as_int(base, row) = (int)bytes;
        return problem;
    case GLUE_LONG:
        return size(as_long(base, row), row, word, pool);
    case GLUE_DURATION:
    case GLUE_DELAY:
        return duration(as_long(base, row), row, word, pool);
    case GLUE_TEXT:
    case GLUE_NAME:
    case GLUE_PATH:
        return text(as_pointer(base, row), row, word, pool);
    case GLUE_LIST:
        return append(as_pointer(base, row), word, pool);
    }
    return "is of no known type";
}

enum shape { NUMBER, LONG, POINTER };

static enum shape shape_of(const glue_row_t *row) {
    if (row->type >= GLUE_TEXT)
        return POINTER;
    return row->type < GLUE_LONG ? NUMBER : LONG;
}

void glue_value_unset(void *base, const glue_row_t *row) {
    switch (shape_of(row)) {
    case NUMBER:
        *as_int(base, row) = GLUE_UNSET;
        break;
    case LONG:
        *as_long(base, row) = GLUE_UNSET;
        break;
    case POINTER:
        *as_pointer(base, row) = NULL;
    }
}

int glue_value_is_unset(const void *base, const glue_row_t *row) {
    void *fields = (void *)base; /* only read here */

    switch (shape_of(row)) {
    case NUMBER:
        return *as_int(fields, row) == GLUE_UNSET;
    case LONG:
        return *as_long(fields, row) == GLUE_UNSET;
    case POINTER:
        break;
    }
    return *as_pointer(fields, row) == NULL;
}

void glue_value_copy(void *into, const void *from, const glue_row_t *row) {
    static const apr_size_t sizes[] = {sizeof(int), sizeof(apr_int64_t), sizeof(void *)};

    memcpy((char *)into + row->offset, (const char *)from + row->offset, sizes[shape_of(row)]);
}

void glue_value_default(void *base, const glue_row_t *row) {
    if (!glue_value_is_unset(base, row))
        return;
    switch (shape_of(row)) {
    case NUMBER:
        *as_int(base, row) = (int)row->standard;
        if (row->type == GLUE_RANGE)
            as_range(base, row)->least = (int)row->standard;
        break;
    case LONG:
        *as_long(base, row) = row->standard;
        break;
    case POINTER:
        break; /* NULL is what the reader expects */
    }
}

const char *glue_value_complaint(const char *subject, const char *word, const char *problem,
                                 apr_pool_t *pool) {
    return apr_pstrcat(pool, subject, ": '", word, "' ", problem, NULL);
}

const char *glue_value_where(const cmd_parms *cmd) {
    return apr_psprintf(cmd->pool, "%s:%d", cmd->directive->filename, cmd->directive->line_num);
}

int glue_value_option(const char **name, const char **value, const char **line, apr_pool_t *pool) {
    const char *start, *at;

    while (apr_isspace(**line))
        ++*line;
    if (**line == '\0')
        return 0;
    start = at = *line;
    while (*at != '\0' && *at != '=' && !apr_isspace(*at))
        at++;
    if (*at != '=' || at == start) {
        *name = ap_getword_conf(pool, line);
        return -1;
    }
    *name = apr_pstrmemdup(pool, start, (apr_size_t)(at - start));
    *line = at + 1;
    /* "lang= locale=C" has an empty lang: ap_getword_conf alone would skip the blank. */
    *value = apr_isspace(at[1]) ? "" : ap_getword_conf(pool, line);
    return 1;
}
