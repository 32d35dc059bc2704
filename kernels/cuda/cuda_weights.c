#include "kernels/cuda/cuda_int.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/half_int.h"

/* How it works. Matrices become bf16 in the order of the tensor cores' operands, 32 outputs at a time: two
 * pieces of pinned memory take turns, so that one is packed while the other one is copied. Heads are padded
 * to what kernels have, with outputs and inputs that are zero, and gate and up take turns of eight. */

enum { STAGES = 2 };

typedef struct loading {
    cn_cuda *cuda;
    void (*progress)(void *self, uint64_t done, uint64_t total);
    void *self;
    uint64_t done, total, stage_bytes;
    uint16_t *stages[STAGES];
    cudaEvent_t copied[STAGES];
    uint32_t turn;
    cn_err *err;
} loading;

/* Where row `out` of a packed matrix comes from; data NULL: it is zero. */
typedef struct source {
    const cn_tensor *tensor;
    uint64_t row;
} source;

typedef struct packing {
    const cn_tensor *parts[3];
    uint32_t part_count;
    bool in_turn;                // rows of the parts in turns of 8 (SwiGLU), else one part after another
    uint32_t row_head, row_pad;  // rows come in heads of so many, padded; 0: they do not
    uint32_t col_head, col_pad;
} packing;

static source source_of(const packing *p, uint32_t out)
{
    if (p->in_turn) {
        const cn_tensor *t = p->parts[out / 8 % 2];
        const uint64_t row = out / 16 * 8 + out % 8;
        return (source){row < t->rows ? t : NULL, row};
    }
    for (uint32_t i = 0; i < p->part_count; i++) {
        const cn_tensor *t = p->parts[i];
        const uint64_t rows = p->row_head ? t->rows / p->row_head * p->row_pad : t->rows;
        if (out >= rows) {
            out -= (uint32_t)rows;
            continue;
        }
        if (!p->row_head) return (source){t, out};
        if (out % p->row_pad >= p->row_head) break;
        return (source){t, (uint64_t)out / p->row_pad * p->row_head + out % p->row_pad};
    }
    return (source){NULL, 0};
}

static float float_at(const cn_tensor *t, uint64_t i)
{
    float value;
    if (t->dtype == CN_DTYPE_F32) return ((const float *)t->data)[i];
    if (t->dtype == CN_DTYPE_F16) return half_to_float(((const uint16_t *)t->data)[i]);
    const uint32_t bits = (uint32_t)((const uint16_t *)t->data)[i] << 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint16_t half_at(const cn_tensor *t, uint64_t i)
{
    if (t->dtype == CN_DTYPE_BF16) return ((const uint16_t *)t->data)[i];
    return half_round_bf16(float_at(t, i));
}

// One row into a tile of 32; `out` is its place there.
static void pack_row(const packing *p, source from, uint16_t *tile, uint32_t out, uint32_t in)
{
    const uint64_t base = from.row * from.tensor->cols;
    for (uint32_t k = 0; k < from.tensor->cols; k++) {
        const uint32_t at = p->col_head ? k / p->col_head * p->col_pad + k % p->col_head : k;
        tile[cn_cuda_packed_at(out, at, in)] = half_at(from.tensor, base + k);
    }
}

static cn_code pack(loading *l, cn_cuda_matrix *to, const packing *p, uint32_t out, uint32_t in)
{
    to->out = cn_cuda_pad(out, CN_CUDA_OUT_TILE);
    to->in = cn_cuda_pad(in, CN_CUDA_IN_GROUP);
    const uint64_t tile_bytes = (uint64_t)CN_CUDA_OUT_TILE * to->in * sizeof(uint16_t);
    cn_code code = CN_CUDA(memory_take)(l->cuda, &to->data, to->out / CN_CUDA_OUT_TILE, tile_bytes, false, l->err);
    for (uint32_t tile = 0; tile < to->out / CN_CUDA_OUT_TILE && code == CN_OK; tile++) {
        const uint32_t turn = l->turn++ % STAGES;
        cudaError_t error = cudaEventSynchronize(l->copied[turn]);
        memset(l->stages[turn], 0, tile_bytes);
        for (uint32_t i = 0; i < CN_CUDA_OUT_TILE; i++) {
            const source from = source_of(p, tile * CN_CUDA_OUT_TILE + i);
            if (from.tensor) pack_row(p, from, l->stages[turn], i, to->in);
        }
        if (error == cudaSuccess) {
            error = cudaMemcpyAsync((char *)to->data + tile * tile_bytes, l->stages[turn], tile_bytes,
                                    cudaMemcpyHostToDevice, l->cuda->stream);
        }
        if (error == cudaSuccess) error = cudaEventRecord(l->copied[turn], l->cuda->stream);
        if (error != cudaSuccess) code = CN_CUDA(memory_error)(l->err, "copying weights", error);
    }
    l->cuda->model.weight_bytes += to->out / CN_CUDA_OUT_TILE * tile_bytes;
    for (uint32_t i = 0; i < p->part_count; i++) l->done += p->parts[i]->rows * p->parts[i]->cols;
    if (l->progress) l->progress(l->self, l->done * sizeof(uint16_t), l->total * sizeof(uint16_t));
    return code;
}

static cn_code pack_one(loading *l, cn_cuda_matrix *to, const cn_tensor *t)
{
    const packing p = {.parts = {t}, .part_count = 1};
    return pack(l, to, &p, (uint32_t)t->rows, (uint32_t)t->cols);
}

static cn_code copy_vector(loading *l, float **to, const cn_tensor *t)
{
    const uint32_t count = cn_cuda_pad((uint32_t)t->cols, CN_CUDA_IN_GROUP);
    if (!t->data) return CN_OK;
    float *values = calloc(count, sizeof *values);
    if (!values) return cn_err_set(l->err, CN_E_MEMORY, "cuda: no memory for weights");
    for (uint64_t i = 0; i < t->cols; i++) values[i] = float_at(t, i);
    const cn_code code = CN_CUDA(memory_take)(l->cuda, to, count, sizeof *values, false, l->err);
    const cudaError_t error =
        code == CN_OK ? cudaMemcpy(*to, values, count * sizeof *values, cudaMemcpyHostToDevice) : cudaSuccess;
    free(values);
    return error == cudaSuccess ? code : CN_CUDA(memory_error)(l->err, "copying weights", error);
}

static cn_code load_layer(loading *l, cn_cuda_layer *layer, const cn_layer_weights *w)
{
    const cn_cuda_model *m = &l->cuda->model;
    const uint32_t dim = m->spec.head_dim, pad = m->head_pad, heads = m->spec.head_count + 2 * m->spec.kv_head_count;
    const packing qkv = {.parts = {&w->q, &w->k, &w->v}, .part_count = 3, .row_head = dim, .row_pad = pad};
    const packing gate_up = {.parts = {&w->gate, &w->up}, .part_count = 2, .in_turn = true};
    const packing o = {.parts = {&w->o}, .part_count = 1, .col_head = dim, .col_pad = pad};
    cn_code code = pack(l, &layer->qkv, &qkv, heads * pad, m->spec.dim);
    if (code == CN_OK) code = pack(l, &layer->o, &o, m->spec.dim, m->spec.head_count * pad);
    if (code == CN_OK) code = pack(l, &layer->gate_up, &gate_up, 2 * m->mlp_pad, m->spec.dim);
    if (code == CN_OK) code = pack_one(l, &layer->down, &w->down);
    if (code == CN_OK) code = copy_vector(l, &layer->attn_norm, &w->attn_norm);
    if (code == CN_OK) code = copy_vector(l, &layer->mlp_norm, &w->mlp_norm);
    if (code == CN_OK) code = copy_vector(l, &layer->q_norm, &w->q_norm);
    if (code == CN_OK) code = copy_vector(l, &layer->k_norm, &w->k_norm);
    return code;
}

static uint64_t elements(const cn_tensor *t) { return t->data ? t->rows * t->cols : 0; }

static uint64_t total_elements(const cn_model_spec *spec)
{
    uint64_t total = elements(&spec->embed);
    if (spec->head.data != spec->embed.data) total += elements(&spec->head);
    for (uint32_t i = 0; i < spec->layer_count; i++) {
        const cn_layer_weights *w = &spec->layers[i];
        total += elements(&w->q) + elements(&w->k) + elements(&w->v) + elements(&w->o) + elements(&w->gate) +
                 elements(&w->up) + elements(&w->down);
    }
    return total;
}

static cn_code load_all(loading *l, const cn_model_spec *spec)
{
    cn_cuda_model *m = &l->cuda->model;
    cn_code code = pack_one(l, &m->embed, &spec->embed);
    m->head = m->embed;
    if (code == CN_OK && spec->head.data != spec->embed.data) code = pack_one(l, &m->head, &spec->head);
    if (code == CN_OK) code = copy_vector(l, &m->final_norm, &spec->final_norm);
    for (uint32_t i = 0; i < spec->layer_count && code == CN_OK; i++) {
        code = load_layer(l, &m->layers[i], &spec->layers[i]);
    }
    return code;
}

static cn_code open_stages(loading *l, const cn_cuda_model *m)
{
    uint32_t widest = m->dim_pad > m->att_pad ? m->dim_pad : m->att_pad;
    if (m->mlp_pad > widest) widest = m->mlp_pad;
    l->stage_bytes = (uint64_t)CN_CUDA_OUT_TILE * widest * sizeof(uint16_t);
    for (int i = 0; i < STAGES; i++) {
        cudaError_t error = cudaHostAlloc((void **)&l->stages[i], l->stage_bytes, cudaHostAllocDefault);
        if (error == cudaSuccess) error = cudaEventCreateWithFlags(&l->copied[i], cudaEventDisableTiming);
        if (error != cudaSuccess) return CN_CUDA(memory_error)(l->err, "pinned memory for weights", error);
    }
    return CN_OK;
}

cn_code CN_CUDA(weights_load)(cn_cuda *cuda, const cn_model_spec *spec,
                              void (*progress)(void *self, uint64_t done, uint64_t total), void *self, cn_err *err)
{
    cn_cuda_model *m = &cuda->model;
    loading l = {.cuda = cuda, .progress = progress, .self = self, .total = total_elements(spec), .err = err};
    if (spec->head_dim > CN_CUDA_HEAD_DIM_MAX) {
        return cn_err_set(err, CN_E_UNSUPPORTED, "head_dim: %u; the cuda backend serves up to %d", spec->head_dim,
                          CN_CUDA_HEAD_DIM_MAX);
    }
    m->spec = *spec;
    m->head_pad = cn_cuda_head_pad(spec->head_dim);
    m->dim_pad = cn_cuda_pad(spec->dim, CN_CUDA_IN_GROUP);
    m->att_pad = cn_cuda_pad(spec->head_count * m->head_pad, CN_CUDA_IN_GROUP);
    m->mlp_pad = cn_cuda_pad(spec->mlp_dim, CN_CUDA_IN_GROUP);
    m->layers = calloc(spec->layer_count, sizeof *m->layers);
    m->rope_inv_freq = malloc(spec->head_dim / 2 * sizeof *m->rope_inv_freq);
    if (!m->layers || !m->rope_inv_freq) return cn_err_set(err, CN_E_MEMORY, "cuda: no memory for weights");
    memcpy(m->rope_inv_freq, spec->rope_inv_freq, spec->head_dim / 2 * sizeof *m->rope_inv_freq);
    cn_code code = open_stages(&l, m);
    if (code == CN_OK) code = load_all(&l, spec);
    const cudaError_t error = cudaStreamSynchronize(cuda->stream);
    if (code == CN_OK && error != cudaSuccess) code = CN_CUDA(memory_error)(err, "copying weights", error);
    for (int i = 0; i < STAGES; i++) {
        if (l.copied[i]) cudaEventDestroy(l.copied[i]);
        cudaFreeHost(l.stages[i]);
    }
    m->loaded = code == CN_OK;
    return code;
}
