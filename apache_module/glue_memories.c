/* SPDX-License-Identifier: Apache-2.0 */
/* The two memories of placement as httpd's parent makes them. Up: glue_supervisor.c. */
#include "glue_memories.h"

#include <ap_mpm.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROWS_MAX 2048

/* A sealed memfd of 0600 and its mapping for writing. The descriptor, or -1. */
static int make_memory(void **memory, const char *name, size_t size) {
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

    *memory = MAP_FAILED;
    if (fd >= 0 && fchmod(fd, 0600) == 0 && ftruncate(fd, (off_t)size) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (*memory != MAP_FAILED)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* The same memory through an open file of its own: a mapping made from a read-only one cannot be
 * made writable (SUCCESSION 6), and only root can open it again otherwise. */
static int reopen(int fd, int flags) {
    char path[32];

    apr_snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, flags | O_CLOEXEC);
}

static int reopen_read_only(int fd) {
    int copy = reopen(fd, O_RDONLY);

    close(fd);
    return copy;
}

static unsigned rows_wanted(void) {
    int children = 0;

    ap_mpm_query(AP_MPMQ_MAX_DAEMONS, &children);
    /* Old and new children live side by side after a graceful restart. */
    children = 2 * children + 16;
    return children > ROWS_MAX ? ROWS_MAX : (unsigned)children;
}

static void drop_memory(int fd, void *memory, size_t size) {
    if (memory != MAP_FAILED)
        munmap(memory, size);
    if (fd >= 0)
        close(fd);
}

int glue_memories_make(glue_memories_t *memories) {
    unsigned count = rows_wanted();
    size_t pages_size = pyglue_pages_size(), rows_size = pyglue_rows_size(count);
    void *pages, *rows, *read_only = MAP_FAILED;
    int pages_fd = make_memory(&pages, "pyglue-pages", pages_size);
    int rows_fd = make_memory(&rows, "pyglue-rows", rows_size);

    if (pages_fd >= 0 && rows_fd >= 0) {
        pyglue_pages_init(pages);
        pyglue_rows_init(rows, count);
        pages_fd = reopen_read_only(pages_fd);
        rows_fd = reopen_read_only(rows_fd);
    }
    if (pages_fd >= 0 && rows_fd >= 0)
        read_only = mmap(NULL, pages_size, PROT_READ, MAP_SHARED, pages_fd, 0);
    if (read_only == MAP_FAILED) {
        int saved = errno;

        drop_memory(pages_fd, pages, pages_size);
        drop_memory(rows_fd, rows, rows_size);
        drop_memory(-1, read_only, pages_size);
        errno = saved;
        return PYGLUE_E_IO;
    }
    munmap(pages, pages_size);
    *memories = (glue_memories_t){
        .pages = read_only, .rows = rows, .pages_fd = pages_fd, .rows_fd = rows_fd};
    return 0;
}

int glue_memories_open_pages(const glue_memories_t *memories) {
    return reopen(memories->pages_fd, O_RDWR);
}

static size_t size_of(int fd) {
    struct stat info;

    return fstat(fd, &info) == 0 ? (size_t)info.st_size : 0;
}

unsigned glue_memories_count_rows(const glue_memories_t *memories) {
    return pyglue_rows_room(size_of(memories->rows_fd));
}

int glue_memories_are_known(const glue_memories_t *memories) {
    return pyglue_pages_check(memories->pages, size_of(memories->pages_fd)) == 0 &&
           pyglue_rows_check(memories->rows, size_of(memories->rows_fd)) == 0;
}

void glue_memories_leave(glue_memories_t *memories) {
    munmap(memories->pages, size_of(memories->pages_fd));
    munmap(memories->rows, size_of(memories->rows_fd));
    close(memories->pages_fd);
    close(memories->rows_fd);
    memories->pages = NULL;
    memories->rows = NULL;
}
