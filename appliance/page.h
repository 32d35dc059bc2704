/* appliance/page.h: the operator page, from a picture of the server to HTML.
 * The page is one static file (appliance/page/page.html), which is embedded in the program. Between
 * its marks <!--live--> and <!--/live--> are the numbers, as {{names}}; this fills them in.
 * Whatever a client or a file could have chosen is escaped.
 *
 * Threads: any; nothing is kept.
 * Memory:  none of its own. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "dataplane/tracing.h"

enum { CN_PAGE_SPARK_COUNT = 60, CN_PAGE_SLOW_MAX = 20, CN_PAGE_CONFIG_MAX = 128,
       CN_PAGE_CSP_BYTES = 512 };

typedef enum cn_page_level { CN_PAGE_OK, CN_PAGE_WARN, CN_PAGE_BAD } cn_page_level;

/* Two quantiles of two spans, in ns. */
typedef struct cn_page_latency {
    uint64_t count[2], p50_ns[2], p99_ns[2];     // of the last minute, and of the last hour
} cn_page_latency;

typedef enum cn_page_tier {
    CN_PAGE_DEVICE, CN_PAGE_HOST, CN_PAGE_REDIS, CN_PAGE_COMPUTED, CN_PAGE_TIER_COUNT
} cn_page_tier;

typedef struct cn_page_setting {
    const char *key, *source;
    char value[160];
} cn_page_setting;

/* Everything that the page shows. Texts are borrowed. Rates are of the last 10 seconds, totals
 * since the start. */
typedef struct cn_page {
    const char *model, *address, *backend, *hardware;
    uint64_t wall_ns;
    cn_page_level level;
    const char *state;                   // "Ready"
    char reason[256];

    double tokens_rate, computed_rate, requests_rate;
    double spark[CN_PAGE_SPARK_COUNT];   // tokens/s of each of the last seconds, oldest first
    cn_page_latency ttft, tpot, step, write;

    uint32_t sessions_live, sessions_idle;
    uint64_t resumed_turns[CN_PAGE_TIER_COUNT], resumed_tokens[CN_PAGE_TIER_COUNT];
    uint64_t running, running_max, waiting, waiting_max, refused, preempted;
    uint64_t http_2xx, http_4xx, http_5xx, connections, connections_max;
    uint64_t prompt_tokens, generated_tokens;

    uint64_t pages, pages_held, pages_idle, page_bytes, evictions;
    uint64_t host_pages, host_pages_used, behind_pages, behind_lost;

    double busy_ratio, steps_rate;
    bool has_port, link_up, port_gone;   // a network port of its own
    double received_rate, sent_rate, frames_in_rate, frames_out_rate; // bytes, frames per second
    uint64_t port_dropped, slow_readers, timeouts, malformed;

    bool has_store, log_up, pages_up;
    const char *durability;
    char store_text[160];
    uint64_t store_reconnects, store_failed, store_pages_read, store_pages_written;

    cn_tracing_record slow[CN_PAGE_SLOW_MAX];    // slowest first
    uint32_t slow_count;
    cn_page_setting settings[CN_PAGE_CONFIG_MAX];
    uint32_t setting_count;
} cn_page;

/* The whole document. */
void cn_page_write(const cn_page *page, cn_buf *out);
/* What lies between the marks: what an event brings. */
void cn_page_write_live(const cn_page *page, cn_buf *out);

/* The policy that goes with it: nothing from elsewhere, and only the document's own script and
 * style. */
void cn_page_csp(char out[CN_PAGE_CSP_BYTES]);
/* The time of day that the page is of, as it is shown: "14:03:22 UTC". */
void cn_page_time(uint64_t wall_ns, char *out, uint32_t out_bytes);
