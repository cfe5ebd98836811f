/* SPDX-License-Identifier: Apache-2.0 */
/* Typed configuration values: a word of the configuration becomes a field of a struct.
 *
 * A row says where the field lies, of which type it is, what is allowed and what holds when nothing
 * was written. Directives (glue_config.c) and options of WSGIDaemonProcess (glue_options.c) are
 * rows of the same kind, so adding one is a field, a row and a paragraph in the reference.
 * Unset is a value of each type; a default is applied when a struct is read, by
 * glue_value_default. Used while httpd reads its configuration, and by merges at request time. */
#ifndef GLUE_VALUE_H
#define GLUE_VALUE_H

#include "glue.h"

#include <limits.h>

#define GLUE_UNSET INT_MIN /* of every number; of a pointer it is NULL */

enum glue_value_type {
    GLUE_FLAG,     /* int: On, Off */
    GLUE_CHOICE,   /* int: index into allowed */
    GLUE_INTEGER,  /* int: least to most */
    GLUE_RANGE,    /* glue_range_t: LEAST-MOST, or one number for both */
    GLUE_OCTAL,    /* int: the same, written in octal */
    GLUE_SIZE,     /* int: bytes; K, M, G */
    GLUE_PERCENT,  /* int: least to most, with or without % */
    GLUE_LONG,     /* apr_int64_t: bytes; K, M, G, T */
    GLUE_DURATION, /* apr_interval_time_t: seconds; ms, s, m, h */
    GLUE_DELAY,    /* the same, but a bare number is of milliseconds */
    GLUE_TEXT,     /* const char *: anything, also empty */
    GLUE_NAME,     /* const char *: not empty */
    GLUE_PATH,     /* const char *: absolute */
    GLUE_LIST      /* apr_array_header_t * of const char *: any number of words */
};

typedef struct glue_range {
    int most, least; /* unset: most is */
} glue_range_t;

enum glue_value_home {
    GLUE_REQUEST, /* glue_request_config_t, in the per-directory vector */
    GLUE_SITE,    /* glue_site_t: main server only */
    GLUE_OPTION   /* an option: the caller has the struct */
};

typedef struct glue_row {
    unsigned char type; /* glue_value_type */
    unsigned char home; /* glue_value_home */
    unsigned short offset;
    apr_int64_t standard;       /* what holds when unset; of texts nothing does */
    apr_int64_t least, most;    /* of numbers; a duration's in microseconds */
    apr_int64_t also;           /* of sizes: allowed below least, as "the default of the system" */
    const char *const *allowed; /* of a choice, ends in NULL */
} glue_row_t;

/* Reads word into the row's field of base. NULL, or what is allowed, as the end of a sentence:
 * "is not one of On, Off". pool: configuration's. */
const char *glue_value_parse(void *base, const glue_row_t *row, const char *word, apr_pool_t *pool);

void glue_value_unset(void *base, const glue_row_t *row);
int glue_value_is_unset(const void *base, const glue_row_t *row);
/* into's field = from's. Not of ranges: no directive has one. */
void glue_value_copy(void *into, const void *from, const glue_row_t *row);
/* Gives the field its standard value if it is unset. */
void glue_value_default(void *base, const glue_row_t *row);

/* A complaint in the one form that all have: SUBJECT: 'WORD' PROBLEM. pool: configuration's. */
const char *glue_value_complaint(const char *subject, const char *word, const char *problem,
                                 apr_pool_t *pool);

/* "file:line" of the directive. pool: configuration's. */
const char *glue_value_where(const cmd_parms *cmd);

/* Splits name=value off the rest of a directive, by httpd's quoting. 1: *name and *value are set;
 * 0: the line is at its end; -1: *name is a word that is no option. pool: configuration's. */
int glue_value_option(const char **name, const char **value, const char **line, apr_pool_t *pool);

#endif
