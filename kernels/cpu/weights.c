#include "kernels/cpu/cpu_int.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/cpu/half_int.h"

/* How it works. A product reads panels of 16 outputs (path_int.h), so a matrix is re-packed once, by all
 * threads, a panel at a time. Matrices that are always multiplied by the same rows become one: q, k and
 * v one below the other; gate and up with their panels in turn, so that one tile holds both. */

enum { SOURCES_MAX = 3, HUGE_PAGE = 2 << 20 };

typedef struct packing {
    cn_packed to;
    cn_tensor sources[SOURCES_MAX];
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

// Where output `row` of the packed matrix comes from; NULL: padding.
static const cn_tensor *source_of(const packing *p, uint64_t row, uint64_t *source_row)
{
    if (p->in_turn) {
        const cn_tensor *t = &p->sources[row / CN_PANEL % p->source_count];
        *source_row = row / CN_PANEL / p->source_count * CN_PANEL + row % CN_PANEL;
        return *source_row < t->rows ? t : NULL;
    }
    for (uint32_t i = 0; i < p->source_count; i++) {
        if (row < p->sources[i].rows) {
            *source_row = row;
            return &p->sources[i];
        }
        row -= p->sources[i].rows;
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
        const cn_tensor *t = source_of(p, (uint64_t)index * CN_PANEL + lane, &row);
        if (!t) continue;        // fresh memory is zero
        for (uint64_t k = 0; k < t->cols; k++) put_element(p, panel, lane, k, t, row * t->cols + k);
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
    cn_cpu *cpu;
    void (*progress)(void *self, uint64_t done, uint64_t total);
    void *self;
    uint64_t done, total;
    cn_err *err;
} loading;

static cn_code pack(loading *l, cn_packed *out, packing *p)
{
    uint64_t rows = 0, source_bytes = 0;
    p->to.dtype = p->sources[0].dtype;
    for (uint32_t i = 0; i < p->source_count; i++) {
        const cn_tensor *t = &p->sources[i];
        if (t->dtype != p->to.dtype) p->to.dtype = CN_DTYPE_F32;
        rows += p->in_turn ? (t->rows + CN_PANEL - 1) / CN_PANEL * CN_PANEL : t->rows;
        source_bytes += t->rows * t->cols * (t->dtype == CN_DTYPE_F32 ? 4 : 2);
    }
    p->to.out = cn_path_pad((uint32_t)rows);
    p->to.in = ((uint32_t)p->sources[0].cols + 1) & ~1u;
    p->memory = map_zeroed(packed_bytes(&p->to));
    if (!p->memory) {
        return cn_err_set(l->err, CN_E_MEMORY, "cpu: no memory for %llu bytes of weights",
                          (unsigned long long)packed_bytes(&p->to));
    }
    cn_workers_run(l->cpu->workers, pack_panel, p, p->to.out / CN_PANEL);
    p->to.data = p->memory;
    *out = p->to;
    l->cpu->model.weight_bytes += packed_bytes(out);
    l->done += source_bytes;
    if (l->progress) l->progress(l->self, l->done, l->total);
    return CN_OK;
}

static cn_code pack_one(loading *l, cn_packed *out, cn_tensor source)
{
    packing p = {.sources = {source}, .source_count = 1};
    return pack(l, out, &p);
}

static cn_code copy_vector(loading *l, float **out, cn_tensor source)
{
    *out = calloc(cn_path_pad((uint32_t)source.cols), sizeof **out);
    if (!*out) return cn_err_set(l->err, CN_E_MEMORY, "cpu: no memory for weights");
    for (uint64_t i = 0; i < source.cols; i++) (*out)[i] = to_float(&source, i);
    return CN_OK;
}

static cn_code load_layer(loading *l, cn_cpu_layer *layer, const cn_layer_weights *w)
{
    packing qkv = {.sources = {w->q, w->k, w->v}, .source_count = 3};
    packing gate_up = {.sources = {w->gate, w->up}, .source_count = 2, .in_turn = true};
    cn_code code = pack(l, &layer->qkv, &qkv);
    if (code == CN_OK) code = pack_one(l, &layer->o, w->o);
    if (code == CN_OK) code = pack(l, &layer->gate_up, &gate_up);
    if (code == CN_OK) code = pack_one(l, &layer->down, w->down);
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

static uint64_t total_bytes(const cn_model_spec *spec)
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

cn_code cn_weights_load(cn_cpu *cpu, const cn_model_spec *spec,
                        void (*progress)(void *self, uint64_t done, uint64_t total), void *self,
                        cn_err *err)
{
    cn_cpu_model *m = &cpu->model;
    loading l = {cpu, progress, self, 0, total_bytes(spec), err};
    if (spec->head_dim > CN_CPU_HEAD_DIM_MAX) {
        return cn_err_set(err, CN_E_UNSUPPORTED, "head_dim: %u; the cpu backend serves up to %d",
                          spec->head_dim, CN_CPU_HEAD_DIM_MAX);
    }
    m->spec = *spec;
    m->kv_dtype = spec->layers[0].k.dtype == CN_DTYPE_BF16 ? CN_DTYPE_BF16 : CN_DTYPE_F32;
    m->layers = calloc(spec->layer_count, sizeof *m->layers);
    m->rope_inv_freq = malloc(spec->head_dim / 2 * sizeof *m->rope_inv_freq);
    if (!m->layers || !m->rope_inv_freq) {
        return cn_err_set(err, CN_E_MEMORY, "cpu: no memory for weights");
    }
    memcpy(m->rope_inv_freq, spec->rope_inv_freq, spec->head_dim / 2 * sizeof *m->rope_inv_freq);
    cn_code code = pack_one(&l, &m->embed, spec->embed);
    m->head = m->embed;
    if (code == CN_OK && spec->head.data != spec->embed.data) code = pack_one(&l, &m->head, spec->head);
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
