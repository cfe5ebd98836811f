/* SPDX-License-Identifier: Apache-2.0 */
/* What an interpreter is given before it serves: our package made importable, the loader's
 * preparation, and the objects that the engine calls. What the loader is asked besides, too: it is
 * the engine's Python half (pyglue/loader/interpreter.py). Up: interp.c. */
#include "eng.h"

#include <dlfcn.h>

/* Makes pyglue importable from its folder, and the engine from its file, without sys.path. */
static const char join_source[] =
    "def join(package, engine):\n"
    "    import importlib.util, sys\n"
    "    def take(name, path, folders):\n"
    "        if name not in sys.modules:\n"
    "            spec = importlib.util.spec_from_file_location(\n"
    "                name, path, submodule_search_locations=folders)\n"
    "            module = importlib.util.module_from_spec(spec)\n"
    "            sys.modules[name] = module\n"
    "            try:\n"
    "                spec.loader.exec_module(module)\n"
    "            except BaseException:\n"
    "                del sys.modules[name]\n"
    "                raise\n"
    "        return sys.modules[name]\n"
    "    root = take('pyglue', package + '/__init__.py', [package])\n"
    "    root._engine = take('pyglue._engine', engine, None)\n"
    "    return root._engine\n";

static PyObject *join(pyglue_engine_t *engine) {
    PyObject *scope = PyDict_New(), *done = NULL, *module = NULL;
    PyObject *package = PyUnicode_DecodeFSDefault(engine->package), *file = NULL;
    Dl_info self;

    if (dladdr((const void *)&pyglue_engine, &self) && self.dli_fname != NULL)
        file = PyUnicode_DecodeFSDefault(self.dli_fname);
    if (scope != NULL && package != NULL && file != NULL)
        done = PyRun_String(join_source, Py_file_input, scope, scope);
    if (done != NULL)
        module =
            PyObject_CallFunctionObjArgs(PyDict_GetItemString(scope, "join"), package, file, NULL);
    Py_XDECREF(done);
    Py_XDECREF(file);
    Py_XDECREF(package);
    Py_XDECREF(scope);
    return module;
}

/* An attribute of one of our modules. */
static PyObject *get(const char *module_name, const char *name) {
    PyObject *module = PyImport_ImportModule(module_name);
    PyObject *object = module != NULL ? PyObject_GetAttrString(module, name) : NULL;

    Py_XDECREF(module);
    return object;
}

/* An answer of the loader's. Takes args; NULL with an exception: they could not be made, and nobody
 * is asked. */
static PyObject *ask(const char *name, PyObject *args) {
    PyObject *function = args != NULL ? get("pyglue.loader.interpreter", name) : NULL;
    PyObject *answer = function != NULL ? PyObject_CallObject(function, args) : NULL;

    Py_XDECREF(function);
    Py_XDECREF(args);
    return answer;
}

static int prepare(const eng_state_t *state) {
    PyObject *done =
        ask("prepare", Py_BuildValue("(ss)", state->engine->settings, state->interp->name));

    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

int eng_furnish(pyglue_engine_t *engine, eng_interp_t *interp) {
    PyObject *module = join(engine);
    eng_state_t *state;

    if (module == NULL)
        return -1;
    state = eng_state_of(module);
    state->engine = engine;
    state->interp = interp;
    interp->state = state;
    Py_XSETREF(state->find, get("pyglue.loader.script", "find"));
    Py_XSETREF(state->error, get("pyglue.errors", "PyglueError"));
    Py_XSETREF(state->buffered, get("io", "BufferedIOBase"));
    Py_XSETREF(state->raw, get("io", "FileIO"));
    Py_XSETREF(state->timeout, get("pyglue.compat.mod_wsgi", "RequestTimeout"));
    Py_XSETREF(state->stacks, get("pyglue.loader.stacks", "describe"));
    if (state->find == NULL || state->error == NULL || state->buffered == NULL ||
        state->raw == NULL || state->timeout == NULL || state->stacks == NULL ||
        eng_environ_prepare(state))
        return -1;
    return prepare(state);
}

int eng_furnish_count_parts(pyglue_engine_t *engine) {
    PyObject *answer = ask("spread", PyTuple_New(0));
    long parts = answer != NULL ? PyLong_AsLong(answer) : -1;

    Py_XDECREF(answer);
    if (parts < 0)
        return -1;
    engine->parts = (unsigned)parts;
    return 0;
}

int eng_furnish_has_own_gil(const eng_interp_t *interp) {
    PyObject *answer = ask("has_own_gil", Py_BuildValue("(sI)", interp->name, interp->part));
    int is_true = answer != NULL ? PyObject_IsTrue(answer) : -1;

    Py_XDECREF(answer);
    return is_true;
}

void eng_furnish_finish(pyglue_engine_t *engine) {
    PyObject *done = ask("finish", PyTuple_New(0));

    if (done == NULL)
        eng_exc_log_early(engine, ENG_ID(3015) "an exit callback of an application group failed");
    Py_XDECREF(done);
}
