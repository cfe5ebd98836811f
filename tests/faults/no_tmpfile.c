/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into httpd: file systems that cannot make a file without a name. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

int open(const char *path, int flags, ...) {
    int (*real)(const char *, int, ...);
    int mode = 0;
    va_list more;

    if ((flags & O_TMPFILE) == O_TMPFILE) {
        errno = EOPNOTSUPP;
        return -1;
    }
    va_start(more, flags);
    if (flags & O_CREAT)
        mode = va_arg(more, int);
    va_end(more);
    *(void **)&real = dlsym(RTLD_NEXT, "open");
    return real(path, flags, mode);
}
