/* dataplane/http_chunk_int.h: a chunked body, unframed strictly (RFC 9112, 7.1).
 * http-parser reads chunk sizes with more tolerance than is safe beside another parser (white
 * space, anything up to the line's end), so this part of the grammar is ours.
 *
 * Threads: one at a time.
 * Memory:  a cn_http_chunk is plain memory of the caller. */
#pragma once

#include "dataplane/http_scan_int.h"

typedef struct cn_http_chunk {
    uint8_t state;
    uint8_t digits;              // of the size being read
    bool done;                   // the last chunk and its trailers were seen
    uint64_t left;               // bytes of the current chunk that have not come
    uint64_t total_bytes;        // sum of the sizes seen
    uint32_t extension_bytes;    // of all chunks; dropped, and bounded with the trailers
    cn_http_scan trailers;       // dropped
} cn_http_chunk;

void cn_http_chunk_init(cn_http_chunk *chunk);

/* Reads on until some bytes of the body, [*body, *body + *body_len), or the end of `data`, or the
 * end of the body; *taken includes the bytes given out.
 * Errors: CN_E_HTTP, CN_E_BODY (beyond http_body_bytes, told by the size line before the bytes
 * come), CN_E_HEADERS (extensions and trailers beyond http_header_bytes or http_header_count). */
cn_code cn_http_chunk_feed(cn_http_chunk *chunk, const cn_limits *limits, const char *data,
                           size_t len, size_t *taken, const char **body, size_t *body_len,
                           cn_err *err);
