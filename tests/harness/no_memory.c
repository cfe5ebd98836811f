/* SPDX-License-Identifier: Apache-2.0 */
/* One allocation of ours fails: that after `after` others, counted in the file that
 * PYGLUE_TEST_NO_MEMORY names, which tells in turn how many were asked for and failed.
 *
 * As LD_PRELOAD, ours are the calls from the shared object that has
 * PYGLUE_TEST_NO_MEMORY_OF in its path. Linked in with --wrap (WRAPPED), ours are all calls. What
 * APR allocates is httpd's: it ends the child when there is no memory. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* harness/nomem.py knows it. */
typedef struct control {
    _Atomic(int64_t) after; /* -1: none fails */
    _Atomic(int64_t) asked, failed;
} control_t;

static control_t *_Atomic control;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("PYGLUE_TEST_NO_MEMORY");
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *memory;

    if (fd < 0)
        return;
    memory = mmap(NULL, sizeof(control_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (memory != MAP_FAILED)
        control = memory;
}

#ifdef WRAPPED
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
char *__real_strdup(const char *text);
#define OURS(name) __wrap_##name
#define REAL(name) __real_##name

static int is_ours(const void *caller) {
    return caller != NULL;
}
#else
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
char *__strdup(const char *text);
#define OURS(name) name
#define REAL(name) REAL_##name
#define REAL_malloc __libc_malloc
#define REAL_calloc __libc_calloc
#define REAL_realloc __libc_realloc
#define REAL_strdup __strdup

static int look_up(const void *caller) {
    const char *wanted = getenv("PYGLUE_TEST_NO_MEMORY_OF");
    Dl_info info;

    return wanted != NULL && dladdr(caller, &info) && info.dli_fname != NULL &&
           strstr(info.dli_fname, wanted) != NULL;
}

/* dladdr once for each place that calls. */
static int is_ours(const void *caller) {
    enum { PLACES = 1024 };
    static __thread struct {
        const void *caller;
        int is;
    } known[PLACES];
    unsigned at = (unsigned)((uintptr_t)caller % PLACES);

    if (known[at].caller != caller) {
        known[at].is = look_up(caller);
        known[at].caller = caller;
    }
    return known[at].is;
}
#endif

static int is_short(const void *caller) {
    control_t *c = control;

    if (c == NULL || atomic_load(&c->after) < 0 || !is_ours(caller))
        return 0;
    atomic_fetch_add(&c->asked, 1);
    if (atomic_fetch_sub(&c->after, 1) != 0)
        return 0;
    atomic_fetch_add(&c->failed, 1);
    errno = ENOMEM;
    return 1;
}

void *OURS(malloc)(size_t size);
void *OURS(calloc)(size_t count, size_t size);
void *OURS(realloc)(void *memory, size_t size);
char *OURS(strdup)(const char *text);

void *OURS(malloc)(size_t size) {
    return is_short(__builtin_return_address(0)) ? NULL : REAL(malloc)(size);
}

void *OURS(calloc)(size_t count, size_t size) {
    return is_short(__builtin_return_address(0)) ? NULL : REAL(calloc)(count, size);
}

void *OURS(realloc)(void *memory, size_t size) {
    return is_short(__builtin_return_address(0)) ? NULL : REAL(realloc)(memory, size);
}

char *OURS(strdup)(const char *text) {
    return is_short(__builtin_return_address(0)) ? NULL : REAL(strdup)(text);
}
