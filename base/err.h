/* base/err.h: operating errors as values.
 * A function that can fail returns a cn_code; where a person will read it, a cn_err takes the text,
 * which names the thing, the value it had and what would be right. The text is written where the
 * fact is known and travels up unchanged.
 *
 * Threads: any; a cn_err belongs to one thread at a time.
 * Memory:  a cn_err is plain memory of the caller. Every function accepts a NULL cn_err. */
#pragma once

#include <stdarg.h>
#include <stdint.h>

/*  name               http  OpenAI type               OpenAI code                 what it means */
#define CN_ERRORS(X)                                                                               \
    X(OK,               200, "",                       "",                         "no error")     \
    X(E_INVALID,        400, "invalid_request_error",  "invalid_value",            "a value that is not allowed") \
    X(E_UNSUPPORTED,    400, "invalid_request_error",  "unsupported_value",        "a value that Cairn does not serve") \
    X(E_SYNTAX,         400, "invalid_request_error",  "invalid_json",             "text that cannot be parsed") \
    X(E_LIMIT,          400, "invalid_request_error",  "limit_exceeded",           "above a configured limit") \
    X(E_BAD_MODEL,      400, "invalid_request_error",  "model_not_found",          "no such model, in a Responses request") \
    X(E_PARENT,         400, "invalid_request_error",  "previous_response_not_found", "no such earlier turn to go on from") \
    X(E_EXCLUSIVE,      400, "invalid_request_error",  "mutually_exclusive_parameters", "two parameters that exclude each other") \
    X(E_CONTEXT,        400, "invalid_request_error",  "context_length_exceeded",  "prompt and answer exceed the context window") \
    X(E_HTTP,           400, "invalid_request_error",  "malformed_http",           "bytes that are not HTTP/1.1") \
    X(E_AUTH,           401, "invalid_request_error",  "invalid_api_key",          "no API key, or a wrong one") \
    X(E_PEER,           403, "invalid_request_error",  "untrusted_peer",           "a connection from outside the networks that may make one") \
    X(E_SCOPE,          403, "invalid_request_error",  "insufficient_permissions", "an API key that may not be used for this") \
    X(E_NOT_FOUND,      404, "invalid_request_error",  "not_found",                "no such route or object") \
    X(E_ABSENT,         404, "invalid_request_error",  "",                         "no such response, conversation or item") \
    X(E_MODEL,          404, "invalid_request_error",  "model_not_found",          "no such model") \
    X(E_METHOD,         405, "invalid_request_error",  "method_not_allowed",       "the route has another method") \
    X(E_TIMEOUT,        408, "invalid_request_error",  "request_timeout",          "the request did not arrive in time") \
    X(E_BODY,           413, "invalid_request_error",  "body_too_large",           "the request body is above its limit") \
    X(E_EXPECTATION,    417, "invalid_request_error",  "expectation_failed",       "an Expect header other than 100-continue") \
    X(E_URI,            414, "invalid_request_error",  "uri_too_long",             "the request target is above its limit") \
    X(E_RATE_REQUESTS,  429, "requests",               "rate_limit_exceeded",      "more requests than the key or its tenant may send") \
    X(E_RATE_TOKENS,    429, "tokens",                 "rate_limit_exceeded",      "more tokens than the key or its tenant may use") \
    X(E_HEADERS,        431, "invalid_request_error",  "headers_too_large",        "the header section is above its limit") \
    X(E_CANCELLED,      499, "invalid_request_error",  "cancelled",                "the client went away") \
    X(E_INTERNAL,       500, "server_error",           "internal_error",           "a fault in Cairn; the log has details") \
    X(E_NUMERIC,        500, "server_error",           "numeric_error",            "the model produced a value that is not a number") \
    X(E_MEMORY,         500, "server_error",           "out_of_memory",            "no memory") \
    X(E_IO,             500, "server_error",           "io_error",                 "the system refused an operation") \
    X(E_FORMAT,         500, "server_error",           "bad_file",                 "a file that is not what it should be") \
    X(E_ENCODING,       501, "invalid_request_error",  "unsupported_encoding",     "a transfer coding other than chunked") \
    X(E_QUEUE,          503, "server_error",           "server_overloaded",        "the waiting queue is full") \
    X(E_DRAINING,       503, "server_error",           "server_draining",          "the server is shutting down") \
    X(E_PAGES,          503, "server_error",           "out_of_pages",             "no KV page is free") \
    X(E_AGAIN,          503, "server_error",           "try_again",                "a bounded ring is full just now") \
    X(E_CONFLICT,       400, "invalid_request_error",  "conversation_locked",      "a conversation that somebody else is changing") \
    X(E_EXISTS,         409, "invalid_request_error",  "idempotency_key_reused",   "an object that is there already and differs") \
    X(E_CORRUPT,        500, "server_error",           "state_corrupt",            "a stored record that is not whole") \
    X(E_STORE,          503, "server_error",           "state_unavailable",        "the store of turns does not answer in time") \
    X(E_STORE_FULL,     503, "server_error",           "state_full",               "the store of turns takes no more") \
    X(E_VERSION,        505, "invalid_request_error",  "http_version",             "an HTTP version other than 1.0 and 1.1")

typedef enum cn_code {
#define X(name, http, type, code, meaning) CN_##name,
    CN_ERRORS(X)
#undef X
    CN_CODE_COUNT
} cn_code;

typedef struct cn_code_info {
    const char *name;        // "E_INVALID"
    uint16_t http_status;
    const char *type;        // "invalid_request_error"
    const char *code;        // "invalid_value"
    const char *meaning;     // for documentation
} cn_code_info;

typedef struct cn_err {
    cn_code code;
    char param[64];          // request field at fault, "" if none
    char text[448];          // one sentence, UTF-8, always terminated
} cn_err;

/* Row of the table; `code` must be below CN_CODE_COUNT. */
const cn_code_info *cn_err_info(cn_code code);

/* Fills *err (if not NULL) with `code` and the formatted text, with no param, and returns `code`.
 * A text that does not fit is cut at a UTF-8 boundary. */
cn_code cn_err_set(cn_err *err, cn_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* As cn_err_set, and names the request field at fault. */
cn_code cn_err_set_param(cn_err *err, cn_code code, const char *param, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
