/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker does to its own process: signals and the supervisor's commands as bytes on a pipe,
 * forks that own nothing, a watchdog, the name that ps shows, and lines to the log pipe. All of it
 * works while some thread holds the GIL for ever.
 *
 * Signal and fork handlers get no argument, so what they need lies in the statics here; each is
 * written once, by the main thread, before any request runs. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "worker.h"

enum { FORK_FDS = 12 };

static volatile sig_atomic_t signal_events = -1; /* write end of the events pipe */
static volatile pid_t signal_owner;

static struct {
    wkr_pool_t *pool;
    unsigned count;
    int fds[FORK_FDS];
} forked;

/* The thread that reads the supervisor's commands; its name tells the worker's state. */
static struct {
    pthread_t id;
    atomic_int exists;
} commander;

static const int signals[] = {SIGTERM, SIGINT, SIGUSR1, SIGXCPU};
enum { SIGNALS = sizeof signals / sizeof signals[0] };

static atomic_ullong reload_ms; /* when SIGUSR1 came last */

static void on_signal(int number) {
    int saved = errno;
    unsigned char byte = (unsigned char)number;

    if (getpid() != signal_owner) { /* a fork, in the moment before in_forked_child */
        signal(number, SIG_DFL);
        kill(getpid(), number); /* acts when this handler returns */
        return;
    }
    if (number == SIGUSR1)
        atomic_store(&reload_ms, wkr_now_ms());
    if (write(signal_events, &byte, 1) < 0) {
        /* The pipe is full of signals already: one more tells nothing new. */
    }
    errno = saved;
}

int wkr_process_signals(int events) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

    signal_owner = getpid();
    signal_events = events;
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < SIGNALS; i++)
        if (sigaction(signals[i], &action, NULL))
            return PYGLUE_E_IO;
    return 0;
}

uint64_t wkr_process_reload_ms(void) {
    return atomic_load(&reload_ms);
}

/* In a child of the application a signal must act on the child, not wake the worker. */
static void forget_signals(void) {
    struct sigaction action;

    for (int i = 0; i < SIGNALS; i++)
        if (sigaction(signals[i], NULL, &action) == 0 && action.sa_handler == on_signal)
            signal(signals[i], SIG_DFL);
}

static void in_forked_child(void) {
    forget_signals();
    for (unsigned i = 0; i < forked.count; i++)
        close(forked.fds[i]);
    forked.count = 0;
    atomic_store(&commander.exists, 0);
    if (forked.pool != NULL)
        wkr_pool_forked(forked.pool);
    forked.pool = NULL;
}

int wkr_process_forks(wkr_pool_t *pool, const int *fds, unsigned count) {
    if (count > FORK_FDS)
        return PYGLUE_E_TOO_BIG;
    forked.pool = pool;
    forked.count = count;
    memcpy(forked.fds, fds, count * sizeof *fds);
    return pthread_atfork(NULL, NULL, in_forked_child) ? PYGLUE_E_NOMEM : 0;
}

void wkr_process_forks_end(void) {
    forked.pool = NULL;
}

/* The watchdog. */

static struct {
    pthread_mutex_t lock; /* of the rest */
    pthread_cond_t told;
    uint64_t until;
} watchdog = {.lock = PTHREAD_MUTEX_INITIALIZER, .until = WKR_NEVER};

static void *watch(void *unused) {
    (void)unused;
    pthread_mutex_lock(&watchdog.lock);
    while (wkr_now_ms() < watchdog.until)
        wkr_clock_wait(&watchdog.told, &watchdog.lock, watchdog.until);
    wkr_say("PG2005: shutdown-timeout has passed: requests that still run end here");
    _exit(0);
}

int wkr_process_watchdog_start(void) {
    pthread_t thread;

    wkr_clock_condition(&watchdog.told);
    if (pthread_create(&thread, NULL, watch, NULL))
        return PYGLUE_E_NOMEM;
    pthread_detach(thread);
    return 0;
}

void wkr_process_watchdog(uint32_t milliseconds) {
    uint64_t until = wkr_now_ms() + milliseconds;

    pthread_mutex_lock(&watchdog.lock);
    if (until < watchdog.until)
        watchdog.until = until;
    pthread_cond_signal(&watchdog.told);
    pthread_mutex_unlock(&watchdog.lock);
}

/* The supervisor's commands. */

enum command_type { COMMAND_DRAIN = 1, COMMAND_STOP = 2 };

struct command {
    uint32_t type;
    uint32_t argument;
    uint64_t value; /* ms allowed; DRAIN: 0 is no limit */
};

static struct { int control, log, events; } pipes;

static atomic_int is_ready;

void wkr_process_state(enum wkr_state state) {
    static const char *const names[] = {"wsgi:starting", "wsgi:ready", "wsgi:unloaded",
                                        "wsgi:leaving"};

    if (atomic_load(&commander.exists))
        pthread_setname_np(commander.id, names[state]);
}

static void tell(enum wkr_event event) {
    unsigned char byte = (unsigned char)event;

    while (write(pipes.events, &byte, 1) < 0 && errno == EINTR)
        continue;
}

/* 1; 0: end of file, or the pipe is broken. */
static int read_command(struct command *command) {
    size_t done = 0;

    while (done < sizeof *command) {
        ssize_t got = read(pipes.control, (char *)command + done, sizeof *command - done);

        if (got > 0)
            done += (size_t)got;
        else if (got == 0 || errno != EINTR)
            return 0;
    }
    return 1;
}

/* Before the worker is ready nothing runs in it that would have to end well. */
static void exit_unless_ready(void) {
    if (!atomic_load(&is_ready))
        _exit(0);
}

static void obey(const struct command *command) {
    uint64_t ms = command->value < UINT32_MAX ? command->value : UINT32_MAX;

    if (command->type != COMMAND_DRAIN && command->type != COMMAND_STOP)
        return; /* a newer supervisor's: not for us */
    exit_unless_ready();
    if (ms > 0 || command->type == COMMAND_STOP)
        wkr_process_watchdog((uint32_t)ms);
    wkr_process_state(WKR_STATE_LEAVING);
    tell(WKR_EVENT_LEAVE);
}

/* An orphan's own log pipe has no reader but this: without one, print would fail or block. */
static void drain_log(void) {
    char nowhere[4096];
    ssize_t got;

    do
        got = read(pipes.log, nowhere, sizeof nowhere);
    while (got > 0 || (got < 0 && errno == EINTR));
}

static void *listen_to_supervisor(void *unused) {
    struct command command;

    (void)unused;
    while (read_command(&command))
        obey(&command);
    exit_unless_ready();
    tell(WKR_EVENT_ORPHAN);
    drain_log();
    return NULL;
}

int wkr_process_commands(int control, int log, int events) {
    pipes.control = control;
    pipes.log = log;
    pipes.events = events;
    if (pthread_create(&commander.id, NULL, listen_to_supervisor, NULL))
        return PYGLUE_E_NOMEM;
    atomic_store(&commander.exists, 1); /* not detached: its id stays good should it end */
    wkr_process_state(WKR_STATE_STARTING);
    return 0;
}

void wkr_process_ready(int is_loaded) {
    wkr_process_state(is_loaded ? WKR_STATE_READY : WKR_STATE_UNLOADED);
    atomic_store(&is_ready, 1);
}

/* Name and words. */

/* The command line lies in this process's own memory; the kernel tells where: fields 48 and 49 of
 * its stat line. The process's file name, field 2, may hold anything but ends with the last ')'. */
static char *command_line(size_t *size) {
    char line[4096];
    unsigned long start = 0, end = 0;
    FILE *file = fopen("/proc/self/stat", "re");
    char *at;

    if (file == NULL)
        return NULL;
    at = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
    fclose(file);
    for (int field = 3; at != NULL && field <= 48; field++)
        at = strchr(at + 1, ' ');
    if (at == NULL || sscanf(at, " %lu %lu", &start, &end) != 2 || start == 0 || end <= start)
        return NULL;
    *size = end - start;
    return (char *)(uintptr_t)start;
}

void wkr_process_name(const char *name) {
    size_t size;
    char *at = command_line(&size);
    size_t len = strlen(name);

    prctl(PR_SET_NAME, name);
    if (at ==
        NULL) /* a chroot need not have /proc: `ps -o comm` shows the name, and no more does */
        return;
    memset(at, 0, size);
    memcpy(at, name, len < size ? len : size - 1);
}

int wkr_process_undumpable(void) {
    return prctl(PR_SET_DUMPABLE, 0) ? PYGLUE_E_IO : 0;
}

void wkr_say_text(pyglue_str_t text) {
    while (text.len > 0) {
        ssize_t done = write(2, text.ptr, text.len);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return; /* nowhere left to tell it */
        text.ptr += done;
        text.len -= (size_t)done;
    }
}

void wkr_say(const char *format, ...) {
    char line[512];
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    if (len < 0)
        return;
    if ((size_t)len > sizeof line - 2)
        len = (int)(sizeof line - 2);
    line[len] = '\n';
    wkr_say_text((pyglue_str_t){line, (size_t)len + 1});
}
