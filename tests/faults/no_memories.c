/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into httpd: no descriptor for the rows, as long as $PYGLUE_TEST_SHORT is there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int memfd_create(const char *name, unsigned flags) {
    int (*real)(const char *, unsigned);
    const char *is_short = getenv("PYGLUE_TEST_SHORT");

    if (strcmp(name, "pyglue-rows") == 0 && is_short != NULL && access(is_short, F_OK) == 0) {
        errno = EMFILE;
        return -1;
    }
    *(void **)&real = dlsym(RTLD_NEXT, "memfd_create");
    return real(name, flags);
}
