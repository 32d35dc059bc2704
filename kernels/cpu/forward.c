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
 * are moved together, and what follows is computed for them alone. */

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
static void for_rows(cn_cpu *cpu, cn_workers_fn fn, void *self, uint32_t rows, uint32_t columns)
{
    const uint32_t chunks = (rows + ROWS_PER_CHUNK - 1) / ROWS_PER_CHUNK;
    if ((uint64_t)rows * columns > ALONE_FLOATS) {
        cn_workers_run(cpu->workers, fn, self, chunks);
    } else {
        for (uint32_t i = 0; i < chunks; i++) fn(self, i, 0);
    }
}

static void multiply(cn_cpu *cpu, const cn_packed *w, const float *a, uint32_t a_stride, float *c,
                     uint32_t c_stride, uint32_t rows, cn_epilogue epilogue)
{
    product_job job = {.path = cpu->path,
                       .product = {.w = *w, .a = a, .c = c, .rows = rows, .a_stride = a_stride,
                                   .c_stride = c_stride, .epilogue = epilogue}};
    if (cpu->path->wants_bf16 && w->dtype == CN_DTYPE_BF16) {
        rounding_job rounding = {cpu->path, a, cpu->scratch.h16, a_stride, rows};
        for_rows(cpu, round_chunk, &rounding, rows, a_stride);
        job.product.a_bf16 = cpu->scratch.h16;
    }
    const uint32_t column_bytes = w->in * (w->dtype == CN_DTYPE_F32 ? 4 : 2);
    const uint32_t columns = rows > CN_TILE_ROWS ? CN_PAD : cn_path_pad(CHUNK_BYTES / column_bytes);
    job.chunk_columns = columns < 2 * CN_PAD && rows == 1 ? 2 * CN_PAD : columns;
    cn_workers_run(cpu->workers, product_chunk, &job,
                   (w->out + job.chunk_columns - 1) / job.chunk_columns);
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

static void norm(cn_cpu *cpu, const float *x, const float *w, float *y, uint32_t rows)
{
    norm_job job = {cpu->path, x, w, y, rows, cpu->scratch.dim_pad, cpu->model.spec.dim,
                    cpu->model.spec.norm_eps};
    for_rows(cpu, norm_chunk, &job, rows, job.dim);
}

// ---- q/k norm, RoPE, and K and V into their pages

typedef struct layer_job {
    cn_cpu *cpu;
    const cn_cpu_layer *layer;
    uint32_t index;
} layer_job;

static uint64_t element_bytes(const cn_cpu *cpu) { return cpu->model.kv_dtype == CN_DTYPE_BF16 ? 2 : 4; }

// Byte offset in a page of K (which = 0) or V (1) of a layer and KV head.
static uint64_t kv_offset(const cn_cpu *cpu, uint32_t layer, uint32_t which, uint32_t kv_head)
{
    const cn_model_spec *m = &cpu->model.spec;
    return ((uint64_t)(layer * 2 + which) * m->kv_head_count + kv_head) * CN_PAGE_TOKENS * m->head_dim *
           element_bytes(cpu);
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
static void write_kv(const cn_cpu *cpu, const float *k, const float *v, unsigned char *k_page,
                     unsigned char *v_page, uint32_t t)
{
    const uint32_t dims = cpu->model.spec.head_dim;
    if (cpu->model.kv_dtype == CN_DTYPE_BF16) {
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
    cn_cpu *cpu = job->cpu;
    const cn_model_spec *m = &cpu->model.spec;
    const cn_cpu_scratch *s = &cpu->scratch;
    const cn_cpu_row *row = &s->rows[at];
    const uint32_t dims = m->head_dim;
    const float *cosine = s->cosine + (size_t)at * (dims / 2), *sine = s->sine + (size_t)at * (dims / 2);
    const float scale = 1.0f / sqrtf((float)dims);
    float *q = s->qkv + (size_t)at * s->qkv_pad;
    float *k = q + (size_t)m->head_count * dims, *v = k + (size_t)m->kv_head_count * dims;
    for (uint32_t head = 0; head < m->head_count; head++, q += dims) {
        if (job->layer->q_norm) cpu->path->rms_norm(q, job->layer->q_norm, q, dims, m->norm_eps);
        rotate(q, cosine, sine, dims, scale);
    }
    const uint32_t page = cpu->slots[row->slot].table[row->position / CN_PAGE_TOKENS].v;
    unsigned char *base = cpu->pages + page * cpu->page_bytes;
    for (uint32_t head = 0; head < m->kv_head_count; head++, k += dims, v += dims) {
        if (job->layer->k_norm) cpu->path->rms_norm(k, job->layer->k_norm, k, dims, m->norm_eps);
        rotate(k, cosine, sine, dims, 1.0f);
        write_kv(cpu, k, v, base + kv_offset(cpu, job->index, 0, head),
                 base + kv_offset(cpu, job->index, 1, head), row->position % CN_PAGE_TOKENS);
    }
}

static void place_chunk(void *self, uint32_t index, uint32_t thread)
{
    const layer_job *job = self;
    const uint32_t rows = job->cpu->scratch.row_count;
    (void)thread;
    for (uint32_t row = index * ROWS_PER_CHUNK; row < (index + 1) * ROWS_PER_CHUNK && row < rows; row++) {
        place_row(job, row);
    }
}

// ---- attention

static void run_tile(const layer_job *job, const cn_cpu_tile *tile, uint32_t thread)
{
    const cn_cpu *cpu = job->cpu;
    const cn_model_spec *m = &cpu->model.spec;
    const cn_cpu_scratch *s = &cpu->scratch;
    const uint32_t group = m->head_count / m->kv_head_count;
    const cn_cpu_row *first = &s->rows[tile->row];
    cn_attention t = {
        .q = s->qkv, .out = s->att, .query_count = tile->count, .head_dim = m->head_dim,
        .pages = cpu->pages, .table = cpu->slots[first->slot].table, .page_bytes = cpu->page_bytes,
        .k_offset = kv_offset(cpu, job->index, 0, tile->kv_head),
        .v_offset = kv_offset(cpu, job->index, 1, tile->kv_head),
        .dtype = cpu->model.kv_dtype, .split_begin = tile->split_begin, .split_end = tile->split_end,
        .partial = tile->partial, .scratch = s->attention[thread],
    };
    for (uint32_t i = 0; i < tile->count; i++) {
        const uint32_t row = tile->row + (tile->begin + i) / group;
        const uint32_t head = tile->kv_head * group + (tile->begin + i) % group;
        t.q_offsets[i] = row * s->qkv_pad + head * m->head_dim;
        t.out_offsets[i] = row * s->att_pad + head * m->head_dim;
        t.positions[i] = s->rows[row].position;
    }
    cpu->path->attention(&t);
}

static void tile_chunk(void *self, uint32_t index, uint32_t thread)
{
    const layer_job *job = self;
    run_tile(job, &job->cpu->scratch.tiles[index], thread);
}

static void add_tile(cn_cpu_scratch *s, cn_cpu_tile tile)
{
    CN_ASSERT(s->tile_count < s->tile_max);
    s->tiles[s->tile_count++] = tile;
}

/* Tiles of one sequence's rows [row, row + count). Where there is little else to share, the splits of a
 * long context become tiles of their own, and `partials` says where they leave their results. */
static void cut_sequence(cn_cpu *cpu, uint32_t row, uint32_t count, bool by_split, float **partials)
{
    cn_cpu_scratch *s = &cpu->scratch;
    const cn_model_spec *m = &cpu->model.spec;
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
static bool shares_splits(const cn_cpu *cpu, uint32_t rows)
{
    const cn_model_spec *m = &cpu->model.spec;
    const uint32_t group = m->head_count / m->kv_head_count;
    const uint32_t tiles = m->kv_head_count * ((group + CN_QUERY_TILE - 1) / CN_QUERY_TILE);
    return cn_workers_count(cpu->workers) > 1 && rows * tiles <= cpu->scratch.partial_tiles_max;
}

// After the splits: merges them for each query, in the order of the splits.
static void merge_splits(cn_cpu *cpu)
{
    const cn_cpu_scratch *s = &cpu->scratch;
    const cn_model_spec *m = &cpu->model.spec;
    const uint32_t group = m->head_count / m->kv_head_count;
    for (uint32_t i = 0; i < s->tile_count; i++) {
        const cn_cpu_tile *tile = &s->tiles[i];
        if (!tile->partial || tile->split_begin > 0) continue;
        const uint32_t splits = s->rows[tile->row].position / CN_SPLIT_TOKENS + 1;
        const uint64_t entry = m->head_dim + 2;
        for (uint32_t q = 0; q < tile->count; q++) {
            const uint32_t head = tile->kv_head * group + tile->begin + q;
            cpu->path->merge(tile->partial + q * entry, tile->count * entry, splits, m->head_dim,
                             s->att + (size_t)tile->row * s->att_pad + head * m->head_dim);
        }
    }
}

static void cut_tiles(cn_cpu *cpu, uint32_t rows)
{
    cn_cpu_scratch *s = &cpu->scratch;
    float *partials = s->partials;
    const bool few = shares_splits(cpu, rows);
    s->tile_count = 0;
    for (uint32_t row = 0, count; row < rows; row += count) {
        count = sequence_rows(s, row, rows);
        const bool by_split = few && count == 1 && s->rows[row].position >= CN_SPLIT_TOKENS;
        cut_sequence(cpu, row, count, by_split, &partials);
    }
}

static void attend(cn_cpu *cpu, const layer_job *job, uint32_t rows)
{
    cut_tiles(cpu, rows);
    cn_workers_run(cpu->workers, tile_chunk, (void *)job, cpu->scratch.tile_count);
    merge_splits(cpu);
}

// ---- the step

static void apply_changes(cn_cpu *cpu, const cn_cpu_step *step)
{
    for (uint32_t i = 0; i < step->step.open_count; i++) {
        cpu->slots[step->opens[i].slot].used = step->opens[i].settings;
    }
    for (uint32_t i = 0; i < step->step.delta_count; i++) {
        const cn_page_delta *delta = &step->deltas[i];
        cpu->slots[delta->slot.v].table[delta->index] = delta->page;
    }
    for (uint32_t i = 0; i < step->step.copy_count; i++) {
        memcpy(cpu->pages + step->copies[i].to.v * cpu->page_bytes,
               cpu->pages + step->copies[i].from.v * cpu->page_bytes, cpu->page_bytes);
    }
}

static void lay_out_rows(cn_cpu *cpu, cn_cpu_step *step)
{
    cn_cpu_scratch *s = &cpu->scratch;
    s->row_count = s->wanted_count = step->output_count = 0;
    for (uint32_t i = 0; i < step->step.seq_count; i++) {
        const cn_step_seq *seq = &step->seqs[i];
        for (uint32_t j = 0; j < seq->token_count; j++) {
            const uint32_t row = s->row_count++;
            const int32_t target = step->targets[row];
            const bool sample = seq->sample && j + 1 == seq->token_count;
            s->rows[row] = (cn_cpu_row){i, seq->slot.v, seq->context_count + j};
            if (target < 0 && !sample) continue;
            s->wanted[s->wanted_count++] = (cn_cpu_wanted){
                row, i, s->rows[row].position + 1, target, sample, step->output_count};
            step->output_count += (target >= 0) + sample;
        }
    }
}

typedef struct embed_job {
    cn_cpu *cpu;
    const cn_cpu_step *step;
} embed_job;

// Angles in double: at position 100,000 a float's would be off by a hundredth.
static void fill_angles(const cn_cpu *cpu, uint32_t row)
{
    const uint32_t half = cpu->model.spec.head_dim / 2;
    const float magnitude = cpu->model.spec.rope_magnitude;
    for (uint32_t i = 0; i < half; i++) {
        const double angle =
            (double)cpu->scratch.rows[row].position * (double)cpu->model.rope_inv_freq[i];
        cpu->scratch.cosine[(size_t)row * half + i] = (float)cos(angle) * magnitude;
        cpu->scratch.sine[(size_t)row * half + i] = (float)sin(angle) * magnitude;
    }
}

static void embed_chunk(void *self, uint32_t index, uint32_t thread)
{
    const embed_job *job = self;
    const cn_cpu_scratch *s = &job->cpu->scratch;
    const uint32_t dim = job->cpu->model.spec.dim;
    (void)thread;
    for (uint32_t row = index * ROWS_PER_CHUNK; row < (index + 1) * ROWS_PER_CHUNK && row < s->row_count; row++) {
        const int32_t given = job->step->tokens[row];
        const int32_t token = given == CN_TOKEN_LAST ? job->cpu->slots[s->rows[row].slot].last_token : given;
        float *x = s->x + (size_t)row * s->dim_pad;
        // After a sample that failed there is no token; what is computed then is not looked at.
        cn_weights_embed(&job->cpu->model.embed, token < 0 ? 0 : (uint32_t)token, dim, x);
        memset(x + dim, 0, (s->dim_pad - dim) * sizeof *x);
        fill_angles(job->cpu, row);
    }
}

// Moves the rows that are wanted to the front, in order: each goes to its own place or before it.
static uint32_t keep_wanted_rows(cn_cpu *cpu)
{
    cn_cpu_scratch *s = &cpu->scratch;
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

// Returns how many rows go on to the next layer.
static uint32_t run_layer(cn_cpu *cpu, uint32_t index, uint32_t rows)
{
    cn_cpu_scratch *s = &cpu->scratch;
    const cn_cpu_layer *layer = &cpu->model.layers[index];
    layer_job job = {cpu, layer, index};
    norm(cpu, s->x, layer->attn_norm, s->h, rows);
    multiply(cpu, &layer->qkv, s->h, s->dim_pad, s->qkv, s->qkv_pad, rows, CN_STORE);
    for_rows(cpu, place_chunk, &job, rows, s->qkv_pad);
    if (index + 1 == cpu->model.spec.layer_count) rows = keep_wanted_rows(cpu);
    if (rows == 0) return 0;
    attend(cpu, &job, rows);
    multiply(cpu, &layer->o, s->att, s->att_pad, s->x, s->dim_pad, rows, CN_ADD);
    norm(cpu, s->x, layer->mlp_norm, s->h, rows);
    multiply(cpu, &layer->gate_up, s->h, s->dim_pad, s->mlp, s->mlp_pad, rows, CN_SWIGLU);
    multiply(cpu, &layer->down, s->mlp, s->mlp_pad, s->x, s->dim_pad, rows, CN_ADD);
    return rows;
}

typedef struct sample_job {
    cn_cpu *cpu;
    cn_cpu_step *step;
    uint32_t first;              // index in wanted of the first row of logits
} sample_job;

static void sample_chunk(void *self, uint32_t index, uint32_t thread)
{
    const sample_job *job = self;
    cn_cpu_scratch *s = &job->cpu->scratch;
    const cn_cpu_wanted *wanted = &s->wanted[job->first + index];
    cn_sample_row(job->cpu, job->step, wanted, s->logits + (size_t)index * s->vocab_pad, thread,
                  job->step->outputs + wanted->output);
}

static void run_head(cn_cpu *cpu, cn_cpu_step *step)
{
    cn_cpu_scratch *s = &cpu->scratch;
    for (uint32_t first = 0; first < s->wanted_count; first += s->logit_rows) {
        const uint32_t left = s->wanted_count - first;
        const uint32_t rows = left < s->logit_rows ? left : s->logit_rows;
        const float *x = s->x + (size_t)first * s->dim_pad;
        sample_job job = {cpu, step, first};
        norm(cpu, x, cpu->model.final_norm, s->h, rows);
        multiply(cpu, &cpu->model.head, s->h, s->dim_pad, s->logits, s->vocab_pad, rows, CN_STORE);
        cn_workers_run(cpu->workers, sample_chunk, &job, rows);
    }
}

void cn_forward_run(cn_cpu *cpu, cn_cpu_step *step)
{
    embed_job embed = {cpu, step};
    apply_changes(cpu, step);
    lay_out_rows(cpu, step);
    uint32_t rows = cpu->scratch.row_count;
    for_rows(cpu, embed_chunk, &embed, rows, cpu->scratch.dim_pad);
    for (uint32_t i = 0; i < cpu->model.spec.layer_count; i++) rows = run_layer(cpu, i, rows);
    run_head(cpu, step);
}
