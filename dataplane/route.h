/* dataplane/route.h: which path and method means what. The whole surface is one table.
 * A "{}" in a path stands for one segment that names an object. Several lines may have one path.
 *
 * Threads: any, nothing is kept.
 * Memory:  constant data. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum {
    CN_ROUTE_GET = 1,            // and HEAD
    CN_ROUTE_POST = 2,
    CN_ROUTE_DELETE = 4,
    CN_ROUTE_GENERATES = 16,     // costs device time: subject to admission
    CN_ROUTE_PREFIX = 32,        // the rest of the path names an object
    // Who is let in: exactly one of these. A line without one does not compile.
    CN_ROUTE_OPEN = 8,           // everybody: probes have no API key
    CN_ROUTE_FOR_INFERENCE = 64,     // a key with this scope
    CN_ROUTE_FOR_CONVERSATIONS = 128,
    CN_ROUTE_FOR_METRICS = 256,      // likewise, once there is such a key; everybody before
    CN_ROUTE_FOR_ADMIN = 512,
    CN_ROUTE_ACCESS = CN_ROUTE_OPEN | CN_ROUTE_FOR_INFERENCE | CN_ROUTE_FOR_CONVERSATIONS |
                      CN_ROUTE_FOR_METRICS | CN_ROUTE_FOR_ADMIN
};

/*  id                   path                             what it takes and needs */
#define CN_ROUTES(X)                                                                               \
    X(CHAT,                "/v1/chat/completions",          CN_ROUTE_POST | CN_ROUTE_GENERATES | CN_ROUTE_FOR_INFERENCE) \
    X(COMPLETIONS,         "/v1/completions",               CN_ROUTE_POST | CN_ROUTE_GENERATES | CN_ROUTE_FOR_INFERENCE) \
    X(RESPONSE_CREATE,     "/v1/responses",                 CN_ROUTE_POST | CN_ROUTE_GENERATES | CN_ROUTE_FOR_INFERENCE) \
    X(RESPONSE_GET,        "/v1/responses/{}",              CN_ROUTE_GET | CN_ROUTE_FOR_INFERENCE) \
    X(RESPONSE_DELETE,     "/v1/responses/{}",              CN_ROUTE_DELETE | CN_ROUTE_FOR_INFERENCE) \
    X(RESPONSE_CANCEL,     "/v1/responses/{}/cancel",       CN_ROUTE_POST | CN_ROUTE_FOR_INFERENCE) \
    X(RESPONSE_INPUT,      "/v1/responses/{}/input_items",  CN_ROUTE_GET | CN_ROUTE_FOR_INFERENCE) \
    X(CONVERSATION_CREATE, "/v1/conversations",             CN_ROUTE_POST | CN_ROUTE_FOR_CONVERSATIONS) \
    X(CONVERSATION_LIST,   "/v1/conversations",             CN_ROUTE_GET | CN_ROUTE_FOR_CONVERSATIONS) \
    X(CONVERSATION_IMPORT, "/v1/conversations/import",      CN_ROUTE_POST | CN_ROUTE_FOR_CONVERSATIONS) \
    X(CONVERSATION_GET,    "/v1/conversations/{}",          CN_ROUTE_GET | CN_ROUTE_FOR_CONVERSATIONS) \
    X(CONVERSATION_UPDATE, "/v1/conversations/{}",          CN_ROUTE_POST | CN_ROUTE_FOR_CONVERSATIONS) \
    X(CONVERSATION_DELETE, "/v1/conversations/{}",          CN_ROUTE_DELETE | CN_ROUTE_FOR_CONVERSATIONS) \
    X(CONVERSATION_FORK,   "/v1/conversations/{}/fork",     CN_ROUTE_POST | CN_ROUTE_FOR_CONVERSATIONS) \
    X(CONVERSATION_TREE,   "/v1/conversations/{}/tree",     CN_ROUTE_GET | CN_ROUTE_FOR_CONVERSATIONS) \
    X(CONVERSATION_EXPORT, "/v1/conversations/{}/export",   CN_ROUTE_GET | CN_ROUTE_FOR_CONVERSATIONS) \
    X(ITEM_CREATE,         "/v1/conversations/{}/items",    CN_ROUTE_POST | CN_ROUTE_FOR_CONVERSATIONS) \
    X(ITEM_LIST,           "/v1/conversations/{}/items",    CN_ROUTE_GET | CN_ROUTE_FOR_CONVERSATIONS) \
    X(ITEM_GET,            "/v1/conversations/{}/items/{}", CN_ROUTE_GET | CN_ROUTE_FOR_CONVERSATIONS) \
    X(ITEM_DELETE,         "/v1/conversations/{}/items/{}", CN_ROUTE_DELETE | CN_ROUTE_FOR_CONVERSATIONS) \
    X(MODELS,              "/v1/models",                    CN_ROUTE_GET | CN_ROUTE_FOR_INFERENCE) \
    X(MODEL,               "/v1/models/",                   CN_ROUTE_GET | CN_ROUTE_PREFIX | CN_ROUTE_FOR_INFERENCE) \
    X(TOKENIZE,            "/tokenize",                     CN_ROUTE_POST | CN_ROUTE_FOR_INFERENCE) \
    X(DETOKENIZE,          "/detokenize",                   CN_ROUTE_POST | CN_ROUTE_FOR_INFERENCE) \
    X(APPLY_TEMPLATE,      "/apply-template",               CN_ROUTE_POST | CN_ROUTE_FOR_INFERENCE) \
    X(LIVEZ,               "/livez",                        CN_ROUTE_GET | CN_ROUTE_OPEN)          \
    X(READYZ,              "/readyz",                       CN_ROUTE_GET | CN_ROUTE_OPEN)          \
    X(HEALTH,              "/health",                       CN_ROUTE_GET | CN_ROUTE_OPEN)          \
    X(METRICS,             "/metrics",                      CN_ROUTE_GET | CN_ROUTE_FOR_METRICS)   \
    X(VERSION,             "/version",                      CN_ROUTE_GET | CN_ROUTE_OPEN)

typedef enum cn_route_id {
#define X(id, path, flags) CN_ROUTE_##id,
    CN_ROUTES(X)
#undef X
    CN_ROUTE_COUNT
} cn_route_id;

enum { CN_ROUTE_NAMES_MAX = 2, CN_ROUTE_NAME_BYTES = 128, CN_ROUTE_ALLOW_BYTES = 32 };

typedef struct cn_route {
    cn_route_id id;
    unsigned flags;
    const char *tail;            // PREFIX: what follows it, never empty; borrowed from the path
    char names[CN_ROUTE_NAMES_MAX][CN_ROUTE_NAME_BYTES];     // what stands for each "{}", never empty
    char allow[CN_ROUTE_ALLOW_BYTES];    // value of the Allow field
} cn_route;

/* Errors: CN_E_NOT_FOUND; CN_E_METHOD, with *out filled. */
cn_code cn_route_find(const char *method, const char *path, cn_route *out, cn_err *err);
/* Its path as in the table. */
const char *cn_route_path(cn_route_id id);
/* The method that it takes; HEAD goes with GET. */
const char *cn_route_method(cn_route_id id);

/* The value of the first member `name` of a query, its percent-encoding undone and cut to
 * out_bytes - 1; false if there is none. */
bool cn_route_query(const char *query, const char *name, char *out, size_t out_bytes);
/* Undoes the percent-encoding of `len` bytes, cut to out_bytes - 1. */
void cn_route_decode(const char *text, size_t len, char *out, size_t out_bytes);
