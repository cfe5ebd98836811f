/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into httpd: its clock is set two hours ahead once the file $PYGLUE_TEST_JUMP exists. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t ahead(void) {
    const char *file = getenv("PYGLUE_TEST_JUMP");

    return file != NULL && access(file, F_OK) == 0 ? 7200 : 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int (*real)(struct timeval *, void *), rv;

    *(void **)&real = dlsym(RTLD_NEXT, "gettimeofday");
    rv = real(now, zone);
    now->tv_sec += ahead();
    return rv;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *), rv;

    *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    rv = real(clock, now);
    if (clock == CLOCK_REALTIME)
        now->tv_sec += ahead();
    return rv;
}
