#include "kernels/cuda/cuda_int.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"

/* How it works. A step becomes one block of pinned memory, copied to one place on the device, and a list of
 * kernels whose arguments never change: what differs between steps is read from that block. So a step in
 * which every sequence decodes one token is a CUDA graph, recorded when a step of that extent is first
 * seen and launched from then on; the others are launched kernel by kernel. Both run the same list.
 *
 *    copy step ▶ apply ▶ embed ▶ per layer: norm ▶ qkv ▶ post ▶ prefill, decode, merge ▶ o ▶ norm ▶
 *    gate, up ▶ down ▶ ... ▶ final norm ▶ head ▶ sample
 *
 * In the last layer, only rows whose logits somebody wants go on after attention. Grids of a graph are
 * powers of two; blocks without work leave at once. A decoding sequence whose splits would not fit the
 * memory for partial results is attended to as prefill does, with the same bits. */

// ---- writing the step

static cudaError_t open_slot(cn_cuda *cuda, const cn_slot_open *open)
{
    const cn_sampling *from = open->sampling;
    const uint32_t slot = open->slot.v;
    CN_ASSERT(slot < cuda->kv.slot_count);
    CN_ASSERT(from->bias_count <= CN_BIAS_MAX && from->ban_count <= CN_BAN_MAX);
    const bool penalises = from->repetition_penalty != 1.0f || from->presence_penalty != 0.0f ||
                           from->frequency_penalty != 0.0f;
    cuda->filled[slot] ^= 1;
    unsigned char *to = cuda->settings + (slot * 2ull + cuda->filled[slot]) * cuda->scratch.settings_bytes;
    cn_cuda_settings *settings = (cn_cuda_settings *)to;
    *settings = (cn_cuda_settings){
        .temperature = from->temperature, .top_p = from->top_p, .min_p = from->min_p, .top_k = from->top_k,
        .repetition_penalty = from->repetition_penalty, .presence_penalty = from->presence_penalty,
        .frequency_penalty = from->frequency_penalty, .penalises = penalises, .seed = from->seed,
        .logprob_count = from->logprob_count, .bias_count = from->bias_count, .ban_count = from->ban_count,
        .ban_until_position = from->ban_until_position, .prompt_count = penalises ? open->prompt_count : 0,
        .history_count = penalises ? open->prompt_count + open->output_count : 0};
    CN_ASSERT(settings->history_count <= cuda->kv.context_tokens_max);
    const struct { const void *from; uint32_t count; } parts[] = {
        {from->bias_ids, from->bias_count}, {from->bias_values, from->bias_count}, {from->ban_ids, from->ban_count},
        {open->prompt, settings->prompt_count}, {open->output, settings->history_count - settings->prompt_count}};
    uint64_t bytes = sizeof *settings;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (parts[i].count) memcpy(to + bytes, parts[i].from, parts[i].count * sizeof(uint32_t));
        bytes += parts[i].count * sizeof(uint32_t);
    }
    unsigned char *device = cuda->scratch.settings + slot * cuda->scratch.settings_bytes;
    const cudaError_t error = cudaMemcpyAsync(device, to, bytes, cudaMemcpyHostToDevice, cuda->stream);
    if (error != cudaSuccess || !penalises) return error;
    const uint32_t vocab = cuda->model.spec.vocab_count;
    return CN_CUDA(history_launch)(device, cuda->scratch.counts + (uint64_t)slot * vocab, vocab, cuda->stream);
}

typedef struct writing {
    cn_cuda *cuda;
    cn_cuda_flight *flight;
    cn_cuda_step *step;
    cn_cuda_row *rows;
    cn_cuda_wanted *wanted;
    cn_cuda_item *items;
    cn_cuda_tile *tiles;
} writing;

static void write_targets(writing *w, const cn_step_seq *seq, uint32_t index, uint32_t row)
{
    const int32_t target = seq->targets ? seq->targets[index] : -1;
    const bool sample = seq->sample && index + 1 == seq->token_count;
    CN_ASSERT(target < (int32_t)w->cuda->model.spec.vocab_count);
    if (target < 0 && !sample) return;
    w->wanted[w->step->wanted_count++] = (cn_cuda_wanted){
        row, seq->slot.v, seq->context_count + index + 1, target < 0 ? -1 : target, sample, w->flight->output_count};
    w->flight->output_count += (target >= 0) + sample;
}

// Splits of a sequence that decodes, or tiles of one that does not.
static void write_attention(writing *w, const cn_step_seq *seq, uint32_t row)
{
    const cn_model_spec *m = &w->cuda->model.spec;
    const uint32_t group = m->head_count / m->kv_head_count, pairs = seq->token_count * group;
    const uint32_t splits = seq->context_count / CN_SPLIT_TOKENS + 1;
    if (seq->token_count == 1 && group <= CN_CUDA_GROUP_MAX && w->step->item_count + splits <= w->cuda->scratch.item_max) {
        w->rows[row].item = w->step->item_count;
        w->rows[row].split_count = splits;
        for (uint32_t i = 0; i < splits; i++) w->items[w->step->item_count++] = (cn_cuda_item){row, i};
        return;
    }
    for (uint32_t begin = 0; begin < pairs; begin += CN_CUDA_TILE_PAIRS) {
        const uint32_t left = pairs - begin;
        CN_ASSERT(w->step->tile_count < w->cuda->scratch.tile_max);
        w->tiles[w->step->tile_count++] =
            (cn_cuda_tile){row, begin, left < CN_CUDA_TILE_PAIRS ? left : CN_CUDA_TILE_PAIRS};
    }
}

static void write_rows(writing *w, const cn_step *step)
{
    const cn_cuda *cuda = w->cuda;
    for (uint32_t i = 0; i < step->seq_count; i++) {
        const cn_step_seq *seq = &step->seqs[i];
        const uint32_t first = w->step->row_count;
        CN_ASSERT(seq->slot.v < cuda->kv.slot_count && seq->token_count > 0);
        CN_ASSERT((uint64_t)seq->context_count + seq->token_count <= cuda->kv.context_tokens_max);
        CN_ASSERT((uint64_t)first + seq->token_count <= step->token_count);
        for (uint32_t j = 0; j < seq->token_count; j++) {
            const uint32_t row = w->step->row_count++;
            const int32_t token = step->tokens[row];
            CN_ASSERT(token == CN_TOKEN_LAST || (token >= 0 && (uint32_t)token < cuda->model.spec.vocab_count));
            w->rows[row] = (cn_cuda_row){seq->slot.v, seq->context_count + j, token, CN_CUDA_NO_ITEM, 0};
            write_targets(w, seq, j, row);
        }
        write_attention(w, seq, first);
    }
    CN_ASSERT(w->step->row_count == step->token_count);
    CN_ASSERT(w->flight->output_count <= cuda->kv.step_outputs_max);
}

static uint32_t place(uint32_t *at, uint64_t count, uint64_t size)
{
    const uint32_t here = *at;
    *at += (uint32_t)(count * size);
    return here;
}

static void write_step(cn_cuda *cuda, cn_cuda_flight *flight, const cn_step *step)
{
    writing w = {.cuda = cuda, .flight = flight, .step = flight->step};
    uint32_t at = sizeof *w.step;
    unsigned char *base = (unsigned char *)w.step;
    *w.step = (cn_cuda_step){.delta_count = step->delta_count};
    w.step->deltas_at = place(&at, step->delta_count, sizeof *step->deltas);
    for (uint32_t i = 0; i < step->delta_count; i++) {
        CN_ASSERT(step->deltas[i].slot.v < cuda->kv.slot_count && step->deltas[i].page.v < cuda->kv.page_count);
        CN_ASSERT(step->deltas[i].index < cuda->scratch.pages_per_slot);
        ((cn_page_delta *)(base + w.step->deltas_at))[i] = step->deltas[i];
    }
    w.step->rows_at = place(&at, step->token_count, sizeof *w.rows);
    w.step->wanted_at = place(&at, step->token_count, sizeof *w.wanted);
    w.rows = (cn_cuda_row *)(base + w.step->rows_at);
    w.wanted = (cn_cuda_wanted *)(base + w.step->wanted_at);
    // Tiles come first at the place that their largest number leaves; items last, where they end is known.
    const cn_model_spec *m = &cuda->model.spec;
    const uint64_t pairs = (uint64_t)step->token_count * (m->head_count / m->kv_head_count);
    w.step->tiles_at = place(&at, pairs / CN_CUDA_TILE_PAIRS + step->seq_count, sizeof *w.tiles);
    w.step->items_at = at;
    w.tiles = (cn_cuda_tile *)(base + w.step->tiles_at);
    w.items = (cn_cuda_item *)(base + w.step->items_at);
    flight->output_count = 0;
    write_rows(&w, step);
    w.step->bytes = at + w.step->item_count * (uint32_t)sizeof *w.items;
    CN_ASSERT(w.step->bytes <= cuda->scratch.step_bytes);
}

// ---- the list of kernels

#define TRY(call)                                                                                  \
    do {                                                                                           \
        const cudaError_t refused = (call);                                                        \
        if (refused != cudaSuccess) return refused;                                                \
    } while (0)

static cudaError_t multiply(cn_cuda *cuda, const cn_cuda_matrix *w, const uint16_t *a, void *c, uint32_t c_stride,
                            const uint32_t *row_count, uint32_t row_max, cn_cuda_epilogue epilogue)
{
    const cn_cuda_product p = {.w = w->data, .a = a, .c = c, .row_count = row_count, .row_max = row_max, .in = w->in,
                               .out = w->out, .c_stride = c_stride, .epilogue = epilogue};
    return CN_CUDA(gemm_launch)(&p, cuda->stream);
}

static cudaError_t norm(cn_cuda *cuda, const float *x, const float *w, const uint32_t *row_count, uint32_t row_max)
{
    const cn_cuda_model *m = &cuda->model;
    return CN_CUDA(rms_norm_launch)(x, w, cuda->scratch.h, row_count, row_max, m->spec.dim, m->dim_pad,
                                    m->spec.norm_eps, cuda->stream);
}

static cudaError_t attend(cn_cuda *cuda, uint32_t index, cn_cuda_extent extent)
{
    const cn_cuda_scratch *s = &cuda->scratch;
    const cn_cuda_model *m = &cuda->model;
    const cn_cuda_layer *layer = &m->layers[index];
    const uint64_t layer_offset = index * (cuda->page_bytes / m->spec.layer_count);
    const cn_cuda_post post = {
        .qkv = s->qkv, .q = s->q, .pages = s->pages, .tables = s->tables, .cosine = s->cosine, .sine = s->sine,
        .q_norm = layer->q_norm, .k_norm = layer->k_norm, .page_bytes = cuda->page_bytes, .layer_offset = layer_offset,
        .stride = s->qkv_pad, .pages_per_slot = s->pages_per_slot, .head_count = m->spec.head_count,
        .kv_head_count = m->spec.kv_head_count, .head_dim = m->spec.head_dim, .head_pad = m->head_pad,
        .eps = m->spec.norm_eps};
    const cn_cuda_attention attention = {
        .q = s->q, .out = s->att, .pages = s->pages, .tables = s->tables, .page_bytes = cuda->page_bytes,
        .layer_offset = layer_offset, .partials = s->partials, .out_stride = m->att_pad,
        .pages_per_slot = s->pages_per_slot, .head_count = m->spec.head_count, .kv_head_count = m->spec.kv_head_count,
        .head_dim = m->head_pad, .scale = (float)(1.4426950408889634 / sqrt((double)m->spec.head_dim))};
    TRY(CN_CUDA(qkv_post_launch)(s->step, extent.rows, &post, cuda->stream));
    if (extent.tiles) TRY(CN_CUDA(prefill_launch)(s->step, extent.tiles, &attention, cuda->stream));
    if (extent.items) TRY(CN_CUDA(decode_launch)(s->step, extent.items, &attention, cuda->stream));
    if (extent.items) TRY(CN_CUDA(merge_launch)(s->step, extent.rows, &attention, cuda->stream));
    return cudaSuccess;
}

static cudaError_t run_mlp(cn_cuda *cuda, const cn_cuda_layer *layer, float *x, const uint16_t *att,
                           const uint32_t *row_count, uint32_t row_max)
{
    const cn_cuda_model *m = &cuda->model;
    cn_cuda_scratch *s = &cuda->scratch;
    TRY(multiply(cuda, &layer->o, att, x, m->dim_pad, row_count, row_max, CN_CUDA_ADD));
    TRY(norm(cuda, x, layer->mlp_norm, row_count, row_max));
    TRY(multiply(cuda, &layer->gate_up, s->h, s->mlp, m->mlp_pad, row_count, row_max, CN_CUDA_SWIGLU));
    return multiply(cuda, &layer->down, s->mlp, x, m->dim_pad, row_count, row_max, CN_CUDA_ADD);
}

static cudaError_t run_head(cn_cuda *cuda, cn_step_output *outputs, uint32_t wanted)
{
    const cn_cuda_model *m = &cuda->model;
    cn_cuda_scratch *s = &cuda->scratch;
    cn_cuda_sampler sampler = {
        .step = s->step, .logits = s->logits, .vocab = m->spec.vocab_count, .stride = m->head.out,
        .settings = s->settings, .settings_bytes = s->settings_bytes, .counts = s->counts,
        .last_tokens = s->last_tokens, .outputs = outputs};
    TRY(norm(cuda, s->wanted_x, m->final_norm, &s->step->wanted_count, wanted));
    for (uint32_t first = 0; first < wanted; first += s->logit_rows) {
        const uint32_t left = wanted - first, rows = left < s->logit_rows ? left : s->logit_rows;
        const cn_cuda_product head = {
            .w = m->head.data, .a = s->h, .c = s->logits, .row_count = &s->step->wanted_count, .first_row = first,
            .row_max = rows, .in = m->head.in, .out = m->head.out, .c_stride = m->head.out, .epilogue = CN_CUDA_STORE};
        TRY(CN_CUDA(gemm_launch)(&head, cuda->stream));
        sampler.first = first;
        sampler.row_max = rows;
        TRY(CN_CUDA(sample_launch)(&sampler, cuda->stream));
    }
    return cudaSuccess;
}

static cudaError_t run_kernels(cn_cuda *cuda, cn_step_output *outputs, cn_cuda_extent extent)
{
    const cn_cuda_model *m = &cuda->model;
    cn_cuda_scratch *s = &cuda->scratch;
    const uint32_t *row_count = &s->step->row_count, *wanted_count = &s->step->wanted_count;
    TRY(CN_CUDA(apply_launch)(s->step, 128, s->tables, s->pages_per_slot, cuda->stream));
    TRY(CN_CUDA(embed_launch)(s->step, extent.rows, m->embed.data, s->last_tokens, s->x, m->dim_pad, cuda->stream));
    for (uint32_t i = 0; i < m->spec.layer_count; i++) {
        const cn_cuda_layer *layer = &m->layers[i];
        const bool last = i + 1 == m->spec.layer_count;
        TRY(norm(cuda, s->x, layer->attn_norm, row_count, extent.rows));
        TRY(multiply(cuda, &layer->qkv, s->h, s->qkv, s->qkv_pad, row_count, extent.rows, CN_CUDA_STORE));
        TRY(attend(cuda, i, extent));
        if (!last) {
            TRY(run_mlp(cuda, layer, s->x, s->att, row_count, extent.rows));
        } else if (extent.wanted) {
            TRY(CN_CUDA(gather_launch)(s->step, extent.wanted, s->x, s->att, s->wanted_x, s->wanted_att, m->dim_pad,
                                       m->att_pad, cuda->stream));
            TRY(run_mlp(cuda, layer, s->wanted_x, s->wanted_att, wanted_count, extent.wanted));
        }
    }
    return extent.wanted ? run_head(cuda, outputs, extent.wanted) : cudaSuccess;
}

// ---- graphs

static uint32_t power_of_two(uint32_t n)
{
    uint32_t power = 1;
    while (power < n) power *= 2;
    return power;
}

static cudaError_t record_graph(cn_cuda *cuda, cn_cuda_graph *to)
{
    cudaGraph_t graph = NULL;
    TRY(cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal));
    const cudaError_t inside = run_kernels(cuda, to->outputs, to->extent);
    const cudaError_t ended = cudaStreamEndCapture(cuda->stream, &graph);
    cudaError_t error = inside != cudaSuccess ? inside : ended;
    if (error == cudaSuccess) error = cudaGraphInstantiate(&to->exec, graph, 0);
    if (graph) cudaGraphDestroy(graph);
    return error;
}

// The graph of this extent, recorded if there is none; NULL where there are too many.
static cudaError_t find_graph(cn_cuda *cuda, cn_step_output *outputs, cn_cuda_extent extent, cn_cuda_graph **out)
{
    *out = NULL;
    for (uint32_t i = 0; i < cuda->graph_count; i++) {
        cn_cuda_graph *g = &cuda->graphs[i];
        if (memcmp(&g->extent, &extent, sizeof extent) == 0 && g->outputs == outputs) *out = g;
    }
    if (*out || cuda->graph_count == CN_CUDA_GRAPHS_MAX) return cudaSuccess;
    cn_cuda_graph *g = &cuda->graphs[cuda->graph_count];
    *g = (cn_cuda_graph){.extent = extent, .outputs = outputs};
    TRY(record_graph(cuda, g));
    cuda->graph_count++;
    *out = g;
    return cudaSuccess;
}

static cudaError_t run_step(cn_cuda *cuda, const cn_cuda_flight *flight)
{
    const cn_cuda_step *step = flight->step;
    const cn_cuda_extent exact = {step->row_count, step->item_count, step->tile_count, step->wanted_count};
    const uint32_t rows = power_of_two(exact.rows);
    const cn_cuda_extent rounded = {rows, power_of_two(exact.items), 0, rows};
    cn_cuda_graph *graph = NULL;
    const bool decodes = exact.tiles == 0 && exact.wanted == exact.rows;
    if (decodes && rows <= cuda->kv.step_tokens_max) TRY(find_graph(cuda, flight->outputs, rounded, &graph));
    if (graph) return cudaGraphLaunch(graph->exec, cuda->stream);
    return run_kernels(cuda, flight->outputs, exact);
}

bool CN_CUDA(step_queue)(cn_cuda *cuda, cn_cuda_flight *flight, const cn_step *step)
{
    cudaError_t error = cudaSuccess;
    write_step(cuda, flight, step);
    for (uint32_t i = 0; i < step->open_count && error == cudaSuccess; i++) error = open_slot(cuda, &step->opens[i]);
    if (error == cudaSuccess) {
        error = cudaMemcpyAsync(cuda->scratch.step, flight->step, flight->step->bytes, cudaMemcpyHostToDevice,
                                cuda->stream);
    }
    for (uint32_t i = 0; i < step->copy_count && error == cudaSuccess; i++) {
        const cn_page_copy *copy = &step->copies[i];
        CN_ASSERT(copy->from.v < cuda->kv.page_count && copy->to.v < cuda->kv.page_count);
        error = CN_CUDA(page_copy_launch)(cuda->scratch.pages, cuda->page_bytes, copy->from.v, copy->to.v, cuda->stream);
    }
    if (error == cudaSuccess) error = run_step(cuda, flight);
    return error == cudaSuccess;
}
