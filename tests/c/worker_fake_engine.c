/* SPDX-License-Identifier: Apache-2.0 */
/* A worker without Python: the pool over a fake engine, for tests/harness/worker.py.
 *
 * The snapshot's callable names the behaviour, its script is a path where one is needed. Arguments:
 * settings as NAME=NUMBER. Standard input: the listener; output: the events, one number a line.
 * SIGTERM drains; after EVENT_LEFT the pool is stopped and the program ends with 0.
 *
 * A GIL is a mutex, the first of which "hold" has until its file exists, and "hold_own" one that
 * comes into being with it. What the watcher asks of the engine is a line on descriptor 2. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker.h"

static const pyglue_header_t type_header = {{"Content-Type", 12}, {"text/plain", 10}};

static int start(pyglue_host_t *h, int64_t length) {
    pyglue_head_t head = {200, {"OK", 2}, &type_header, 1, length};

    return h->ops->start(h, &head);
}

static int write_bytes(pyglue_host_t *h, const void *bytes, size_t len, unsigned flags) {
    struct iovec v = {(void *)(uintptr_t)bytes, len};

    return h->ops->write(h, &v, 1, flags);
}

static int hello(pyglue_host_t *h, const char *script) {
    (void)script;
    return start(h, 13) || write_bytes(h, "Hello, World!", 13, PYGLUE_WRITE_LAST);
}

static int echo(pyglue_host_t *h, const char *script) {
    static _Thread_local char block[300000];
    ssize_t got;

    (void)script;
    if (start(h, -1))
        return -1;
    while ((got = h->ops->read(h, block, sizeof block)) > 0)
        if (write_bytes(h, block, (size_t)got, 0))
            return -1;
    return got == 0 ? 0 : -1;
}

/* 1 MiB in slices that fit no frame evenly. */
static int large(pyglue_host_t *h, const char *script) {
    enum { SIZE = 1 << 20, SLICE = 3001 };
    char *block = malloc(SIZE);
    struct iovec v[SIZE / SLICE + 1];
    int n = 0, rv;

    (void)script;
    for (int i = 0; i < SIZE; i++)
        block[i] = (char)(i * 31 / 7);
    for (int at = 0; at < SIZE; at += SLICE)
        v[n++] = (struct iovec){block + at, (size_t)(SIZE - at < SLICE ? SIZE - at : SLICE)};
    rv = start(h, SIZE) || h->ops->write(h, v, n, PYGLUE_WRITE_LAST);
    free(block);
    return rv;
}

static int large_head(pyglue_host_t *h, const char *script) {
    static char value[100000];
    pyglue_header_t header = {{"X-Large", 7}, {value, sizeof value}};
    pyglue_head_t head = {200, {"OK", 2}, &header, 1, 0};

    (void)script;
    memset(value, 'x', sizeof value);
    return h->ops->start(h, &head);
}

/* A wrong interim head, two right ones, and one when it is too late; the body tells what became of
 * each. */
static int hints(pyglue_host_t *h, const char *script) {
    pyglue_header_t link = {{"Link", 4}, {"</a>", 4}}, framing = {{"TE", 2}, {"x", 1}};
    pyglue_head_t head = {103, {"Early Hints", 11}, &link, 1, -1};
    pyglue_head_t wrong = {103, {"Early Hints", 11}, &framing, 1, -1};
    char said[100];
    int rv[4];

    (void)script;
    rv[0] = h->ops->interim(h, &wrong);
    rv[1] = h->ops->interim(h, &head);
    rv[2] = h->ops->interim(h, &head);
    if (start(h, -1))
        return -1;
    rv[3] = h->ops->interim(h, &head);
    snprintf(said, sizeof said, "%s %s %s %s", pyglue_error_name(rv[0]), pyglue_error_name(rv[1]),
             pyglue_error_name(rv[2]), pyglue_error_name(rv[3]));
    return write_bytes(h, said, strlen(said), PYGLUE_WRITE_LAST);
}

/* An interim head, and the response when the file exists. */
static int hint_and_wait(pyglue_host_t *h, const char *script) {
    pyglue_header_t link = {{"Link", 4}, {"</a>", 4}};
    pyglue_head_t head = {103, {"Early Hints", 11}, &link, 1, -1};
    int rv = h->ops->interim(h, &head);

    while (rv == 0 && access(script, F_OK))
        usleep(1000);
    return rv == 0 ? hello(h, script) : rv;
}

static int stream(pyglue_host_t *h, const char *script) {
    (void)script;
    for (int i = 0, rv = start(h, -1); i < 3; i++)
        if (rv || write_bytes(h, "block", 5, 0) || h->ops->flush(h))
            return -1;
    return 0;
}

/* Until the client leaves; then says so in the log. */
static int endless(pyglue_host_t *h, const char *script) {
    int rv = start(h, -1);

    (void)script;
    while (rv == 0) {
        rv = write_bytes(h, "x", 1, 0);
        rv = rv ? rv : h->ops->flush(h);
        usleep(1000);
    }
    if (rv == PYGLUE_E_GONE && h->ops->gone(h) && write_bytes(h, "x", 1, 0) == PYGLUE_E_GONE)
        h->ops->log(h, 4, pyglue_str("the client has left"));
    return -1;
}

/* Runs until the file exists. */
static int wait_for_file(pyglue_host_t *h, const char *script) {
    if (start(h, 0) || h->ops->flush(h))
        return -1;
    while (access(script, F_OK))
        usleep(1000);
    return 0;
}

static pthread_mutex_t gils[] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};
static atomic_uint gil_count = 1;
static atomic_ullong owning;      /* the request that runs under the second one */
static atomic_ullong interrupted; /* the request that is to end */
static atomic_int has_loaded;

/* Runs until it is interrupted, under the first GIL; then as an application that does not catch it.
 */
static int spin(pyglue_host_t *h, const char *script) {
    (void)h, (void)script;
    while (atomic_load(&interrupted) == 0)
        usleep(1000);
    atomic_store(&interrupted, 0);
    return 504;
}

/* Holds a GIL until the file exists. */
static int hold_gil(unsigned gil, pyglue_host_t *h, const char *script) {
    pthread_mutex_lock(&gils[gil]);
    while (access(script, F_OK))
        usleep(1000);
    pthread_mutex_unlock(&gils[gil]);
    return hello(h, script);
}

static int hold(pyglue_host_t *h, const char *script) {
    return hold_gil(0, h, script);
}

static int hold_own(pyglue_host_t *h, const char *script) {
    atomic_store(&gil_count, 2);
    return hold_gil(1, h, script);
}

/* Whoever has the GIL here never gives it back, and the request ends. */
static int keep(pyglue_host_t *h, const char *script) {
    pthread_mutex_lock(&gils[0]);
    return hello(h, script);
}

static int keep_own(pyglue_host_t *h, const char *script) {
    atomic_store(&gil_count, 2);
    pthread_mutex_lock(&gils[1]);
    return hello(h, script);
}

static int load(pyglue_host_t *h, const char *script) {
    atomic_store(&has_loaded, 1);
    return hello(h, script);
}

static int file(pyglue_host_t *h, const char *script) {
    int fd = open(script, O_RDONLY | O_CLOEXEC);
    int rv = start(h, -1) || write_bytes(h, "file: ", 6, 0) || h->ops->file(h, fd, 10, 500000);

    close(fd);
    return rv;
}

static int logs(pyglue_host_t *h, const char *script) {
    char *text = malloc(600000);

    (void)script;
    memset(text, 'l', 600000);
    h->ops->log(h, 3, pyglue_str("one line"));
    h->ops->log(h, 4, (pyglue_str_t){text, 600000});
    free(text);
    return hello(h, script);
}

/* A child that holds its descriptors until the file exists must not hold the connection. */
static int forking(pyglue_host_t *h, const char *script) {
    if (fork() == 0) {
        while (access(script, F_OK))
            usleep(1000);
        _exit(0);
    }
    return hello(h, script);
}

/* A child that comes back as if it were the worker. */
static int forking_back(pyglue_host_t *h, const char *script) {
    pid_t pid = fork();

    if (pid > 0)
        waitpid(pid, NULL, 0);
    return hello(h, script);
}

static int failing(pyglue_host_t *h, const char *script) {
    (void)h, (void)script;
    return -1;
}

static const struct {
    const char *name;
    int (*run)(pyglue_host_t *h, const char *script);
} behaviours[] = {
    {"hello", hello},
    {"echo", echo},
    {"large", large},
    {"stream", stream},
    {"endless", endless},
    {"wait", wait_for_file},
    {"file", file},
    {"logs", logs},
    {"forking", forking},
    {"failing", failing},
    {"forking_back", forking_back},
    {"large_head", large_head},
    {"spin", spin},
    {"hold", hold},
    {"hold_own", hold_own},
    {"keep", keep},
    {"keep_own", keep_own},
    {"load", load},
    {"hints", hints},
    {"hint_and_wait", hint_and_wait},
};

static int call(pyglue_engine_t *engine, const pyglue_snapshot_t *snapshot, pyglue_host_t *host,
                pyglue_outcome_t *outcome) {
    const char *name = pyglue_snapshot_text(snapshot, snapshot->callable).ptr;
    const char *script = pyglue_snapshot_text(snapshot, snapshot->script).ptr;

    (void)engine;
    if (strcmp(name, "hold_own") == 0)
        atomic_store(&owning, snapshot->number);
    *outcome = (pyglue_outcome_t){PYGLUE_FAILED, 404};
    for (size_t i = 0; i < sizeof behaviours / sizeof behaviours[0]; i++) {
        int rv = strcmp(behaviours[i].name, name) == 0 ? behaviours[i].run(host, script) : 404;

        if (rv > 0 && rv != 404)
            *outcome = (pyglue_outcome_t){PYGLUE_FAILED, rv};
        else if (rv != 404)
            *outcome = (pyglue_outcome_t){rv == 0 ? PYGLUE_COMPLETE : PYGLUE_CUT, 0};
    }
    return 0;
}

/* What the watcher asks for. */

static int engine_has_loaded(pyglue_engine_t *engine) {
    (void)engine;
    return atomic_load(&has_loaded);
}

static unsigned count_gils(pyglue_engine_t *engine) {
    (void)engine;
    return atomic_load(&gil_count);
}

static void touch(pyglue_engine_t *engine, unsigned gil) {
    (void)engine;
    pthread_mutex_lock(&gils[gil]);
    pthread_mutex_unlock(&gils[gil]);
}

static int interrupt(pyglue_engine_t *engine, unsigned gil, uint64_t number) {
    if (gil != (atomic_load(&owning) == number))
        return 0;
    touch(engine, gil);
    wkr_say("interrupt %llu", (unsigned long long)number);
    atomic_store(&interrupted, number);
    return 1;
}

static void dump(pyglue_engine_t *engine, unsigned gil) {
    touch(engine, gil);
    wkr_say("dump under GIL %u", gil);
}

static void dump_stuck(pyglue_engine_t *engine, unsigned gil, int number) {
    (void)engine;
    wkr_say("dump without the GIL %u, by signal %d", gil, number);
}

static void thread_end(pyglue_engine_t *engine) {
    (void)engine;
}

static const pyglue_engine_ops_t engine_ops = {
    .size = sizeof engine_ops,
    .version = PYGLUE_ENGINE_VERSION,
    .call = call,
    .thread_end = thread_end,
    .has_loaded = engine_has_loaded,
    .interrupt = interrupt,
    .dump = dump,
    .dump_stuck = dump_stuck,
    .touch = touch,
    .gils = count_gils,
};

static void serve(wkr_pool_t *pool, int events) {
    unsigned char event;

    while (read(events, &event, 1) != 0) {
        printf("%d\n", event);
        fflush(stdout);
        if (event == SIGTERM)
            wkr_pool_drain(pool);
        if (event == WKR_EVENT_LEFT)
            return;
    }
}

/* NAME=NUMBER. 0, or -1. */
static int set(wkr_settings_t *settings, const char *word) {
    for (unsigned i = 0; i < wkr_setting_count; i++) {
        const wkr_setting_t *row = &wkr_setting_rows[i];
        size_t len = strlen(row->name);

        if (strncmp(row->name, word, len) == 0 && word[len] == '=')
            return wkr_setting_put(settings, row, strtoull(word + len + 1, NULL, 10));
    }
    fprintf(stderr, "no setting: %s\n", word);
    return -1;
}

int main(int argc, char **argv) {
    wkr_settings_t settings = {.listener = 0, .number = 0x1234567890, .messages = -1};
    wkr_pool_t *pool;
    int events[2], rv;

    signal(SIGPIPE, SIG_IGN); /* as Python does */
    if (pipe2(events, O_CLOEXEC))
        return 2;
    memset(settings.key, 'k', sizeof settings.key);
    settings.events = events[1];
    for (int i = 1; i < argc; i++)
        if (set(&settings, argv[i]))
            return 2;
    rv = wkr_pool_start(&pool, &settings, &engine_ops, NULL);
    if (rv != 0 || wkr_process_forks(pool, &events[0], 2) || wkr_process_signals(events[1])) {
        fprintf(stderr, "%s: %s\n", pyglue_error_name(rv), strerror(errno));
        return 1;
    }
    wkr_pool_watch(pool);
    puts("0");
    fflush(stdout);
    serve(pool, events[0]);
    wkr_process_forks_end();
    wkr_pool_stop(pool);
    return 0;
}
