/* SPDX-License-Identifier: Apache-2.0 */
/* The wire: every type from every sender at and around each length, every cut of a request and a
 * head, each order of frames. */
#include "check.h"
#include "frame.h"

#include <stdlib.h>

static const pyglue_bounds_t bounds = {4096, 1024, 4, 64};

static int get(int type, unsigned flags, uint32_t length, enum pyglue_sender sender) {
    pyglue_frame_t frame = {length, (uint8_t)type, (uint8_t)flags, 0, 7};
    pyglue_frame_t got;

    return pyglue_frame_get(&got, &frame, sender, &bounds);
}

/* docs/wire.md: who sends it, least and greatest payload, flags. */
static const struct {
    int type, child, worker;
    uint32_t least, most;
    unsigned flags;
} rules[] = {
    {PYGLUE_FRAME_HELLO, 1, 1, 48, 48, 0},
    {PYGLUE_FRAME_REQUEST, 1, 0, 8 + sizeof(pyglue_snapshot_t), 4096, PYGLUE_BODY_END},
    {PYGLUE_FRAME_BODY, 1, 1, 0, PYGLUE_FRAME_BODY_MAX, PYGLUE_BODY_END | PYGLUE_BODY_ERROR},
    {PYGLUE_FRAME_PULL, 1, 0, 16, 16, 0},
    {PYGLUE_FRAME_GONE, 1, 0, 0, 0, 0},
    {PYGLUE_FRAME_READ, 0, 1, 4, 4, 0},
    {PYGLUE_FRAME_HEAD, 0, 1, 16, 1024, 0},
    {PYGLUE_FRAME_FILE, 0, 1, 16, 16, PYGLUE_FILE_DESCRIPTOR},
    {PYGLUE_FRAME_FLUSH, 0, 1, 0, 0, 0},
    {PYGLUE_FRAME_LOG, 0, 1, 4, PYGLUE_FRAME_BODY_MAX, 0},
    {PYGLUE_FRAME_END, 0, 1, 8, 8, 0},
    {PYGLUE_FRAME_REFUSE, 0, 1, 4, 4, 0},
    {PYGLUE_FRAME_GOODBYE, 0, 1, 0, 0, 0},
    {PYGLUE_FRAME_LEAVE, 1, 0, 48, 48, 0},
    {PYGLUE_FRAME_INTERIM, 0, 1, 16, 8192, 0}, /* whatever the bound of a head is */
};

static void frames_are_taken_only_from_their_sender_in_their_bounds(void) {
    CHECK(sizeof rules / sizeof rules[0] == PYGLUE_FRAME_TYPES - 1);
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        int type = rules[i].type;
        enum pyglue_sender own = rules[i].child ? PYGLUE_FROM_CHILD : PYGLUE_FROM_WORKER;
        int variable = rules[i].least != rules[i].most;

        CHECK((get(type, 0, rules[i].least, PYGLUE_FROM_CHILD) == 0) == rules[i].child);
        CHECK((get(type, 0, rules[i].least, PYGLUE_FROM_WORKER) == 0) == rules[i].worker);
        for (uint32_t length = 0; length < rules[i].least; length++)
            CHECK(get(type, 0, length, own) == PYGLUE_E_PROTOCOL);
        CHECK(get(type, 0, rules[i].most, own) == 0);
        CHECK(get(type, 0, rules[i].most + 1, own) ==
              (variable ? PYGLUE_E_TOO_BIG : PYGLUE_E_PROTOCOL));
        CHECK(get(type, 0, UINT32_MAX, own) < 0);
        for (unsigned flags = 0; flags < 256; flags++)
            CHECK((get(type, flags, rules[i].least, own) == 0) == !(flags & ~rules[i].flags));
    }
}

static void unknown_types_and_reserved_bits_are_refused(void) {
    pyglue_frame_t frame = pyglue_frame(PYGLUE_FRAME_FLUSH, 0, 7, 0);
    pyglue_frame_t got;

    CHECK(get(0, 0, 0, PYGLUE_FROM_WORKER) == PYGLUE_E_PROTOCOL);
    for (int type = PYGLUE_FRAME_TYPES; type < 256; type++) {
        CHECK(get(type, 0, 0, PYGLUE_FROM_WORKER) == PYGLUE_E_PROTOCOL);
        CHECK(strcmp(pyglue_frame_name(type), "unknown") == 0);
    }
    frame.reserved = 1;
    CHECK(pyglue_frame_get(&got, &frame, PYGLUE_FROM_WORKER, &bounds) == PYGLUE_E_PROTOCOL);
}

/* Heads. */

static pyglue_header_t fields[] = {{{"Content-Type", 12}, {"text/plain", 10}},
                                   {{"X-Empty", 7}, {"", 0}}};

static pyglue_head_t sample_head(void) {
    return (pyglue_head_t){.status = 200,
                           .reason = {"OK", 2},
                           .headers = fields,
                           .header_count = 2,
                           .content_length = 5};
}

/* In memory of exactly that size, so that a read beyond it is seen by the sanitizer. */
static int get_head(const void *payload, size_t length) {
    void *exact = malloc(length ? length : 1);
    pyglue_header_t room[4];
    pyglue_head_t head;
    int rv;

    memcpy(exact, payload, length);
    rv = pyglue_head_get(&head, room, 4, exact, length, &bounds);
    free(exact);
    return rv;
}

static void a_head_survives_the_wire(void) {
    pyglue_head_t head = sample_head();
    size_t size = pyglue_head_size(&head);
    char *payload = malloc(size);
    pyglue_header_t room[4];
    pyglue_head_t got;

    pyglue_head_put(payload, &head);
    CHECK(pyglue_head_get(&got, room, 4, payload, size, &bounds) == 0);
    CHECK(got.status == 200 && got.content_length == 5 && got.header_count == 2);
    CHECK(got.reason.len == 2 && memcmp(got.reason.ptr, "OK", 2) == 0);
    for (size_t i = 0; i < 2; i++) {
        CHECK(room[i].name.len == fields[i].name.len && room[i].value.len == fields[i].value.len);
        CHECK(memcmp(room[i].name.ptr, fields[i].name.ptr, room[i].name.len) == 0);
    }
    free(payload);
}

static void every_cut_and_every_longer_head_is_refused(void) {
    pyglue_head_t head = sample_head();
    size_t size = pyglue_head_size(&head);
    char *payload = calloc(1, size + 64);

    pyglue_head_put(payload, &head);
    CHECK(get_head(payload, size) == 0);
    for (size_t length = 0; length < size; length++)
        CHECK(get_head(payload, length) == PYGLUE_E_PROTOCOL);
    for (size_t more = 1; more <= 64; more++)
        CHECK(get_head(payload, size + more) == PYGLUE_E_PROTOCOL);
    free(payload);
}

static void any_changed_byte_of_a_head_is_bounded(void) {
    pyglue_head_t head = sample_head();
    size_t size = pyglue_head_size(&head);
    unsigned char *payload = malloc(size);

    for (size_t at = 0; at < size; at++)
        for (unsigned value = 0; value < 256; value++) {
            pyglue_head_put(payload, &head);
            payload[at] = (unsigned char)value;
            get_head(payload, size); /* any answer; the sanitizer is the judge */
        }
    free(payload);
}

static int check_head(int status, pyglue_str_t reason, pyglue_str_t name, pyglue_str_t value) {
    pyglue_header_t field = {name, value};
    pyglue_head_t head = {.status = status,
                          .reason = reason,
                          .headers = &field,
                          .header_count = 1,
                          .content_length = -1};

    return pyglue_head_check(&head, &bounds);
}

static void heads_that_would_split_a_response_are_refused(void) {
    pyglue_str_t ok = pyglue_str("OK"), name = pyglue_str("X"), value = pyglue_str("v");

    CHECK(check_head(200, ok, name, value) == 0 && check_head(999, ok, name, value) == 0);
    CHECK(check_head(199, ok, name, value) == PYGLUE_E_HEAD);
    CHECK(check_head(1000, ok, name, value) == PYGLUE_E_HEAD);
    CHECK(check_head(-1, ok, name, value) == PYGLUE_E_HEAD);
    CHECK(check_head(200, ok, pyglue_str(""), value) == PYGLUE_E_HEAD);
    for (int c = 0; c < 256; c++) {
        char byte = (char)c;
        int is_control = (c < 32 && c != '\t') || c == 127;
        int is_token = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z' && c < 128) ||
                       (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
        pyglue_str_t text = {&byte, 1};

        CHECK((check_head(200, text, name, value) == 0) == !is_control);
        CHECK((check_head(200, ok, name, text) == 0) == !is_control);
        CHECK((check_head(200, ok, text, value) == 0) == is_token);
    }
}

static void heads_beyond_their_bounds_are_refused(void) {
    static const char long_text[PYGLUE_REASON_MAX + 1] = {0};
    pyglue_header_t many[5] = {{{"A", 1}, {"", 0}},
                               {{"A", 1}, {"", 0}},
                               {{"A", 1}, {"", 0}},
                               {{"A", 1}, {"", 0}},
                               {{"A", 1}, {"", 0}}};
    pyglue_head_t head = {
        .status = 200, .reason = {"", 0}, .headers = many, .header_count = 4, .content_length = -1};
    pyglue_bounds_t narrow = bounds;
    char value[64];

    memset(value, 'v', sizeof value);
    CHECK(pyglue_head_check(&head, &bounds) == 0);
    head.header_count = 5;
    CHECK(pyglue_head_check(&head, &bounds) == PYGLUE_E_TOO_BIG);
    CHECK(check_head(200, (pyglue_str_t){long_text, sizeof long_text}, pyglue_str("A"),
                     pyglue_str("")) == PYGLUE_E_TOO_BIG);
    CHECK(check_head(200, pyglue_str(""), pyglue_str("A"), (pyglue_str_t){value, 63}) == 0);
    CHECK(check_head(200, pyglue_str(""), pyglue_str("A"), (pyglue_str_t){value, 64}) ==
          PYGLUE_E_TOO_BIG);
    head.header_count = 4;
    narrow.head = (uint32_t)pyglue_head_size(&head);
    CHECK(pyglue_head_check(&head, &narrow) == 0);
    narrow.head--;
    CHECK(pyglue_head_check(&head, &narrow) == PYGLUE_E_TOO_BIG);
    head.content_length = -2;
    head.header_count = 0;
    CHECK(pyglue_head_check(&head, &bounds) == PYGLUE_E_HEAD);
}

/* Interim heads. */

static int get_interim(const pyglue_head_t *head, size_t cut, size_t more) {
    size_t size = pyglue_head_size(head);
    char *payload = calloc(1, size + more);
    pyglue_header_t room[PYGLUE_INTERIM_FIELDS];
    pyglue_head_t got;
    int rv;

    pyglue_head_put(payload, head);
    rv = pyglue_interim_get(&got, room, payload, size - cut + more);
    if (rv == 0)
        CHECK(got.status == 103 && got.header_count == head->header_count);
    free(payload);
    return rv;
}

static int check_interim(int status, int64_t content_length, const char *name) {
    pyglue_header_t field = {pyglue_str(name), pyglue_str("v")};
    pyglue_head_t head = {.status = status,
                          .reason = pyglue_str("Early Hints"),
                          .headers = &field,
                          .header_count = 1,
                          .content_length = content_length};
    int rv = pyglue_interim_check(&head);

    CHECK(get_interim(&head, 0, 0) == rv);
    return rv;
}

static void an_interim_head_is_103_and_frames_nothing(void) {
    static const char *const refused[] = {
        "Connection", "keep-alive", "Transfer-Encoding", "TE",
        "TRAILER",    "Upgrade",    "Content-Length",    "content-length",
        "Link Two",   "",           "Proxy-Connection",  "Proxy-Authenticate"};

    for (int status = -1; status < 1100; status++)
        CHECK(check_interim(status, -1, "Link") == (status == 103 ? 0 : PYGLUE_E_HEAD));
    CHECK(check_interim(103, 0, "Link") == PYGLUE_E_HEAD);
    CHECK(check_interim(103, -2, "Link") == PYGLUE_E_HEAD);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        CHECK(check_interim(103, -1, refused[i]) == PYGLUE_E_HEAD);
}

static void an_interim_head_has_bounds_of_its_own(void) {
    static char value[8192];
    pyglue_header_t many[PYGLUE_INTERIM_FIELDS + 1];
    pyglue_head_t head = {.status = 103, .headers = many, .content_length = -1};

    memset(value, 'v', sizeof value);
    for (size_t i = 0; i < PYGLUE_INTERIM_FIELDS + 1; i++)
        many[i] = (pyglue_header_t){pyglue_str("Link"), pyglue_str("</a>")};
    head.header_count = PYGLUE_INTERIM_FIELDS;
    CHECK(get_interim(&head, 0, 0) == 0);
    for (size_t cut = 1; cut <= pyglue_head_size(&head); cut++)
        CHECK(get_interim(&head, cut, 0) == PYGLUE_E_PROTOCOL);
    CHECK(get_interim(&head, 0, 1) == PYGLUE_E_PROTOCOL);
    head.header_count++;
    CHECK(get_interim(&head, 0, 0) == PYGLUE_E_TOO_BIG);
    head.header_count = 1;
    many[0].value = (pyglue_str_t){value, 8192 - 16 - 8 - 4};
    CHECK(get_interim(&head, 0, 0) == 0);
    many[0].value.len++;
    CHECK(get_interim(&head, 0, 0) == PYGLUE_E_TOO_BIG);
}

/* Order. */

enum { SENT, RUNNING, HEADED, FILED, ENDED, STATES, NO = -1 };

/* docs/wire.md: the state after a frame of this type, for each state before it. */
static const int after[PYGLUE_FRAME_TYPES][STATES] = {
    [0] = {NO, NO, NO, NO, NO},
    [PYGLUE_FRAME_HELLO] = {NO, NO, NO, NO, NO},
    [PYGLUE_FRAME_REQUEST] = {NO, NO, NO, NO, NO},
    [PYGLUE_FRAME_BODY] = {NO, NO, HEADED, FILED, NO},
    [PYGLUE_FRAME_PULL] = {NO, NO, NO, NO, NO},
    [PYGLUE_FRAME_GONE] = {NO, NO, NO, NO, NO},
    [PYGLUE_FRAME_READ] = {RUNNING, RUNNING, HEADED, NO, NO},
    [PYGLUE_FRAME_HEAD] = {HEADED, HEADED, NO, NO, NO},
    [PYGLUE_FRAME_FILE] = {NO, NO, FILED, NO, NO},
    [PYGLUE_FRAME_FLUSH] = {NO, NO, HEADED, NO, NO},
    [PYGLUE_FRAME_LOG] = {RUNNING, RUNNING, HEADED, FILED, NO},
    [PYGLUE_FRAME_END] = {ENDED, ENDED, ENDED, ENDED, NO},
    [PYGLUE_FRAME_REFUSE] = {ENDED, NO, NO, NO, NO},
    [PYGLUE_FRAME_GOODBYE] = {NO, NO, NO, NO, NO},
    [PYGLUE_FRAME_LEAVE] = {NO, NO, NO, NO, NO},
    [PYGLUE_FRAME_INTERIM] = {RUNNING, RUNNING, NO, NO, NO},
};

static void each_frame_is_accepted_in_its_states_only(void) {
    for (int state = 0; state < STATES; state++)
        for (int type = 0; type < 256; type++) {
            pyglue_exchange_t exchange = {7, (enum pyglue_exchange_state)state};
            pyglue_frame_t frame = {0, (uint8_t)type, 0, 0, 7};
            int next = type < PYGLUE_FRAME_TYPES ? after[type][state] : NO;

            CHECK(pyglue_exchange_accept(&exchange, &frame) ==
                  (next == NO ? PYGLUE_E_PROTOCOL : 0));
            CHECK((int)exchange.state == (next == NO ? state : next));
        }
}

static void a_frame_of_another_request_is_refused_in_every_state(void) {
    for (int state = 0; state < STATES; state++)
        for (int type = 0; type < PYGLUE_FRAME_TYPES; type++) {
            pyglue_exchange_t exchange = {7, (enum pyglue_exchange_state)state};
            pyglue_frame_t frame = {0, (uint8_t)type, 0, 0, 8};

            CHECK(pyglue_exchange_accept(&exchange, &frame) == PYGLUE_E_PROTOCOL);
        }
}

int main(void) {
    frames_are_taken_only_from_their_sender_in_their_bounds();
    unknown_types_and_reserved_bits_are_refused();
    a_head_survives_the_wire();
    every_cut_and_every_longer_head_is_refused();
    any_changed_byte_of_a_head_is_bounded();
    heads_that_would_split_a_response_are_refused();
    heads_beyond_their_bounds_are_refused();
    an_interim_head_is_103_and_frames_nothing();
    an_interim_head_has_bounds_of_its_own();
    each_frame_is_accepted_in_its_states_only();
    a_frame_of_another_request_is_refused_in_every_state();
    return check_result();
}
