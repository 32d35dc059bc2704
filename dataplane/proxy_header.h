/* dataplane/proxy_header.h: the PROXY protocol, versions 1 and 2: the first bytes of a connection, by
 * which a load balancer says for whom it speaks.
 * Where a listener requires them they are never guessed at: what does not begin so is an error, since
 * a client could otherwise name any address it likes.
 *
 * Threads: any, nothing is kept.
 * Memory:  the caller's. */
#pragma once

#include <stddef.h>

#include "base/err.h"

enum {
    CN_PROXY_HEADER_BYTES_MAX = 2048,    // addresses need 232; the rest is for what a sender adds
    CN_PROXY_HEADER_CLIENT_BYTES = 56
};

typedef struct cn_proxy_header {
    size_t bytes;                        // of the header; 0: more must come
    char client[CN_PROXY_HEADER_CLIENT_BYTES];   // "192.0.2.7:40001"; "": the sender itself, a probe
} cn_proxy_header;

/* Reads the header at the beginning of `data`; bytes behind it are left alone. What can no longer
 * become one is found at its first wrong byte. Errors: CN_E_HTTP. */
cn_code cn_proxy_header_parse(const char *data, size_t len, cn_proxy_header *out, cn_err *err);
