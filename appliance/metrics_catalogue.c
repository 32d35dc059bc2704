#include "appliance/metrics_catalogue.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "appliance/metrics_process.h"
#include "base/buf.h"
#include "base/utf8.h"
#include "dataplane/route.h"
#include "kernels/backend.h"

enum { LABELS_BYTES = 512, VALUE_BYTES_MAX = 256, LABELS_BYTES_MAX = 2048 };

// ---- the table

typedef enum kind { counter, counter_ns, gauge, gauge_ns, histogram } kind;

typedef struct row {
    const char *name, *labels, *help;
    kind kind;
    size_t offset;               // of the field in cn_metrics
} row;

static const row rows[] = {
#define X(id, kind, name, labels, help) {name, labels, help, kind, offsetof(cn_metrics, id)},
    CN_METRICS(X)
#undef X
#define X(id, edges, name, labels, writer, help)                                                   \
    {name, labels, help, histogram, offsetof(cn_metrics, id)},
    CN_HISTOGRAMS(X)
#undef X
};

static void show_histogram(const cn_metrics_sink *sink, const char *name, const char *labels,
                           const cn_metrics_histogram *h)
{
    cn_metrics_exemplar exemplars[CN_METRICS_EDGES_MAX + 1];
    atomic_bool *busy = (atomic_bool *)&h->busy;         // reading is no change
    const bool mine = !atomic_exchange_explicit(busy, true, memory_order_acquire);
    if (mine) {
        memcpy(exemplars, h->exemplars, sizeof exemplars);
        atomic_store_explicit(busy, false, memory_order_release);
    }
    const cn_metrics_shown_histogram shown = {h->edges, &h->buckets, &h->all,
                                              mine ? exemplars : NULL};
    sink->histogram(sink->self, name, labels, &shown);
}

static void show_table(const cn_metrics *metrics, const cn_metrics_sink *sink)
{
    static const cn_metrics_type types[] = {
        [counter] = CN_METRICS_COUNTER, [counter_ns] = CN_METRICS_COUNTER,
        [gauge] = CN_METRICS_GAUGE,     [gauge_ns] = CN_METRICS_GAUGE,
        [histogram] = CN_METRICS_HISTOGRAM};
    const char *last = "";
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const row *r = &rows[i];
        const void *field = (const char *)metrics + r->offset;
        if (strcmp(r->name, last) != 0) sink->family(sink->self, r->name, types[r->kind], r->help);
        last = r->name;
        if (r->kind == histogram) {
            show_histogram(sink, r->name, r->labels, field);
            continue;
        }
        const double value = (double)cn_metrics_get((const _Atomic uint64_t *)field);
        const bool is_ns = r->kind == counter_ns || r->kind == gauge_ns;
        sink->value(sink->self, r->name, r->labels, is_ns ? value / 1e9 : value);
    }
}

// ---- routes

// Paths and methods are those of the table: what clients write never becomes a label.
static void route_labels(unsigned route, const char *code, char out[LABELS_BYTES])
{
    const bool known = route < CN_ROUTE_COUNT;
    snprintf(out, LABELS_BYTES, "route=\"%s\",method=\"%s\"%s%s%s",
             known ? cn_route_path((cn_route_id)route) : "other",
             known ? cn_route_method((cn_route_id)route) : "other", code ? ",code=\"" : "",
             code ? code : "", code ? "\"" : "");
}

static void show_routes(const cn_metrics_source *source, const cn_metrics_sink *sink)
{
    static const char *const codes[] = {"2xx", "4xx", "5xx"};
    static const char count[] = "cairn_route_requests_total", took[] = "cairn_route_seconds";
    char labels[LABELS_BYTES];
    sink->family(sink->self, count, CN_METRICS_COUNTER,
                 "Requests that were answered to the end, by route and class of status.");
    for (unsigned i = 0; i <= CN_ROUTE_COUNT; i++) {
        for (int code = 0; code < 3; code++) {
            route_labels(i, codes[code], labels);
            sink->value(sink->self, count, labels,
                        (double)cn_metrics_get(&source->metrics->routes[i].codes[code]));
        }
    }
    sink->family(sink->self, took, CN_METRICS_HISTOGRAM,
                 "From the whole request to the last byte of its answer, by route.");
    for (unsigned i = 0; i <= CN_ROUTE_COUNT; i++) {
        const cn_metrics_route *route = &source->metrics->routes[i];
        const cn_metrics_shown_histogram shown = {.edges = &cn_metrics_edges_request,
                                                  .buckets = &route->took};
        if (cn_metrics_catalogue_upto(&shown, shown.edges->count) == 0 && !source->unused_routes) {
            continue;
        }
        route_labels(i, NULL, labels);
        sink->histogram(sink->self, took, labels, &shown);
    }
}

// ---- this program

// The name of a model may be that of any directory: a page must be UTF-8, and a label short.
static void add_label(cn_buf *out, const char *name, const char *value)
{
    const size_t len = strlen(value);
    cn_buf_add_format(out, "%s%s=\"", out->len ? "," : "", name);
    for (size_t at = 0; at < len && at < VALUE_BYTES_MAX;) {
        const size_t n = cn_utf8_len(value + at, len - at);
        const bool fits = n > 0 && (unsigned char)value[at] >= ' ';
        if (value[at] == '"' || value[at] == '\\') cn_buf_add_char(out, '\\');
        cn_buf_add(out, fits ? value + at : "?", fits ? n : 1);
        at += n ? n : 1;
    }
    cn_buf_add_char(out, '"');
}

static void show_info(const cn_metrics_sink *sink, const char *name, const char *help,
                      const char *label, const char *value)
{
    cn_buf labels;
    cn_buf_init(&labels, LABELS_BYTES_MAX);
    add_label(&labels, label, value);
    cn_buf_add_char(&labels, '\0');
    sink->family(sink->self, name, CN_METRICS_INFO, help);
    if (!labels.overflowed) sink->value(sink->self, name, labels.data, 1);
    cn_buf_close(&labels);
}

static void show_one(const cn_metrics_sink *sink, const char *name, cn_metrics_type type,
                     const char *help, double value)
{
    sink->family(sink->self, name, type, help);
    sink->value(sink->self, name, "", value);
}

static void show_process(const cn_metrics_sink *sink)
{
    cn_metrics_process p;
    cn_metrics_process_read(&p);
    show_one(sink, "process_cpu_seconds_total", CN_METRICS_COUNTER, "Processor time of all threads.",
             p.cpu_seconds);
    show_one(sink, "process_start_time_seconds", CN_METRICS_GAUGE,
             "When the process was started, in seconds since 1970.", p.start_seconds);
    show_one(sink, "process_resident_memory_bytes", CN_METRICS_GAUGE, "Memory that is in use.",
             (double)p.resident_bytes);
    show_one(sink, "process_virtual_memory_bytes", CN_METRICS_GAUGE, "Memory that has an address.",
             (double)p.virtual_bytes);
    show_one(sink, "process_open_fds", CN_METRICS_GAUGE, "Open file descriptors.",
             (double)p.open_descriptors);
    show_one(sink, "process_max_fds", CN_METRICS_GAUGE, "File descriptors that may be open.",
             (double)p.descriptors_max);
    show_one(sink, "process_threads", CN_METRICS_GAUGE, "Threads.", (double)p.threads);
}

void cn_metrics_catalogue_show(const cn_metrics_source *source, const cn_metrics_sink *sink)
{
    show_table(source->metrics, sink);
    show_routes(source, sink);
    show_info(sink, "cairn_build_info", "The program.", "version", CN_VERSION);
    show_info(sink, "cairn_model_info", "The model that is served.", "model", source->model_name);
    show_process(sink);
}

// ---- vLLM's names

// One of ours under another name; no help: the name is that of the line before.
typedef struct alias {
    const char *name, *labels, *help;
    kind kind;
    size_t offset;
} alias;

#define F(id) offsetof(cn_metrics, id)
static const alias aliases[] = {
    {"vllm:num_requests_running", "", "Sequences in the batch.", gauge, F(sequences_running)},
    {"vllm:num_requests_waiting", "", "Sequences that wait.", gauge, F(sequences_waiting)},
    {"vllm:num_preemptions_total", "", "Preemptions.", counter, F(preemptions)},
    {"vllm:prompt_tokens_total", "", "Prompt tokens.", counter, F(prompt_tokens)},
    {"vllm:generation_tokens_total", "", "Generated tokens.", counter, F(generated_tokens)},
    {"vllm:prefix_cache_queries_total", "", "Prompt tokens that were looked for.", counter,
     F(prompt_tokens)},
    {"vllm:prefix_cache_hits_total", "", "Prompt tokens found on the device.", counter,
     F(cached_tokens)},
    {"vllm:request_success_total", "finished_reason=\"stop\"", "Sequences that ended.", counter,
     F(sequences_finished)},
    {"vllm:request_success_total", "finished_reason=\"length\"", "", counter, F(sequences_length)},
    {"vllm:request_success_total", "finished_reason=\"abort\"", "", counter,
     F(sequences_cancelled)},
    {"vllm:request_success_total", "finished_reason=\"error\"", "", counter, F(sequences_failed)},
    {"vllm:time_to_first_token_seconds", "", "Time to the first token.", histogram,
     F(first_token_ns)},
    {"vllm:inter_token_latency_seconds", "", "Between two tokens.", histogram, F(inter_token_ns)},
    {"vllm:request_time_per_output_token_seconds", "", "Mean between the tokens of an answer.",
     histogram, F(token_mean_ns)},
    {"vllm:e2e_request_latency_seconds", "", "From request to the end of its answer.", histogram,
     F(generation_ns)},
    {"vllm:request_queue_time_seconds", "", "Waiting for a place in the batch.", histogram,
     F(queue_ns)},
    {"vllm:request_prefill_time_seconds", "", "Computing the prompt.", histogram,
     F(phase_prefill_ns)},
    {"vllm:request_decode_time_seconds", "", "From the first token to the last.", histogram,
     F(phase_decode_ns)},
    {"vllm:request_prompt_tokens", "", "Prompt tokens of a request.", histogram, F(prompt_size)},
    {"vllm:request_generation_tokens", "", "Generated tokens of a request.", histogram,
     F(answer_size)},
    {"vllm:iteration_tokens_total", "", "Tokens of a step.", histogram, F(step_size)},
};
#undef F

static void show_alias(const cn_metrics *metrics, const alias *a, const char *labels,
                       const cn_metrics_sink *sink)
{
    static const cn_metrics_type types[] = {[counter] = CN_METRICS_COUNTER,
                                            [gauge] = CN_METRICS_GAUGE,
                                            [histogram] = CN_METRICS_HISTOGRAM};
    const void *field = (const char *)metrics + a->offset;
    if (a->help[0]) sink->family(sink->self, a->name, types[a->kind], a->help);
    if (a->kind == histogram) show_histogram(sink, a->name, labels, field);
    else sink->value(sink->self, a->name, labels,
                     (double)cn_metrics_get((const _Atomic uint64_t *)field));
}

// What is no field but follows from some.
static void show_derived(const cn_metrics *m, const char *labels, const cn_metrics_sink *sink)
{
    const double pages = (double)cn_metrics_get(&m->pages);
    const double elsewhere = (double)(cn_metrics_get(&m->cached_host_tokens) +
                                      cn_metrics_get(&m->cached_store_tokens));
    const double here = (double)cn_metrics_get(&m->cached_tokens);
    const char *const usage = "vllm:kv_cache_usage_perc",
                     *const queries = "vllm:external_prefix_cache_queries_total",
                     *const hits = "vllm:external_prefix_cache_hits_total",
                     *const cached = "vllm:prompt_tokens_cached_total";
    sink->family(sink->self, usage, CN_METRICS_GAUGE, "Share of KV pages in use, 0 to 1.");
    sink->value(sink->self, usage, labels,
                pages > 0 ? (double)cn_metrics_get(&m->pages_held) / pages : 0);
    sink->family(sink->self, queries, CN_METRICS_COUNTER, "Prompt tokens not on the device.");
    sink->value(sink->self, queries, labels, (double)cn_metrics_get(&m->prompt_tokens) - here);
    sink->family(sink->self, hits, CN_METRICS_COUNTER, "Of these, found in host memory or Redis.");
    sink->value(sink->self, hits, labels, elsewhere);
    sink->family(sink->self, cached, CN_METRICS_COUNTER, "Prompt tokens that were not computed.");
    sink->value(sink->self, cached, labels, here + elsewhere);
}

void cn_metrics_catalogue_show_vllm(const cn_metrics_source *source, const cn_metrics_sink *sink)
{
    cn_buf labels;
    cn_buf_init(&labels, LABELS_BYTES_MAX);
    add_label(&labels, "model_name", source->model_name);
    add_label(&labels, "engine", "0");
    const size_t common = labels.len;
    if (labels.overflowed || !cn_buf_reserve(&labels, LABELS_BYTES)) return;     // no memory
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++) {
        labels.len = common;
        cn_buf_add_format(&labels, "%s%s", aliases[i].labels[0] ? "," : "", aliases[i].labels);
        cn_buf_add_char(&labels, '\0');
        show_alias(source->metrics, &aliases[i], labels.data, sink);
    }
    labels.data[common] = '\0';
    show_derived(source->metrics, labels.data, sink);
    labels.len = common;
    cn_buf_add_format(&labels, ",block_size=\"%d\",num_gpu_blocks=\"%llu\"", CN_PAGE_TOKENS,
                      (unsigned long long)cn_metrics_get(&source->metrics->pages));
    cn_buf_add_char(&labels, '\0');
    sink->family(sink->self, "vllm:cache_config_info", CN_METRICS_INFO, "The KV cache.");
    sink->value(sink->self, "vllm:cache_config_info", labels.data, 1);
    cn_buf_close(&labels);
}

// ---- histograms

uint64_t cn_metrics_catalogue_upto(const cn_metrics_shown_histogram *h, uint32_t i)
{
    uint64_t sum = 0;
    for (uint32_t at = 0; at <= i; at++) sum += cn_metrics_get(&h->buckets->counts[at]);
    return sum;
}

double cn_metrics_catalogue_edge(const cn_metrics_edges *edges, uint32_t i)
{
    return (double)(edges->edges[i] * edges->value_per_edge) / edges->value_per_shown;
}
