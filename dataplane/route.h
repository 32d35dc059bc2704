/* dataplane/route.h: which path and method means what. The whole surface is one table.
 *
 * Threads: any, nothing is kept.
 * Memory:  constant data. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

enum {
    CN_ROUTE_GET = 1,            // and HEAD
    CN_ROUTE_POST = 2,
    CN_ROUTE_OPEN = 4,           // needs no API key: probes and scrapers have none
    CN_ROUTE_GENERATES = 8,      // costs device time: subject to admission
    CN_ROUTE_PREFIX = 16         // the rest of the path names an object
};

/*  id              path                     what it takes and needs */
#define CN_ROUTES(X)                                                                               \
    X(CHAT,           "/v1/chat/completions", CN_ROUTE_POST | CN_ROUTE_GENERATES)                  \
    X(COMPLETIONS,    "/v1/completions",      CN_ROUTE_POST | CN_ROUTE_GENERATES)                  \
    X(MODELS,         "/v1/models",           CN_ROUTE_GET)                                        \
    X(MODEL,          "/v1/models/",          CN_ROUTE_GET | CN_ROUTE_PREFIX)                      \
    X(TOKENIZE,       "/tokenize",            CN_ROUTE_POST)                                       \
    X(DETOKENIZE,     "/detokenize",          CN_ROUTE_POST)                                       \
    X(APPLY_TEMPLATE, "/apply-template",      CN_ROUTE_POST)                                       \
    X(LIVEZ,          "/livez",               CN_ROUTE_GET | CN_ROUTE_OPEN)                        \
    X(READYZ,         "/readyz",              CN_ROUTE_GET | CN_ROUTE_OPEN)                        \
    X(HEALTH,         "/health",              CN_ROUTE_GET | CN_ROUTE_OPEN)                        \
    X(METRICS,        "/metrics",             CN_ROUTE_GET | CN_ROUTE_OPEN)                        \
    X(VERSION,        "/version",             CN_ROUTE_GET | CN_ROUTE_OPEN)

typedef enum cn_route_id {
#define X(id, path, flags) CN_ROUTE_##id,
    CN_ROUTES(X)
#undef X
    CN_ROUTE_COUNT
} cn_route_id;

typedef struct cn_route {
    cn_route_id id;
    unsigned flags;
    const char *tail;            // PREFIX: what follows it, never empty; borrowed from the path
    const char *allow;           // value of the Allow field
} cn_route;

/* Errors: CN_E_NOT_FOUND; CN_E_METHOD, with *out filled. */
cn_code cn_route_find(const char *method, const char *path, cn_route *out, cn_err *err);
/* Its path as in the table. */
const char *cn_route_path(cn_route_id id);
