#include "kernels/cpu/cpu_int.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "kernels/cpu/half_int.h"

/* How it works. The rows of a step are the tokens of all its sequences, one below the other; every
 * operation runs over all rows and shares its chunks among the workers. What is too small to share,
 * the leader does alone. Per layer:
 *
 *    norm ▶ qkv ▶ q/k norm, RoPE, K and V into pages ▶ attention ▶ o, add ▶ norm ▶ gate, up ▶ down, add
 *
 * After the last layer's K and V are in their pages, only rows whose logits somebody wants go on: they
 * are moved together, and what follows is computed for them alone.
 *
 * Ranks of a group each run all of it, on their own heads, columns of the MLP and words; x is the same on
 * all of them. They meet where a part is not enough: embedding, o and down are summed over the ranks,
 * and the logits of all words are gathered on rank 0, which samples. */

enum {
    ALONE_FLOATS = 8192,         // elementwise work below this is not worth sharing
    ROWS_PER_CHUNK = 4,
    CHUNK_BYTES = 64 << 10       // of weights that a chunk reads where rows are few
};

// ---- products

typedef struct product_job {
    const cn_path *path;
    cn_product product;
    uint32_t chunk_columns;
} product_job;

static void product_chunk(void *self, uint32_t index, uint32_t thread)
{
    const product_job *job = self;
    cn_product part = job->product;
    (void)thread;
    part.begin = index * job->chunk_columns;
    part.end = part.begin + job->chunk_columns < job->product.w.out
                   ? part.begin + job->chunk_columns : job->product.w.out;
    job->path->product(&part);
}

typedef struct rounding_job {
    const cn_path *path;
    const float *from;
    uint16_t *to;
    uint32_t stride, rows;
} rounding_job;

static void round_chunk(void *self, uint32_t index, uint32_t thread)
{
    const rounding_job *job = self;
    const uint32_t begin = index * ROWS_PER_CHUNK;
    const uint32_t rows = job->rows - begin < ROWS_PER_CHUNK ? job->rows - begin : ROWS_PER_CHUNK;
    const size_t at = (size_t)begin * job->stride;
    (void)thread;
    job->path->to_bf16(job->from + at, job->to + at, rows * job->stride);
}

// Chunks of ROWS_PER_CHUNK rows, shared where it pays.
static void for_rows(cn_cpu_rank *rank, cn_workers_fn fn, void *self, uint32_t rows, uint32_t columns)
{
    const uint32_t chunks = (rows + ROWS_PER_CHUNK - 1) / ROWS_PER_CHUNK;
    if ((uint64_t)rows * columns > ALONE_FLOATS) {
        cn_workers_run(rank->workers, fn, self, chunks);
    } else {
        for (uint32_t i = 0; i < chunks; i++) fn(self, i, 0);
    }
}

static void multiply(cn_cpu_rank *rank, const cn_packed *w, const float *a, uint32_t a_stride, float *c,
                     uint32_t c_stride, uint32_t rows, cn_epilogue epilogue)
{
    product_job job = {.path = rank->path,
                       .product = {.w = *w, .a = a, .c = c, .rows = rows, .a_stride = a_stride,
                                   .c_stride = c_stride, .epilogue = epilogue}};
    if (rank->path->wants_bf16 && w->dtype == CN_DTYPE_BF16) {
        rounding_job rounding = {rank->path, a, rank->scratch.h16, a_stride, rows};
        for_rows(rank, round_chunk, &rounding, rows, a_stride);
        job.product.a_bf16 = rank->scratch.h16;
    }
    const uint32_t column_bytes = w->in * (w->dtype == CN_DTYPE_F32 ? 4 : 2);
    const uint32_t columns = rows > CN_TILE_ROWS ? CN_PAD : cn_path_pad(CHUNK_BYTES / column_bytes);
    job.chunk_columns = columns < 2 * CN_PAD && rows == 1 ? 2 * CN_PAD : columns;
    cn_workers_run(rank->workers, product_chunk, &job,
                   (w->out + job.chunk_columns - 1) / job.chunk_columns);
}

typedef struct adding_job {
    const float *from;
    float *to;
    uint32_t stride, rows;
} adding_job;

static void add_chunk(void *self, uint32_t index, uint32_t thread)
{
    const adding_job *job = self;
    const uint32_t begin = index * ROWS_PER_CHUNK;
    const uint32_t rows = job->rows - begin < ROWS_PER_CHUNK ? job->rows - begin : ROWS_PER_CHUNK;
    const size_t at = (size_t)begin * job->stride, count = (size_t)rows * job->stride;
    (void)thread;
    for (size_t i = at; i < at + count; i++) job->to[i] += job->from[i];
}

// x += a w, where a group has the inputs in parts. The result of the last norm is no longer needed.
static cn_code multiply_add(cn_cpu_rank *rank, const cn_packed *w, const float *a, uint32_t a_stride,
                            uint32_t rows)
{
    const cn_cpu_scratch *s = &rank->scratch;
    if (!rank->end) {
        multiply(rank, w, a, a_stride, s->x, s->dim_pad, rows, CN_ADD);
        return CN_OK;
    }
    multiply(rank, w, a, a_stride, s->h, s->dim_pad, rows, CN_STORE);
    const cn_code code = rank->end->ops->all_reduce(rank->end, s->h, (size_t)rows * s->dim_pad);
    if (code != CN_OK) return code;
    adding_job job = {s->h, s->x, s->dim_pad, rows};
    for_rows(rank, add_chunk, &job, rows, s->dim_pad);
    return CN_OK;
}

// ---- norms

typedef struct norm_job {
    const cn_path *path;
    const float *x, *w;
    float *y;
    uint32_t rows, stride, dim;
    float eps;
} norm_job;

static void norm_chunk(void *self, uint32_t index, uint32_t thread)
{
    const norm_job *job = self;
    (void)thread;
    for (uint32_t row = index * ROWS_PER_CHUNK; row < (index + 1) * ROWS_PER_CHUNK && row < job->rows; row++) {
        const size_t at = (size_t)row * job->stride;
        job->path->rms_norm(job->x + at, job->w, job->y + at, job->dim, job->eps);
    }
}

static void norm(cn_cpu_rank *rank, const float *x, const float *w, float *y, uint32_t rows)
{
    norm_job job = {rank->path, x, w, y, rows, rank->scratch.dim_pad, rank->model.spec.dim,
                    rank->model.spec.norm_eps};
    for_rows(rank, norm_chunk, &job, rows, job.dim);
}

// ---- q/k norm, RoPE, and K and V into their pages

typedef struct layer_job {
    cn_cpu_rank *rank;
    const cn_cpu_layer *layer;
    uint32_t index;
} layer_job;

static uint64_t element_bytes(const cn_cpu_rank *rank)
{
    return rank->model.kv_dtype == CN_DTYPE_BF16 ? 2 : 4;
}

// Byte offset in a page of K (which = 0) or V (1) of a layer and KV head.
static uint64_t kv_offset(const cn_cpu_rank *rank, uint32_t layer, uint32_t which, uint32_t kv_head)
{
    const cn_model_spec *m = &rank->model.spec;
    return ((uint64_t)(layer * 2 + which) * m->kv_head_count + kv_head) * CN_PAGE_TOKENS * m->head_dim *
           element_bytes(rank);
}

static void rotate(float *x, const float *cosine, const float *sine, uint32_t head_dim, float scale)
{
    const uint32_t half = head_dim / 2;
    for (uint32_t i = 0; i < half; i++) {
        const float a = x[i], b = x[i + half];
        x[i] = (a * cosine[i] - b * sine[i]) * scale;
        x[i + half] = (b * cosine[i] + a * sine[i]) * scale;
    }
}

// K lies transposed: token t of dimension d at [d][t], in bf16 with dimensions in pairs.
static void write_kv(const cn_cpu_rank *rank, const float *k, const float *v, unsigned char *k_page,
                     unsigned char *v_page, uint32_t t)
{
    const uint32_t dims = rank->model.spec.head_dim;
    if (rank->model.kv_dtype == CN_DTYPE_BF16) {
        uint16_t *k_out = (uint16_t *)k_page, *v_out = (uint16_t *)v_page + (size_t)t * dims;
        for (uint32_t d = 0; d < dims; d++) {
            k_out[d / 2 * 2 * CN_PAGE_TOKENS + t * 2 + d % 2] = half_round_bf16(k[d]);
            v_out[d] = half_round_bf16(v[d]);
        }
    } else {
        float *k_out = (float *)k_page, *v_out = (float *)v_page + (size_t)t * dims;
        for (uint32_t d = 0; d < dims; d++) k_out[d * CN_PAGE_TOKENS + t] = k[d];
        memcpy(v_out, v, dims * sizeof *v);
    }
}

static void place_row(const layer_job *job, uint32_t at)
{
    cn_cpu_rank *rank = job->rank;
    const cn_model_spec *m = &rank->model.spec;
    const cn_cpu_scratch *s = &rank->scratch;
    const cn_cpu_row *row = &s->rows[at];
    const uint32_t dims = m->head_dim;
    const float *cosine = s->cosine + (size_t)at * (dims / 2), *sine = s->sine + (size_t)at * (dims / 2);
    const float scale = 1.0f / sqrtf((float)dims);
    float *q = s->qkv + (size_t)at * s->qkv_pad;
    float *k = q + (size_t)m->head_count * dims, *v = k + (size_t)m->kv_head_count * dims;
    for (uint32_t head = 0; head < m->head_count; head++, q += dims) {
        if (job->layer->q_norm) rank->path->rms_norm(q, job->layer->q_norm, q, dims, m->norm_eps);
        rotate(q, cosine, sine, dims, scale);
    }
    const uint32_t page = rank->cpu->slots[row->slot].table[row->position / CN_PAGE_TOKENS].v;
    unsigned char *base = rank->pages + page * rank->page_bytes;
    for (uint32_t head = 0; head < m->kv_head_count; head++, k += dims, v += dims) {
        if (job->layer->k_norm) rank->path->rms_norm(k, job->layer->k_norm, k, dims, m->norm_eps);
        rotate(k, cosine, sine, dims, 1.0f);
        write_kv(rank, k, v, base + kv_offset(rank, job->index, 0, head),
                 base + kv_offset(rank, job->index, 1, head), row->position % CN_PAGE_TOKENS);
    }
}

static void place_chunk(void *self, uint32_t index, uint32_t thread)
{
    const layer_job *job = self;
    const uint32_t rows = job->rank->scratch.row_count;
    (void)thread;
    for (uint32_t row = index * ROWS_PER_CHUNK; row < (index + 1) * ROWS_PER_CHUNK && row < rows; row++) {
        place_row(job, row);
    }
}

// ---- attention

static void run_tile(const layer_job *job, const cn_cpu_tile *tile, uint32_t thread)
{
    const cn_cpu_rank *rank = job->rank;
    const cn_model_spec *m = &rank->model.spec;
    const cn_cpu_scratch *s = &rank->scratch;
    const uint32_t group = m->head_count / m->kv_head_count;
    const cn_cpu_row *first = &s->rows[tile->row];
    cn_attention t = {
        .q = s->qkv, .out = s->att, .query_count = tile->count, .head_dim = m->head_dim,
        .pages = rank->pages, .table = rank->cpu->slots[first->slot].table, .page_bytes = rank->page_bytes,
        .k_offset = kv_offset(rank, job->index, 0, tile->kv_head),
        .v_offset = kv_offset(rank, job->index, 1, tile->kv_head),
        .dtype = rank->model.kv_dtype, .split_begin = tile->split_begin, .split_end = tile->split_end,
        .partial = tile->partial, .scratch = s->attention[thread],
    };
    for (uint32_t i = 0; i < tile->count; i++) {
        const uint32_t row = tile->row + (tile->begin + i) / group;
        const uint32_t head = tile->kv_head * group + (tile->begin + i) % group;
        t.q_offsets[i] = row * s->qkv_pad + head * m->head_dim;
        t.out_offsets[i] = row * s->att_pad + head * m->head_dim;
        t.positions[i] = s->rows[row].position;
    }
    rank->path->attention(&t);
}

static void tile_chunk(void *self, uint32_t index, uint32_t thread)
{
    const layer_job *job = self;
    run_tile(job, &job->rank->scratch.tiles[index], thread);
}

static void add_tile(cn_cpu_scratch *s, cn_cpu_tile tile)
{
    CN_ASSERT(s->tile_count < s->tile_max);
    s->tiles[s->tile_count++] = tile;
}

/* Tiles of one sequence's rows [row, row + count). Where there is little else to share, the splits of a
 * long context become tiles of their own, and `partials` says where they leave their results. */
static void cut_sequence(cn_cpu_rank *rank, uint32_t row, uint32_t count, bool by_split, float **partials)
{
    cn_cpu_scratch *s = &rank->scratch;
    const cn_model_spec *m = &rank->model.spec;
    const uint32_t group = m->head_count / m->kv_head_count;
    const uint32_t splits = s->rows[row + count - 1].position / CN_SPLIT_TOKENS + 1;
    for (uint32_t kv_head = 0; kv_head < m->kv_head_count; kv_head++) {
        for (uint32_t begin = 0; begin < count * group; begin += CN_QUERY_TILE) {
            const uint32_t left = count * group - begin;
            cn_cpu_tile tile = {row, begin, left < CN_QUERY_TILE ? left : CN_QUERY_TILE, kv_head, 0,
                                splits, NULL};
            if (!by_split) {
                add_tile(s, tile);
                continue;
            }
            for (uint32_t split = 0; split < splits; split++) {
                tile.split_begin = split;
                tile.split_end = split + 1;
                tile.partial = *partials;
                *partials += (size_t)tile.count * (m->head_dim + 2);
                add_tile(s, tile);
            }
        }
    }
}

// Rows of one sequence lie together; calls back per sequence.
static uint32_t sequence_rows(const cn_cpu_scratch *s, uint32_t row, uint32_t rows)
{
    uint32_t count = 1;
    while (row + count < rows && s->rows[row + count].seq == s->rows[row].seq) count++;
    return count;
}

// Whether the step is so small that the splits of its contexts should be shared out.
static bool shares_splits(const cn_cpu_rank *rank, uint32_t rows)
{
    const cn_model_spec *m = &rank->model.spec;
    const uint32_t group = m->head_count / m->kv_head_count;
    const uint32_t tiles = m->kv_head_count * ((group + CN_QUERY_TILE - 1) / CN_QUERY_TILE);
    return cn_workers_count(rank->workers) > 1 && rows * tiles <= rank->scratch.partial_tiles_max;
}

// After the splits: merges them for each query, in the order of the splits.
static void merge_splits(cn_cpu_rank *rank)
{
    const cn_cpu_scratch *s = &rank->scratch;
    const cn_model_spec *m = &rank->model.spec;
    const uint32_t group = m->head_count / m->kv_head_count;
    for (uint32_t i = 0; i < s->tile_count; i++) {
        const cn_cpu_tile *tile = &s->tiles[i];
        if (!tile->partial || tile->split_begin > 0) continue;
        const uint32_t splits = s->rows[tile->row].position / CN_SPLIT_TOKENS + 1;
        const uint64_t entry = m->head_dim + 2;
        for (uint32_t q = 0; q < tile->count; q++) {
            const uint32_t head = tile->kv_head * group + tile->begin + q;
            rank->path->merge(tile->partial + q * entry, tile->count * entry, splits, m->head_dim,
                             s->att + (size_t)tile->row * s->att_pad + head * m->head_dim);
        }
    }
}

static void cut_tiles(cn_cpu_rank *rank, uint32_t rows)
{
    cn_cpu_scratch *s = &rank->scratch;
    float *partials = s->partials;
    const bool few = shares_splits(rank, rows);
    s->tile_count = 0;
    for (uint32_t row = 0, count; row < rows; row += count) {
        count = sequence_rows(s, row, rows);
        const bool by_split = few && count == 1 && s->rows[row].position >= CN_SPLIT_TOKENS;
        cut_sequence(rank, row, count, by_split, &partials);
    }
}

static void attend(cn_cpu_rank *rank, const layer_job *job, uint32_t rows)
{
    cut_tiles(rank, rows);
    cn_workers_run(rank->workers, tile_chunk, (void *)job, rank->scratch.tile_count);
    merge_splits(rank);
}

// ---- the step

void cn_forward_prepare(cn_cpu *cpu, const cn_cpu_step *step)
{
    for (uint32_t i = 0; i < step->step.open_count; i++) {
        cpu->slots[step->opens[i].slot].used = step->opens[i].settings;
    }
    for (uint32_t i = 0; i < step->step.delta_count; i++) {
        const cn_page_delta *delta = &step->deltas[i];
        cpu->slots[delta->slot.v].table[delta->index] = delta->page;
    }
}

static void copy_pages(cn_cpu_rank *rank, const cn_cpu_step *step)
{
    for (uint32_t i = 0; i < step->step.copy_count; i++) {
        memcpy(rank->pages + step->copies[i].to.v * rank->page_bytes,
               rank->pages + step->copies[i].from.v * rank->page_bytes, rank->page_bytes);
    }
}

static void lay_out_rows(cn_cpu_rank *rank, const cn_cpu_step *step)
{
    cn_cpu_scratch *s = &rank->scratch;
    s->row_count = s->wanted_count = s->output_count = 0;
    for (uint32_t i = 0; i < step->step.seq_count; i++) {
        const cn_step_seq *seq = &step->seqs[i];
        for (uint32_t j = 0; j < seq->token_count; j++) {
            const uint32_t row = s->row_count++;
            const int32_t target = step->targets[row];
            const bool sample = seq->sample && j + 1 == seq->token_count;
            s->rows[row] = (cn_cpu_row){i, seq->slot.v, seq->context_count + j};
            if (target < 0 && !sample) continue;
            s->wanted[s->wanted_count++] = (cn_cpu_wanted){
                row, i, s->rows[row].position + 1, target, sample, s->output_count};
            s->output_count += (target >= 0) + sample;
        }
    }
}

typedef struct embed_job {
    cn_cpu_rank *rank;
    const cn_cpu_step *step;
} embed_job;

// Angles in double: at position 100,000 a float's would be off by a hundredth.
static void fill_angles(const cn_cpu_rank *rank, uint32_t row)
{
    const uint32_t half = rank->model.spec.head_dim / 2;
    const float magnitude = rank->model.spec.rope_magnitude;
    for (uint32_t i = 0; i < half; i++) {
        const double angle =
            (double)rank->scratch.rows[row].position * (double)rank->model.rope_inv_freq[i];
        rank->scratch.cosine[(size_t)row * half + i] = (float)cos(angle) * magnitude;
        rank->scratch.sine[(size_t)row * half + i] = (float)sin(angle) * magnitude;
    }
}

static void embed_chunk(void *self, uint32_t index, uint32_t thread)
{
    const embed_job *job = self;
    const cn_cpu_rank *rank = job->rank;
    const cn_cpu_scratch *s = &rank->scratch;
    const uint32_t dim = rank->model.spec.dim;
    (void)thread;
    for (uint32_t row = index * ROWS_PER_CHUNK; row < (index + 1) * ROWS_PER_CHUNK && row < s->row_count; row++) {
        const int32_t given = job->step->tokens[row];
        const int32_t token = given == CN_TOKEN_LAST ? rank->cpu->slots[s->rows[row].slot].last_token : given;
        // After a sample that failed there is no token; what is computed then is not looked at.
        const uint32_t word = (token < 0 ? 0 : (uint32_t)token) - rank->shard.vocab.begin;
        float *x = s->x + (size_t)row * s->dim_pad;
        if (word < rank->shard.vocab.count) {
            cn_weights_embed(&rank->model.embed, word, dim, x);
            memset(x + dim, 0, (s->dim_pad - dim) * sizeof *x);
        } else {
            // Another rank has it; adding -0 changes no bit of any number.
            for (uint32_t i = 0; i < s->dim_pad; i++) x[i] = -0.0f;
        }
        fill_angles(rank, row);
    }
}

static cn_code embed_rows(cn_cpu_rank *rank, const cn_cpu_step *step)
{
    const cn_cpu_scratch *s = &rank->scratch;
    embed_job job = {rank, step};
    for_rows(rank, embed_chunk, &job, s->row_count, s->dim_pad);
    if (!rank->end) return CN_OK;
    return rank->end->ops->all_reduce(rank->end, s->x, (size_t)s->row_count * s->dim_pad);
}

// Moves the rows that are wanted to the front, in order: each goes to its own place or before it.
static uint32_t keep_wanted_rows(cn_cpu_rank *rank)
{
    cn_cpu_scratch *s = &rank->scratch;
    for (uint32_t i = 0; i < s->wanted_count; i++) {
        const uint32_t from = s->wanted[i].row;
        if (from == i) continue;
        s->rows[i] = s->rows[from];
        memcpy(s->x + (size_t)i * s->dim_pad, s->x + (size_t)from * s->dim_pad, s->dim_pad * sizeof *s->x);
        memcpy(s->qkv + (size_t)i * s->qkv_pad, s->qkv + (size_t)from * s->qkv_pad,
               s->qkv_pad * sizeof *s->qkv);
    }
    return s->wanted_count;
}

// `rows` becomes how many go on to the next layer.
static cn_code run_layer(cn_cpu_rank *rank, uint32_t index, uint32_t *rows)
{
    cn_cpu_scratch *s = &rank->scratch;
    const cn_cpu_layer *layer = &rank->model.layers[index];
    layer_job job = {rank, layer, index};
    norm(rank, s->x, layer->attn_norm, s->h, *rows);
    multiply(rank, &layer->qkv, s->h, s->dim_pad, s->qkv, s->qkv_pad, *rows, CN_STORE);
    for_rows(rank, place_chunk, &job, *rows, s->qkv_pad);
    if (index + 1 == rank->model.spec.layer_count) *rows = keep_wanted_rows(rank);
    if (*rows == 0) return CN_OK;
    attend(rank, &job, *rows);
    const cn_code code = multiply_add(rank, &layer->o, s->att, s->att_pad, *rows);
    if (code != CN_OK) return code;
    norm(rank, s->x, layer->mlp_norm, s->h, *rows);
    multiply(rank, &layer->gate_up, s->h, s->dim_pad, s->mlp, s->mlp_pad, *rows, CN_SWIGLU);
    return multiply_add(rank, &layer->down, s->mlp, s->mlp_pad, *rows);
}

typedef struct sample_job {
    cn_cpu_rank *rank;
    cn_cpu_step *step;
    uint32_t first, rows;        // indices in wanted of the rows of logits
} sample_job;

// One row of logits from the parts that the ranks sent.
static void join_parts(const cn_cpu_rank *rank, uint32_t row, uint32_t rows)
{
    const cn_cpu_scratch *s = &rank->scratch;
    float *logits = s->logits + (size_t)row * s->vocab_pad;
    for (uint32_t i = 0; i < rank->cpu->rank_count; i++) {
        const cn_range words = rank->cpu->ranks[i].shard.vocab;
        memcpy(logits + words.begin, s->parts + ((size_t)i * rows + row) * s->part_pad,
               words.count * sizeof *logits);
    }
}

static void sample_chunk(void *self, uint32_t index, uint32_t thread)
{
    const sample_job *job = self;
    cn_cpu_scratch *s = &job->rank->scratch;
    const cn_cpu_wanted *wanted = &s->wanted[job->first + index];
    if (job->rank->end) join_parts(job->rank, index, job->rows);
    cn_sample_row(job->rank, job->step, wanted, s->logits + (size_t)index * s->vocab_pad, thread,
                  job->step->outputs + wanted->output);
}

static cn_code run_head(cn_cpu_rank *rank, cn_cpu_step *step)
{
    cn_cpu_scratch *s = &rank->scratch;
    float *logits = rank->end ? s->part : s->logits;
    const uint32_t stride = rank->end ? s->part_pad : s->vocab_pad;
    for (uint32_t first = 0; first < s->wanted_count; first += s->logit_rows) {
        const uint32_t left = s->wanted_count - first;
        const uint32_t rows = left < s->logit_rows ? left : s->logit_rows;
        const float *x = s->x + (size_t)first * s->dim_pad;
        sample_job job = {rank, step, first, rows};
        cn_code code = CN_OK;
        norm(rank, x, rank->model.final_norm, s->h, rows);
        multiply(rank, &rank->model.head, s->h, s->dim_pad, logits, stride, rows, CN_STORE);
        if (rank->end) {
            const size_t bytes = (size_t)rows * stride * sizeof *logits;
            code = rank->end->ops->gather(rank->end, 0, s->part, bytes, s->parts);
        }
        if (code != CN_OK) return code;
        if (rank->index == 0) cn_workers_run(rank->workers, sample_chunk, &job, rows);
    }
    return CN_OK;
}

cn_code cn_forward_run(cn_cpu_rank *rank, cn_cpu_step *step)
{
    copy_pages(rank, step);
    lay_out_rows(rank, step);
    uint32_t rows = rank->scratch.row_count;
    cn_code code = embed_rows(rank, step);
    for (uint32_t i = 0; i < rank->model.spec.layer_count && code == CN_OK; i++) {
        code = run_layer(rank, i, &rows);
    }
    if (code == CN_OK) code = run_head(rank, step);
    if (rank->index == 0) step->output_count = code == CN_OK ? rank->scratch.output_count : 0;
    return code;
}
