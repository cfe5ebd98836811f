/* SPDX-License-Identifier: Apache-2.0 */
/* What engine.h promises: the one place where a host's thread enters and leaves Python for a
 * request. Beside it host.c, by which Python's threads reach the host, and life.c.
 *
 * A warm request attaches once. Whatever fits into the scratch leaves after the thread state was
 * given up; all its Python objects are gone by then. */
#include "eng.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MOMENT_MS 100 /* that Python may be waited for without a look for the client */

/* One request. */

/* What is on the thread's stack while a request runs. */
typedef struct visit {
    eng_thread_t *thread;
    eng_state_t *state;
    const pyglue_snapshot_t *snapshot;
    pyglue_host_t *host;
    pyglue_outcome_t *outcome;
    eng_scratch_t *scratch;
    int64_t modified; /* of the script, µs; 0: not looked at */
    double entered;
    bool is_gathered; /* the response is in scratch */
    bool is_short;    /* and shorter than announced */
    int error;
} visit_t;

static pyglue_str_t text_of(const visit_t *visit, pyglue_slice_t slice) {
    return pyglue_snapshot_text(visit->snapshot, slice);
}

/* In the request's critical section. */
static void end_request_exclusive(visit_t *visit, eng_request_t *request) {
    /* Held only when a thread that the application started uses this request just now: the GIL is
     * let go for that case alone, as taking it again is what a request does once. */
    if (pthread_mutex_trylock(&request->lock) != 0) {
        Py_BEGIN_ALLOW_THREADS
            pthread_mutex_lock(&request->lock);
        Py_END_ALLOW_THREADS
    }
    request->host = NULL;
    request->scratch = NULL;
    request->snapshot = NULL;
    pthread_mutex_unlock(&request->lock);
    visit->error = request->error;
    visit->is_gathered = request->is_gathered && request->error == 0;
}

/* From here on the application's objects of this request are harmless. */
static void end_request(visit_t *visit, eng_request_t *request) {
    Py_BEGIN_CRITICAL_SECTION(request);
    end_request_exclusive(visit, request);
    Py_END_CRITICAL_SECTION();
}

static void fail(visit_t *visit, eng_request_t *request, const char *id, const char *what) {
    int status =
        eng_exc_log(visit->state, request, id, what, text_of(visit, visit->snapshot->script));

    if (eng_result_is_whole(request))
        *visit->outcome = (pyglue_outcome_t){PYGLUE_COMPLETE, 0};
    else if (request->is_started)
        *visit->outcome = (pyglue_outcome_t){PYGLUE_CUT, 0};
    else
        *visit->outcome = (pyglue_outcome_t){PYGLUE_FAILED, status};
}

/* The application returned and was iterated without an exception. */
static void succeed(visit_t *visit, eng_request_t *request) {
    pyglue_str_t script = text_of(visit, visit->snapshot->script);

    visit->is_short = !request->is_bodiless && request->length > request->taken;
    if (visit->is_short && request->error == 0)
        eng_log_format(
            visit->state, request, PYGLUE_LEVEL_ERROR,
            ENG_ID(3007) "script '%s' announced a Content-Length of %lld and returned %lld bytes: "
                         "the response is cut short",
            script.ptr, (long long)request->length, (long long)request->taken);
    if (request->error == PYGLUE_E_HEAD)
        eng_log_format(visit->state, request, PYGLUE_LEVEL_ERROR,
                       ENG_ID(3010) "the server refused the response head of script '%s'",
                       script.ptr);
    if (request->is_gathered || (request->is_started && request->error == 0))
        visit->outcome->kind = visit->is_short ? PYGLUE_CUT : PYGLUE_COMPLETE;
    else if (request->is_started)
        visit->outcome->kind = PYGLUE_CUT;
    if (visit->outcome->kind != PYGLUE_FAILED)
        visit->outcome->status = 0;
}

static enum eng_reloads reloads_of(const pyglue_snapshot_t *snapshot) {
    if (snapshot->process_group.length == 0)
        return ENG_RELOADS_ITSELF;
    return snapshot->flags & PYGLUE_REQ_RELOADING ? ENG_WORKER_RELOADS : ENG_WORKER_STAYS;
}

static int serve(visit_t *visit, eng_request_t *request, PyObject *input, PyObject *errors) {
    PyObject *application, *result = NULL;
    PyObject *args[2] = {NULL, (PyObject *)request};
    int rv = -1;

    application = eng_app_new(visit->state, text_of(visit, visit->snapshot->script),
                              text_of(visit, visit->snapshot->callable), visit->modified,
                              reloads_of(visit->snapshot));
    if (application == NULL)
        return -1;
    args[0] = eng_environ_new(visit->state, request, input, errors, visit->thread->number,
                              visit->entered);
    eng_interrupt_allow(visit->thread);
    if (args[0] != NULL)
        result = PyObject_Vectorcall(application, args, 2, NULL);
    if (result != NULL)
        rv = eng_result_run(visit->state, request, result);
    eng_interrupt_forbid(visit->thread);
    Py_BEGIN_CRITICAL_SECTION(request);
    if (rv < 0)
        fail(visit, request, ENG_ID(3001), "the request failed");
    else
        succeed(visit, request);
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(result);
    Py_XDECREF(args[0]);
    Py_DECREF(application);
    return 0;
}

/* A child that the application forked came back from it: the request is its parent's to answer. */
static void end_if_forked(pyglue_engine_t *engine) {
    if (!engine->is_forked)
        return;
    engine->log(engine->baton, PYGLUE_LEVEL_WARN,
                pyglue_str(ENG_ID(3018) "a child process that the application had forked came back "
                                        "from it and was ended; end such a child by os._exit()"));
    _exit(0);
}

/* Runs the request with the interpreter attached; nothing of it is left when it returns. */
static void run(visit_t *visit) {
    eng_request_t *outer = visit->thread->request;
    eng_request_t *request =
        eng_start_new(visit->state, visit->snapshot, visit->host, visit->scratch);
    const eng_shown_t shown = {.snapshot = visit->snapshot,
                               .interp = visit->state->interp,
                               .ident = PyThread_get_thread_ident(),
                               .since = visit->entered};
    eng_shown_t outer_shown;
    PyObject *input = NULL, *errors = NULL;

    if (request == NULL) {
        eng_exc_log(visit->state, NULL, ENG_ID(3003), "the request could not be set up",
                    pyglue_str(""));
        return;
    }
    visit->thread->request = request;
    eng_interrupt_begin(visit->thread, &outer_shown, &shown);
    if ((input = eng_input_new(visit->state, request)) == NULL ||
        (errors = eng_stream_new(visit->state, request, "wsgi.errors")) == NULL ||
        serve(visit, request, input, errors))
        fail(visit, request, ENG_ID(3002), "the application could not be reached");
    if (errors != NULL)
        eng_stream_finish(errors);
    end_if_forked(visit->thread->engine);
    eng_interrupt_end(visit->thread, &outer_shown);
    end_request(visit, request);
    Py_XDECREF(input);
    Py_XDECREF(errors);
    visit->thread->request = outer;
    Py_DECREF((PyObject *)request);
}

/* What was gathered, without Python. */
static int send_gathered_nogil(visit_t *visit) {
    eng_scratch_t *scratch = visit->scratch;
    struct iovec block = {scratch->body, scratch->body_len};
    const pyglue_host_ops_t *ops = visit->host->ops;
    int rv = ops->start(visit->host, &scratch->head);

    if (rv < 0) {
        *visit->outcome = (pyglue_outcome_t){PYGLUE_FAILED, 500};
        if (rv == PYGLUE_E_HEAD)
            ops->log(visit->host, PYGLUE_LEVEL_ERROR,
                     pyglue_str(ENG_ID(3010) "the server refused the application's response head"));
        return rv;
    }
    if (block.iov_len > 0)
        rv = ops->write(visit->host, &block, 1, visit->is_short ? 0 : PYGLUE_WRITE_LAST);
    if (rv < 0)
        visit->outcome->kind = PYGLUE_CUT;
    return rv;
}

/* Only where the script may change under a serving process; a worker is replaced instead. */
static int64_t look_at_script_nogil(const pyglue_snapshot_t *snapshot) {
    struct stat file;

    if (!(snapshot->flags & PYGLUE_REQ_RELOADING) || snapshot->process_group.length > 0)
        return 0;
    if (stat(pyglue_snapshot_text(snapshot, snapshot->script).ptr, &file))
        return -1; /* differs from any: the loader will tell what is wrong */
    return (int64_t)file.st_mtim.tv_sec * 1000000 + file.st_mtim.tv_nsec / 1000;
}

static eng_scratch_t *take_scratch_nogil(eng_thread_t *thread) {
    eng_scratch_t *scratch = thread->scratch;

    thread->scratch = NULL;
    if (scratch == NULL)
        scratch = calloc(1, sizeof *scratch);
    if (scratch != NULL) {
        scratch->head = (pyglue_head_t){.content_length = -1};
        scratch->body_len = 0;
    }
    return scratch;
}

static void log_failure_nogil(pyglue_host_t *host, const char *text) {
    host->ops->log(host, PYGLUE_LEVEL_ERROR, pyglue_str(text));
}

static int64_t now_ms(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* In one interpreter of the request's application group. Whoever waited long for Python may have
 * left meanwhile: what nobody waits for is not begun. */
static void visit_part_nogil(visit_t *visit, pyglue_str_t group, unsigned part) {
    int64_t began = now_ms();
    eng_seat_t *seat = eng_interp_enter_nogil(visit->thread, group, part);

    if (seat == NULL) {
        log_failure_nogil(visit->host,
                          ENG_ID(3016) "the application group's interpreter could not be made; the "
                                       "server's error log has the reason");
        return;
    }
    visit->state = seat->interp->state;
    if (now_ms() - began < MOMENT_MS || !visit->host->ops->gone(visit->host))
        run(visit);
    eng_interp_leave(seat);
}

static int visit_nogil(visit_t *visit) {
    pyglue_engine_t *engine = visit->thread->engine;
    pyglue_str_t group = text_of(visit, visit->snapshot->application_group);
    eng_spread_t *spread;
    unsigned part = eng_spread_take(&spread, engine, group);

    visit_part_nogil(visit, group, part);
    eng_spread_give(engine, spread, part);
    if (visit->is_gathered)
        visit->error = send_gathered_nogil(visit);
    return visit->error < 0 && visit->error != PYGLUE_E_HEAD ? PYGLUE_E_GONE : 0;
}

/* By their first requests: there are threads of ours that never have one. */
static void number_thread(eng_thread_t *thread) {
    if (thread->number == 0)
        thread->number = atomic_fetch_add(&thread->engine->threads, 1) + 1;
}

static int api_call(pyglue_engine_t *engine, const pyglue_snapshot_t *snapshot, pyglue_host_t *host,
                    pyglue_outcome_t *outcome) {
    visit_t visit = {.thread = eng_thread_nogil(engine),
                     .snapshot = snapshot,
                     .host = host,
                     .outcome = outcome,
                     .entered = eng_environ_now()};
    int rv;

    *outcome = (pyglue_outcome_t){PYGLUE_FAILED, 500};
    if (visit.thread == NULL || (visit.scratch = take_scratch_nogil(visit.thread)) == NULL) {
        log_failure_nogil(host, ENG_ID(3017) "out of memory before the request could begin");
        return 0;
    }
    number_thread(visit.thread);
    visit.modified = look_at_script_nogil(snapshot);
    rv = visit_nogil(&visit);
    /* A request inside a request (a test's host) may have left one of its own. */
    eng_scratch_free(visit.thread->scratch);
    visit.thread->scratch = visit.scratch;
    return rv;
}

static int load_nogil(eng_thread_t *thread, const pyglue_load_t *load, unsigned part) {
    pyglue_str_t script = pyglue_str(load->script);
    pyglue_str_t callable = pyglue_str(load->callable != NULL ? load->callable : "");
    eng_seat_t *seat = eng_interp_enter_nogil(thread, pyglue_str(load->application_group), part);
    PyObject *object;

    if (seat == NULL)
        return PYGLUE_E_PYTHON;
    object = eng_app_new(seat->interp->state, script, callable, 0, ENG_RELOADS_ITSELF);
    if (object == NULL)
        eng_exc_log(seat->interp->state, NULL, ENG_ID(3004), "the script could not be loaded",
                    script);
    end_if_forked(thread->engine);
    Py_XDECREF(object);
    eng_interp_leave(seat);
    return object != NULL ? 0 : PYGLUE_E_PYTHON;
}

/* Into every interpreter of its group; where one cannot have it, the others need not try. */
static int api_load(pyglue_engine_t *engine, const pyglue_load_t *load) {
    eng_thread_t *thread = eng_thread_nogil(engine);
    unsigned part = engine->parts > 0;
    int rv = thread != NULL ? 0 : PYGLUE_E_PYTHON;

    do
        rv = rv != 0 ? rv : load_nogil(thread, load, part);
    while (++part <= engine->parts);
    return rv;
}

/* The table. */

static int api_has_loaded(pyglue_engine_t *engine) {
    return atomic_load(&engine->has_loaded);
}

static int api_is_current(pyglue_engine_t *engine, const pyglue_snapshot_t *snapshot) {
    return !(snapshot->flags & PYGLUE_REQ_RELOADING) ||
           eng_note_is_current(engine, pyglue_snapshot_text(snapshot, snapshot->script).ptr);
}

static const pyglue_engine_ops_t operations = {
    .size = sizeof operations,
    .version = PYGLUE_ENGINE_VERSION,
    .open = eng_life_open_nogil,
    .call = api_call,
    .load = api_load,
    .thread_end = eng_thread_end_nogil,
    .close = eng_life_close_nogil,
    .has_loaded = api_has_loaded,
    .is_current = api_is_current,
    .interrupt = eng_interrupt_nogil,
    .dump = eng_interrupt_dump_nogil,
    .dump_stuck = eng_gils_dump_stuck,
    .touch = eng_interrupt_touch_nogil,
    .gils = eng_gils_count,
};

__attribute__((visibility("default"))) const pyglue_engine_ops_t *pyglue_engine(void) {
    return &operations;
}
