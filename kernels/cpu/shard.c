#include "kernels/cpu/shard_int.h"

/* How it works. Inputs are cut in halves, quarters and eighths, each time in the middle or one behind it,
 * so that every cut is even: a pair of bf16 inputs is never torn. Two, four or eight ranks take halves,
 * quarters or eighths, so the cuts are the same for all of them, and a sum over eighths has the same
 * bits wherever they are added. The heads divide among the ranks, so those cuts fall between heads. */

static uint32_t cut(uint32_t inputs, uint32_t eighth)
{
    uint32_t begin = 0, end = inputs;
    if (eighth == CN_SLICES) return inputs;
    for (uint32_t bit = CN_SLICES / 2; bit > 0; bit /= 2) {
        const uint32_t middle = begin + (((end - begin) / 2 + 1) & ~1u);
        if (eighth & bit) begin = middle;
        else end = middle;
    }
    return begin;
}

cn_code cn_shard_check(const cn_model_spec *spec, uint32_t rank_count, cn_err *err)
{
    const uint32_t kv_heads = spec->kv_head_count;
    if (spec->head_count % rank_count) {
        return cn_err_set(err, CN_E_UNSUPPORTED,
                          "devices.tensor_parallel: %u; must divide the model's %u heads "
                          "(num_attention_heads)", rank_count, spec->head_count);
    }
    if (kv_heads % rank_count && rank_count % kv_heads) {
        return cn_err_set(err, CN_E_UNSUPPORTED,
                          "devices.tensor_parallel: %u; must divide the model's %u KV heads "
                          "(num_key_value_heads), or be a multiple of them", rank_count, kv_heads);
    }
    if (rank_count > 1 && spec->mlp_dim < 2 * CN_SLICES) {
        return cn_err_set(err, CN_E_UNSUPPORTED,
                          "devices.tensor_parallel: %u; the model's MLP has %u columns "
                          "(intermediate_size); must be %d or more", rank_count, spec->mlp_dim,
                          2 * CN_SLICES);
    }
    return CN_OK;
}

static cn_range share(uint32_t count, uint32_t rank_count, uint32_t rank)
{
    const uint32_t begin = (uint32_t)((uint64_t)count * rank / rank_count);
    return (cn_range){begin, (uint32_t)((uint64_t)count * (rank + 1) / rank_count) - begin};
}

cn_shard cn_shard_of(const cn_model_spec *spec, uint32_t rank_count, uint32_t rank)
{
    const uint32_t kv_heads = spec->kv_head_count, eighths = CN_SLICES / rank_count;
    const uint32_t holders = rank_count > kv_heads ? rank_count / kv_heads : 1;      // of one KV head
    const uint32_t mlp_begin = cut(spec->mlp_dim, rank * eighths);
    return (cn_shard){
        .heads = share(spec->head_count, rank_count, rank),
        .kv_heads = share(kv_heads, rank_count / holders, rank / holders),
        .mlp = {mlp_begin, cut(spec->mlp_dim, (rank + 1) * eighths) - mlp_begin},
        .vocab = share(spec->vocab_count, rank_count, rank),
        .first_holder = rank % holders == 0,
    };
}

void cn_shard_slice(cn_packed *packed, uint32_t inputs, uint32_t rank_count, uint32_t rank)
{
    const uint32_t first = CN_SLICES / rank_count * rank, begin = cut(inputs, first);
    packed->slice_count = CN_SLICES / rank_count;
    for (uint32_t i = 0; i + 1 < packed->slice_count; i++) {
        packed->slice_ends[i] = cut(inputs, first + i + 1) - begin;
    }
    packed->slice_ends[packed->slice_count - 1] = packed->in;
}
