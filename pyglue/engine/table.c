/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes to Python objects, without making a Python object to ask: environ keys of a snapshot to
 * their interned strings, script paths to applications. Knows nothing of either. */
#include "eng.h"

static uint64_t hash_of(const char *bytes, size_t len) {
    uint64_t hash = 14695981039346656037u; /* FNV-1a */

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 1099511628211u;
    return hash;
}

/* The entry of these bytes, or the free one where they would be put. */
static eng_entry_t *find(const eng_table_t *table, uint64_t hash, const char *bytes, size_t len) {
    for (size_t i = hash;; i++) {
        eng_entry_t *entry = &table->entries[i & (table->room - 1)];

        if (entry->bytes == NULL ||
            (entry->hash == hash && entry->len == len && memcmp(entry->bytes, bytes, len) == 0))
            return entry;
    }
}

PyObject *eng_table_new(eng_table_t *table, const char *bytes, size_t len) {
    PyObject *object = NULL;

    eng_compat_lock(&table->leaf);
    if (table->room > 0)
        object = Py_XNewRef(find(table, hash_of(bytes, len), bytes, len)->object);
    eng_compat_unlock(&table->leaf);
    return object;
}

/* A quarter stays free, so that a search ends soon. */
static int grow(eng_table_t *table) {
    eng_table_t old = *table;

    if (table->used + 1 <= table->room / 4 * 3)
        return 0;
    table->room = old.room ? old.room * 2 : 64;
    table->entries = calloc(table->room, sizeof *table->entries);
    if (table->entries == NULL) {
        *table = old;
        return -1;
    }
    for (size_t i = 0; i < old.room; i++) {
        const eng_entry_t *entry = &old.entries[i];

        if (entry->bytes != NULL)
            *find(table, entry->hash, entry->bytes, entry->len) = *entry;
    }
    free(old.entries);
    return 0;
}

/* The entry of these bytes, new if need be. NULL: no memory. */
static eng_entry_t *find_or_make(eng_table_t *table, const char *bytes, size_t len) {
    uint64_t hash = hash_of(bytes, len);
    eng_entry_t *entry;

    if (grow(table))
        return NULL;
    entry = find(table, hash, bytes, len);
    if (entry->bytes == NULL) {
        char *copy = malloc(len + 1);

        if (copy == NULL)
            return NULL;
        memcpy(copy, bytes, len);
        *entry = (eng_entry_t){hash, len, copy, NULL};
        table->used++;
    }
    return entry;
}

int eng_table_put(eng_table_t *table, const char *bytes, size_t len, PyObject *object,
                  size_t most) {
    eng_entry_t *entry = NULL;
    PyObject *old = NULL;
    int rv = 0;

    eng_compat_lock(&table->leaf);
    if (table->used < most)
        rv = (entry = find_or_make(table, bytes, len)) != NULL ? 0 : -1;
    if (entry != NULL) {
        old = entry->object;
        entry->object = Py_NewRef(object);
    }
    eng_compat_unlock(&table->leaf);
    Py_XDECREF(old);
    return rv;
}

int eng_table_traverse(eng_table_t *table, visitproc visit, void *arg) {
    for (size_t i = 0; i < table->room; i++)
        Py_VISIT(table->entries[i].object);
    return 0;
}

/* Emptied before the objects go: their ends may run Python code that comes back here. */
void eng_table_clear(eng_table_t *table) {
    eng_table_t old = *table;

    *table = (eng_table_t){0};
    for (size_t i = 0; i < old.room; i++) {
        free(old.entries[i].bytes);
        Py_XDECREF(old.entries[i].object);
    }
    free(old.entries);
}
