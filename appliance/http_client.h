/* appliance/http_client.h: one HTTP/1.1 request over a blocking socket, its answer in pieces.
 * For the commands that talk to a running server; its own HTTP is dataplane/http.h.
 *
 * Threads: one at a time.
 * Memory:  nothing is kept between calls. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* A piece of the body; false ends the request early. */
typedef bool (*cn_http_client_body)(void *self, unsigned status, const char *data, size_t len);

typedef struct cn_http_client_call {
    const char *url;             // "http://127.0.0.1:8000/v1/models"
    const char *api_key;         // NULL: none
    const char *method;          // "GET", "POST", "DELETE"
    const char *body;            // NULL: none
    size_t body_len;
} cn_http_client_call;

/* Sends the request and hands the answer's body on as it comes. *status is the answer's. Returns
 * CN_OK also for error statuses and when `on_body` ended it. Errors: CN_E_INVALID (url), CN_E_IO. */
cn_code cn_http_client_request(const cn_http_client_call *call, cn_http_client_body on_body,
                               void *self, unsigned *status, cn_err *err);
