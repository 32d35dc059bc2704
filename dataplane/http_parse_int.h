/* dataplane/http_parse_int.h: a whole head, taken apart.
 * The bytes have passed http_scan; http-parser reads the grammar; what this adds are the decisions
 * between fields: one Host, one body length, known framing, no expectation but 100-continue.
 *
 * Threads: one at a time.
 * Memory:  the request's arena; names and values lie in the head itself, which is changed: names in
 *          lower case, everything terminated. */
#pragma once

#include "dataplane/http.h"

/* What a head says about what follows it, and about its answer. */
typedef struct cn_http_framing {
    bool http10;
    bool keep_alive;
    bool is_head;                // HEAD: the answer has no body
    bool expects_continue;
    bool chunked;
    uint64_t body_bytes;         // Content-Length; 0 if there is none
} cn_http_framing;

/* Fills method, path, query, headers and header_count of the request (whose arena is open) from a
 * head with `header_count` header lines. *framing holds what was understood also when it fails.
 * Errors: CN_E_HTTP, CN_E_METHOD, CN_E_ENCODING, CN_E_EXPECTATION, CN_E_BODY, CN_E_MEMORY. */
cn_code cn_http_parse_head(char *head, size_t len, uint32_t header_count, const cn_limits *limits,
                           cn_http_request *request, cn_http_framing *framing, cn_err *err);
