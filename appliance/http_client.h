/* appliance/http_client.h: one HTTP/1.1 request over a blocking socket, its answer in pieces.
 * For `cairn chat`; the server's own HTTP is dataplane/http.h.
 *
 * Threads: one at a time.
 * Memory:  nothing is kept between calls. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* A piece of the body; false ends the request early. */
typedef bool (*cn_http_client_body)(void *self, unsigned status, const char *data, size_t len);

/* Sends `body` (NULL: GET) to `url` ("http://127.0.0.1:8000/v1/models") with an optional API key,
 * and hands the answer's body on as it comes. *status is the answer's. Returns CN_OK also for error
 * statuses and when `on_body` ended it. Errors: CN_E_INVALID (url), CN_E_IO. */
cn_code cn_http_client_request(const char *url, const char *api_key, const char *body,
                               size_t body_len, cn_http_client_body on_body, void *self,
                               unsigned *status, cn_err *err);
