/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into httpd: its clock is set two hours ahead once the file $PYGLUE_TEST_JUMP exists. By
 * system calls alone, because a sanitizer asks for the time before dlsym may be called. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t ahead(void) {
    const char *file = getenv("PYGLUE_TEST_JUMP");

    return file != NULL && access(file, F_OK) == 0 ? 7200 : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int rv = (int)syscall(SYS_clock_gettime, clock, now);

    if (clock == CLOCK_REALTIME)
        now->tv_sec += ahead();
    return rv;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    int rv = clock_gettime(CLOCK_REALTIME, &exact);

    (void)zone;
    *now = (struct timeval){exact.tv_sec, exact.tv_nsec / 1000};
    return rv;
}
