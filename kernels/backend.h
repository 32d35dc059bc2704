/* kernels/backend.h: the one door between Cairn and the hardware that does the arithmetic.
 * A backend loads a model, owns KV pages and sequence slots, and runs steps. One call per step, not
 * per operation, so that a backend owns fusion, buffers, graphs and sampling. Nothing above knows
 * what is inside a page, and streams or events never show here. A group of ranks that share a model is
 * one backend: each holds its part of a page under the same number, and page_io moves whole pages.
 *
 * The contract that everything above relies on (docs/DESIGN.md, idea 3): the tokens and logprobs of
 * a sequence depend on its own tokens and sampling settings only. Whatever else is in the step,
 * however its prompt was cut into steps, and whether a page was computed here, shared or copied
 * in, the bits are the same. Kernels add in an order fixed by absolute position: attention in splits
 * of CN_SPLIT_TOKENS, the K of a matrix product ascending, or in slices that cn_numerics fixes.
 *
 * Threads: one caller thread per backend (the engine), except where [any] stands.
 * Memory:  everything that a call is given is borrowed until it returns; submit copies. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/wake.h"

enum {
    CN_PAGE_TOKENS = 16,         // tokens of one KV page, all layers, K and V
    CN_SPLIT_TOKENS = 256,       // attention is summed in splits of this many positions
    CN_TOP_LOGPROBS_MAX = 20,
    CN_BIAS_MAX = 4096,          // entries of logit_bias of one sequence
    CN_BAN_MAX = 1088,           // banned tokens of one sequence
    CN_FINGERPRINT_BYTES = 16,   // of a model (model/fingerprint.h)
    CN_TOKEN_LAST = -1           // in a step: the token that this slot sampled last, maybe in flight
};

typedef enum cn_dtype { CN_DTYPE_F32, CN_DTYPE_BF16, CN_DTYPE_F16 } cn_dtype;

/* ---- the model -------------------------------------------------------------------------------- */

/* Row-major; a vector has rows == 1. Absent tensors have data == NULL. */
typedef struct cn_tensor {
    const void *data;
    uint64_t rows, cols;
    cn_dtype dtype;
} cn_tensor;

/* One decoder layer: x += o(attention(norm(x))), x += down(silu(gate(norm(x))) * up(norm(x))).
 * Matrices are [out][in], as Hugging Face stores them. */
typedef struct cn_layer_weights {
    cn_tensor attn_norm;         // [dim]
    cn_tensor q, k, v;           // [heads * head_dim][dim], kv_heads for k and v
    cn_tensor q_norm, k_norm;    // [head_dim], RMS over each head before RoPE (Qwen3), or absent
    cn_tensor o;                 // [dim][heads * head_dim]
    cn_tensor mlp_norm;          // [dim]
    cn_tensor gate, up;          // [mlp_dim][dim]
    cn_tensor down;              // [dim][mlp_dim]
} cn_layer_weights;

typedef struct cn_model_spec {
    uint32_t layer_count;
    uint32_t dim;
    uint32_t head_count;         // query heads, a multiple of kv_head_count
    uint32_t kv_head_count;
    uint32_t head_dim;           // even
    uint32_t mlp_dim;
    uint32_t vocab_count;
    uint32_t context_tokens_max;
    float norm_eps;
    const float *rope_inv_freq;  // [head_dim / 2], scaling already applied; pairs are (i, i + head_dim/2)
    float rope_magnitude;        // factor on cos and sin, 1 for most
    cn_tensor embed;             // [vocab][dim]
    cn_tensor final_norm;        // [dim]
    cn_tensor head;              // [vocab][dim]; the same data as embed where tied
    const cn_layer_weights *layers;
} cn_model_spec;

/* ---- one step --------------------------------------------------------------------------------- */

typedef struct { uint32_t v; } cn_page_id;   // 0 .. page_count - 1
typedef struct { uint32_t v; } cn_slot;      // 0 .. slot_count - 1; per-sequence state in the backend

/* How the next token of a sequence is chosen. Applied in this order to the logits: logit_bias,
 * banned tokens, repetition / presence / frequency penalties; logprobs are taken here; then
 * temperature, top_k, top_p, min_p; then the token with the largest logit / temperature + Gumbel
 * noise of (seed, position, token). With temperature 0 the largest logit, lowest id first.
 * The noise depends on nothing but those three numbers, so a seeded answer repeats under any load
 * and on any backend that computes the same logits. */
typedef struct cn_sampling {
    float temperature;           // 0: greedy
    float top_p;                 // 1: off; always keeps at least one token
    float min_p;                 // 0: off; relative to the most likely token
    uint32_t top_k;              // 0: off
    float repetition_penalty;    // 1: off; tokens of prompt and answer (Keskar et al. 2019)
    float presence_penalty;      // 0: off; tokens of the answer
    float frequency_penalty;     // 0: off; per occurrence in the answer
    uint64_t seed;
    uint32_t logprob_count;      // 0: none wanted, n: the n - 1 most likely beside the chosen one
    uint32_t bias_count;
    const int32_t *bias_ids;
    const float *bias_values;
    uint32_t ban_count;          // tokens that may not come before `ban_until_position`
    const int32_t *ban_ids;      // (min_tokens: the end tokens)
    uint32_t ban_until_position;
} cn_sampling;

/* A slot begins a sequence; whatever it held is forgotten. */
typedef struct cn_slot_open {
    cn_slot slot;
    const cn_sampling *sampling;
    const int32_t *prompt;       // and the answer so far: read only where penalties need them
    const int32_t *output;
    uint32_t prompt_count, output_count;
} cn_slot_open;

/* Entry `index` of the slot's block table (positions index * 16 to index * 16 + 15) is `page`. */
typedef struct cn_page_delta {
    cn_slot slot;
    uint32_t index;
    cn_page_id page;
} cn_page_delta;

typedef struct cn_page_copy {
    cn_page_id from, to;
} cn_page_copy;

/* `token_count` consecutive tokens of one sequence, the first at position `context_count`. K and V of
 * the tokens are written to the slot's pages; positions before are read from them. */
typedef struct cn_step_seq {
    cn_slot slot;
    uint32_t context_count;
    uint32_t token_count;        // >= 1
    bool sample;                 // choose a token after the last one
    const int32_t *targets;      // NULL, or per token the id (or -1: none) whose logprob as next token
                                 // is wanted: logprobs of a prompt
} cn_step_seq;

/* Carried out in this order: opens, page deltas, copies, sequences. A slot occurs once in seqs. */
typedef struct cn_step {
    const cn_slot_open *opens;
    const cn_page_delta *deltas;
    const cn_page_copy *copies;
    const cn_step_seq *seqs;
    const int32_t *tokens;       // of all seqs, one after another; ids or CN_TOKEN_LAST
    uint32_t open_count, delta_count, copy_count, seq_count, token_count;
} cn_step;

typedef struct cn_logprob {
    int32_t token;
    float logprob;
} cn_logprob;

/* One sampled token, or one target of a prompt. */
typedef struct cn_step_output {
    cn_slot slot;
    uint32_t position;           // of `token` in its sequence
    int32_t token;
    bool sampled;                // false: a target
    cn_code code;                // CN_OK, or CN_E_NUMERIC: logits were not finite, token is -1
    float logprob;
    uint32_t top_count;
    cn_logprob top[CN_TOP_LOGPROBS_MAX];     // most likely first, ties by id
} cn_step_output;

typedef uint64_t cn_ticket;      // 1, 2, 3, ... in the order of submission, which is the order of work

typedef struct cn_step_result {
    cn_ticket ticket;
    cn_code code;                // CN_OK, or why the whole step failed
    const cn_step_output *outputs;   // in the order of seqs; borrowed until the next poll
    uint32_t output_count;
    uint64_t busy_ns;            // time the device spent on this step
} cn_step_result;

/* ---- pages on the move ------------------------------------------------------------------------ */

typedef enum cn_page_io_kind { CN_PAGE_READ, CN_PAGE_WRITE } cn_page_io_kind;   // device to host, back

typedef struct cn_page_io {
    cn_page_io_kind kind;
    cn_page_id page;
    void *host;                  // page_bytes, owned by the caller, untouched until the ticket is done
} cn_page_io;

/* ---- the door --------------------------------------------------------------------------------- */

typedef struct cn_backend cn_backend;

/* How sums over the inputs of a matrix are cut where ranks share a model. */
typedef enum cn_numerics {
    CN_NUMERICS_DEFAULT,         // what the backend does best
    CN_NUMERICS_PER_RANK,        // one sum per rank: the bits depend on the number of ranks
    CN_NUMERICS_SHARD_INVARIANT  // eighths in a fixed tree: the same bits for 1, 2, 4 and 8 ranks
} cn_numerics;

typedef struct cn_backend_options {
    uint32_t rank_count;         // ranks that share the model (tensor parallel): 1, 2, 4 or 8; 0: 1
    cn_numerics numerics;
    uint32_t thread_count;       // cpu: worker threads; 0: one per core that the process may use
    const char *path;            // cpu: instruction set by name ("avx512-bf16", "avx512", "avx2",
                                 // "portable"), NULL: the best that the machine has
    cn_wake *wake;               // signalled when a step or page_io is done; borrowed until close
} cn_backend_options;

typedef struct cn_kv_options {
    uint32_t page_count;
    uint32_t slot_count;         // sequences at once, running ones only
    uint32_t context_tokens_max; // of one sequence
    uint32_t step_tokens_max;    // token_count of one step
    uint32_t step_outputs_max;   // sampled tokens and targets of one step
    uint32_t step_deltas_max;    // page deltas of one step
} cn_kv_options;

typedef struct cn_kv_info {
    uint64_t page_bytes;         // as page_io moves it
    uint64_t page_held_bytes;    // of memory; more where several ranks hold the same KV head
    uint32_t layout_version;     // changes when the same tokens give other page bytes by layout
    char numerics[32];           // names what decides the bits: backend, path, version
} cn_kv_info;

typedef struct cn_backend_stats {
    uint64_t steps, tokens;      // done so far
    uint64_t busy_ns;
    uint64_t weight_bytes, kv_bytes, scratch_bytes;
} cn_backend_stats;

typedef struct cn_backend_ops {
    const char *name;            // "cpu", "cuda", "cuda-emu"

    /* Whether this backend can run here, in one sentence for people ("AMD EPYC, avx512-bf16, 2
     * threads"). Errors: CN_E_UNSUPPORTED, saying what is missing. [any] */
    cn_code (*probe)(char *text, size_t text_bytes, cn_err *err);

    cn_code (*open)(const cn_backend_options *options, cn_backend **out, cn_err *err);
    /* Waits for the step in flight and frees everything. */
    void (*close)(cn_backend *backend);

    /* Copies and re-packs the weights; the spec and its tensors may go away afterwards. Once.
     * `progress` (may be NULL) is called with done and total bytes. */
    cn_code (*model_load)(cn_backend *backend, const cn_model_spec *spec,
                          void (*progress)(void *self, uint64_t done, uint64_t total), void *self,
                          cn_err *err);

    /* Known after model_load. [any] */
    void (*kv_info)(const cn_backend *backend, cn_kv_info *out);
    /* Allocates pages, slots and the scratch of the largest step. Once. Errors: CN_E_MEMORY. */
    cn_code (*kv_create)(cn_backend *backend, const cn_kv_options *options, cn_err *err);

    /* Never blocks. At most two steps may be in flight. Errors: CN_E_AGAIN (two are; nothing changed).
     * A step that breaks the contract above (bad slot, page, count) is our own bug and asserts. */
    cn_code (*step_submit)(cn_backend *backend, const cn_step *step, cn_ticket *out);
    /* The oldest finished step that was not yet reported; false if there is none. Never blocks. */
    bool (*step_poll)(cn_backend *backend, cn_step_result *out);

    /* Queues copies behind the work of all tickets so far; done when page_io_done says so. At most
     * one batch is in flight: CN_E_AGAIN otherwise. */
    cn_code (*page_io)(cn_backend *backend, const cn_page_io *ops, uint32_t count, cn_ticket *out);
    bool (*page_io_done)(cn_backend *backend, cn_ticket ticket);

    void (*stats)(const cn_backend *backend, cn_backend_stats *out);     // [any]
} cn_backend_ops;

/* Every implementation begins with this. */
struct cn_backend {
    const cn_backend_ops *ops;
};
