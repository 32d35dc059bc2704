/* dataplane/http_scan_int.h: is this head of a request strictly what RFC 9112 allows?
 * Reads a head byte by byte as it arrives, finds its end, and refuses at the first byte what two
 * parsers could read differently. It takes nothing apart; http_parse_int.h does that with the whole
 * head. The trailers of a chunked body are read by the same rules.
 *
 * Threads: one at a time.
 * Memory:  a cn_http_scan is plain memory of the caller. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"

typedef struct cn_http_scan {
    uint8_t state;
    uint8_t matched;             // bytes of "HTTP/1.1" seen; empty lines before the request line
    uint8_t hex_left;            // digits that must follow a '%' in the target
    bool version_ok;             // 1.0 or 1.1
    bool done;                   // the empty line was seen
    uint32_t bytes;              // of head seen
    uint32_t method_bytes;
    uint32_t target_bytes;
    uint32_t header_count;
} cn_http_scan;

/* Begins a head with its request line. */
void cn_http_scan_init(cn_http_scan *scan);
/* Begins header lines without a request line; `bytes` before them count as part of the section. */
void cn_http_scan_init_trailers(cn_http_scan *scan, uint32_t bytes);

/* Reads up to the end of the head, which is in this piece if scan->done is set; *taken bytes were
 * read. Errors: CN_E_HTTP, CN_E_VERSION, CN_E_URI, CN_E_HEADERS. */
cn_code cn_http_scan_feed(cn_http_scan *scan, const cn_limits *limits, const char *data, size_t len,
                          size_t *taken, cn_err *err);
