#include "kernels/cuda/cuda_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* How it works. Every block is recorded in a list of the backend, so a failure half way and the end are the
 * same loop. Activations begin as zeros: the columns behind a matrix' width are never written and are
 * multiplied by weights that are zero. */

enum { LOGIT_BYTES = 64 << 20, LOGIT_ROWS_MIN = 32, PARTIAL_BYTES = 64 << 20, ROWS_BEHIND = 7 };

cn_code CN_CUDA(memory_error)(cn_err *err, const char *call, cudaError_t error)
{
    const cn_code code = error == cudaErrorMemoryAllocation ? CN_E_MEMORY : CN_E_IO;
    return cn_err_set(err, code, "%s: %s", call, cudaGetErrorString(error));
}

cn_code CN_CUDA(memory_take)(cn_cuda *cuda, void *out, uint64_t count, uint64_t size, bool zeroed, cn_err *err)
{
    void *memory = NULL;
    const uint64_t bytes = count * size;
    if (cuda->device_block_count == CN_CUDA_BLOCKS_MAX) {
        return cn_err_set(err, CN_E_LIMIT, "model: more than %d blocks of memory", CN_CUDA_BLOCKS_MAX);
    }
    cudaError_t error = cudaMalloc(&memory, bytes);
    if (error != cudaSuccess) {
        return cn_err_set(err, error == cudaErrorMemoryAllocation ? CN_E_MEMORY : CN_E_IO,
                          "cuda: %llu bytes of device memory: %s", (unsigned long long)bytes, cudaGetErrorString(error));
    }
    cuda->device_blocks[cuda->device_block_count++] = memory;
    cuda->scratch_bytes += bytes;
    memcpy(out, &memory, sizeof memory);
    if (!zeroed) return CN_OK;
    error = cudaMemsetAsync(memory, 0, bytes, cuda->stream);
    if (error != cudaSuccess) return CN_CUDA(memory_error)(err, "cudaMemsetAsync", error);
    return CN_OK;
}

cn_code CN_CUDA(memory_pin)(cn_cuda *cuda, void *out, uint64_t count, uint64_t size, cn_err *err)
{
    void *memory = NULL;
    const cudaError_t error = cudaHostAlloc(&memory, count * size, cudaHostAllocMapped);
    if (error != cudaSuccess) {
        return cn_err_set(err, error == cudaErrorMemoryAllocation ? CN_E_MEMORY : CN_E_IO,
                          "cuda: %llu bytes of pinned memory: %s", (unsigned long long)(count * size),
                          cudaGetErrorString(error));
    }
    cuda->pinned_blocks[cuda->pinned_block_count++] = memory;
    memcpy(out, &memory, sizeof memory);
    return CN_OK;
}

void CN_CUDA(memory_close)(cn_cuda *cuda)
{
    for (uint32_t i = 0; i < cuda->graph_count; i++) cudaGraphExecDestroy(cuda->graphs[i].exec);
    for (uint32_t i = 0; i < cuda->device_block_count; i++) cudaFree(cuda->device_blocks[i]);
    for (uint32_t i = 0; i < cuda->pinned_block_count; i++) cudaFreeHost(cuda->pinned_blocks[i]);
    free(cuda->filled);
    free(cuda->io);
}

typedef struct wish {
    void *out;
    uint64_t count, size;
    bool zeroed;
} wish;

static cn_code take_all(cn_cuda *cuda, const wish *wishes, size_t count, cn_err *err)
{
    cn_code code = CN_OK;
    for (size_t i = 0; i < count && code == CN_OK; i++) {
        code = CN_CUDA(memory_take)(cuda, wishes[i].out, wishes[i].count, wishes[i].size, wishes[i].zeroed, err);
    }
    return code;
}

static void measure(cn_cuda *cuda)
{
    cn_cuda_scratch *s = &cuda->scratch;
    const cn_kv_options *kv = &cuda->kv;
    const cn_model_spec *m = &cuda->model.spec;
    const uint32_t group = m->head_count / m->kv_head_count;
    const uint64_t splits = (kv->context_tokens_max + CN_SPLIT_TOKENS - 1) / CN_SPLIT_TOKENS;
    const uint64_t item_bytes = (uint64_t)m->head_count * (cuda->model.head_pad + 2) * sizeof(float);
    const uint64_t items = kv->slot_count * splits, affordable = PARTIAL_BYTES / item_bytes;
    s->qkv_pad = cuda->model.layers[0].qkv.out;
    s->pages_per_slot = (kv->context_tokens_max + CN_PAGE_TOKENS - 1) / CN_PAGE_TOKENS;
    s->item_max = (uint32_t)(items < affordable ? items : affordable > splits ? affordable : splits);
    s->tile_max = kv->slot_count + kv->step_tokens_max * group / CN_CUDA_TILE_PAIRS + 1;
    s->logit_rows = LOGIT_BYTES / (cuda->model.head.out * (uint32_t)sizeof(float));
    if (s->logit_rows < LOGIT_ROWS_MIN) s->logit_rows = LOGIT_ROWS_MIN;
    if (s->logit_rows > kv->step_tokens_max) s->logit_rows = kv->step_tokens_max;
    s->settings_bytes = sizeof(cn_cuda_settings) +
                        (2ull * CN_BIAS_MAX + CN_BAN_MAX + kv->context_tokens_max + 3) / 4 * 4 * sizeof(uint32_t);
    s->step_bytes = sizeof(cn_cuda_step) + kv->step_tokens_max * (sizeof(cn_cuda_row) + sizeof(cn_cuda_wanted)) +
                    s->item_max * sizeof(cn_cuda_item) + s->tile_max * sizeof(cn_cuda_tile) +
                    kv->step_deltas_max * sizeof(cn_page_delta);
}

static cn_code open_device(cn_cuda *cuda, cn_err *err)
{
    cn_cuda_scratch *s = &cuda->scratch;
    const cn_cuda_model *m = &cuda->model;
    const uint64_t rows = cuda->kv.step_tokens_max + ROWS_BEHIND, slots = cuda->kv.slot_count;
    const uint64_t angles = (uint64_t)cuda->kv.context_tokens_max * (m->spec.head_dim / 2);
    const wish wishes[] = {
        {&s->step, 1, s->step_bytes, true},
        {&s->x, rows * m->dim_pad, sizeof(float), true},
        {&s->wanted_x, rows * m->dim_pad, sizeof(float), true},
        {&s->h, rows * m->dim_pad, sizeof(uint16_t), true},
        {&s->qkv, rows * s->qkv_pad, sizeof(float), true},
        {&s->q, rows * m->spec.head_count * m->head_pad, sizeof(uint16_t), true},
        {&s->att, rows * m->att_pad, sizeof(uint16_t), true},
        {&s->wanted_att, rows * m->att_pad, sizeof(uint16_t), true},
        {&s->mlp, rows * m->mlp_pad, sizeof(uint16_t), true},
        {&s->logits, (uint64_t)s->logit_rows * m->head.out, sizeof(float), false},
        {&s->partials, (uint64_t)s->item_max * m->spec.head_count * (m->head_pad + 2), sizeof(float), false},
        {&s->cosine, angles, sizeof(float), false},
        {&s->sine, angles, sizeof(float), false},
        {&s->tables, slots * s->pages_per_slot, sizeof(uint32_t), true},
        {&s->counts, slots * m->spec.vocab_count, sizeof(uint32_t), true},
        {&s->last_tokens, slots, sizeof(int32_t), true},
        {&s->settings, slots, s->settings_bytes, true},
    };
    cn_code code = take_all(cuda, wishes, sizeof wishes / sizeof *wishes, err);
    if (code != CN_OK) return code;
    const uint64_t scratch_bytes = cuda->scratch_bytes;
    code = CN_CUDA(memory_take)(cuda, &s->pages, cuda->kv.page_count, cuda->page_bytes, true, err);
    cuda->scratch_bytes = scratch_bytes;
    return code;
}

static cn_code open_host(cn_cuda *cuda, cn_err *err)
{
    const cn_kv_options *kv = &cuda->kv;
    cn_code code = CN_OK;
    for (int i = 0; i < CN_CUDA_STEPS && code == CN_OK; i++) {
        cn_cuda_flight *f = &cuda->flights[i];
        code = CN_CUDA(memory_pin)(cuda, &f->step, 1, cuda->scratch.step_bytes, err);
        if (code == CN_OK) code = CN_CUDA(memory_pin)(cuda, &f->outputs, kv->step_outputs_max, sizeof *f->outputs, err);
    }
    if (code == CN_OK) {
        code = CN_CUDA(memory_pin)(cuda, &cuda->settings, kv->slot_count * 2ull, cuda->scratch.settings_bytes, err);
    }
    if (code == CN_OK) code = CN_CUDA(memory_pin)(cuda, &cuda->bounce, CN_CUDA_BOUNCE_PAGES, cuda->page_bytes, err);
    if (code != CN_OK) return code;
    cuda->filled = calloc(kv->slot_count, sizeof *cuda->filled);
    cuda->io = calloc(kv->page_count, sizeof *cuda->io);
    if (!cuda->filled || !cuda->io) return cn_err_set(err, CN_E_MEMORY, "cuda: no memory");
    return CN_OK;
}

// Angles in double: at position 100,000 a float's would be off by a hundredth.
static cn_code fill_angles(cn_cuda *cuda, cn_err *err)
{
    const uint32_t half = cuda->model.spec.head_dim / 2, count = cuda->kv.context_tokens_max;
    const size_t bytes = (size_t)count * half * sizeof(float);
    float *cosine = malloc(bytes), *sine = malloc(bytes);
    cn_code code = cosine && sine ? CN_OK : cn_err_set(err, CN_E_MEMORY, "cuda: no memory for the angles");
    for (uint64_t i = 0; code == CN_OK && i < (uint64_t)count * half; i++) {
        const double angle = (double)(i / half) * (double)cuda->model.rope_inv_freq[i % half];
        cosine[i] = (float)cos(angle) * cuda->model.spec.rope_magnitude;
        sine[i] = (float)sin(angle) * cuda->model.spec.rope_magnitude;
    }
    cudaError_t error = cudaSuccess;
    if (code == CN_OK) error = cudaMemcpy(cuda->scratch.cosine, cosine, bytes, cudaMemcpyHostToDevice);
    if (code == CN_OK && error == cudaSuccess) error = cudaMemcpy(cuda->scratch.sine, sine, bytes, cudaMemcpyHostToDevice);
    if (error != cudaSuccess) code = CN_CUDA(memory_error)(err, "cudaMemcpy", error);
    free(cosine);
    free(sine);
    return code;
}

cn_code CN_CUDA(memory_open)(cn_cuda *cuda, cn_err *err)
{
    cuda->scratch_bytes = 0;
    measure(cuda);
    cn_code code = open_device(cuda, err);
    if (code == CN_OK) code = open_host(cuda, err);
    if (code == CN_OK) code = fill_angles(cuda, err);
    if (code != CN_OK) return code;
    const cudaError_t error = cudaStreamSynchronize(cuda->stream);
    return error == cudaSuccess ? CN_OK : CN_CUDA(memory_error)(err, "cudaStreamSynchronize", error);
}
