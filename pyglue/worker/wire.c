/* SPDX-License-Identifier: Apache-2.0 */
/* The wire as one request sees it. Small frames are gathered, whole, in the thread's buffer and
 * leave with one sendmsg; what is big goes from its owner's memory, behind what is gathered.
 * Knows no operation. Up: host.c, file.c. Down: conn.c. */
#include "wkr_wire.h"

int wkr_wire_broken(wkr_host_t *host, int error) {
    if (!host->is_broken && error != PYGLUE_E_GONE)
        wkr_say("PG2001: request %llu: connection to httpd's child ended: %s",
                (unsigned long long)host->number, pyglue_error_text(error));
    host->is_broken = host->is_gone = 1;
    return PYGLUE_E_GONE;
}

int wkr_wire_send(wkr_host_t *host, struct iovec *v, size_t count) {
    int rv;

    v[0] = (struct iovec){host->out, host->used};
    host->used = 0;
    rv = wkr_send(host->in->fd, v, count);
    return rv != 0 ? wkr_wire_broken(host, rv) : 0;
}

int wkr_wire_flush(wkr_host_t *host) {
    struct iovec v[1];

    return host->used > 0 ? wkr_wire_send(host, v, 1) : 0;
}

int wkr_wire_is_gone(wkr_host_t *host) {
    pyglue_frame_t frame;
    int rv;

    if (host->is_gone)
        return 1;
    rv = wkr_input_frame(host->in, &frame, WKR_LOOK);
    if (rv == 0)
        return 0;
    if (rv == 1 && frame.type == PYGLUE_FRAME_GONE && frame.number == host->number)
        host->is_gone = 1;
    else
        wkr_wire_broken(host, rv < 0 ? rv : PYGLUE_E_PROTOCOL);
    return 1;
}

char *wkr_wire_room(wkr_host_t *host, size_t payload) {
    size_t size = sizeof(pyglue_frame_t) + payload;

    return size <= WKR_BUFFER - host->used ? host->out + host->used : NULL;
}

void wkr_wire_put(wkr_host_t *host, char *at, enum pyglue_frame_type type, unsigned flags,
                  const void *payload, size_t length) {
    pyglue_frame_t frame = pyglue_frame(type, flags, host->number, length);

    memcpy(at, &frame, sizeof frame);
    if (payload != NULL && length > 0)
        memcpy(at + sizeof frame, payload, length);
    host->used += sizeof frame + length;
}

int wkr_wire_put_small(wkr_host_t *host, enum pyglue_frame_type type, unsigned flags,
                       const void *payload, size_t length) {
    char *at = wkr_wire_room(host, length);

    if (at == NULL && wkr_wire_flush(host))
        return PYGLUE_E_GONE;
    wkr_wire_put(host, host->out + host->used, type, flags, payload, length);
    return 0;
}

int wkr_wire_expect(wkr_host_t *host, pyglue_frame_t *frame, enum pyglue_frame_type type) {
    int rv = wkr_input_frame(host->in, frame, WKR_WAIT);

    if (rv < 0)
        return wkr_wire_broken(host, rv);
    if (frame->number != host->number || (frame->type != type && frame->type != PYGLUE_FRAME_GONE))
        return wkr_wire_broken(host, PYGLUE_E_PROTOCOL);
    if (frame->type == type)
        return 0;
    host->is_gone = 1;
    return PYGLUE_E_GONE;
}
