/* sample: the next token of each row of logits, by the rules of cn_sampling in backend.h.
 *   shapes  logits [rows][stride] float, vocab of them count; outputs in mapped memory of the host
 *   floor   greedy: the logits once, 4 * vocab bytes a row; 64 rows of 151,936: 39 MB, 9 us
 *   launch  one block of 512 threads per row; thread t has tokens t, t + 512, ...
 *
 *   Nothing is sorted. The k best tokens, and the best ones that together hold top_p, are found by descent:
 *   a float becomes a 32-bit key of the same order, and four passes over the row fix its bytes from the
 *   top, each with a histogram of 256 bins of what is wanted: tokens for top_k, probability for top_p.
 *   The end of a descent is a key and a token: everything above the key is in, and of its equals those up
 *   to that token.
 *
 *     bins of the top byte   0 ... 190 191 192 ... 255        need 50: 192 ... 255 hold 31,
 *                                   ▲ here, 19 more to find    so the next pass looks into 191
 *
 *   order   probabilities are added as integers of 2^-40, so no order shows; the sum of a logprob is a
 *           thread's tokens ascending, then a fixed tree. The choice is the largest (score, lowest id). */
#include "kernels/cuda/launch.cuh"

#include "kernels/cuda/kernels_int.h"

constexpr uint32_t THREADS = 512, WARPS = THREADS / 32, BINS = 256, SEEN = 1u << 31;
constexpr uint32_t ALL = 0xFFFFFFFFu;

struct sample_shared {
    unsigned long long bins[BINS], total;
    unsigned long long keys[WARPS];
    float sums[WARPS];
    uint32_t ties[THREADS];
    uint32_t key, last_id, bad;
    unsigned long long need;
};

struct sampling_row {
    float *logits;
    uint32_t vocab, position;
    const cn_cuda_settings *settings;
    const int32_t *bias_ids, *ban_ids;
    const float *bias_values;
};

/* Tokens with a larger key, and those with this key up to `last_id`. */
struct sampling_cut {
    uint32_t key, last_id;
};

// ---- order

static __device__ __forceinline__ uint32_t key_of(float x)
{
    const uint32_t bits = __float_as_uint(x == 0.0f ? 0.0f : x);     // -0 equals 0
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static __device__ __forceinline__ float value_of(uint32_t key)
{
    return __uint_as_float(key & 0x80000000u ? key & 0x7FFFFFFFu : ~key);
}

// (key, token) as one number: larger is better, of equals the lower token.
static __device__ __forceinline__ unsigned long long rank_of(float x, uint32_t id)
{
    return (unsigned long long)key_of(x) << 32 | (ALL - id);
}

static __device__ __forceinline__ uint32_t id_of(unsigned long long rank) { return ALL - (uint32_t)rank; }

static __device__ __forceinline__ bool is_in(sampling_cut cut, float x, uint32_t id)
{
    const uint32_t key = key_of(x);
    return key > cut.key || (key == cut.key && id <= cut.last_id);
}

static __device__ unsigned long long block_max(sample_shared &s, unsigned long long rank)
{
    for (uint32_t bits = 16; bits > 0; bits /= 2) {
        const unsigned long long other = __shfl_xor_sync(ALL, rank, bits);
        if (other > rank) rank = other;
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) s.keys[threadIdx.x / 32] = rank;
    __syncthreads();
    rank = s.keys[0];
    for (uint32_t i = 1; i < WARPS; i++) {
        if (s.keys[i] > rank) rank = s.keys[i];
    }
    return rank;
}

static __device__ float block_sum(sample_shared &s, float x)
{
    x = warp_sum(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) s.sums[threadIdx.x / 32] = x;
    __syncthreads();
    x = s.sums[0];
    for (uint32_t i = 1; i < WARPS; i++) x += s.sums[i];
    return x;
}

// The best token that is worse than `below`; 0 where there is none.
static __device__ unsigned long long best_below(sample_shared &s, const sampling_row &r, unsigned long long below)
{
    unsigned long long best = 0;
    for (uint32_t i = threadIdx.x; i < r.vocab; i += THREADS) {
        const unsigned long long rank = rank_of(r.logits[i], i);
        if (rank < below && rank > best) best = rank;
    }
    return block_max(s, best);
}

static __device__ bool all_finite(sample_shared &s, const sampling_row &r)
{
    __syncthreads();
    if (threadIdx.x == 0) s.bad = 0;
    __syncthreads();
    bool bad = false;
    for (uint32_t i = threadIdx.x; i < r.vocab; i += THREADS) bad = bad || !(fabsf(r.logits[i]) < INFINITY);
    if (bad) atomicOr(&s.bad, 1u);
    __syncthreads();
    return s.bad == 0;
}

// ---- what changes logits

static __device__ void change_logits(const sampling_row &r, const uint32_t *counts)
{
    const cn_cuda_settings *p = r.settings;
    for (uint32_t i = threadIdx.x; i < p->bias_count; i += THREADS) r.logits[r.bias_ids[i]] += r.bias_values[i];
    __syncthreads();
    if (r.position < p->ban_until_position) {
        for (uint32_t i = threadIdx.x; i < p->ban_count; i += THREADS) r.logits[r.ban_ids[i]] = -INFINITY;
    }
    __syncthreads();
    if (!p->penalises) return;
    for (uint32_t i = threadIdx.x; i < r.vocab; i += THREADS) {
        const uint32_t count = counts[i], answered = count & ~SEEN;
        if (count == 0) continue;
        float x = r.logits[i];
        x = x > 0.0f ? x / p->repetition_penalty : x * p->repetition_penalty;
        if (answered) x -= p->presence_penalty + p->frequency_penalty * (float)answered;
        r.logits[i] = x;
    }
    __syncthreads();
}

// ---- the best that hold enough

static __device__ __forceinline__ unsigned long long weight_of(float x, float max, float scale, bool by_mass)
{
    if (!by_mass) return 1;
    return (unsigned long long)(expf((x - max) * scale) * 1099511627776.0f);
}

// Of tokens whose key is `key`, the first few in order of their ids: up to which id.
static __device__ uint32_t last_of_equals(sample_shared &s, const sampling_row &r, sampling_cut within, uint32_t key,
                                          unsigned long long count)
{
    // A thread has a run of tokens here, so that its ties come before those of the next thread.
    const uint32_t run = (r.vocab + THREADS - 1) / THREADS, begin = threadIdx.x * run;
    const uint32_t end = begin + run < r.vocab ? begin + run : r.vocab;
    uint32_t mine = 0;
    for (uint32_t i = begin; i < end; i++) mine += key_of(r.logits[i]) == key && is_in(within, r.logits[i], i);
    s.ties[threadIdx.x] = mine;
    if (threadIdx.x == 0) s.last_id = ALL;
    __syncthreads();
    unsigned long long before = 0;
    for (uint32_t i = 0; i < threadIdx.x; i++) before += s.ties[i];
    for (uint32_t i = begin; i < end; i++) {
        if (key_of(r.logits[i]) != key || !is_in(within, r.logits[i], i)) continue;
        if (++before == count) s.last_id = i;
    }
    __syncthreads();
    return s.last_id;
}

/* The smallest set of best tokens within `within` that weighs at least `share` of all there (by mass) or of
 * which there are `count`. */
static __device__ sampling_cut descend(sample_shared &s, const sampling_row &r, sampling_cut within, float max,
                                       float scale, bool by_mass, double share, uint32_t count)
{
    uint32_t prefix = 0;
    unsigned long long each = 1;
    for (int shift = 24; shift >= 0; shift -= 8) {
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < BINS; i += THREADS) s.bins[i] = 0;
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < r.vocab; i += THREADS) {
            const float x = r.logits[i];
            const uint32_t key = key_of(x);
            if (shift < 24 && key >> (shift + 8) != prefix >> (shift + 8)) continue;
            if (is_in(within, x, i)) atomicAdd(&s.bins[key >> shift & 255], weight_of(x, max, scale, by_mass));
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            if (shift == 24) {
                unsigned long long total = 0;
                for (uint32_t i = 0; i < BINS; i++) total += s.bins[i];
                s.need = by_mass ? (unsigned long long)((double)total * share) : count;
                if (s.need > total) s.need = total;
                if (s.need == 0) s.need = 1;
            }
            uint32_t bin = BINS - 1;
            while (bin > 0 && s.bins[bin] < s.need) s.need -= s.bins[bin--];
            s.key = prefix | bin << shift;
        }
        __syncthreads();
        prefix = s.key;
    }
    if (by_mass) each = weight_of(value_of(prefix), max, scale, true);
    const unsigned long long ties = each ? (s.need + each - 1) / each : 1;
    return {prefix, last_of_equals(s, r, within, prefix, ties)};
}

// ---- the choice

/* Philox4x32-10 (Salmon et al. 2011), keyed by the seed; the counter is position and token / 4, and the
 * token's remainder picks the word. */
static __device__ uint32_t philox(uint64_t seed, uint32_t position, uint32_t token)
{
    uint32_t c0 = position, c1 = token / 4, c2 = 0, c3 = 0;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)c0 * 0xD2511F53u, b = (uint64_t)c2 * 0xCD9E8D57u;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)b;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return token % 4 == 0 ? c0 : token % 4 == 1 ? c1 : token % 4 == 2 ? c2 : c3;
}

static __device__ __forceinline__ float gumbel(uint64_t seed, uint32_t position, uint32_t token)
{
    const float u = ((float)(philox(seed, position, token) >> 9) + 0.5f) * 1.1920929e-7f;
    return -logf(-logf(u));
}

static __device__ uint32_t draw(sample_shared &s, const sampling_row &r, float max)
{
    const cn_cuda_settings *p = r.settings;
    const float scale = 1.0f / p->temperature, lowest = p->min_p > 0.0f ? logf(p->min_p) : -INFINITY;
    sampling_cut cut = {0, ALL};
    if (p->top_k > 0 && p->top_k < r.vocab) cut = descend(s, r, cut, max, scale, false, 0, p->top_k);
    if (p->top_p < 1.0f) cut = descend(s, r, cut, max, scale, true, p->top_p, 0);
    unsigned long long best = 0;
    for (uint32_t i = threadIdx.x; i < r.vocab; i += THREADS) {
        if (!is_in(cut, r.logits[i], i)) continue;
        float score = (r.logits[i] - max) * scale;
        if (score < lowest) score = -INFINITY;
        const unsigned long long rank = rank_of(score + gumbel(p->seed, r.position, i), i);
        if (rank > best) best = rank;
    }
    return id_of(block_max(s, best));
}

// ---- results

static __device__ void report(sample_shared &s, const sampling_row &r, cn_step_output *out, uint32_t token, float max)
{
    const uint32_t wanted = r.settings->logprob_count;
    if (threadIdx.x == 0) out->token = (int32_t)token;
    if (wanted == 0) return;
    float sum = 0.0f;
    for (uint32_t i = threadIdx.x; i < r.vocab; i += THREADS) sum += expf(r.logits[i] - max);
    const float base = max + logf(block_sum(s, sum));
    const uint32_t most = wanted - 1 < CN_TOP_LOGPROBS_MAX ? wanted - 1 : (uint32_t)CN_TOP_LOGPROBS_MAX;
    const uint32_t top = most < r.vocab ? most : r.vocab;
    unsigned long long rank = ~0ull;
    for (uint32_t i = 0; i < top; i++) {
        rank = best_below(s, r, rank);
        if (threadIdx.x == 0) out->top[i] = {(int32_t)id_of(rank), r.logits[id_of(rank)] - base};
    }
    if (threadIdx.x == 0) {
        out->top_count = top;
        out->logprob = r.logits[token] - base;
    }
}

static __device__ void begin_output(cn_step_output *out, const cn_cuda_wanted &wanted, bool sampled, bool finite)
{
    if (threadIdx.x != 0) return;
    out->slot.v = wanted.slot;
    out->position = wanted.position;
    out->token = -1;
    out->sampled = sampled;
    out->code = finite ? CN_OK : CN_E_NUMERIC;
    out->logprob = 0.0f;
    out->top_count = 0;
}

__global__ void __launch_bounds__(THREADS, 2) sample_kernel(cn_cuda_sampler p)
{
    CN_SHARED(sample_shared, shared);
    if (p.first + blockIdx.x >= p.step->wanted_count) return;
    const cn_cuda_wanted wanted =
        ((const cn_cuda_wanted *)((const unsigned char *)p.step + p.step->wanted_at))[p.first + blockIdx.x];
    const cn_cuda_settings *settings = (const cn_cuda_settings *)(p.settings + wanted.slot * p.settings_bytes);
    const int32_t *behind = (const int32_t *)(settings + 1);
    const sampling_row r = {p.logits + (uint64_t)blockIdx.x * p.stride, p.vocab, wanted.position, settings, behind,
                            behind + 2 * settings->bias_count, (const float *)behind + settings->bias_count};
    uint32_t *counts = p.counts + (uint64_t)wanted.slot * p.vocab;
    cn_step_output *out = p.outputs + wanted.output;
    const bool finite = all_finite(shared, r);
    if (wanted.target >= 0) {
        begin_output(out, wanted, false, finite);
        const float max = finite ? r.logits[id_of(best_below(shared, r, ~0ull))] : 0.0f;
        if (finite) report(shared, r, out, (uint32_t)wanted.target, max);
        out++;
    }
    if (!wanted.sample) return;
    begin_output(out, wanted, true, finite);
    if (!finite) {
        if (threadIdx.x == 0) p.last_tokens[wanted.slot] = -1;
        return;
    }
    change_logits(r, counts);
    const uint32_t best = id_of(best_below(shared, r, ~0ull));
    const float max = r.logits[best];
    const uint32_t token = settings->temperature == 0.0f ? best : draw(shared, r, max);
    report(shared, r, out, token, max);
    if (threadIdx.x != 0) return;
    p.last_tokens[wanted.slot] = (int32_t)token;
    if (settings->penalises) counts[token] = (counts[token] | SEEN) + 1;
}

cudaError_t CN_CUDA(sample_launch)(const cn_cuda_sampler *p, cudaStream_t stream)
{
    if (p->row_max == 0 || p->vocab > p->stride) return cudaErrorInvalidValue;
    const gpu_grid grid = {p->row_max, 1, THREADS, sizeof(sample_shared)};
    return gpu_launch("sample", sample_kernel, grid, stream, *p);
}
