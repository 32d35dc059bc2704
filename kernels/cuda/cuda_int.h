/* kernels/cuda/cuda_int.h: the host side of the CUDA backend.
 * The engine thread writes a step into pinned memory and queues its kernels; a thread of its own waits for
 * steps to end, another one moves pages. Nothing that the engine thread calls waits for the device.
 *
 * Threads: noted at each part.
 * Memory:  weights in model_load, everything else in kv_create; the lists at the end say what to free. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "kernels/cuda/kernels_int.h"

enum {
    CN_CUDA_STEPS_IN_FLIGHT = 2,
    CN_CUDA_STEPS = 3,           // two in flight, and the one whose outputs the last poll lent out
    CN_CUDA_BLOCKS_MAX = 4096,
    CN_CUDA_GRAPHS_MAX = 192,
    CN_CUDA_BOUNCE_PAGES = 4
};

typedef struct cn_cuda_matrix {
    void *data;                  // packed (kernels_int.h)
    uint32_t out, in;            // padded
} cn_cuda_matrix;

typedef struct cn_cuda_layer {
    cn_cuda_matrix qkv, o, gate_up, down;
    float *attn_norm, *mlp_norm, *q_norm, *k_norm;
} cn_cuda_layer;

typedef struct cn_cuda_model {
    cn_model_spec spec;          // its tensors and layers are not used after loading
    float *rope_inv_freq;        // of the host
    cn_cuda_layer *layers;
    cn_cuda_matrix embed, head;  // one and the same where tied
    float *final_norm;
    uint64_t weight_bytes;
    uint32_t dim_pad, head_pad, att_pad, mlp_pad;
    bool loaded;
} cn_cuda_model;

/* How large the grids of a step are. What is there exactly is in the step; a graph has more. */
typedef struct cn_cuda_extent {
    uint32_t rows, items, tiles, wanted;
} cn_cuda_extent;

typedef struct cn_cuda_graph {
    cn_cuda_extent extent;
    cn_step_output *outputs;     // of the flight that it writes to
    cudaGraphExec_t exec;
} cn_cuda_graph;

/* Steps on their way. `submitted` and `closing` under the lock; `finished` is published by the waiter. */
typedef struct cn_cuda_waiter {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work;
    cn_ticket submitted;
    _Atomic uint64_t finished;
    bool started, closing;
} cn_cuda_waiter;

typedef struct cn_cuda_flight {
    cn_cuda_step *step;          // pinned
    cn_step_output *outputs;     // pinned, mapped
    cudaEvent_t done;
    cn_code code;
    uint32_t output_count, token_count;
    uint64_t submitted_ns, busy_ns;
} cn_cuda_flight;

/* Device memory of the forward pass, and what it is sized for. */
typedef struct cn_cuda_scratch {
    cn_cuda_step *step;
    float *x, *qkv, *logits, *wanted_x, *partials, *cosine, *sine;
    uint16_t *h, *q, *att, *mlp, *wanted_att;
    uint32_t *tables, *counts;
    int32_t *last_tokens;
    unsigned char *settings, *pages;
    uint32_t qkv_pad, pages_per_slot, item_max, tile_max, logit_rows;
    uint64_t settings_bytes, step_bytes;
} cn_cuda_scratch;

typedef struct cn_cuda {
    cn_backend base;
    cn_wake *wake;
    cn_cuda_model model;
    cn_kv_options kv;
    uint64_t page_bytes, scratch_bytes;
    cn_cuda_scratch scratch;
    cudaStream_t stream, io_stream;

    cn_cuda_flight flights[CN_CUDA_STEPS];   // ticket t is in flights[t % CN_CUDA_STEPS]
    unsigned char *settings;                 // pinned: [slot][2][settings_bytes]
    uint8_t *filled;                         // [slot]: which of the two was filled last
    cn_ticket submitted, reported;
    cn_cuda_waiter steps;
    cn_cuda_graph graphs[CN_CUDA_GRAPHS_MAX];
    uint32_t graph_count;

    cn_page_io *io;                          // batch in flight
    uint32_t io_count;
    cn_ticket io_ticket;
    cn_cuda_waiter pages;
    unsigned char *bounce;                   // pinned, CN_CUDA_BOUNCE_PAGES

    void *device_blocks[CN_CUDA_BLOCKS_MAX], *pinned_blocks[16];
    uint32_t device_block_count, pinned_block_count;
    _Atomic uint64_t stat_steps, stat_tokens, stat_busy_ns;
} cn_cuda;

/* cuda_memory.c */
/* Memory of the device, freed with the backend; `zeroed` where kernels may read before they write. */
cn_code CN_CUDA(memory_take)(cn_cuda *cuda, void *out, uint64_t count, uint64_t size, bool zeroed, cn_err *err);
/* Pinned memory of the host that the device can write. */
cn_code CN_CUDA(memory_pin)(cn_cuda *cuda, void *out, uint64_t count, uint64_t size, cn_err *err);
/* Everything that kv_create allocates. */
cn_code CN_CUDA(memory_open)(cn_cuda *cuda, cn_err *err);
void CN_CUDA(memory_close)(cn_cuda *cuda);
/* `error` as one of our errors, naming the call. */
cn_code CN_CUDA(memory_error)(cn_err *err, const char *call, cudaError_t error);

/* cuda_weights.c: packs the weights through pinned memory while the last ones are on their way. */
cn_code CN_CUDA(weights_load)(cn_cuda *cuda, const cn_model_spec *spec,
                              void (*progress)(void *self, uint64_t done, uint64_t total), void *self, cn_err *err);

/* cuda_step.c: writes `step` into the flight and queues its work. False: the device refused something. */
bool CN_CUDA(step_queue)(cn_cuda *cuda, cn_cuda_flight *flight, const cn_step *step);
