/* SPDX-License-Identifier: Apache-2.0 */
/* The engine in this httpd child. One thread of our own opens it when it is first needed, preloads
 * what the configuration names, sleeps, and closes it when the child ends: the thread that
 * initialises Python is its main thread, and those of the MPM and of HTTP/2 come and go (HTTPD 5).
 * Neighbours: glue_python.c finds and loads; glue_handler.c calls. */
#include "glue_embed.h"

#include <ap_mpm.h>
#include <pthread.h>

#include "glue_clock.h"
#include "glue_compat.h"
#include "glue_config.h"
#include "glue_group.h"
#include "glue_interpreter.h"
#include "glue_json.h"
#include "glue_log.h"
#include "glue_python.h"
#include "glue_thread.h"

#define CLOSE_BOUND_S 5 /* a child that ends does not wait longer for Python */
#define RETRY_AFTER apr_time_from_sec(5)

enum glue_embed_state {
    GLUE_EMBED_IDLE,   /* nobody has needed Python yet */
    GLUE_EMBED_WANTED, /* the thread is to open it, or is doing so */
    GLUE_EMBED_OPEN,
    GLUE_EMBED_FAILED,  /* with a cause */
    GLUE_EMBED_LEFT,    /* the child ends while requests are in here: Python stays as it is */
    GLUE_EMBED_CLOSING, /* the child ends */
    GLUE_EMBED_CLOSED
};

/* Of this child; written by child_init, then as the comments say. */
static struct embed {
    server_rec *server;
    apr_pool_t *pool; /* the thread's alone, and never destroyed: it may outlive the child's */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_key_t key;    /* set in threads that have called the engine */
    int is_started;       /* the thread runs; frozen after child_init */
    int state;            /* glue_embed_state; under lock, OPEN also read without */
    int running;          /* requests that are in here, waiting ones too; atomic */
    int is_final;         /* lock: a failure that stays */
    apr_time_t failed_at; /* lock */
    const char *cause;    /* lock: of a failure; the text lives as long as the child */
    glue_python_t python; /* written before OPEN */
    pyglue_engine_t *engine;
} embed = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int state_now(void) {
    return __atomic_load_n(&embed.state, __ATOMIC_SEQ_CST);
}

static void set_state_locked(enum glue_embed_state state) {
    __atomic_store_n(&embed.state, state, __ATOMIC_SEQ_CST);
    pthread_cond_broadcast(&embed.changed);
}

/* Opening, in the thread. */

static void log_text(void *baton, int level, pyglue_str_t text) {
    glue_log_server(baton, level, text);
}

/* docs/bridge.md, Settings. */
static const char *settings_json(apr_pool_t *pool) {
    glue_json_t w = {.pool = pool};
    const glue_site_t *site = glue_config_site(embed.server);
    int processes = 1, threads = 1;

    ap_mpm_query(AP_MPMQ_MAX_DAEMONS, &processes);
    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    glue_json_format(&w, "{\"group\": \"\", \"processes\": %d, \"threads\": %d, \"python_path\": ",
                     processes, threads > 0 ? threads : 1);
    glue_json_path(&w, site->python_path);
    glue_json_format(&w,
                     ", \"home\": null, \"script_uid\": null, \"script_gid\": null, "
                     "\"own_gil\": %s, \"free_threading\": %s, \"interpreter_options\": ",
                     site->own_gil ? "true" : "false",
                     glue_interpreter_is_free(site, "") ? "true" : "false");
    glue_interpreter_put(&w, site, "");
    glue_json_plain(&w, "}");
    return apr_pstrmemdup(pool, w.text, w.length);
}

static const char *open_engine(int *is_final, apr_pool_t *pool) {
    const char *problem = glue_python_open(&embed.python, is_final,
                                           glue_config_site(embed.server)->python_home, pool);
    pyglue_engine_settings_t settings;
    int error;

    if (problem != NULL)
        return problem;
    settings = (pyglue_engine_settings_t){
        .size = sizeof settings,
        .package = embed.python.package,
        .executable = embed.python.executable,
        .settings = settings_json(pool),
        .log = log_text,
        .baton = embed.server,
        .has_gil = !glue_interpreter_is_free(glue_config_site(embed.server), ""),
    };
    error = embed.python.engine->open(&embed.engine, &settings);
    if (error == PYGLUE_E_NOMEM) /* before Python had begun, which it does once in a process */
        *is_final = 0;
    return error == 0 ? NULL
                      : apr_psprintf(pool, "Python of %s could not be initialised: %s",
                                     embed.python.executable, pyglue_error_text(error));
}

static void preload(void) {
    const apr_array_header_t *scripts = glue_scripts(embed.server);

    for (int i = 0; i < scripts->nelts; i++) {
        const glue_script_t *script = &APR_ARRAY_IDX(scripts, i, glue_script_t);
        pyglue_load_t load = {script->path, script->application_group, script->callable};

        if (*script->process_group == '\0')
            embed.python.engine->load(embed.engine, &load); /* it logs by itself */
    }
}

static void open_locked(void) {
    const char *problem;
    int is_final;

    pthread_mutex_unlock(&embed.lock);
    problem = open_engine(&is_final, embed.pool);
    if (problem == NULL)
        preload();
    else if (state_now() == GLUE_EMBED_WANTED) /* what ends httpd may have ended that Python too */
        ap_log_error(APLOG_MARK, APLOG_CRIT, 0, embed.server, GLUE_ID(0402) "embedded mode: %s",
                     problem);
    pthread_mutex_lock(&embed.lock);
    embed.cause = problem;
    embed.is_final = is_final;
    embed.failed_at = glue_clock_now();
    if (embed.state == GLUE_EMBED_WANTED)
        set_state_locked(problem == NULL ? GLUE_EMBED_OPEN : GLUE_EMBED_FAILED);
}

static void *thread_main(void *unused) {
    (void)unused;
    pthread_mutex_lock(&embed.lock);
    while (embed.state != GLUE_EMBED_CLOSING) {
        if (embed.state == GLUE_EMBED_WANTED)
            open_locked();
        else
            pthread_cond_wait(&embed.changed, &embed.lock);
    }
    pthread_mutex_unlock(&embed.lock);
    if (embed.engine != NULL)
        embed.python.engine->close(embed.engine);
    pthread_mutex_lock(&embed.lock);
    set_state_locked(GLUE_EMBED_CLOSED);
    pthread_mutex_unlock(&embed.lock);
    return NULL;
}

/* Life of the child. */

/* A thread that has called the engine ends. */
static void forget_thread(void *unused) {
    (void)unused;
    if (state_now() == GLUE_EMBED_OPEN)
        embed.python.engine->thread_end(embed.engine);
}

static void close_locked(void) {
    struct timespec end;

    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += CLOSE_BOUND_S;
    set_state_locked(GLUE_EMBED_CLOSING);
    while (embed.state != GLUE_EMBED_CLOSED)
        if (pthread_cond_timedwait(&embed.changed, &embed.lock, &end) != 0)
            break;
    pthread_key_delete(embed.key);
}

/* Within bounds: prefork's signal handler comes here in the middle of anything. Where a request is
 * in here, or our lock is held by the code that was interrupted, Python is left as it is. A request
 * counts itself before it looks at the state, and here it is the other way round. */
static void close_unless_used(void) {
    if (pthread_mutex_trylock(&embed.lock) != 0)
        return;
    __atomic_store_n(&embed.state, GLUE_EMBED_LEFT, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&embed.running, __ATOMIC_SEQ_CST) == 0)
        close_locked();
    pthread_mutex_unlock(&embed.lock);
}

/* Threads of the application, and a script that is being loaded, may run on until the process has
 * ended: nobody's exit handler may free what they use. OpenSSL's does, also where Python has loaded
 * it only now: so ours is registered last. */
static apr_status_t end_child(void *unused) {
    int has_python = state_now() != GLUE_EMBED_IDLE;

    (void)unused;
    close_unless_used();
    if (has_python)
        glue_compat_exit_at_once();
    return APR_SUCCESS;
}

/* WSGIImportScript needs Python also where embedded requests are refused; a preloading alias does
 * not, as in mod_wsgi. */
static int is_needed_at_once(int is_restricted) {
    const apr_array_header_t *scripts = glue_scripts(embed.server);

    for (int i = 0; i < scripts->nelts; i++) {
        const glue_script_t *script = &APR_ARRAY_IDX(scripts, i, glue_script_t);

        if (*script->process_group == '\0' && (script->callable == NULL || !is_restricted))
            return 1;
    }
    return 0;
}

static int start_thread(void) {
    pthread_t thread;
    int error = glue_thread_start(&thread, thread_main);

    if (error == 0)
        pthread_detach(thread);
    return error;
}

void glue_embed_child_init(apr_pool_t *pchild, server_rec *s) {
    int is_restricted = glue_config_site(s)->restrict_embedded;
    int error;

    embed.server = s;
    if (is_needed_at_once(is_restricted))
        embed.state = GLUE_EMBED_WANTED;
    else if (is_restricted)
        return;
    apr_pool_create(&embed.pool, NULL);
    glue_thread_condition(&embed.changed);
    if ((error = pthread_key_create(&embed.key, forget_thread)) != 0 ||
        (error = start_thread()) != 0) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, APR_FROM_OS_ERROR(error), s,
                     GLUE_ID(0401) "embedded mode: its thread could not be started");
        return;
    }
    embed.is_started = 1;
    apr_pool_pre_cleanup_register(pchild, NULL, end_child);
}

/* Requests. */

/* Waits until Python is open. NULL: it is; else why not. */
static const char *await_open(void) {
    const char *cause = NULL;

    pthread_mutex_lock(&embed.lock);
    if (embed.state == GLUE_EMBED_IDLE || (embed.state == GLUE_EMBED_FAILED && !embed.is_final &&
                                           glue_clock_now() - embed.failed_at > RETRY_AFTER))
        set_state_locked(GLUE_EMBED_WANTED);
    while (embed.state == GLUE_EMBED_WANTED)
        pthread_cond_wait(&embed.changed, &embed.lock);
    if (embed.state != GLUE_EMBED_OPEN)
        cause = embed.cause != NULL ? embed.cause : "this process is ending";
    pthread_mutex_unlock(&embed.lock);
    return cause;
}

static int refuse(const glue_host_t *host, const char *cause) {
    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, host->r, GLUE_ID(0403) "embedded mode: %s", cause);
    return PYGLUE_E_STATE;
}

static int call(pyglue_outcome_t *outcome, glue_host_t *host, const pyglue_snapshot_t *snapshot) {
    const char *cause;

    if (state_now() != GLUE_EMBED_OPEN && (cause = await_open()) != NULL)
        return refuse(host, cause);
    pthread_setspecific(embed.key, &embed);
    embed.python.engine->call(embed.engine, snapshot, &host->base, outcome);
    return 0;
}

int glue_embed_run(pyglue_outcome_t *outcome, glue_host_t *host,
                   const pyglue_snapshot_t *snapshot) {
    int error;

    if (glue_config_site(host->r->server)->restrict_embedded)
        return refuse(host, "WSGIRestrictEmbedded is On, and no WSGIProcessGroup holds here");
    if (!embed.is_started)
        return refuse(host, "its thread could not be started");
    __atomic_add_fetch(&embed.running, 1, __ATOMIC_SEQ_CST);
    error = call(outcome, host, snapshot);
    __atomic_sub_fetch(&embed.running, 1, __ATOMIC_SEQ_CST);
    return error;
}
