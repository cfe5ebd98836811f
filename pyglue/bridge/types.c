/* SPDX-License-Identifier: Apache-2.0 */
/* The one table of error names and texts. */
#include "types.h"

static const struct {
    const char *name;
    const char *text;
} errors[] = {
    [-PYGLUE_OK] = {"PYGLUE_OK", "no error"},
    [-PYGLUE_E_NOMEM] = {"PYGLUE_E_NOMEM", "out of memory"},
    [-PYGLUE_E_IO] = {"PYGLUE_E_IO", "a system call failed"},
    [-PYGLUE_E_GONE] = {"PYGLUE_E_GONE", "the client has left"},
    [-PYGLUE_E_TIMEOUT] = {"PYGLUE_E_TIMEOUT", "the time allowed has passed"},
    [-PYGLUE_E_PROTOCOL] = {"PYGLUE_E_PROTOCOL", "the peer broke the protocol"},
    [-PYGLUE_E_TOO_BIG] = {"PYGLUE_E_TOO_BIG", "a configured bound was exceeded"},
    [-PYGLUE_E_VERSION] = {"PYGLUE_E_VERSION", "the peer speaks another version"},
    [-PYGLUE_E_STATE] = {"PYGLUE_E_STATE", "called out of order"},
    [-PYGLUE_E_BODY] = {"PYGLUE_E_BODY", "the request body was cut short or is malformed"},
    [-PYGLUE_E_REFUSED] = {"PYGLUE_E_REFUSED", "no thread is free"},
    [-PYGLUE_E_PYTHON] = {"PYGLUE_E_PYTHON", "Python raised an exception"},
    [-PYGLUE_E_HEAD] = {"PYGLUE_E_HEAD", "the response head is not valid"},
};

static int is_known(int error) {
    return error <= 0 && error >= PYGLUE_E_LAST;
}

const char *pyglue_error_name(int error) {
    return is_known(error) ? errors[-error].name : "PYGLUE_E_UNKNOWN";
}

const char *pyglue_error_text(int error) {
    return is_known(error) ? errors[-error].text : "unknown error";
}
