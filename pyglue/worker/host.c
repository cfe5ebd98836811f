/* SPDX-License-Identifier: Apache-2.0 */
/* The host operations of one request, each encoded as a frame of docs/wire.md.
 *
 * What is gathered leaves at flush, at the end, when a log line or a read needs it, or when it no
 * longer fits; big bodies go straight from the caller's memory. Above: the engine, through
 * bridge/host.h. Below: wire.c; file.c is one of the operations. */
#include <stdlib.h>

#include "wkr_wire.h"

enum { SLICES = 64 }; /* of one body frame: what one sendmsg gathers */

static wkr_host_t *host_of(pyglue_host_t *h) {
    return (wkr_host_t *)(void *)h;
}

/* The response. */

static int send_large_head(wkr_host_t *host, enum pyglue_frame_type type, const pyglue_head_t *head,
                           size_t size) {
    pyglue_frame_t frame = pyglue_frame(type, 0, host->number, size);
    void *payload = malloc(size);
    struct iovec v[3] = {{0}, {&frame, sizeof frame}, {payload, size}};
    int rv;

    if (payload == NULL)
        return PYGLUE_E_NOMEM;
    pyglue_head_put(payload, head);
    rv = wkr_wire_send(host, v, 3);
    free(payload);
    return rv;
}

static int put_head(wkr_host_t *host, enum pyglue_frame_type type, const pyglue_head_t *head) {
    size_t size = pyglue_head_size(head);
    char *at = wkr_wire_room(host, size);

    if (size == 0)
        return PYGLUE_E_HEAD;
    if (at == NULL)
        return send_large_head(host, type, head, size);
    wkr_wire_put(host, at, type, 0, NULL, size);
    pyglue_head_put(at + sizeof(pyglue_frame_t), head);
    return 0;
}

static int op_start(pyglue_host_t *h, const pyglue_head_t *head) {
    wkr_host_t *host = host_of(h);
    int rv;

    if (host->is_gone)
        return PYGLUE_E_GONE;
    if (host->is_headed)
        return PYGLUE_E_STATE;
    rv = put_head(host, PYGLUE_FRAME_HEAD, head);
    host->is_headed = rv == 0;
    return rv;
}

/* Sent at once: its use is to come before what takes long. */
static int op_interim(pyglue_host_t *h, const pyglue_head_t *head) {
    wkr_host_t *host = host_of(h);
    int rv;

    if (wkr_wire_is_gone(host))
        return PYGLUE_E_GONE;
    if (host->is_headed || host->interims == 0)
        return PYGLUE_E_STATE;
    if (pyglue_interim_check(head))
        return PYGLUE_E_HEAD;
    host->interims--;
    rv = put_head(host, PYGLUE_FRAME_INTERIM, head);
    return rv == 0 ? wkr_wire_flush(host) : rv;
}

static size_t total_of(const struct iovec *v, int n) {
    size_t total = 0;

    for (int i = 0; i < n; i++)
        total += v[i].iov_len;
    return total;
}

/* Where a walk over the caller's slices stands. */
struct walk {
    const struct iovec *v;
    int left;
    size_t offset; /* in v[0] */
};

/* The next slices, as many as one body frame may carry. Returns their bytes. */
static size_t next_slices(struct walk *walk, struct iovec *to, size_t *count) {
    size_t length = 0;

    for (*count = 0; walk->left > 0 && *count < SLICES && length < PYGLUE_FRAME_BODY_MAX;) {
        size_t here = walk->v->iov_len - walk->offset;
        size_t fits = PYGLUE_FRAME_BODY_MAX - length;
        size_t part = here < fits ? here : fits;

        if (part > 0)
            to[(*count)++] = (struct iovec){(char *)walk->v->iov_base + walk->offset, part};
        length += part;
        walk->offset += part;
        if (walk->offset == walk->v->iov_len) {
            walk->v++;
            walk->left--;
            walk->offset = 0;
        }
    }
    return length;
}

static int write_through(wkr_host_t *host, const struct iovec *slices, int n) {
    struct walk walk = {slices, n, 0};
    struct iovec v[SLICES + 2];
    size_t count, length;

    while ((length = next_slices(&walk, v + 2, &count)) > 0) {
        pyglue_frame_t frame = pyglue_frame(PYGLUE_FRAME_BODY, 0, host->number, length);

        if (wkr_wire_is_gone(host))
            return PYGLUE_E_GONE;
        v[1] = (struct iovec){&frame, sizeof frame};
        if (wkr_wire_send(host, v, count + 2))
            return PYGLUE_E_GONE;
    }
    return 0;
}

static int op_write(pyglue_host_t *h, const struct iovec *v, int n, unsigned flags) {
    wkr_host_t *host = host_of(h);
    size_t total = total_of(v, n);
    char *at = wkr_wire_room(host, total);

    (void)flags; /* bytes are kept back in any case until flush or the end */
    if (host->is_gone)
        return PYGLUE_E_GONE;
    if (!host->is_headed)
        return PYGLUE_E_STATE;
    if (total == 0)
        return 0; /* a body frame is never empty */
    if (at == NULL)
        return write_through(host, v, n);
    wkr_wire_put(host, at, PYGLUE_FRAME_BODY, 0, NULL, total);
    at += sizeof(pyglue_frame_t);
    for (int i = 0; i < n; at += v[i++].iov_len)
        if (v[i].iov_len > 0)
            memcpy(at, v[i].iov_base, v[i].iov_len);
    return 0;
}

static int op_flush(pyglue_host_t *h) {
    wkr_host_t *host = host_of(h);

    if (wkr_wire_is_gone(host))
        return PYGLUE_E_GONE;
    if (!host->is_headed)
        return PYGLUE_E_STATE;
    if (wkr_wire_put_small(host, PYGLUE_FRAME_FLUSH, 0, NULL, 0))
        return PYGLUE_E_GONE;
    return wkr_wire_flush(host);
}

static int op_gone(pyglue_host_t *h) {
    wkr_host_t *host = host_of(h);

    if (wkr_wire_is_gone(host))
        return 1;
    host->is_late = host->begin_by > 0 && !host->is_headed && wkr_now_ms() >= host->begin_by;
    return host->is_late;
}

/* The request body. */

/* READ, then the BODY that answers it, straight into the caller's memory. */
static ssize_t pull_body(wkr_host_t *host, void *buf, size_t len) {
    uint32_t credit = len < PYGLUE_FRAME_BODY_MAX ? (uint32_t)len : PYGLUE_FRAME_BODY_MAX;
    pyglue_frame_t frame;
    int rv;

    if (wkr_wire_put_small(host, PYGLUE_FRAME_READ, 0, &credit, sizeof credit) ||
        wkr_wire_flush(host))
        return PYGLUE_E_GONE;
    atomic_store(&host->awaits_client, 1);
    rv = wkr_wire_expect(host, &frame, PYGLUE_FRAME_BODY);
    atomic_store(&host->awaits_client, 0);
    if (rv != 0)
        return PYGLUE_E_GONE;
    if (frame.length > credit || (frame.length == 0 && frame.flags == 0))
        return wkr_wire_broken(host, PYGLUE_E_PROTOCOL);
    rv = wkr_input_take(host->in, buf, frame.length);
    if (rv != 0)
        return wkr_wire_broken(host, rv);
    host->body_ended = (frame.flags & PYGLUE_BODY_END) != 0;
    host->body_failed = (frame.flags & PYGLUE_BODY_ERROR) != 0;
    return host->body_failed ? PYGLUE_E_BODY : (ssize_t)frame.length;
}

static ssize_t op_read(pyglue_host_t *h, void *buf, size_t len) {
    wkr_host_t *host = host_of(h);
    size_t at_hand = host->body.len < len ? host->body.len : len;

    if (host->is_gone)
        return PYGLUE_E_GONE;
    if (host->body_failed)
        return PYGLUE_E_BODY;
    if (at_hand > 0) {
        memcpy(buf, host->body.ptr, at_hand);
        host->body.ptr += at_hand;
        host->body.len -= at_hand;
        return (ssize_t)at_hand;
    }
    return host->body_ended || len == 0 ? 0 : pull_body(host, buf, len);
}

static int op_file(pyglue_host_t *h, int fd, int64_t offset, int64_t len) {
    wkr_host_t *host = host_of(h);
    pyglue_file_t file = {(uint64_t)offset, (uint64_t)len};

    if (wkr_wire_is_gone(host))
        return PYGLUE_E_GONE;
    if (!host->is_headed || offset < 0 || len < 0 || len > INT64_MAX - offset)
        return PYGLUE_E_STATE;
    return len == 0 ? 0 : wkr_file_send(host, fd, &file);
}

/* Logs. */

/* Sent at once: what a worker says just before it dies is what somebody will want to read. */
static int send_log(wkr_host_t *host, int level, pyglue_str_t text) {
    uint32_t wire_level = (uint32_t)level;
    pyglue_frame_t frame =
        pyglue_frame(PYGLUE_FRAME_LOG, 0, host->number, sizeof wire_level + text.len);
    struct iovec v[4] = {{0},
                         {&frame, sizeof frame},
                         {&wire_level, sizeof wire_level},
                         {(void *)(uintptr_t)text.ptr, text.len}};

    return wkr_wire_send(host, v, 4);
}

static void op_log(pyglue_host_t *h, int level, pyglue_str_t text) {
    wkr_host_t *host = host_of(h);
    const size_t most = PYGLUE_FRAME_BODY_MAX - sizeof(uint32_t);

    while (text.len > 0 && !host->is_gone) {
        pyglue_str_t part = {text.ptr, text.len < most ? text.len : most};

        if (send_log(host, level, part))
            break;
        text.ptr += part.len;
        text.len -= part.len;
    }
    if (text.len == 0)
        return;
    wkr_say_text(text); /* the child no longer listens to this request */
    if (text.ptr[text.len - 1] != '\n')
        wkr_say_text(pyglue_str("\n"));
}

/* Begin and end. */

static const pyglue_host_ops_t operations = {
    .size = sizeof(pyglue_host_ops_t),
    .read = op_read,
    .start = op_start,
    .write = op_write,
    .file = op_file,
    .flush = op_flush,
    .gone = op_gone,
    .log = op_log,
    .interim = op_interim,
};

void wkr_host_init(wkr_host_t *host, wkr_input_t *in, char *out) {
    *host = (wkr_host_t){.host = {&operations}, .in = in, .out = out};
}

void wkr_host_begin(wkr_host_t *host, uint64_t number, pyglue_str_t body, int body_ended,
                    int can_pass) {
    wkr_host_init(host, host->in, host->out);
    host->number = number;
    host->body = body;
    host->body_ended = body_ended != 0;
    host->can_pass = can_pass != 0;
}

/* An engine's outcome in the terms of what was really sent. */
static pyglue_outcome_t settled(const wkr_host_t *host, pyglue_outcome_t outcome) {
    if (!host->is_headed)
        return (pyglue_outcome_t){PYGLUE_FAILED,
                                  outcome.kind == PYGLUE_FAILED ? outcome.status : 500};
    if (outcome.kind != PYGLUE_COMPLETE || host->is_cut)
        return (pyglue_outcome_t){PYGLUE_CUT, 0};
    return outcome;
}

int wkr_host_end(wkr_host_t *host, pyglue_outcome_t outcome) {
    outcome = settled(host, outcome);
    if (host->is_broken)
        return PYGLUE_E_GONE;
    if (host->is_gone)
        host->used = 0; /* nobody wants it; END alone is owed */
    if (wkr_wire_put_small(host, PYGLUE_FRAME_END, 0, &outcome, sizeof outcome))
        return PYGLUE_E_GONE;
    return wkr_wire_flush(host);
}
