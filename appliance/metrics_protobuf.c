#include "appliance/metrics_protobuf.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "proto/metrics.pb-c.h"

/* How it works. A family is a message with its metrics inside, and what it consists of arrives one by
 * one. Protobuf allows to write a message in parts: first its name, help and type, then each metric as
 * one more field of it. When the next family begins, the length of the finished one is known.
 *
 * A native histogram has eight buckets per power of two (schema 3). They are made from the finer buckets
 * of cn_histogram: all of such a bucket goes where its largest value belongs, so a value is shown at
 * most 1/32 too high beside the 1/11 by which the bucket is wide. */

enum { SCHEMA = 3, PER_DOUBLING = 1 << SCHEMA, METRIC_FIELD = 4, LABELS_MAX = 8,
       LABEL_BYTES = 4096, NATIVE_MAX = 64 * PER_DOUBLING + 2 };

static const double zero_threshold = 1e-12;      // below a nanosecond: only 0 itself

static void add_varint(cn_buf *out, uint64_t value)
{
    for (; value >= 128; value >>= 7) cn_buf_add_char(out, (char)(value | 128));
    cn_buf_add_char(out, (char)value);
}

static void add_message(cn_buf *out, const ProtobufCMessage *message)
{
    const size_t len = protobuf_c_message_get_packed_size(message);
    char *at = cn_buf_reserve(out, len);
    if (!at) return;
    protobuf_c_message_pack(message, (uint8_t *)at);
    cn_buf_advance(out, len);
}

static void flush_family(cn_metrics_protobuf *p)
{
    p->out->overflowed |= p->family.overflowed;
    if (p->family.len > 0) {
        add_varint(p->out, p->family.len);
        cn_buf_add(p->out, p->family.data, p->family.len);
    }
    cn_buf_clear(&p->family);
}

static void add_family(void *self, const char *name, cn_metrics_type type, const char *help)
{
    cn_metrics_protobuf *p = self;
    Prom__Family family = PROM__FAMILY__INIT;
    flush_family(p);
    p->type = type;
    family.name = (char *)name;
    family.help = (char *)help;
    family.type = type == CN_METRICS_COUNTER     ? PROM__TYPE__COUNTER
                  : type == CN_METRICS_HISTOGRAM ? PROM__TYPE__HISTOGRAM
                                                 : PROM__TYPE__GAUGE;
    add_message(&p->family, &family.base);
}

// ---- labels

typedef struct labels {
    Prom__Label list[LABELS_MAX];
    Prom__Label *pointers[LABELS_MAX];
    size_t count;
    char text[LABEL_BYTES];
} labels;

/* `name="value",...` as the catalogue makes it, with \" and \\ in values. */
static void read_labels(const char *text, labels *out)
{
    size_t len = strlen(text), to = 0;
    CN_ASSERT(len < sizeof out->text);
    for (const char *at = text; *at;) {
        CN_ASSERT(out->count < LABELS_MAX);
        Prom__Label *label = &out->list[out->count];
        prom__label__init(label);
        label->name = out->text + to;
        while (*at != '=') out->text[to++] = *at++;
        out->text[to++] = '\0';
        label->value = out->text + to;
        for (at += 2; *at != '"'; at++) {
            if (*at == '\\') at++;
            out->text[to++] = *at;
        }
        out->text[to++] = '\0';
        at += at[1] == ',' ? 2 : 1;
        out->pointers[out->count++] = label;
    }
}

static void add_metric(cn_metrics_protobuf *p, Prom__Metric *metric, const char *text)
{
    labels read = {.count = 0};
    read_labels(text, &read);
    metric->n_label = read.count;
    metric->label = read.pointers;
    add_varint(&p->family, METRIC_FIELD << 3 | 2);
    add_varint(&p->family, protobuf_c_message_get_packed_size(&metric->base));
    add_message(&p->family, &metric->base);
}

static void add_value(void *self, const char *name, const char *text, double value)
{
    cn_metrics_protobuf *p = self;
    Prom__Metric metric = PROM__METRIC__INIT;
    Prom__Value shown = PROM__VALUE__INIT;
    (void)name;
    shown.value = value;
    if (p->type == CN_METRICS_COUNTER) metric.counter = &shown;
    else metric.gauge = &shown;
    add_metric(p, &metric, text);
}

// ---- histograms

typedef struct classic {
    Prom__Bucket buckets[CN_METRICS_EDGES_MAX];
    Prom__Bucket *pointers[CN_METRICS_EDGES_MAX];
    Prom__Exemplar exemplars[CN_METRICS_EDGES_MAX];
    Prom__Timestamp times[CN_METRICS_EDGES_MAX];
    Prom__Label labels[CN_METRICS_EDGES_MAX][2];
    Prom__Label *label_pointers[CN_METRICS_EDGES_MAX][2];
} classic;

static void fill_exemplar(const cn_metrics_exemplar *from, double value_per_shown, classic *c,
                          uint32_t i)
{
    const char *const pairs[2][2] = {{"request_id", from->request_id}, {"trace_id", from->trace_id}};
    prom__exemplar__init(&c->exemplars[i]);
    prom__timestamp__init(&c->times[i]);
    for (int at = 0; at < 2; at++) {
        prom__label__init(&c->labels[i][at]);
        c->labels[i][at].name = (char *)pairs[at][0];
        c->labels[i][at].value = (char *)pairs[at][1];
        c->label_pointers[i][at] = &c->labels[i][at];
    }
    c->times[i].seconds = (int64_t)(from->wall_ns / 1000000000);
    c->times[i].nanos = (int32_t)(from->wall_ns % 1000000000);
    c->exemplars[i].value = (double)from->value / value_per_shown;
    c->exemplars[i].timestamp = &c->times[i];
    c->exemplars[i].n_label = 2;
    c->exemplars[i].label = c->label_pointers[i];
    c->buckets[i].exemplar = &c->exemplars[i];
}

// The bucket beyond the last edge is not written: the count of all says what is in it.
static void fill_classic(const cn_metrics_shown_histogram *h, classic *c, Prom__Histogram *out)
{
    uint64_t upto = 0;
    for (uint32_t i = 0; i < h->edges->count; i++) {
        upto += cn_metrics_get(&h->buckets->counts[i]);
        prom__bucket__init(&c->buckets[i]);
        c->buckets[i].cumulative_count = upto;
        c->buckets[i].upper_bound = cn_metrics_catalogue_edge(h->edges, i);
        c->pointers[i] = &c->buckets[i];
        if (h->exemplars && h->exemplars[i].request_id[0]) {
            fill_exemplar(&h->exemplars[i], h->edges->value_per_shown, c, i);
        }
    }
    out->sample_count = upto + cn_metrics_get(&h->buckets->counts[h->edges->count]);
    out->n_bucket = h->edges->count;
    out->bucket = c->pointers;
}

typedef struct native {
    Prom__Span spans[NATIVE_MAX];
    Prom__Span *span_pointers[NATIVE_MAX];
    int64_t deltas[NATIVE_MAX];
    size_t span_count, delta_count;
} native;

static void add_native(native *n, int32_t bucket, int32_t *next, uint64_t count, uint64_t *last)
{
    if (n->span_count == 0 || bucket != *next) {
        Prom__Span *span = &n->spans[n->span_count];
        prom__span__init(span);
        span->offset = n->span_count == 0 ? bucket : bucket - *next;
        n->span_pointers[n->span_count++] = span;
    }
    n->spans[n->span_count - 1].length++;
    n->deltas[n->delta_count++] = (int64_t)(count - *last);
    *last = count;
    *next = bucket + 1;
}

static int32_t native_bucket(uint64_t value, double value_per_shown)
{
    return (int32_t)ceil(log2((double)value / value_per_shown) * PER_DOUBLING);
}

static void fill_native(const cn_metrics_shown_histogram *h, native *n, Prom__Histogram *out)
{
    int32_t bucket = 0, next = 0;
    uint64_t last = 0, sum = 0, count;
    out->schema = SCHEMA;
    out->zero_threshold = zero_threshold;
    out->zero_count = cn_metrics_get(&h->all->buckets[0]);
    for (uint32_t i = 1; i < CN_HISTOGRAM_BUCKETS; i++) {
        if ((count = cn_metrics_get(&h->all->buckets[i])) == 0) continue;
        const int32_t at = native_bucket(cn_histogram_bucket_max(i), h->edges->value_per_shown);
        if (sum > 0 && at != bucket) {
            add_native(n, bucket, &next, sum, &last);
            sum = 0;
        }
        bucket = at;
        sum += count;
    }
    if (sum > 0) add_native(n, bucket, &next, sum, &last);
    out->n_positive_span = n->span_count;
    out->positive_span = n->span_pointers;
    out->n_positive_delta = n->delta_count;
    out->positive_delta = n->deltas;
}

static void add_histogram(void *self, const char *name, const char *text,
                          const cn_metrics_shown_histogram *h)
{
    Prom__Metric metric = PROM__METRIC__INIT;
    Prom__Histogram histogram = PROM__HISTOGRAM__INIT;
    classic c;
    native n;
    n.span_count = n.delta_count = 0;
    (void)name;
    fill_classic(h, &c, &histogram);
    histogram.sample_sum = (double)cn_metrics_get(&h->buckets->sum) / h->edges->value_per_shown;
    if (h->all) fill_native(h, &n, &histogram);
    metric.histogram = &histogram;
    add_metric(self, &metric, text);
}

cn_metrics_sink cn_metrics_protobuf_sink(cn_metrics_protobuf *p, cn_buf *out)
{
    p->out = out;
    cn_buf_init(&p->family, out->bytes_max);
    return (cn_metrics_sink){add_family, add_value, add_histogram, p};
}

void cn_metrics_protobuf_end(cn_metrics_protobuf *p)
{
    flush_family(p);
    cn_buf_close(&p->family);
}
