/* SPDX-License-Identifier: Apache-2.0 */
/* The wire between an httpd child and a worker, sans-IO: bytes to frames and back.
 *
 * Nothing here reads, allocates or keeps state beyond what the caller hands in. Every length is
 * checked against a bound before the caller can be tempted to allocate by it, and the order of
 * frames is a table (pyglue_exchange_accept). Both shared objects run this code. The normative
 * text is docs/wire.md; PYGLUE_WIRE_VERSION is its version. */
#ifndef PYGLUE_FRAME_H
#define PYGLUE_FRAME_H

#include "engine.h"

#define PYGLUE_WIRE_VERSION 1u
#define PYGLUE_KEY_SIZE 32            /* bytes of the key of one worker incarnation */
#define PYGLUE_FRAME_BODY_MAX 262144u /* bytes of payload in one body or log frame */
#define PYGLUE_REASON_MAX 512u        /* bytes of a reason phrase */

enum pyglue_frame_type {
    PYGLUE_FRAME_HELLO = 1, /* both ways, once a connection: pyglue_hello_t */
    /* httpd's child to worker */
    PYGLUE_FRAME_REQUEST, /* pyglue_request_t, the snapshot, and the body bytes at hand */
    PYGLUE_FRAME_BODY, /* request body in answer to a read; worker's: response body, file bytes */
    PYGLUE_FRAME_PULL, /* pyglue_pull_t: bytes of the announced file; length 0: no more wanted */
    PYGLUE_FRAME_GONE, /* the client has left: finish, nothing that you send is used */
    /* worker to httpd's child */
    PYGLUE_FRAME_READ,    /* uint32_t credit: send a BODY of at most so many bytes */
    PYGLUE_FRAME_HEAD,    /* the response head: pyglue_head_put */
    PYGLUE_FRAME_FILE,    /* pyglue_file_t: the rest of the response is this file */
    PYGLUE_FRAME_FLUSH,   /* empty */
    PYGLUE_FRAME_LOG,     /* uint32_t level, then text */
    PYGLUE_FRAME_END,     /* pyglue_outcome_t */
    PYGLUE_FRAME_REFUSE,  /* uint32_t pyglue_refusal: the request did not start */
    PYGLUE_FRAME_GOODBYE, /* empty: send no more requests; the worker reads on and refuses */
    PYGLUE_FRAME_LEAVE,   /* supervisor to an orphan, instead of HELLO: pyglue_hello_t */
    PYGLUE_FRAME_INTERIM, /* worker to httpd's child: an interim head, as HEAD */
    PYGLUE_FRAME_TYPES
};

enum pyglue_frame_flags {
    PYGLUE_BODY_END = 1,   /* BODY, REQUEST: the request body ends with these bytes */
    PYGLUE_BODY_ERROR = 2, /* BODY: the body was cut short or malformed; also a file too short */
    PYGLUE_FILE_DESCRIPTOR = 4 /* FILE: one byte follows that carries the descriptor */
};

enum pyglue_refusal { PYGLUE_REFUSED_BUSY = 1, PYGLUE_REFUSED_LEAVING = 2 };

/* Who sent it: decides which types and lengths are allowed. */
enum pyglue_sender { PYGLUE_FROM_CHILD, PYGLUE_FROM_WORKER };

/* The header of every frame, as it lies on the wire: native byte order, same machine. */
typedef struct pyglue_frame {
    uint32_t length; /* of the payload that follows */
    uint8_t type;
    uint8_t flags;
    uint16_t reserved; /* 0 */
    uint64_t number;   /* of the request; 0 in HELLO and GOODBYE */
} pyglue_frame_t;

typedef struct pyglue_hello {
    uint32_t version; /* PYGLUE_WIRE_VERSION */
    uint32_t threads; /* worker: requests that it runs at once; child: 0; LEAVE: ms, 0: no limit */
    uint64_t worker;  /* the incarnation's number: the child's idea of it and the worker's own */
    uint8_t key[PYGLUE_KEY_SIZE]; /* child: the worker's key; worker: zeros */
} pyglue_hello_t;

typedef struct pyglue_request {
    uint32_t snapshot_size;
    uint32_t body_size; /* bytes of the body that follow the snapshot in the same frame */
} pyglue_request_t;

typedef struct pyglue_pull {
    uint64_t offset; /* from the start of the announced range */
    uint32_t length; /* at most PYGLUE_FRAME_BODY_MAX; 0: no more is wanted */
    uint32_t reserved;
} pyglue_pull_t;

typedef struct pyglue_file {
    uint64_t offset; /* in the file; for a passed descriptor */
    uint64_t length; /* of the range, above 0 */
} pyglue_file_t;

/* Bounds that are configured; the fixed ones are constants above. */
typedef struct pyglue_bounds {
    uint32_t request; /* payload of a REQUEST frame */
    uint32_t head;    /* payload of a HEAD frame: response-header-size */
    uint32_t fields;  /* response-header-count */
    uint32_t field;   /* one name and value: header-buffer-size */
} pyglue_bounds_t;

extern const pyglue_bounds_t pyglue_bounds_default; /* 16 MiB, 256 KiB, 500, 32 KiB */

/* Of an INTERIM frame and its head, whatever is configured, so that the engine can refuse what the
 * child would: 8 KiB, PYGLUE_INTERIM_FIELDS. */
#define PYGLUE_INTERIM_FIELDS 64
extern const pyglue_bounds_t pyglue_bounds_interim;

/* Reads a header from 16 bytes. 0; PYGLUE_E_PROTOCOL: unknown type, type of the other side, wrong
 * length or flags for it; PYGLUE_E_TOO_BIG: the length passes its bound. */
int pyglue_frame_get(pyglue_frame_t *frame, const void *bytes, enum pyglue_sender sender,
                     const pyglue_bounds_t *bounds);

/* Fills a header. */
static inline pyglue_frame_t pyglue_frame(enum pyglue_frame_type type, unsigned flags,
                                          uint64_t number, size_t length) {
    return (pyglue_frame_t){(uint32_t)length, (uint8_t)type, (uint8_t)flags, 0, number};
}

/* The name of a type, for messages: "HEAD"; "unknown" for anything else. */
const char *pyglue_frame_name(int type);

/* Reads a REQUEST payload: checks the snapshot and the sum of lengths. The memory must be aligned
 * for a uint64_t; *snapshot and *body point into it. 0, PYGLUE_E_PROTOCOL, PYGLUE_E_VERSION. */
int pyglue_request_get(const pyglue_snapshot_t **snapshot, pyglue_str_t *body, const void *payload,
                       size_t length);

/* The response head as payload: size, then bytes. Size 0: it does not fit into 32 bits. */
size_t pyglue_head_size(const pyglue_head_t *head);
void pyglue_head_put(void *memory, const pyglue_head_t *head);

/* May it be a field's name (RFC 9110 section 5.6.2: a token)? A field's value, or a reason (section
 * 5.5: no control character but tab; obs-text passes)? */
int pyglue_head_is_token(pyglue_str_t text);
int pyglue_head_is_text(pyglue_str_t text);
/* Is it a field of the connection, which is the server's alone (RFC 9110 section 7.6.1, and RFC
 * 2616 section 13.5.1 that PEP 3333 refers to)? */
int pyglue_head_is_hop_by_hop(pyglue_str_t name);

/* The shape of a head as the engine must produce it and the child must believe nobody but itself:
 * status 200 ... 999, reason of at most PYGLUE_REASON_MAX bytes without controls, names that are
 * tokens, values without CR, LF, NUL and other controls but tab, number and size of fields and the
 * size of the whole within bounds. 0 or PYGLUE_E_HEAD or PYGLUE_E_TOO_BIG. */
int pyglue_head_check(const pyglue_head_t *head, const pyglue_bounds_t *bounds);

/* Reads a HEAD payload into *head and at most `room` fields; the texts point into the payload.
 * bounds->fields is the room needed at most. Does all that pyglue_head_check does.
 * 0, PYGLUE_E_PROTOCOL (shape), PYGLUE_E_HEAD (content) or PYGLUE_E_TOO_BIG (bounds). */
int pyglue_head_get(pyglue_head_t *head, pyglue_header_t *fields, size_t room, const void *payload,
                    size_t length, const pyglue_bounds_t *bounds);

/* The shape of an interim head: as above within pyglue_bounds_interim, but of status 103 alone, and
 * without a length and fields of the connection (RFC 8297 section 2). */
int pyglue_interim_check(const pyglue_head_t *head);
/* Reads an INTERIM payload, as pyglue_head_get. */
int pyglue_interim_get(pyglue_head_t *head, pyglue_header_t fields[PYGLUE_INTERIM_FIELDS],
                       const void *payload, size_t length);

/* The order of a worker's frames within one request, as the child enforces it. */
enum pyglue_exchange_state {
    PYGLUE_EXCHANGE_SENT,    /* request sent, nothing came: the only state for REFUSE */
    PYGLUE_EXCHANGE_RUNNING, /* the worker has taken it, no head yet */
    PYGLUE_EXCHANGE_HEADED,  /* the head came */
    PYGLUE_EXCHANGE_FILE,    /* a file was announced: only BODY in answer to PULL, LOG, END */
    PYGLUE_EXCHANGE_ENDED    /* END or REFUSE came */
};

typedef struct pyglue_exchange {
    uint64_t number;
    enum pyglue_exchange_state state;
} pyglue_exchange_t;

/* Is this frame allowed now? Moves the state. 0 or PYGLUE_E_PROTOCOL: another request's number, or
 * out of order. HELLO and GOODBYE belong to the connection and are the caller's. */
int pyglue_exchange_accept(pyglue_exchange_t *exchange, const pyglue_frame_t *frame);

#endif
