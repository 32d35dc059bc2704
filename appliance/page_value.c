#include "appliance/page_int.h"

#include <inttypes.h>
#include <string.h>

#include "base/assert.h"

// A dash where nothing was measured: 0 would be a claim.
static void add_latency(uint64_t count, uint64_t ns, cn_buf *out)
{
    if (count) cn_page_unit_time(ns, out);
    else cn_buf_add_text(out, "–");
}

static const char *level_name(cn_page_level level)
{
    static const char *const names[] = {"ok", "warn", "bad"};
    return names[level];
}

static void add_time(const cn_page *p, cn_buf *out)
{
    char text[24];
    cn_page_time(p->wall_ns, text, sizeof text);
    cn_buf_add_text(out, text);
}

static void add_pages_text(const cn_page *p, cn_buf *out)
{
    cn_buf_add_format(out, "Of %" PRIu64 " pages, %" PRIu64 " are in use, %" PRIu64
                      " kept for later turns, %" PRIu64 " free", p->pages, p->pages_held,
                      p->pages_idle, p->pages - p->pages_held - p->pages_idle);
}

static void add_pages_total(const cn_page *p, cn_buf *out)
{
    cn_page_unit_count(p->pages, out);
    cn_buf_add_text(out, " pages of ");
    cn_page_unit_bytes((double)p->page_bytes, out);
    cn_buf_add_text(out, ", ");
    cn_page_unit_count(p->evictions, out);
    cn_buf_add_text(out, " evicted");
}

/*  name in the file    what writes it, of page `p` to `out` */
#define VALUES(X)                                                                                  \
    X(model,            cn_page_unit_text(p->model, out))                                          \
    X(address,          cn_page_unit_text(p->address, out))                                        \
    X(time,             add_time(p, out))                                                          \
    X(state_class,      cn_buf_add_text(out, level_name(p->level)))                                \
    X(state,            cn_page_unit_text(p->state, out))                                          \
    X(reason,           cn_page_unit_text(p->reason, out))                                         \
    X(tokens_rate,      cn_page_unit_rate(p->tokens_rate, out))                                    \
    X(computed_rate,    cn_page_unit_rate(p->computed_rate, out))                                  \
    X(requests_rate,    cn_page_unit_rate(p->requests_rate, out))                                  \
    X(spark,            cn_page_block_spark(p, out))                                               \
    X(spark_text,       cn_page_block_spark_text(p, out))                                          \
    X(ttft_m50,         add_latency(p->ttft.count[0], p->ttft.p50_ns[0], out))                     \
    X(ttft_m99,         add_latency(p->ttft.count[0], p->ttft.p99_ns[0], out))                     \
    X(ttft_h50,         add_latency(p->ttft.count[1], p->ttft.p50_ns[1], out))                     \
    X(ttft_h99,         add_latency(p->ttft.count[1], p->ttft.p99_ns[1], out))                     \
    X(tpot_m50,         add_latency(p->tpot.count[0], p->tpot.p50_ns[0], out))                     \
    X(tpot_m99,         add_latency(p->tpot.count[0], p->tpot.p99_ns[0], out))                     \
    X(tpot_h50,         add_latency(p->tpot.count[1], p->tpot.p50_ns[1], out))                     \
    X(tpot_h99,         add_latency(p->tpot.count[1], p->tpot.p99_ns[1], out))                     \
    X(step_m50,         add_latency(p->step.count[0], p->step.p50_ns[0], out))                     \
    X(step_m99,         add_latency(p->step.count[0], p->step.p99_ns[0], out))                     \
    X(sessions_live,    cn_page_unit_count(p->sessions_live, out))                                 \
    X(sessions_idle,    cn_page_unit_count(p->sessions_idle, out))                                 \
    X(resumed,          cn_page_block_resumed(p, out))                                             \
    X(running,          cn_page_unit_count(p->running, out))                                       \
    X(running_max,      cn_page_unit_count(p->running_max, out))                                   \
    X(running_meter,    cn_page_block_meter(p->running, p->running_max, out))                      \
    X(waiting,          cn_page_unit_count(p->waiting, out))                                       \
    X(waiting_max,      cn_page_unit_count(p->waiting_max, out))                                   \
    X(waiting_meter,    cn_page_block_meter(p->waiting, p->waiting_max, out))                      \
    X(refused,          cn_page_unit_count(p->refused, out))                                       \
    X(preempted,        cn_page_unit_count(p->preempted, out))                                     \
    X(http_2xx,         cn_page_unit_count(p->http_2xx, out))                                      \
    X(http_4xx,         cn_page_unit_count(p->http_4xx, out))                                      \
    X(http_5xx,         cn_page_unit_count(p->http_5xx, out))                                      \
    X(connections,      cn_page_unit_count(p->connections, out))                                   \
    X(connections_max,  cn_page_unit_count(p->connections_max, out))                               \
    X(prompt_tokens,    cn_page_unit_count(p->prompt_tokens, out))                                 \
    X(generated_tokens, cn_page_unit_count(p->generated_tokens, out))                              \
    X(map,              cn_page_block_map(p, out))                                                 \
    X(pages_text,       add_pages_text(p, out))                                                    \
    X(pages_held,       cn_page_unit_count(p->pages_held, out))                                    \
    X(pages_idle,       cn_page_unit_count(p->pages_idle, out))                                    \
    X(pages_free,       cn_page_unit_count(p->pages - p->pages_held - p->pages_idle, out))         \
    X(pages_total,      add_pages_total(p, out))                                                   \
    X(tiers,            cn_page_block_tiers(p, out))                                               \
    X(device,           cn_page_block_device(p, out))                                              \
    X(net,              cn_page_block_net(p, out))                                                 \
    X(redis,            cn_page_block_redis(p, out))                                               \
    X(slow,             cn_page_block_slow(p, out))                                                \
    X(config,           cn_page_block_config(p, out))

typedef void (*writer)(const cn_page *p, cn_buf *out);

#define X(name, call) static void write_##name(const cn_page *p, cn_buf *out) { call; }
VALUES(X)
#undef X

static const struct {
    const char *name;
    writer write;
} values[] = {
#define X(name, call) {#name, write_##name},
    VALUES(X)
#undef X
};

void cn_page_value_write(const cn_page *page, const char *name, size_t name_len, cn_buf *out)
{
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        if (strlen(values[i].name) != name_len || memcmp(values[i].name, name, name_len)) continue;
        values[i].write(page, out);
        return;
    }
    CN_ASSERT(!"a name of page.html that nothing stands for");
}
