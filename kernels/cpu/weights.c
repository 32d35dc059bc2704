#include "kernels/cpu/cpu_int.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/cpu/half_int.h"

/* How it works. A product reads panels of 16 outputs (path_int.h), so a matrix is re-packed once, by all
 * threads, a panel at a time. Matrices that are always multiplied by the same rows become one: q, k and
 * v one below the other; gate and up with their panels in turn, so that one tile holds both. A rank of a
 * group packs its rows, or of o and down its columns, and reads nothing else of the file. */

enum { SOURCES_MAX = 3, HUGE_PAGE = 2 << 20 };

// What a rank has of a matrix.
typedef struct piece {
    cn_tensor t;
    cn_range rows, cols;
} piece;

typedef struct packing {
    cn_packed to;
    piece sources[SOURCES_MAX];
    uint32_t source_count;
    bool in_turn;                // panels of the sources take turns; else one source after another
    void *memory;
} packing;

static float to_float(const cn_tensor *t, uint64_t at)
{
    if (t->dtype == CN_DTYPE_F32) return ((const float *)t->data)[at];
    const uint16_t half = ((const uint16_t *)t->data)[at];
    if (t->dtype == CN_DTYPE_F16) return half_to_float(half);
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static piece rows_of(cn_tensor t, cn_range rows, uint32_t size)
{
    return (piece){t, {rows.begin * size, rows.count * size}, {0, (uint32_t)t.cols}};
}

static piece columns_of(cn_tensor t, cn_range cols, uint32_t size)
{
    return (piece){t, {0, (uint32_t)t.rows}, {cols.begin * size, cols.count * size}};
}

// Where output `row` of the packed matrix comes from; NULL: padding.
static const piece *source_of(const packing *p, uint64_t row, uint64_t *source_row)
{
    if (p->in_turn) {
        const piece *from = &p->sources[row / CN_PANEL % p->source_count];
        const uint64_t at = row / CN_PANEL / p->source_count * CN_PANEL + row % CN_PANEL;
        *source_row = from->rows.begin + at;
        return at < from->rows.count ? from : NULL;
    }
    for (uint32_t i = 0; i < p->source_count; i++) {
        const piece *from = &p->sources[i];
        *source_row = from->rows.begin + row;
        if (row < from->rows.count) return from;
        row -= from->rows.count;
    }
    return NULL;
}

static void put_element(const packing *p, unsigned char *panel, uint32_t lane, uint64_t k,
                        const cn_tensor *t, uint64_t at)
{
    if (p->to.dtype == CN_DTYPE_F32) {
        ((float *)panel)[k * CN_PANEL + lane] = to_float(t, at);
    } else {
        const uint64_t to = p->to.dtype == CN_DTYPE_BF16 ? k / 2 * 32 + lane * 2 + k % 2
                                                         : k * CN_PANEL + lane;
        ((uint16_t *)panel)[to] = ((const uint16_t *)t->data)[at];
    }
}

static void pack_panel(void *self, uint32_t index, uint32_t thread)
{
    const packing *p = self;
    const uint64_t panel_bytes = (uint64_t)p->to.in * CN_PANEL * (p->to.dtype == CN_DTYPE_F32 ? 4 : 2);
    unsigned char *panel = (unsigned char *)p->memory + index * panel_bytes;
    (void)thread;
    for (uint32_t lane = 0; lane < CN_PANEL; lane++) {
        uint64_t row;
        const piece *from = source_of(p, (uint64_t)index * CN_PANEL + lane, &row);
        if (!from) continue;     // fresh memory is zero
        const uint64_t begin = row * from->t.cols + from->cols.begin;
        for (uint64_t k = 0; k < from->cols.count; k++) put_element(p, panel, lane, k, &from->t, begin + k);
    }
}

static void *map_zeroed(uint64_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return NULL;
    if (bytes >= HUGE_PAGE) madvise(memory, bytes, MADV_HUGEPAGE);
    return memory;
}

static uint64_t packed_bytes(const cn_packed *p)
{
    return (uint64_t)p->out * p->in * (p->dtype == CN_DTYPE_F32 ? 4 : 2);
}

typedef struct loading {
    cn_cpu_rank *rank;
    cn_weights_loading *all;
    cn_err *err;
} loading;

// KV heads that several ranks hold are read more than once.
static void tell_progress(const loading *l, uint64_t bytes)
{
    cn_weights_loading *all = l->all;
    const uint64_t done = atomic_fetch_add_explicit(&all->done_bytes, bytes, memory_order_relaxed) + bytes;
    if (l->rank->index > 0 || !all->progress) return;
    all->progress(all->self, done < all->total_bytes ? done : all->total_bytes, all->total_bytes);
}

static cn_code pack(loading *l, cn_packed *out, packing *p)
{
    uint64_t rows = 0, source_bytes = 0;
    p->to.dtype = p->sources[0].t.dtype;
    for (uint32_t i = 0; i < p->source_count; i++) {
        const piece *from = &p->sources[i];
        const uint64_t count = from->rows.count;
        if (from->t.dtype != p->to.dtype) p->to.dtype = CN_DTYPE_F32;
        rows += p->in_turn ? (count + CN_PANEL - 1) / CN_PANEL * CN_PANEL : count;
        source_bytes += count * from->cols.count * (from->t.dtype == CN_DTYPE_F32 ? 4 : 2);
    }
    p->to.out = cn_path_pad((uint32_t)rows);
    p->to.in = (p->sources[0].cols.count + 1) & ~1u;
    p->memory = map_zeroed(packed_bytes(&p->to));
    if (!p->memory) {
        return cn_err_set(l->err, CN_E_MEMORY, "cpu: no memory for %llu bytes of weights on rank %u",
                          (unsigned long long)packed_bytes(&p->to), l->rank->index);
    }
    cn_workers_run(l->rank->workers, pack_panel, p, p->to.out / CN_PANEL);
    p->to.data = p->memory;
    *out = p->to;
    l->rank->model.weight_bytes += packed_bytes(out);
    tell_progress(l, source_bytes);
    return CN_OK;
}

static cn_code pack_one(loading *l, cn_packed *out, piece source)
{
    packing p = {.sources = {source}, .source_count = 1};
    return pack(l, out, &p);
}

// A matrix whose inputs are dealt to the ranks, `size` of them for each of `part`.
static cn_code pack_columns(loading *l, cn_packed *out, cn_tensor source, cn_range part, uint32_t size)
{
    const cn_cpu *cpu = l->rank->cpu;
    const cn_code code = pack_one(l, out, columns_of(source, part, size));
    if (code == CN_OK && cpu->sliced) {
        cn_shard_slice(out, (uint32_t)source.cols, cpu->rank_count, l->rank->index);
    }
    return code;
}

static cn_code copy_vector(loading *l, float **out, cn_tensor source)
{
    *out = calloc(cn_path_pad((uint32_t)source.cols), sizeof **out);
    if (!*out) return cn_err_set(l->err, CN_E_MEMORY, "cpu: no memory for weights on rank %u",
                                l->rank->index);
    for (uint64_t i = 0; i < source.cols; i++) (*out)[i] = to_float(&source, i);
    return CN_OK;
}

static cn_code load_layer(loading *l, cn_cpu_layer *layer, const cn_layer_weights *w)
{
    const cn_shard *s = &l->rank->shard;
    const uint32_t dims = l->rank->model.spec.head_dim;
    packing qkv = {.sources = {rows_of(w->q, s->heads, dims), rows_of(w->k, s->kv_heads, dims),
                               rows_of(w->v, s->kv_heads, dims)},
                   .source_count = 3};
    packing gate_up = {.sources = {rows_of(w->gate, s->mlp, 1), rows_of(w->up, s->mlp, 1)},
                       .source_count = 2, .in_turn = true};
    cn_code code = pack(l, &layer->qkv, &qkv);
    if (code == CN_OK) code = pack_columns(l, &layer->o, w->o, s->heads, dims);
    if (code == CN_OK) code = pack(l, &layer->gate_up, &gate_up);
    if (code == CN_OK) code = pack_columns(l, &layer->down, w->down, s->mlp, 1);
    if (code == CN_OK) code = copy_vector(l, &layer->attn_norm, w->attn_norm);
    if (code == CN_OK) code = copy_vector(l, &layer->mlp_norm, w->mlp_norm);
    if (code == CN_OK && w->q_norm.data) code = copy_vector(l, &layer->q_norm, w->q_norm);
    if (code == CN_OK && w->k_norm.data) code = copy_vector(l, &layer->k_norm, w->k_norm);
    return code;
}

static uint64_t tensor_bytes(const cn_tensor *t)
{
    return t->data ? t->rows * t->cols * (t->dtype == CN_DTYPE_F32 ? 4 : 2) : 0;
}

uint64_t cn_weights_bytes(const cn_model_spec *spec)
{
    uint64_t total = tensor_bytes(&spec->embed);
    if (spec->head.data != spec->embed.data) total += tensor_bytes(&spec->head);
    for (uint32_t i = 0; i < spec->layer_count; i++) {
        const cn_layer_weights *w = &spec->layers[i];
        total += tensor_bytes(&w->q) + tensor_bytes(&w->k) + tensor_bytes(&w->v) + tensor_bytes(&w->o) +
                 tensor_bytes(&w->gate) + tensor_bytes(&w->up) + tensor_bytes(&w->down);
    }
    return total;
}

cn_code cn_weights_load(cn_cpu_rank *rank, cn_weights_loading *all, cn_err *err)
{
    const cn_model_spec *spec = all->spec;
    cn_cpu_model *m = &rank->model;
    loading l = {rank, all, err};
    const cn_range words = rank->shard.vocab;
    m->spec = *spec;
    m->spec.head_count = rank->shard.heads.count;
    m->spec.kv_head_count = rank->shard.kv_heads.count;
    m->spec.mlp_dim = rank->shard.mlp.count;
    m->kv_dtype = spec->layers[0].k.dtype == CN_DTYPE_BF16 ? CN_DTYPE_BF16 : CN_DTYPE_F32;
    m->layers = calloc(spec->layer_count, sizeof *m->layers);
    m->rope_inv_freq = malloc(spec->head_dim / 2 * sizeof *m->rope_inv_freq);
    if (!m->layers || !m->rope_inv_freq) {
        return cn_err_set(err, CN_E_MEMORY, "cpu: no memory for weights on rank %u", rank->index);
    }
    memcpy(m->rope_inv_freq, spec->rope_inv_freq, spec->head_dim / 2 * sizeof *m->rope_inv_freq);
    cn_code code = pack_one(&l, &m->embed, rows_of(spec->embed, words, 1));
    m->head = m->embed;
    if (code == CN_OK && spec->head.data != spec->embed.data) {
        code = pack_one(&l, &m->head, rows_of(spec->head, words, 1));
    }
    if (code == CN_OK) code = copy_vector(&l, &m->final_norm, spec->final_norm);
    for (uint32_t i = 0; i < spec->layer_count && code == CN_OK; i++) {
        code = load_layer(&l, &m->layers[i], &spec->layers[i]);
    }
    m->loaded = code == CN_OK;
    return code;
}

static void free_packed(const cn_packed *p)
{
    if (p->data) munmap((void *)p->data, packed_bytes(p));
}

void cn_weights_free(cn_cpu_model *m)
{
    for (uint32_t i = 0; m->layers && i < m->spec.layer_count; i++) {
        cn_cpu_layer *layer = &m->layers[i];
        free_packed(&layer->qkv);
        free_packed(&layer->o);
        free_packed(&layer->gate_up);
        free_packed(&layer->down);
        free(layer->attn_norm);
        free(layer->mlp_norm);
        free(layer->q_norm);
        free(layer->k_norm);
    }
    if (m->head.data != m->embed.data) free_packed(&m->head);
    free_packed(&m->embed);
    free(m->final_norm);
    free(m->rope_inv_freq);
    free(m->layers);
}

void cn_weights_embed(const cn_packed *embed, uint32_t token, uint32_t dim, float *out)
{
    const uint64_t panel = (uint64_t)(token / CN_PANEL) * embed->in * CN_PANEL;
    const uint32_t lane = token % CN_PANEL;
    const cn_tensor packed = {.data = embed->data, .dtype = embed->dtype};
    for (uint32_t k = 0; k < dim; k++) {
        const uint64_t at = embed->dtype == CN_DTYPE_BF16 ? k / 2 * 32 + lane * 2 + k % 2
                                                          : (uint64_t)k * CN_PANEL + lane;
        out[k] = to_float(&packed, panel + at);
    }
}
