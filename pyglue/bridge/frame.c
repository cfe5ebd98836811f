/* SPDX-License-Identifier: Apache-2.0 */
/* The codec of the wire: one table of frame types, one of allowed orders, and the head's shape. */
#include "frame.h"

#include <strings.h>

const pyglue_bounds_t pyglue_bounds_default = {16u << 20, 256u << 10, 500, 32u << 10};
const pyglue_bounds_t pyglue_bounds_interim = {0, 8192, PYGLUE_INTERIM_FIELDS, 8192};

/* Which bound a variable length has. */
enum bound { FIXED, REQUEST, BODY, HEAD, INTERIM };

static const struct {
    const char *name;
    uint8_t child, worker; /* may that side send it? */
    uint8_t bound;
    uint8_t flags;  /* allowed ones */
    uint32_t least; /* payload length, exact when FIXED */
} types[PYGLUE_FRAME_TYPES] = {
    [PYGLUE_FRAME_HELLO] = {"HELLO", 1, 1, FIXED, 0, sizeof(pyglue_hello_t)},
    [PYGLUE_FRAME_REQUEST] = {"REQUEST", 1, 0, REQUEST, PYGLUE_BODY_END,
                              sizeof(pyglue_request_t) + sizeof(pyglue_snapshot_t)},
    [PYGLUE_FRAME_BODY] = {"BODY", 1, 1, BODY, PYGLUE_BODY_END | PYGLUE_BODY_ERROR, 0},
    [PYGLUE_FRAME_PULL] = {"PULL", 1, 0, FIXED, 0, sizeof(pyglue_pull_t)},
    [PYGLUE_FRAME_GONE] = {"GONE", 1, 0, FIXED, 0, 0},
    [PYGLUE_FRAME_READ] = {"READ", 0, 1, FIXED, 0, sizeof(uint32_t)},
    [PYGLUE_FRAME_HEAD] = {"HEAD", 0, 1, HEAD, 0, 16},
    [PYGLUE_FRAME_FILE] = {"FILE", 0, 1, FIXED, PYGLUE_FILE_DESCRIPTOR, sizeof(pyglue_file_t)},
    [PYGLUE_FRAME_FLUSH] = {"FLUSH", 0, 1, FIXED, 0, 0},
    [PYGLUE_FRAME_LOG] = {"LOG", 0, 1, BODY, 0, sizeof(uint32_t)},
    [PYGLUE_FRAME_END] = {"END", 0, 1, FIXED, 0, sizeof(pyglue_outcome_t)},
    [PYGLUE_FRAME_REFUSE] = {"REFUSE", 0, 1, FIXED, 0, sizeof(uint32_t)},
    [PYGLUE_FRAME_GOODBYE] = {"GOODBYE", 0, 1, FIXED, 0, 0},
    [PYGLUE_FRAME_LEAVE] = {"LEAVE", 1, 0, FIXED, 0, sizeof(pyglue_hello_t)},
    [PYGLUE_FRAME_INTERIM] = {"INTERIM", 0, 1, INTERIM, 0, 16},
};

const char *pyglue_frame_name(int type) {
    return type > 0 && type < PYGLUE_FRAME_TYPES ? types[type].name : "unknown";
}

static uint32_t greatest(const pyglue_frame_t *frame, const pyglue_bounds_t *bounds) {
    switch ((enum bound)types[frame->type].bound) {
    case REQUEST:
        return bounds->request;
    case BODY:
        return PYGLUE_FRAME_BODY_MAX;
    case HEAD:
        return bounds->head;
    case INTERIM:
        return pyglue_bounds_interim.head;
    case FIXED:
        break;
    }
    return types[frame->type].least;
}

int pyglue_frame_get(pyglue_frame_t *frame, const void *bytes, enum pyglue_sender sender,
                     const pyglue_bounds_t *bounds) {
    memcpy(frame, bytes, sizeof *frame);
    if (frame->type == 0 || frame->type >= PYGLUE_FRAME_TYPES || frame->reserved != 0)
        return PYGLUE_E_PROTOCOL;
    if (!(sender == PYGLUE_FROM_CHILD ? types[frame->type].child : types[frame->type].worker))
        return PYGLUE_E_PROTOCOL;
    if ((frame->flags & ~types[frame->type].flags) != 0 || frame->length < types[frame->type].least)
        return PYGLUE_E_PROTOCOL;
    if (frame->length > greatest(frame, bounds))
        return types[frame->type].bound == FIXED ? PYGLUE_E_PROTOCOL : PYGLUE_E_TOO_BIG;
    return 0;
}

int pyglue_request_get(const pyglue_snapshot_t **snapshot, pyglue_str_t *body, const void *payload,
                       size_t length) {
    pyglue_request_t request;
    const char *start = (const char *)payload + sizeof request;

    if (length < sizeof request)
        return PYGLUE_E_PROTOCOL;
    memcpy(&request, payload, sizeof request);
    if ((uint64_t)sizeof request + request.snapshot_size + request.body_size != length)
        return PYGLUE_E_PROTOCOL;
    *snapshot = (const pyglue_snapshot_t *)(const void *)start;
    *body = (pyglue_str_t){start + request.snapshot_size, request.body_size};
    return pyglue_snapshot_check(start, request.snapshot_size);
}

/* The response head.
 * On the wire: this, the reason, then for each field two uint32_t lengths, name and value. */
struct head_wire {
    int32_t status;
    uint16_t reason_length;
    uint16_t field_count;
    int64_t content_length;
};

size_t pyglue_head_size(const pyglue_head_t *head) {
    uint64_t size = sizeof(struct head_wire) + (uint64_t)head->reason.len;

    if (head->reason.len > UINT16_MAX || head->header_count > UINT16_MAX)
        return 0;
    for (size_t i = 0; i < head->header_count; i++)
        size +=
            2 * sizeof(uint32_t) + (uint64_t)head->headers[i].name.len + head->headers[i].value.len;
    return size <= UINT32_MAX ? (size_t)size : 0;
}

static char *put(char *at, const void *bytes, size_t len) {
    if (len > 0)
        memcpy(at, bytes, len);
    return at + len;
}

void pyglue_head_put(void *memory, const pyglue_head_t *head) {
    struct head_wire wire = {head->status, (uint16_t)head->reason.len, (uint16_t)head->header_count,
                             head->content_length};
    char *at = put(memory, &wire, sizeof wire);

    at = put(at, head->reason.ptr, head->reason.len);
    for (size_t i = 0; i < head->header_count; i++) {
        const pyglue_header_t *field = &head->headers[i];
        uint32_t lengths[2] = {(uint32_t)field->name.len, (uint32_t)field->value.len};

        at = put(at, lengths, sizeof lengths);
        at = put(at, field->name.ptr, field->name.len);
        at = put(at, field->value.ptr, field->value.len);
    }
}

int pyglue_head_is_token(pyglue_str_t text) {
    static const char others[] = "!#$%&'*+-.^_`|~";

    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        int alnum = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');

        if (!alnum && (c == '\0' || strchr(others, c) == NULL))
            return 0;
    }
    return text.len > 0;
}

int pyglue_head_is_text(pyglue_str_t text) {
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];

        if ((c < 32 && c != '\t') || c == 127)
            return 0;
    }
    return 1;
}

static int is_name(pyglue_str_t name, const char *other) {
    return name.len == strlen(other) && strncasecmp(name.ptr, other, name.len) == 0;
}

int pyglue_head_is_hop_by_hop(pyglue_str_t name) {
    static const char *const names[] = {
        "Connection", "Keep-Alive",      "Proxy-Authenticate", "Proxy-Authorization",
        "TE",         "Trailer",         "Trailers",           "Transfer-Encoding",
        "Upgrade",    "Proxy-Connection"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (is_name(name, names[i]))
            return 1;
    return 0;
}

/* All but the status, which the two kinds of head do not share. */
static int check_shape(const pyglue_head_t *head, const pyglue_bounds_t *bounds) {
    size_t size = pyglue_head_size(head);

    if (head->header_count > bounds->fields || head->reason.len > PYGLUE_REASON_MAX || size == 0 ||
        size > bounds->head)
        return PYGLUE_E_TOO_BIG;
    if (head->content_length < -1 || !pyglue_head_is_text(head->reason))
        return PYGLUE_E_HEAD;
    for (size_t i = 0; i < head->header_count; i++) {
        const pyglue_header_t *field = &head->headers[i];

        if ((uint64_t)field->name.len + field->value.len > bounds->field)
            return PYGLUE_E_TOO_BIG;
        if (!pyglue_head_is_token(field->name) || !pyglue_head_is_text(field->value))
            return PYGLUE_E_HEAD;
    }
    return 0;
}

int pyglue_head_check(const pyglue_head_t *head, const pyglue_bounds_t *bounds) {
    int error = check_shape(head, bounds);

    return error == 0 && (head->status < 200 || head->status > 999) ? PYGLUE_E_HEAD : error;
}

int pyglue_interim_check(const pyglue_head_t *head) {
    int error = check_shape(head, &pyglue_bounds_interim);

    if (error == 0 && (head->status != 103 || head->content_length != -1))
        return PYGLUE_E_HEAD;
    for (size_t i = 0; error == 0 && i < head->header_count; i++)
        if (pyglue_head_is_hop_by_hop(head->headers[i].name) ||
            is_name(head->headers[i].name, "Content-Length"))
            return PYGLUE_E_HEAD;
    return error;
}

/* The next len bytes, or NULL where fewer are left. */
static const char *take(const char **at, const char *end, size_t len) {
    const char *start = *at;

    if ((size_t)(end - start) < len)
        return NULL;
    *at += len;
    return start;
}

static int get_field(pyglue_header_t *field, const char **at, const char *end) {
    uint32_t lengths[2];
    const char *bytes = take(at, end, sizeof lengths);

    if (bytes == NULL)
        return PYGLUE_E_PROTOCOL;
    memcpy(lengths, bytes, sizeof lengths);
    field->name = (pyglue_str_t){take(at, end, lengths[0]), lengths[0]};
    if (field->name.ptr == NULL)
        return PYGLUE_E_PROTOCOL;
    field->value = (pyglue_str_t){take(at, end, lengths[1]), lengths[1]};
    return field->value.ptr == NULL ? PYGLUE_E_PROTOCOL : 0;
}

static int get_head(pyglue_head_t *head, pyglue_header_t *fields, size_t room, const void *payload,
                    size_t length) {
    struct head_wire wire;
    const char *at = payload;
    const char *end = at + length;
    const char *bytes = take(&at, end, sizeof wire);

    if (bytes == NULL)
        return PYGLUE_E_PROTOCOL;
    memcpy(&wire, bytes, sizeof wire);
    if (wire.field_count > room)
        return PYGLUE_E_TOO_BIG;
    *head = (pyglue_head_t){.status = wire.status,
                            .reason = {take(&at, end, wire.reason_length), wire.reason_length},
                            .headers = fields,
                            .header_count = wire.field_count,
                            .content_length = wire.content_length};
    if (head->reason.ptr == NULL)
        return PYGLUE_E_PROTOCOL;
    for (size_t i = 0; i < head->header_count; i++)
        if (get_field(&fields[i], &at, end))
            return PYGLUE_E_PROTOCOL;
    return at == end ? 0 : PYGLUE_E_PROTOCOL;
}

int pyglue_head_get(pyglue_head_t *head, pyglue_header_t *fields, size_t room, const void *payload,
                    size_t length, const pyglue_bounds_t *bounds) {
    int error =
        get_head(head, fields, room < bounds->fields ? room : bounds->fields, payload, length);

    return error != 0 ? error : pyglue_head_check(head, bounds);
}

int pyglue_interim_get(pyglue_head_t *head, pyglue_header_t fields[PYGLUE_INTERIM_FIELDS],
                       const void *payload, size_t length) {
    int error = get_head(head, fields, PYGLUE_INTERIM_FIELDS, payload, length);

    return error != 0 ? error : pyglue_interim_check(head);
}

/* The order of a worker's frames. */

#define SENT (1u << PYGLUE_EXCHANGE_SENT)
#define RUNNING (1u << PYGLUE_EXCHANGE_RUNNING)
#define HEADED (1u << PYGLUE_EXCHANGE_HEADED)
#define FILED (1u << PYGLUE_EXCHANGE_FILE)

static const struct {
    uint8_t allowed; /* in which states */
    uint8_t next;    /* and the state after it; SENT: as it was, but no longer SENT */
} orders[PYGLUE_FRAME_TYPES] = {
    [PYGLUE_FRAME_READ] = {SENT | RUNNING | HEADED, PYGLUE_EXCHANGE_SENT},
    [PYGLUE_FRAME_INTERIM] = {SENT | RUNNING, PYGLUE_EXCHANGE_SENT},
    [PYGLUE_FRAME_HEAD] = {SENT | RUNNING, PYGLUE_EXCHANGE_HEADED},
    [PYGLUE_FRAME_BODY] = {HEADED | FILED, PYGLUE_EXCHANGE_SENT},
    [PYGLUE_FRAME_FLUSH] = {HEADED, PYGLUE_EXCHANGE_SENT},
    [PYGLUE_FRAME_FILE] = {HEADED, PYGLUE_EXCHANGE_FILE},
    [PYGLUE_FRAME_LOG] = {SENT | RUNNING | HEADED | FILED, PYGLUE_EXCHANGE_SENT},
    [PYGLUE_FRAME_END] = {SENT | RUNNING | HEADED | FILED, PYGLUE_EXCHANGE_ENDED},
    [PYGLUE_FRAME_REFUSE] = {SENT, PYGLUE_EXCHANGE_ENDED},
};

int pyglue_exchange_accept(pyglue_exchange_t *exchange, const pyglue_frame_t *frame) {
    if (frame->number != exchange->number || frame->type >= PYGLUE_FRAME_TYPES ||
        !(orders[frame->type].allowed & (1u << exchange->state)))
        return PYGLUE_E_PROTOCOL;
    if (orders[frame->type].next != PYGLUE_EXCHANGE_SENT)
        exchange->state = (enum pyglue_exchange_state)orders[frame->type].next;
    else if (exchange->state == PYGLUE_EXCHANGE_SENT)
        exchange->state = PYGLUE_EXCHANGE_RUNNING;
    return 0;
}
