#include "kernels/cpu/cpu_int.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* How it works. Every block is recorded in cpu->blocks, so a failure half way and the end of the backend
 * are the same loop. Large blocks come from the system zeroed and cost memory only where they are
 * touched: histories and partial results of long contexts are there for when they are needed. */

enum { BLOCKS_MAX = 64, LOGIT_BYTES = 16 << 20, LOGIT_ROWS_MIN = 32 };

typedef struct block_head {
    uint64_t bytes;
    uint64_t padding[7];         // keeps the block behind it on its own cache line
} block_head;

static void *take(cn_cpu *cpu, uint64_t count, uint64_t size)
{
    const uint64_t bytes = count * size + sizeof(block_head);
    if (cpu->block_count == BLOCKS_MAX) return NULL;
    block_head *head = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (head == MAP_FAILED) return NULL;
    head->bytes = bytes;
    cpu->blocks[cpu->block_count++] = head;
    cpu->scratch.bytes += bytes;
    return head + 1;
}

static bool take_into(void *pointer, cn_cpu *cpu, uint64_t count, uint64_t size)
{
    void *memory = take(cpu, count, size);
    memcpy(pointer, &memory, sizeof memory);
    return memory != NULL;
}

static bool open_steps(cn_cpu *cpu)
{
    const cn_kv_options *kv = &cpu->kv;
    for (int i = 0; i < CN_CPU_STEPS; i++) {
        cn_cpu_step *s = &cpu->steps[i];
        if (!take_into(&s->opens, cpu, kv->slot_count, sizeof *s->opens)) return false;
        if (!take_into(&s->deltas, cpu, kv->step_deltas_max, sizeof *s->deltas)) return false;
        if (!take_into(&s->copies, cpu, kv->slot_count, sizeof *s->copies)) return false;
        if (!take_into(&s->seqs, cpu, kv->slot_count, sizeof *s->seqs)) return false;
        if (!take_into(&s->tokens, cpu, kv->step_tokens_max, sizeof *s->tokens)) return false;
        if (!take_into(&s->targets, cpu, kv->step_tokens_max, sizeof *s->targets)) return false;
        if (!take_into(&s->outputs, cpu, kv->step_outputs_max, sizeof *s->outputs)) return false;
    }
    return take_into(&cpu->io, cpu, kv->page_count, sizeof *cpu->io);
}

static bool open_slots(cn_cpu *cpu)
{
    const uint64_t slots = cpu->kv.slot_count, context = cpu->kv.context_tokens_max;
    cn_page_id *tables;
    int32_t *ids, *history;
    float *values;
    if (!take_into(&cpu->slots, cpu, slots, sizeof *cpu->slots)) return false;
    if (!take_into(&tables, cpu, slots * cpu->pages_per_slot, sizeof *tables)) return false;
    if (!take_into(&ids, cpu, slots * 2 * (CN_BIAS_MAX + CN_BAN_MAX), sizeof *ids)) return false;
    if (!take_into(&values, cpu, slots * 2 * CN_BIAS_MAX, sizeof *values)) return false;
    if (!take_into(&history, cpu, slots * 2 * (context + 1), sizeof *history)) return false;
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

static bool open_rows(cn_cpu *cpu)
{
    cn_cpu_scratch *s = &cpu->scratch;
    const cn_model_spec *m = &cpu->model.spec;
    const uint64_t rows = cpu->kv.step_tokens_max;
    s->dim_pad = cn_path_pad(m->dim);
    s->qkv_pad = cn_path_pad((m->head_count + 2 * m->kv_head_count) * m->head_dim);
    s->att_pad = cn_path_pad(m->head_count * m->head_dim);
    s->mlp_pad = cn_path_pad(m->mlp_dim);
    s->vocab_pad = cn_path_pad(m->vocab_count);
    s->h_pad = s->dim_pad > s->att_pad ? s->dim_pad : s->att_pad;
    if (s->mlp_pad > s->h_pad) s->h_pad = s->mlp_pad;
    s->logit_rows = LOGIT_BYTES / (s->vocab_pad * (uint32_t)sizeof(float));
    if (s->logit_rows < LOGIT_ROWS_MIN) s->logit_rows = LOGIT_ROWS_MIN;
    if (s->logit_rows > rows) s->logit_rows = (uint32_t)rows;
    return take_into(&s->rows, cpu, rows, sizeof *s->rows) &&
           take_into(&s->wanted, cpu, rows, sizeof *s->wanted) &&
           take_into(&s->x, cpu, rows * s->dim_pad, sizeof *s->x) &&
           take_into(&s->h, cpu, rows * s->dim_pad, sizeof *s->h) &&
           take_into(&s->qkv, cpu, rows * s->qkv_pad, sizeof *s->qkv) &&
           take_into(&s->att, cpu, rows * s->att_pad, sizeof *s->att) &&
           take_into(&s->mlp, cpu, rows * s->mlp_pad, sizeof *s->mlp) &&
           take_into(&s->h16, cpu, rows * s->h_pad, sizeof *s->h16) &&
           take_into(&s->cosine, cpu, rows * m->head_dim / 2, sizeof *s->cosine) &&
           take_into(&s->sine, cpu, rows * m->head_dim / 2, sizeof *s->sine) &&
           take_into(&s->logits, cpu, (uint64_t)s->logit_rows * s->vocab_pad, sizeof *s->logits);
}

static bool open_attention(cn_cpu *cpu)
{
    cn_cpu_scratch *s = &cpu->scratch;
    const cn_model_spec *m = &cpu->model.spec;
    const uint32_t threads = cn_workers_count(cpu->workers);
    const uint32_t group = m->head_count / m->kv_head_count;
    s->split_max = (cpu->kv.context_tokens_max + CN_SPLIT_TOKENS - 1) / CN_SPLIT_TOKENS;
    s->partial_tiles_max = 4 * threads;
    s->tile_max = cpu->kv.step_tokens_max * m->head_count + s->partial_tiles_max * s->split_max;
    const uint64_t partials = (uint64_t)s->partial_tiles_max * s->split_max *
                              (group < CN_QUERY_TILE ? group : CN_QUERY_TILE);
    float *attention, *values;
    uint32_t *counts;
    int32_t *ids;
    const uint64_t attention_floats = (cn_path_attention_scratch(m->head_dim) + 15) / 16 * 16;
    const uint64_t vocab = s->vocab_pad + CN_PAD;
    if (!take_into(&s->tiles, cpu, s->tile_max, sizeof *s->tiles) ||
        !take_into(&s->partials, cpu, partials * (m->head_dim + 2), sizeof *s->partials) ||
        !take_into(&s->attention, cpu, threads, sizeof *s->attention) ||
        !take_into(&s->counts, cpu, threads, sizeof *s->counts) ||
        !take_into(&s->values, cpu, threads, sizeof *s->values) ||
        !take_into(&s->ids, cpu, threads, sizeof *s->ids) ||
        !take_into(&attention, cpu, threads * attention_floats, sizeof *attention) ||
        !take_into(&counts, cpu, threads * vocab, sizeof *counts) ||
        !take_into(&values, cpu, threads * vocab, sizeof *values) ||
        !take_into(&ids, cpu, threads * vocab, sizeof *ids)) return false;
    for (uint32_t i = 0; i < threads; i++) {
        s->attention[i] = attention + i * attention_floats;
        s->counts[i] = counts + i * vocab;
        s->values[i] = values + i * vocab;
        s->ids[i] = ids + i * vocab;
    }
    return true;
}

cn_code cn_scratch_open(cn_cpu *cpu, cn_err *err)
{
    cpu->pages_per_slot = (cpu->kv.context_tokens_max + CN_PAGE_TOKENS - 1) / CN_PAGE_TOKENS;
    cpu->blocks = calloc(BLOCKS_MAX, sizeof *cpu->blocks);
    bool ok = cpu->blocks && open_steps(cpu) && open_slots(cpu) && open_rows(cpu) && open_attention(cpu);
    const uint64_t scratch_bytes = cpu->scratch.bytes;
    ok = ok && take_into(&cpu->pages, cpu, cpu->kv.page_count, cpu->page_bytes);
    cpu->scratch.bytes = scratch_bytes;
    if (ok) return CN_OK;
    return cn_err_set(err, CN_E_MEMORY, "kv.bytes: no memory for %u pages of %llu bytes",
                      cpu->kv.page_count, (unsigned long long)cpu->page_bytes);
}

void cn_scratch_free(cn_cpu *cpu)
{
    for (uint32_t i = 0; i < cpu->block_count; i++) {
        munmap(cpu->blocks[i], ((block_head *)cpu->blocks[i])->bytes);
    }
    free(cpu->blocks);
}
