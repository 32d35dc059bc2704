/* dataplane/api.h: requests to generations, tokens to answers.
 * Routes, JSON bodies, API keys, admission, chat template and tokenizer on the way in; text, stop
 * strings, server-sent events and JSON on the way out. The OpenAI surface and Cairn's own routes.
 *
 * Threads: one api thread polls; drain from any thread.
 * Memory:  what belongs to one request lives in the request's arena. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/random.h"
#include "base/ring.h"
#include "base/wake.h"
#include "dataplane/http.h"
#include "dataplane/key_file.h"
#include "model/checkpoint.h"
#include "model/template.h"
#include "model/tokenizer.h"
#include "scheduler/engine.h"
#include "state/session.h"
#include "state/store.h"

typedef struct cn_api cn_api;

/* A page that the appliance writes: appends the answer and gives its content type. */
typedef struct cn_api_page {
    cn_code (*write)(void *self, const cn_http_request *request, cn_buf *out,
                     const char **content_type, cn_err *err);
    void *self;
} cn_api_page;

typedef struct cn_api_options {
    cn_http *http;
    cn_engine *engine;                   // for its info
    cn_engine_port *port;
    const cn_tokenizer *tokenizer;
    const cn_template *chat_template;    // NULL: chat requests are refused, saying why
    cn_session *session;                 // NULL: turns cannot be stored
    const cn_store *store;               // the session's, for its state; NULL: not known
    const cn_checkpoint *checkpoint;     // generation defaults, special tokens for templates
    const char *model_name;              // what /v1/models lists and `model` must name
    const cn_key_file *keys;             // NULL: no authorization; borrowed until open returns
    const cn_limits *limits;
    cn_clock clock;
    cn_random random;
    const cn_log *log;
    cn_metrics *metrics;
    cn_api_page metrics_page;            // GET /metrics; NULL: they are elsewhere
    cn_ring *ended;                      // takes a cn_tracing_record of each request that has ended;
                                         // NULL: nobody wants them
    cn_wake *wake;                       // the api thread's
} cn_api_options;                        // all borrowed until close

/* Errors: CN_E_MEMORY. */
cn_code cn_api_open(const cn_api_options *options, cn_api **out, cn_err *err);
/* Every request must have ended. */
void cn_api_close(cn_api *api);

/* One round: requests in, engine events out. Never blocks; false if there was nothing to do. */
bool cn_api_poll(cn_api *api);

/* Other API keys from the next round on (dataplane/tenants.h); borrowed. Errors: CN_E_MEMORY,
 * CN_E_INVALID. [any] */
cn_code cn_api_set_keys(cn_api *api, const cn_key_file *keys, cn_err *err);

/* From now on /readyz says 503, so that load balancers send their clients elsewhere; what arrives is
 * served all the same. [any] */
void cn_api_retire(cn_api *api);
/* As retire, and new generations are refused with CN_E_DRAINING; running ones go on.
 * [any] */
void cn_api_drain(cn_api *api);
/* While `why` is not NULL, /readyz says 503 and gives it as the reason (a network link that is down);
 * what arrives is served all the same. Static text, fit for JSON. [any] */
void cn_api_block(cn_api *api, const char *why);
/* Why it is blocked; NULL: it is not. [any] */
const char *cn_api_blocked(const cn_api *api);
/* While `thread` is not NULL, /livez and /readyz say 503 and name it: it does not go on. Static text.
 * [any] */
void cn_api_stall(cn_api *api, const char *thread);
/* The thread that does not go on; NULL: all do. [any] */
const char *cn_api_stalled(const cn_api *api);
/* Whether clients are sent elsewhere: it retires or drains. [any] */
bool cn_api_is_retiring(const cn_api *api);
/* The answers of /readyz and /livez: append the body and return the status. [any] */
unsigned cn_api_ready(const cn_api *api, cn_buf *out);
unsigned cn_api_live(const cn_api *api, cn_buf *out);
/* Ends running generations as cancelled: the drain's time is up. [any] */
void cn_api_abort(cn_api *api);
/* Tenants of generations are below this. */
uint32_t cn_api_tenant_max(const cn_limits *limits);
/* Requests that are being answered. [any] */
uint32_t cn_api_request_count(const cn_api *api);
