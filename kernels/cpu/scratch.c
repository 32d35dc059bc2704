#include "kernels/cpu/cpu_int.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* How it works. Every block is recorded in rank->blocks, so a failure half way and the end of the backend
 * are the same loop. Large blocks come from the system zeroed and cost memory only where they are
 * touched: histories and partial results of long contexts are there for when they are needed. */

enum { BLOCKS_MAX = 64, LOGIT_BYTES = 16 << 20, LOGIT_ROWS_MIN = 32 };

typedef struct block_head {
    uint64_t bytes;
    uint64_t padding[7];         // keeps the block behind it on its own cache line
} block_head;

static void *take(cn_cpu_rank *rank, uint64_t count, uint64_t size)
{
    const uint64_t bytes = count * size + sizeof(block_head);
    if (rank->block_count == BLOCKS_MAX) return NULL;
    block_head *head = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (head == MAP_FAILED) return NULL;
    head->bytes = bytes;
    rank->blocks[rank->block_count++] = head;
    rank->scratch.bytes += bytes;
    return head + 1;
}

static bool take_into(void *pointer, cn_cpu_rank *rank, uint64_t count, uint64_t size)
{
    void *memory = take(rank, count, size);
    memcpy(pointer, &memory, sizeof memory);
    return memory != NULL;
}

static bool open_steps(cn_cpu_rank *rank)
{
    cn_cpu *cpu = rank->cpu;
    const cn_kv_options *kv = &cpu->kv;
    for (int i = 0; i < CN_CPU_STEPS; i++) {
        cn_cpu_step *s = &cpu->steps[i];
        if (!take_into(&s->opens, rank, kv->slot_count, sizeof *s->opens)) return false;
        if (!take_into(&s->deltas, rank, kv->step_deltas_max, sizeof *s->deltas)) return false;
        if (!take_into(&s->copies, rank, kv->slot_count, sizeof *s->copies)) return false;
        if (!take_into(&s->seqs, rank, kv->slot_count, sizeof *s->seqs)) return false;
        if (!take_into(&s->tokens, rank, kv->step_tokens_max, sizeof *s->tokens)) return false;
        if (!take_into(&s->targets, rank, kv->step_tokens_max, sizeof *s->targets)) return false;
        if (!take_into(&s->outputs, rank, kv->step_outputs_max, sizeof *s->outputs)) return false;
    }
    return take_into(&cpu->io, rank, kv->page_count, sizeof *cpu->io);
}

static bool open_slots(cn_cpu_rank *rank)
{
    cn_cpu *cpu = rank->cpu;
    const uint64_t slots = cpu->kv.slot_count, context = cpu->kv.context_tokens_max;
    cn_page_id *tables;
    int32_t *ids, *history;
    float *values;
    if (!take_into(&cpu->slots, rank, slots, sizeof *cpu->slots)) return false;
    if (!take_into(&tables, rank, slots * cpu->pages_per_slot, sizeof *tables)) return false;
    if (!take_into(&ids, rank, slots * 2 * (CN_BIAS_MAX + CN_BAN_MAX), sizeof *ids)) return false;
    if (!take_into(&values, rank, slots * 2 * CN_BIAS_MAX, sizeof *values)) return false;
    if (!take_into(&history, rank, slots * 2 * (context + 1), sizeof *history)) return false;
    for (uint64_t i = 0; i < slots; i++) {
        cpu->slots[i].table = tables + i * cpu->pages_per_slot;
        for (uint64_t j = 0; j < 2; j++) {
            cn_cpu_settings *settings = &cpu->slots[i].settings[j];
            settings->bias_ids = ids + (i * 2 + j) * (CN_BIAS_MAX + CN_BAN_MAX);
            settings->ban_ids = settings->bias_ids + CN_BIAS_MAX;
            settings->bias_values = values + (i * 2 + j) * CN_BIAS_MAX;
            settings->history = history + (i * 2 + j) * (context + 1);
        }
    }
    return true;
}

static bool open_rows(cn_cpu_rank *rank)
{
    cn_cpu_scratch *s = &rank->scratch;
    const cn_model_spec *m = &rank->model.spec;
    const uint64_t rows = rank->cpu->kv.step_tokens_max;
    const uint32_t ranks = rank->cpu->rank_count;
    const bool samples = rank->index == 0;       // the others send it their part of the logits
    s->dim_pad = cn_path_pad(m->dim);
    s->qkv_pad = cn_path_pad((m->head_count + 2 * m->kv_head_count) * m->head_dim);
    s->att_pad = cn_path_pad(m->head_count * m->head_dim);
    s->mlp_pad = cn_path_pad(m->mlp_dim);
    s->vocab_pad = cn_path_pad(m->vocab_count);
    s->part_pad = cn_path_pad((m->vocab_count + ranks - 1) / ranks);
    s->h_pad = s->dim_pad > s->att_pad ? s->dim_pad : s->att_pad;
    if (s->mlp_pad > s->h_pad) s->h_pad = s->mlp_pad;
    s->logit_rows = LOGIT_BYTES / (s->vocab_pad * (uint32_t)sizeof(float));
    if (s->logit_rows < LOGIT_ROWS_MIN) s->logit_rows = LOGIT_ROWS_MIN;
    if (s->logit_rows > rows) s->logit_rows = (uint32_t)rows;
    return take_into(&s->rows, rank, rows, sizeof *s->rows) &&
           take_into(&s->wanted, rank, rows, sizeof *s->wanted) &&
           take_into(&s->x, rank, rows * s->dim_pad, sizeof *s->x) &&
           take_into(&s->h, rank, rows * s->dim_pad, sizeof *s->h) &&
           take_into(&s->qkv, rank, rows * s->qkv_pad, sizeof *s->qkv) &&
           take_into(&s->att, rank, rows * s->att_pad, sizeof *s->att) &&
           take_into(&s->mlp, rank, rows * s->mlp_pad, sizeof *s->mlp) &&
           take_into(&s->h16, rank, rows * s->h_pad, sizeof *s->h16) &&
           take_into(&s->cosine, rank, rows * m->head_dim / 2, sizeof *s->cosine) &&
           take_into(&s->sine, rank, rows * m->head_dim / 2, sizeof *s->sine) &&
           take_into(&s->logits, rank, samples ? (uint64_t)s->logit_rows * s->vocab_pad : 0,
                     sizeof *s->logits) &&
           take_into(&s->part, rank, rank->end ? (uint64_t)s->logit_rows * s->part_pad : 0,
                     sizeof *s->part) &&
           take_into(&s->parts, rank,
                     rank->end && samples ? (uint64_t)ranks * s->logit_rows * s->part_pad : 0,
                     sizeof *s->parts);
}

static bool open_attention(cn_cpu_rank *rank)
{
    cn_cpu_scratch *s = &rank->scratch;
    const cn_model_spec *m = &rank->model.spec;
    const uint32_t threads = cn_workers_count(rank->workers);
    const uint32_t group = m->head_count / m->kv_head_count;
    s->split_max = (rank->cpu->kv.context_tokens_max + CN_SPLIT_TOKENS - 1) / CN_SPLIT_TOKENS;
    s->partial_tiles_max = 4 * threads;
    s->tile_max = rank->cpu->kv.step_tokens_max * m->head_count + s->partial_tiles_max * s->split_max;
    const uint64_t partials = (uint64_t)s->partial_tiles_max * s->split_max *
                              (group < CN_QUERY_TILE ? group : CN_QUERY_TILE);
    float *attention, *values;
    uint32_t *counts;
    int32_t *ids;
    const uint64_t attention_floats = (cn_path_attention_scratch(m->head_dim) + 15) / 16 * 16;
    const uint64_t vocab = rank->index == 0 ? s->vocab_pad + CN_PAD : 0;
    if (!take_into(&s->tiles, rank, s->tile_max, sizeof *s->tiles) ||
        !take_into(&s->partials, rank, partials * (m->head_dim + 2), sizeof *s->partials) ||
        !take_into(&s->attention, rank, threads, sizeof *s->attention) ||
        !take_into(&s->counts, rank, threads, sizeof *s->counts) ||
        !take_into(&s->values, rank, threads, sizeof *s->values) ||
        !take_into(&s->ids, rank, threads, sizeof *s->ids) ||
        !take_into(&attention, rank, threads * attention_floats, sizeof *attention) ||
        !take_into(&counts, rank, threads * vocab, sizeof *counts) ||
        !take_into(&values, rank, threads * vocab, sizeof *values) ||
        !take_into(&ids, rank, threads * vocab, sizeof *ids)) return false;
    for (uint32_t i = 0; i < threads; i++) {
        s->attention[i] = attention + i * attention_floats;
        s->counts[i] = counts + i * vocab;
        s->values[i] = values + i * vocab;
        s->ids[i] = ids + i * vocab;
    }
    return true;
}

cn_code cn_scratch_open(cn_cpu_rank *rank, cn_err *err)
{
    const uint32_t page_count = rank->cpu->kv.page_count;
    rank->blocks = calloc(BLOCKS_MAX, sizeof *rank->blocks);
    bool ok = rank->blocks && open_rows(rank) && open_attention(rank);
    if (rank->index == 0) ok = ok && open_steps(rank) && open_slots(rank);
    const uint64_t scratch_bytes = rank->scratch.bytes;
    ok = ok && take_into(&rank->pages, rank, page_count, rank->page_bytes);
    rank->scratch.bytes = scratch_bytes;
    if (ok) return CN_OK;
    return cn_err_set(err, CN_E_MEMORY, "kv.bytes: no memory for %u pages of %llu bytes on rank %u",
                      page_count, (unsigned long long)rank->page_bytes, rank->index);
}

void cn_scratch_free(cn_cpu_rank *rank)
{
    for (uint32_t i = 0; i < rank->block_count; i++) {
        munmap(rank->blocks[i], ((block_head *)rank->blocks[i])->bytes);
    }
    free(rank->blocks);
}
