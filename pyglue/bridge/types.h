/* SPDX-License-Identifier: Apache-2.0 */
/* Slices and error codes: the words that every C file of mod_pyglue shares.
 * Part of the bridge: C11 and libc only. Knows neither httpd nor Python. */
#ifndef PYGLUE_TYPES_H
#define PYGLUE_TYPES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Bytes that belong to somebody else: valid until the call that received them returns, unless
 * its comment says otherwise. Not NUL-terminated, and may contain NUL. */
typedef struct pyglue_str {
    const char *ptr; /* may be NULL when len is 0 */
    size_t len;
} pyglue_str_t;

static inline pyglue_str_t pyglue_str(const char *text) {
    return (pyglue_str_t){text, text ? strlen(text) : 0};
}

/* Every bridge, worker and host function returns 0 (or a count) or one of these. */
enum pyglue_error {
    PYGLUE_OK = 0,
    PYGLUE_E_NOMEM = -1,    /* an allocation failed */
    PYGLUE_E_IO = -2,       /* a system call failed; errno was logged where it happened */
    PYGLUE_E_GONE = -3,     /* the client, or the process on its behalf, has left */
    PYGLUE_E_TIMEOUT = -4,  /* a deadline passed */
    PYGLUE_E_PROTOCOL = -5, /* a peer broke the rules of docs/wire.md */
    PYGLUE_E_TOO_BIG = -6,  /* a named bound was exceeded */
    PYGLUE_E_VERSION = -7,  /* the other side speaks another version */
    PYGLUE_E_STATE = -8,    /* called out of order: our own mistake */
    PYGLUE_E_BODY = -9,     /* the request body was cut short or is malformed */
    PYGLUE_E_REFUSED = -10, /* a worker had no thread free, or is leaving */
    PYGLUE_E_PYTHON = -11,  /* Python raised; the traceback was logged */
    PYGLUE_E_HEAD = -12,    /* a response head broke RFC 9110 or a bound */
    PYGLUE_E_LAST = -12
};

/* The name ("PYGLUE_E_GONE") and one English sentence without a full stop. Never NULL: an unknown
 * code has an entry of its own. Static storage. */
const char *pyglue_error_name(int error);
const char *pyglue_error_text(int error);

#endif
