/* SPDX-License-Identifier: Apache-2.0 */
/* A thread that looks once a second whether another one has been in its call for too long, and
 * signals that one. The signal is one that neither httpd nor Python uses; it is unblocked in the
 * threads that ask to be watched (httpd's own block all), and its handler does nothing. */
#include "glue_watchdog.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "glue_clock.h"
#include "glue_thread.h"

#define WAKE (SIGRTMIN + 6)
#define TURN_SECONDS 1
#define PATIENCE 2000 /* ms */

/* Of one thread, from its first call to its end. */
struct watched {
    pthread_t thread;
    _Atomic int64_t since; /* ms, when its call began; 0: it is in none */
    struct watched *next;
};

static struct {
    int is_needed; /* frozen after child_init */
    glue_thread_t thread;
    pthread_key_t own;    /* the calling thread's struct watched */
    pthread_mutex_t lock; /* guards the two below, and that a thread on the list has not ended */
    struct watched *all;
    int is_ending;
    pthread_cond_t turn;
} here = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Those who are watched. */

static void forget(void *own) {
    struct watched **at = &here.all;

    pthread_mutex_lock(&here.lock);
    while (*at != NULL && *at != own)
        at = &(*at)->next;
    if (*at != NULL)
        *at = (*at)->next;
    pthread_mutex_unlock(&here.lock);
    free(own);
}

/* NULL: no memory, and this thread is not watched. */
static struct watched *introduce(void) {
    struct watched *w = calloc(1, sizeof *w);
    sigset_t set;

    if (w == NULL || pthread_setspecific(here.own, w) != 0) {
        free(w);
        return NULL;
    }
    sigemptyset(&set);
    sigaddset(&set, WAKE);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    w->thread = pthread_self();
    pthread_mutex_lock(&here.lock);
    w->next = here.all;
    here.all = w;
    pthread_mutex_unlock(&here.lock);
    return w;
}

static void note(int64_t since) {
    struct watched *w;

    if (!here.is_needed)
        return;
    w = pthread_getspecific(here.own);
    if (w == NULL)
        w = introduce();
    if (w != NULL)
        atomic_store_explicit(&w->since, since, memory_order_relaxed);
}

ssize_t glue_watchdog_recv(int fd, void *memory, size_t len, int flags) {
    ssize_t got;
    int error;

    note((int64_t)glue_clock_now_ms());
    got = recv(fd, memory, len, flags);
    error = errno;
    note(0);
    errno = error;
    return got;
}

void glue_watchdog_close(int fd) {
    note((int64_t)glue_clock_now_ms());
    close(fd);
    note(0);
}

/* Who watches. */

static void on_wake(int number) {
    (void)number;
}

static void look_locked(void) {
    int64_t overdue = (int64_t)glue_clock_now_ms() - PATIENCE;

    for (struct watched *w = here.all; w != NULL; w = w->next) {
        int64_t since = atomic_load_explicit(&w->since, memory_order_relaxed);

        if (since != 0 && since < overdue)
            pthread_kill(w->thread, WAKE);
    }
}

static void *watch(void *unused) {
    (void)unused;
    pthread_mutex_lock(&here.lock);
    while (!here.is_ending) {
        struct timespec until;

        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += TURN_SECONDS;
        pthread_cond_timedwait(&here.turn, &here.lock, &until);
        look_locked();
    }
    pthread_mutex_unlock(&here.lock);
    return NULL;
}

static apr_status_t end_thread(void *unused) {
    (void)unused;
    glue_thread_end(&here.is_ending, &here.lock, (glue_thread_t *[]){&here.thread}, 1);
    here.is_needed = 0;
    pthread_key_delete(here.own);
    return APR_SUCCESS;
}

/* Asked of the kernel that runs, not of the one that the module was built on. */
static int can_refuse_descriptors(void) {
    int off = 0, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), can;

    if (fd < 0)
        return 0;
    can = setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof off) == 0;
    close(fd);
    return can;
}

void glue_watchdog_child_init(apr_pool_t *pchild) {
    struct sigaction action = {.sa_handler = on_wake};

    if (can_refuse_descriptors() || pthread_key_create(&here.own, forget) != 0)
        return;
    glue_thread_condition(&here.turn);
    glue_thread_init_waiting(&here.thread, &here.turn);
    sigemptyset(&action.sa_mask);
    here.is_needed =
        sigaction(WAKE, &action, NULL) == 0 && glue_thread_need_locked(&here.thread, watch, 0);
    if (here.is_needed)
        apr_pool_cleanup_register(pchild, NULL, end_thread, apr_pool_cleanup_null);
    else
        pthread_key_delete(here.own);
}
