#include "model/rope.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"

/* How it works. Dimension pair i of a head turns by position * f_i, f_i = theta^(-2i / head_dim).
 *   default  f_i (Su et al. 2021)
 *   linear   f_i / factor (Chen et al. 2023)
 *   llama3   pairs whose wave is longer than the original context / low_freq_factor turn `factor`
 *            times slower, those shorter than context / high_freq_factor as before, and in between
 *            the two are mixed in proportion to the wave number (Llama 3.1)
 *   yarn     the same idea with a ramp that is linear in the dimension, between the dimensions that
 *            turn beta_fast and beta_slow times over the original context; and cos and sin grow by
 *            `magnitude`, which sharpens attention (Peng et al. 2023)
 * All in double, with one rounding to float at the end: it does not depend on anyone's powf. */

static const double PI = 3.14159265358979323846;

static const char *const kind_names[CN_ROPE_KIND_COUNT] = {"default", "linear", "llama3", "yarn"};

static cn_code read_kind(const cn_json_object *rope, cn_rope_kind *kind, cn_err *err)
{
    const char *field = cn_json_file_find(rope, "rope_type") ? "rope_type" : "type";
    const char *name = kind_names[CN_ROPE_DEFAULT];
    const cn_code code = cn_json_file_string(rope, field, &name, err);
    if (code != CN_OK) return code;
    for (int i = 0; i < CN_ROPE_KIND_COUNT; i++) {
        if (strcmp(name, kind_names[i]) != 0) continue;
        *kind = (cn_rope_kind)i;
        return CN_OK;
    }
    return cn_json_file_refuse(rope, field, CN_E_UNSUPPORTED, err,
                               "Cairn computes default, linear, llama3 and yarn");
}

// The object with the fields of the rotation: its newest spelling may hold one per kind of layer.
static cn_code find_object(const cn_json_object *config, cn_json_object *rope, cn_err *err)
{
    const char *field = json_object_size(cn_json_file_find(config, "rope_scaling"))
                            ? "rope_scaling" : "rope_parameters";
    cn_json_object outer;
    cn_code code = cn_json_file_child(config, "rope_scaling", rope, err);
    if (code != CN_OK) return code;
    code = cn_json_file_child(config, field, rope, err);
    if (code != CN_OK || !cn_json_file_find(rope, "full_attention")) return code;
    outer = *rope;
    return cn_json_file_child(&outer, "full_attention", rope, err);
}

static cn_code need(const cn_json_object *rope, const char *field, double min, double max,
                    double *value, cn_err *err)
{
    if (!cn_json_file_find(rope, field)) {
        return cn_json_file_refuse(rope, field, CN_E_FORMAT, err,
                                   "this rope_type needs a number from %g to %g", min, max);
    }
    return cn_json_file_double(rope, field, min, max, value, err);
}

static cn_code read_original_context(const cn_json_object *config, const cn_json_object *rope,
                                     uint32_t context_tokens, double *value, cn_err *err)
{
    static const char field[] = "original_max_position_embeddings";
    // Some families keep the field outside, and then it wins.
    const cn_json_object *from = cn_json_file_find(config, field) ? config : rope;
    *value = context_tokens;
    return cn_json_file_double(from, field, 1, 1 << 26, value, err);
}

static cn_code read_llama3(const cn_json_object *rope, cn_rope *out, cn_err *err)
{
    double *low = &out->low_freq_factor, *high = &out->high_freq_factor;
    cn_code code = need(rope, "factor", 1, 1e6, &out->factor, err);
    if (code == CN_OK) code = need(rope, "low_freq_factor", 1e-3, 1e6, low, err);
    if (code == CN_OK) code = need(rope, "high_freq_factor", 1e-3, 1e6, high, err);
    if (code != CN_OK || *high > *low) return code;
    return cn_json_file_refuse(rope, "high_freq_factor", CN_E_FORMAT, err,
                               "must be above low_freq_factor (%g)", *low);
}

static double yarn_magnitude(double factor, double scale)
{
    return factor <= 1 ? 1 : 0.1 * scale * log(factor) + 1;
}

static cn_code read_yarn(const cn_json_object *rope, uint32_t context_tokens, cn_rope *out,
                         cn_err *err)
{
    double scale = 0, scale_all = 0;
    out->beta_fast = 32;
    out->beta_slow = 1;
    out->truncate = true;
    out->factor = context_tokens / out->context_tokens_original;
    const struct {
        const char *field;
        double min, max, *value;
    } numbers[] = {
        {"factor", 1, 1e6, &out->factor},          {"beta_fast", 1e-3, 1e6, &out->beta_fast},
        {"beta_slow", 1e-3, 1e6, &out->beta_slow}, {"mscale", 0, 1e3, &scale},
        {"mscale_all_dim", 0, 1e3, &scale_all},
    };
    cn_code code = CN_OK;
    for (size_t i = 0; code == CN_OK && i < sizeof numbers / sizeof numbers[0]; i++) {
        code = cn_json_file_double(rope, numbers[i].field, numbers[i].min, numbers[i].max,
                                   numbers[i].value, err);
    }
    if (code == CN_OK) code = cn_json_file_bool(rope, "truncate", &out->truncate, err);
    if (code != CN_OK) return code;
    if (out->beta_fast < out->beta_slow) {
        return cn_json_file_refuse(rope, "beta_fast", CN_E_FORMAT, err,
                                   "must not be below beta_slow (%g)", out->beta_slow);
    }
    out->magnitude = yarn_magnitude(out->factor, 1);
    if (scale != 0 && scale_all != 0) {
        out->magnitude =
            yarn_magnitude(out->factor, scale) / yarn_magnitude(out->factor, scale_all);
    }
    return cn_json_file_double(rope, "attention_factor", 1e-3, 1e3, &out->magnitude, err);
}

// What may stand in config.json itself or, stronger, in the object of the rotation.
static cn_code read_common(const cn_json_object *object, cn_rope *out, cn_err *err)
{
    double part = 1;
    cn_code code = cn_json_file_double(object, "rope_theta", 2, 1e15, &out->theta, err);
    if (code == CN_OK) {
        code = cn_json_file_double(object, "partial_rotary_factor", 0, 1, &part, err);
    }
    if (code != CN_OK || part == 1) return code;
    return cn_json_file_refuse(object, "partial_rotary_factor", CN_E_UNSUPPORTED, err,
                               "Cairn rotates whole heads, which is 1");
}

cn_code cn_rope_read(const cn_json_object *config, uint32_t context_tokens, cn_rope *out,
                     cn_err *err)
{
    cn_json_object rope;
    *out = (cn_rope){.theta = 10000, .factor = 1, .magnitude = 1};
    cn_code code = find_object(config, &rope, err);
    if (code == CN_OK) code = read_common(config, out, err);
    if (code == CN_OK) code = read_common(&rope, out, err);
    if (code == CN_OK) code = read_kind(&rope, &out->kind, err);
    if (code != CN_OK || out->kind == CN_ROPE_DEFAULT) return code;
    if (out->kind == CN_ROPE_LINEAR) return need(&rope, "factor", 1, 1e6, &out->factor, err);

    code = read_original_context(config, &rope, context_tokens, &out->context_tokens_original, err);
    if (code != CN_OK) return code;
    return out->kind == CN_ROPE_LLAMA3 ? read_llama3(&rope, out, err)
                                       : read_yarn(&rope, context_tokens, out, err);
}

static double llama3_freq(const cn_rope *rope, double freq)
{
    const double turns = rope->context_tokens_original * freq / (2 * PI);
    if (turns < rope->low_freq_factor) return freq / rope->factor;
    if (turns > rope->high_freq_factor) return freq;
    const double smooth = (turns - rope->low_freq_factor) /
                          (rope->high_freq_factor - rope->low_freq_factor);
    return (1 - smooth) * freq / rope->factor + smooth * freq;
}

// The dimension (not always whole) that turns `turns` times over the original context.
static double yarn_dimension(const cn_rope *rope, double turns, double head_dim)
{
    return head_dim * log(rope->context_tokens_original / (turns * 2 * PI)) /
           (2 * log(rope->theta));
}

static double yarn_freq(const cn_rope *rope, double freq, double head_dim, double i)
{
    double low = yarn_dimension(rope, rope->beta_fast, head_dim);
    double high = yarn_dimension(rope, rope->beta_slow, head_dim);
    if (rope->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, head_dim - 1);
    if (low == high) high += 0.001;          // as published, so that the ramp is a step
    const double ramp = fmin(fmax((i - low) / (high - low), 0), 1);
    return ramp * freq / rope->factor + (1 - ramp) * freq;
}

void cn_rope_fill(const cn_rope *rope, uint32_t head_dim, float *inv_freq)
{
    CN_ASSERT(head_dim % 2 == 0);
    for (uint32_t i = 0; i < head_dim / 2; i++) {
        double freq = pow(rope->theta, -2.0 * i / head_dim);
        switch (rope->kind) {
        case CN_ROPE_LINEAR: freq /= rope->factor; break;
        case CN_ROPE_LLAMA3: freq = llama3_freq(rope, freq); break;
        case CN_ROPE_YARN: freq = yarn_freq(rope, freq, head_dim, i); break;
        default: break;
        }
        inv_freq[i] = (float)freq;
    }
}
