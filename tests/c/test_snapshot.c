/* SPDX-License-Identifier: Apache-2.0 */
/* The request as one block: built, read back, and refused when cut, grown or bent anywhere. */
#include "check.h"
#include "frame.h"

#include <stdlib.h>

static const pyglue_str_t keys[] = {{"REQUEST_METHOD", 14}, {"HTTP_X", 6}, {"QUERY_STRING", 12}};
static const pyglue_str_t values[] = {{"GET", 3}, {"a\0b", 3}, {"", 0}};

static const pyglue_snapshot_spec_t spec = {
    .flags = PYGLUE_REQ_HTTPS,
    .number = 7,
    .content_length = -1,
    .request_start = 1,
    .queue_start = 2,
    .httpd_version = {2, 4, 71},
    .script = {"/srv/app.wsgi", 13},
    .callable = {"application", 11},
    .request_id = {"id", 2},
    .keys = keys,
    .values = values,
    .pair_count = 3,
};

static char *built(size_t *size) {
    char *block;

    *size = pyglue_snapshot_size(&spec);
    block = malloc(*size);
    pyglue_snapshot_build(block, *size, &spec);
    return block;
}

/* In memory of exactly that size, so that a read beyond it is seen by the sanitizer. */
static int check_exact(const char *block, size_t size, size_t claimed) {
    char *exact = calloc(1, size ? size : 1);
    int rv;

    memcpy(exact, block, size);
    if (claimed != 0 && size >= sizeof(pyglue_snapshot_t))
        ((pyglue_snapshot_t *)(void *)exact)->size = (uint32_t)claimed;
    rv = pyglue_snapshot_check(exact, size);
    free(exact);
    return rv;
}

static int is_text(const pyglue_snapshot_t *s, pyglue_slice_t slice, pyglue_str_t wanted) {
    pyglue_str_t text = pyglue_snapshot_text(s, slice);

    return text.len == wanted.len &&
           memcmp(text.ptr, wanted.len ? wanted.ptr : "", text.len) == 0 &&
           text.ptr[text.len] == '\0';
}

static void what_is_built_is_read_back(void) {
    size_t size;
    char *block = built(&size);
    const pyglue_snapshot_t *s = (const pyglue_snapshot_t *)(const void *)block;

    CHECK(pyglue_snapshot_check(block, size) == 0);
    CHECK(s->number == 7 && s->content_length == -1 && s->pair_count == 3);
    CHECK(s->flags == PYGLUE_REQ_HTTPS && s->httpd_version[2] == 71);
    CHECK(is_text(s, s->script, spec.script) && is_text(s, s->callable, spec.callable));
    CHECK(is_text(s, s->process_group, pyglue_str("")) &&
          is_text(s, s->request_id, spec.request_id));
    for (uint32_t i = 0; i < 3; i++)
        CHECK(is_text(s, s->pairs[i].key, keys[i]) && is_text(s, s->pairs[i].value, values[i]));
    free(block);
}

static void a_block_without_pairs_is_whole(void) {
    pyglue_snapshot_spec_t none = {.content_length = 0};
    size_t size = pyglue_snapshot_size(&none);
    char *block = malloc(size);

    pyglue_snapshot_build(block, size, &none);
    CHECK(pyglue_snapshot_check(block, size) == 0);
    free(block);
}

static void every_cut_block_is_refused(void) {
    size_t size;
    char *block = built(&size);

    for (size_t length = 0; length < size; length++) {
        CHECK(check_exact(block, length, 0) < 0);
        CHECK(check_exact(block, length, length) < 0); /* and when it says that it is so short */
    }
    free(block);
}

static void every_longer_block_is_refused(void) {
    size_t size;
    char *block = built(&size);
    char *longer = calloc(1, size + 64);

    memcpy(longer, block, size);
    for (size_t more = 1; more <= 64; more++) {
        CHECK(check_exact(longer, size + more, 0) < 0);
        CHECK(check_exact(longer, size + more, size + more) < 0);
    }
    free(longer);
    free(block);
}

/* Any answer will do, but an accepted block must be safe to read whole. */
static void any_changed_byte_leaves_a_block_safe(void) {
    static const unsigned char changes[] = {0, 1, 0x7f, 0x80, 0xff};
    size_t size;
    char *block = built(&size);

    for (size_t at = 0; at < size; at++)
        for (size_t i = 0; i < sizeof changes; i++) {
            char before = block[at];
            const pyglue_snapshot_t *s = (const pyglue_snapshot_t *)(const void *)block;

            block[at] = (char)changes[i];
            if (pyglue_snapshot_check(block, size) == 0)
                for (uint32_t p = 0; p < s->pair_count; p++)
                    CHECK(
                        pyglue_snapshot_text(s, s->pairs[p].value).ptr[s->pairs[p].value.length] ==
                        '\0');
            block[at] = before;
        }
    free(block);
}

static void another_version_is_told_apart(void) {
    size_t size;
    char *block = built(&size);

    ((pyglue_snapshot_t *)(void *)block)->version = PYGLUE_SNAPSHOT_VERSION + 1;
    CHECK(pyglue_snapshot_check(block, size) == PYGLUE_E_VERSION);
    free(block);
}

static void numbers_that_would_overflow_are_refused(void) {
    static const uint32_t counts[] = {4, 1000, 0x0fffffff, 0x10000000, 0x7fffffff, 0xffffffff};
    size_t size;
    char *block = built(&size);
    pyglue_snapshot_t *s = (pyglue_snapshot_t *)(void *)block;
    pyglue_slice_t script = s->script;

    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        s->pair_count = counts[i];
        CHECK(pyglue_snapshot_check(block, size) == PYGLUE_E_PROTOCOL);
        s->pair_count = 3;
        s->script = (pyglue_slice_t){script.offset, counts[i]};
        CHECK(pyglue_snapshot_check(block, size) == PYGLUE_E_PROTOCOL);
        s->script = (pyglue_slice_t){counts[i], script.length};
        CHECK(pyglue_snapshot_check(block, size) == PYGLUE_E_PROTOCOL);
        s->script = script;
    }
    s->content_length = -2;
    CHECK(pyglue_snapshot_check(block, size) == PYGLUE_E_PROTOCOL);
    free(block);
}

static void a_spec_beyond_32_bits_has_no_size(void) {
    pyglue_snapshot_spec_t huge = spec;

    huge.script.len = UINT32_MAX;
    CHECK(pyglue_snapshot_size(&huge) == 0);
}

/* A REQUEST payload: sizes, snapshot, body. */

static int get_request(const char *snapshot, uint32_t size, uint32_t body, uint32_t length) {
    pyglue_request_t head = {size, body};
    size_t room = sizeof head + size + 8;
    char *payload = calloc(1, room);
    const pyglue_snapshot_t *s;
    pyglue_str_t text;
    int rv;

    memcpy(payload, &head, sizeof head);
    memcpy(payload + sizeof head, snapshot, size);
    rv = pyglue_request_get(&s, &text, payload, length);
    if (rv == 0)
        CHECK(text.len == body && text.ptr + body == payload + length);
    free(payload);
    return rv;
}

static void request_lengths_add_up_or_it_is_refused(void) {
    size_t full;
    char *block = built(&full);
    uint32_t size = (uint32_t)full, sum = (uint32_t)sizeof(pyglue_request_t) + size;

    CHECK(get_request(block, size, 0, sum) == 0 && get_request(block, size, 5, sum + 5) == 0);
    for (uint32_t length = 0; length < sum; length++)
        CHECK(get_request(block, size, 0, length) == PYGLUE_E_PROTOCOL);
    CHECK(get_request(block, size, 0, sum + 1) == PYGLUE_E_PROTOCOL);
    CHECK(get_request(block, size, 1, sum) == PYGLUE_E_PROTOCOL);
    CHECK(get_request(block, size, UINT32_MAX, sum - 1) == PYGLUE_E_PROTOCOL); /* wraps */
    free(block);
}

int main(void) {
    what_is_built_is_read_back();
    a_block_without_pairs_is_whole();
    every_cut_block_is_refused();
    every_longer_block_is_refused();
    any_changed_byte_leaves_a_block_safe();
    another_version_is_told_apart();
    numbers_that_would_overflow_are_refused();
    a_spec_beyond_32_bits_has_no_size();
    request_lengths_add_up_or_it_is_refused();
    return check_result();
}
