/* SPDX-License-Identifier: Apache-2.0 */
/* Builds and checks the request block. One walk over the texts, in one fixed order, serves both. */
#include "snapshot.h"

/* The fixed texts, in the order in which they lie in the block. */
static const struct {
    size_t slice; /* in pyglue_snapshot_t */
    size_t text;  /* in pyglue_snapshot_spec_t */
} texts[] = {
#define TEXT(field)                                                                                \
    { offsetof(pyglue_snapshot_t, field), offsetof(pyglue_snapshot_spec_t, field) }
    TEXT(script),  TEXT(process_group), TEXT(application_group), TEXT(callable),
    TEXT(handler), TEXT(request_id),    TEXT(connection_id),
#undef TEXT
};
enum { TEXT_COUNT = sizeof texts / sizeof texts[0] };

static const pyglue_str_t *spec_text(const pyglue_snapshot_spec_t *spec, int i) {
    return (const pyglue_str_t *)((const char *)spec + texts[i].text);
}

size_t pyglue_snapshot_size(const pyglue_snapshot_spec_t *spec) {
    uint64_t size = sizeof(pyglue_snapshot_t) + (uint64_t)spec->pair_count * sizeof(pyglue_pair_t);

    for (int i = 0; i < TEXT_COUNT; i++)
        size += spec_text(spec, i)->len + 1;
    for (uint32_t i = 0; i < spec->pair_count; i++)
        size += (uint64_t)spec->keys[i].len + spec->values[i].len + 2;
    return size <= UINT32_MAX ? (size_t)size : 0;
}

static pyglue_slice_t put_text(char *memory, uint32_t *at, pyglue_str_t text) {
    pyglue_slice_t slice = {*at, (uint32_t)text.len};

    if (text.len > 0)
        memcpy(memory + *at, text.ptr, text.len);
    memory[*at + text.len] = '\0';
    *at += slice.length + 1;
    return slice;
}

void pyglue_snapshot_build(void *memory, size_t size, const pyglue_snapshot_spec_t *spec) {
    pyglue_snapshot_t *s = memory;
    uint32_t at = (uint32_t)(sizeof *s + spec->pair_count * sizeof(pyglue_pair_t));

    memset(s, 0, sizeof *s);
    s->version = PYGLUE_SNAPSHOT_VERSION;
    s->size = (uint32_t)size;
    s->flags = spec->flags;
    s->pair_count = spec->pair_count;
    s->number = spec->number;
    s->content_length = spec->content_length;
    s->request_start = spec->request_start;
    s->queue_start = spec->queue_start;
    memcpy(s->httpd_version, spec->httpd_version, sizeof s->httpd_version);
    for (int i = 0; i < TEXT_COUNT; i++)
        *(pyglue_slice_t *)((char *)s + texts[i].slice) =
            put_text(memory, &at, *spec_text(spec, i));
    for (uint32_t i = 0; i < spec->pair_count; i++) {
        s->pairs[i].key = put_text(memory, &at, spec->keys[i]);
        s->pairs[i].value = put_text(memory, &at, spec->values[i]);
    }
}

/* Texts lie one after the other and fill the block exactly, so nothing can overlap or hide. */
static int check_text(const char *memory, uint64_t size, uint64_t *at, pyglue_slice_t slice) {
    if (slice.offset != *at || *at + slice.length + 1 > size || memory[*at + slice.length] != '\0')
        return PYGLUE_E_PROTOCOL;
    *at += (uint64_t)slice.length + 1;
    return 0;
}

int pyglue_snapshot_check(const void *memory, size_t size) {
    const pyglue_snapshot_t *s = memory;
    uint64_t at;

    if (size < sizeof *s)
        return PYGLUE_E_PROTOCOL;
    if (s->version != PYGLUE_SNAPSHOT_VERSION)
        return PYGLUE_E_VERSION;
    at = sizeof *s + (uint64_t)s->pair_count * sizeof(pyglue_pair_t);
    if (s->size != size || at > size || s->content_length < -1)
        return PYGLUE_E_PROTOCOL;
    for (int i = 0; i < TEXT_COUNT; i++)
        if (check_text(memory, size, &at,
                       *(const pyglue_slice_t *)((const char *)s + texts[i].slice)))
            return PYGLUE_E_PROTOCOL;
    for (uint32_t i = 0; i < s->pair_count; i++)
        if (s->pairs[i].key.length == 0 || check_text(memory, size, &at, s->pairs[i].key) ||
            check_text(memory, size, &at, s->pairs[i].value))
            return PYGLUE_E_PROTOCOL;
    return at == size ? 0 : PYGLUE_E_PROTOCOL;
}

pyglue_str_t pyglue_snapshot_value(const pyglue_snapshot_t *snapshot, pyglue_str_t key) {
    for (uint32_t i = snapshot->pair_count; i-- > 0;) {
        pyglue_str_t is = pyglue_snapshot_text(snapshot, snapshot->pairs[i].key);

        if (is.len == key.len && memcmp(is.ptr, key.ptr, key.len) == 0)
            return pyglue_snapshot_text(snapshot, snapshot->pairs[i].value);
    }
    return (pyglue_str_t){NULL, 0};
}
