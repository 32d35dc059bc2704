/* kernels/cpu/cpu_int.h: the CPU backend's own structures.
 * A device thread runs the steps in order; it is rank 0 of a group that may have more (group.c). Each
 * rank has its part of the model, of the pages and of the scratch, and workers of which its thread is the
 * leader. The engine thread fills one step buffer while another one runs; a third holds the outputs that
 * the last poll lent out.
 *
 * Threads: noted at each part.
 * Memory:  weights in model_load, everything else in kv_create. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "kernels/collective.h"
#include "kernels/cpu/path_int.h"
#include "kernels/cpu/shard_int.h"
#include "kernels/cpu/workers_int.h"

enum { CN_CPU_STEPS_IN_FLIGHT = 2, CN_CPU_STEPS = 3, CN_CPU_HEAD_DIM_MAX = 512 };

/* ---- weights: written by model_load, then constant ------------------------------------------- */

typedef struct cn_cpu_layer {
    cn_packed qkv, o, gate_up, down;
    float *attn_norm, *mlp_norm;         // [dim]
    float *q_norm, *k_norm;              // [head_dim] or NULL
} cn_cpu_layer;

typedef struct cn_cpu_model {
    cn_model_spec spec;                  // heads and MLP as this rank has them; the vocabulary whole
    float *rope_inv_freq;                // [head_dim / 2]
    cn_cpu_layer *layers;
    cn_packed embed, head;               // one and the same where tied
    float *final_norm;
    cn_dtype kv_dtype;
    uint64_t weight_bytes;
    bool loaded;
} cn_cpu_model;

/* ---- slots: `settings` are filled by the engine thread, the rest is the device thread's ---------- */

/* Two per slot: a step in flight may use one while the next step's open fills the other. */
typedef struct cn_cpu_settings {
    cn_sampling sampling;                // pointing to the arrays below
    int32_t *bias_ids, *ban_ids;
    float *bias_values;
    int32_t *history;                    // prompt and answer, where penalties need them
    uint32_t prompt_count, history_count;
} cn_cpu_settings;

typedef struct cn_cpu_slot {
    cn_cpu_settings settings[2];
    uint32_t filled;                     // engine: which of the two was filled last
    uint32_t used;                       // device: which of the two is valid
    int32_t last_token;                  // device
    cn_page_id *table;                   // device
} cn_cpu_slot;

/* ---- a step: filled by submit, then the device thread's, then step_poll's ------------------------- */

typedef struct cn_cpu_open {
    uint32_t slot, settings;
} cn_cpu_open;

typedef struct cn_cpu_step {
    cn_step step;                        // counts; its arrays are the ones below
    cn_cpu_open *opens;
    cn_page_delta *deltas;
    cn_page_copy *copies;
    cn_step_seq *seqs;
    int32_t *tokens, *targets;           // beside each other; -1: no target
    cn_step_output *outputs;
    uint32_t output_count;
    cn_code code;
    cn_ticket ticket;
    uint64_t busy_ns;
} cn_cpu_step;

/* ---- scratch of the forward pass: device thread and workers -------------------------------------- */

typedef struct cn_cpu_row {
    uint32_t seq, slot, position;
} cn_cpu_row;

/* A row whose logits somebody wants, and what for. */
typedef struct cn_cpu_wanted {
    uint32_t row, seq;
    uint32_t position;                   // of the token that comes next
    int32_t target;                      // -1: none
    bool sample;
    uint32_t output;                     // first of its outputs
} cn_cpu_wanted;

/* Queries [begin, begin + count) of a sequence's rows, numbered row * group + head in group. */
typedef struct cn_cpu_tile {
    uint32_t row, begin, count, kv_head;
    uint32_t split_begin, split_end;
    float *partial;                      // NULL: finishes by itself
} cn_cpu_tile;

typedef struct cn_cpu_scratch {
    cn_cpu_row *rows;
    cn_cpu_wanted *wanted;
    float *x, *h, *qkv, *att, *mlp, *logits;     // [rows][padded columns]
    float *part;                                 // of logits: this rank's [rows][part_pad]
    float *parts;                                // of logits: rank 0's [rank][rows][part_pad]
    uint16_t *h16;                               // h, att or mlp rounded
    float *cosine, *sine;                        // [rows][head_dim / 2]
    cn_cpu_tile *tiles;
    uint32_t tile_count, tile_max;
    float *partials;
    uint32_t partial_tiles_max, split_max;
    float **attention;                           // per thread
    uint32_t **counts;                           // per thread: [vocab] zero between uses
    float **values;                              // per thread: [vocab + 16]
    int32_t **ids;                               // per thread: [vocab]
    uint32_t dim_pad, qkv_pad, att_pad, mlp_pad, vocab_pad, part_pad, h_pad;
    uint32_t row_count, wanted_count, output_count, logit_rows;
    uint64_t bytes;
} cn_cpu_scratch;

typedef struct cn_cpu cn_cpu;

/* One rank of the group: what its thread and its workers use. */
typedef struct cn_cpu_rank {
    cn_cpu *cpu;
    uint32_t index;
    cn_shard shard;
    cn_collective *end;                  // NULL: it is alone
    const cn_path *path;
    cn_workers *workers;
    cn_cpu_model model;
    uint64_t page_bytes;                 // of its part of a page
    unsigned char *pages;
    cn_cpu_scratch scratch;
    void **blocks;                       // everything that kv_create allocated
    uint32_t block_count;
    pthread_t thread;
    bool started;
} cn_cpu_rank;

struct cn_cpu {
    cn_backend base;
    const cn_path *path;
    cn_wake *wake;
    bool sliced;                         // row-parallel sums are the same for every number of ranks
    cn_model_spec spec;                  // the whole model; its tensors are not used after loading
    uint32_t rank_count;
    cn_cpu_rank ranks[CN_SHARDS_MAX];    // rank 0 is the device thread
    cn_kv_options kv;
    uint64_t page_bytes;                 // of a whole page, as page_io sees it
    cn_cpu_slot *slots;                  // tables and settings: changed by rank 0 between steps
    uint32_t pages_per_slot;

    cn_cpu_step steps[CN_CPU_STEPS];     // ticket t is in steps[t % CN_CPU_STEPS]
    cn_cpu_step *running;                // what all ranks run
    cn_ticket submitted, reported;       // engine thread
    _Atomic uint64_t finished;           // device thread: last step done
    cn_page_io *io;                      // batch in flight
    uint32_t io_count;
    cn_ticket io_ticket;                 // engine thread: tickets of pages are a count of their own
    _Atomic uint64_t io_finished;

    bool device_started, closing;        // closing and the tickets: under the lock
    pthread_mutex_t lock;
    pthread_cond_t work;
    cn_ticket device_submitted, device_io, device_io_after;
    _Atomic uint64_t stat_steps, stat_tokens, stat_busy_ns;
};

/* group.c: the ranks of a group. Opens workers and ends for cpu->rank_count of them; close accepts what
 * open and start left half done. */
cn_code cn_group_open(cn_cpu *cpu, uint32_t thread_count, cn_err *err);
void cn_group_close(cn_cpu *cpu);
/* Runs `prepare` on each rank, each on a thread of its own; the first rank's error if several fail. */
cn_code cn_group_prepare(cn_cpu *cpu, cn_code (*prepare)(cn_cpu_rank *rank, void *self, cn_err *err),
                         void *self, cn_err *err);
/* Starts the threads of all ranks but rank 0, which wait for steps. */
cn_code cn_group_start(cn_cpu *cpu, cn_err *err);
/* Device thread: has all ranks run a step and returns when they have. Errors: CN_E_IO, the group was
 * aborted; ranks may still be at work on what they can no longer finish. */
cn_code cn_group_run(cn_cpu *cpu, cn_cpu_step *step);

/* weights.c: packs the rank's part of `spec` into rank->model with its workers. `done` counts bytes of all
 * ranks; `progress` is called on rank 0 alone. */
typedef struct cn_weights_loading {
    const cn_model_spec *spec;
    void (*progress)(void *self, uint64_t done, uint64_t total);
    void *self;
    uint64_t total_bytes;
    _Atomic uint64_t done_bytes;
} cn_weights_loading;

uint64_t cn_weights_bytes(const cn_model_spec *spec);
cn_code cn_weights_load(cn_cpu_rank *rank, cn_weights_loading *loading, cn_err *err);
void cn_weights_free(cn_cpu_model *model);
/* Row `token` of a rank's part of the embedding as floats, into dim floats. */
void cn_weights_embed(const cn_packed *embed, uint32_t token, uint32_t dim, float *out);

/* pages.c: device thread, between steps: carries out cpu->io. It needs no rank, so pages that are complete can be
 * saved from a group that was aborted. */
void cn_pages_move(cn_cpu *cpu);

/* scratch.c: everything that kv_create allocates for a rank (rank 0's includes steps and slots); freed by
 * cn_scratch_free. */
cn_code cn_scratch_open(cn_cpu_rank *rank, cn_err *err);
void cn_scratch_free(cn_cpu_rank *rank);

/* forward.c: the changes of a step that all ranks read, before they run it. Device thread. */
void cn_forward_prepare(cn_cpu *cpu, const cn_cpu_step *step);
/* Runs a step on the rank's thread; rank 0 fills its outputs. Errors: CN_E_IO, the group was
 * aborted. */
cn_code cn_forward_run(cn_cpu_rank *rank, cn_cpu_step *step);

/* sample.c: what is wanted of one row of logits (which it may change), into outputs. Rank 0 only. */
void cn_sample_row(cn_cpu_rank *rank, const cn_cpu_step *step, const cn_cpu_wanted *wanted, float *logits,
                   uint32_t thread, cn_step_output *outputs);
