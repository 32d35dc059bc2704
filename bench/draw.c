#include "bench/draw.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    cn_draw_kind kind;
    uint32_t parameters;
} kinds[] = {
    {"fixed", CN_DRAW_FIXED, 1},
    {"uniform", CN_DRAW_UNIFORM, 2},
    {"normal", CN_DRAW_NORMAL, 2},
    {"lognormal", CN_DRAW_LOGNORMAL, 2},
    {"exponential", CN_DRAW_EXPONENTIAL, 1},
};

static bool parse_number(const char **text, double *out)
{
    char *end;
    *out = strtod(*text, &end);
    const bool sound = end != *text && isfinite(*out) && *out >= 0 && *out <= 1e9;
    *text = end;
    return sound;
}

// The numbers after the name: one or two, separated by a colon, and nothing after them.
static bool parse_numbers(const char *text, uint32_t count, cn_draw *out)
{
    if (!parse_number(&text, &out->a)) return false;
    if (count == 2 && (*text++ != ':' || !parse_number(&text, &out->b))) return false;
    if (*text) return false;
    if (out->kind == CN_DRAW_UNIFORM) return out->a <= out->b;
    if (out->kind == CN_DRAW_LOGNORMAL) return out->a > 0 && out->a <= out->b;
    return true;
}

cn_code cn_draw_parse(const char *text, const char *what, cn_draw *out, cn_err *err)
{
    const size_t name_len = strcspn(text, ":");
    *out = (cn_draw){CN_DRAW_FIXED, 0, 0};
    bool sound = text[name_len] ? false : parse_numbers(text, 1, out);
    for (size_t i = 0; text[name_len] && i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strlen(kinds[i].name) != name_len || strncmp(kinds[i].name, text, name_len) != 0)
            continue;
        out->kind = kinds[i].kind;
        sound = parse_numbers(text + name_len + 1, kinds[i].parameters, out);
    }
    if (sound) return CN_OK;
    return cn_err_set(err, CN_E_INVALID,
                      "%s: %.60s; must be N, uniform:LOW:HIGH, normal:MEAN:DEVIATION, "
                      "lognormal:MEDIAN:P90 or exponential:MEAN, of numbers from 0 to 1e9",
                      what, text);
}

// 53 bits, and half a step away from both ends.
double cn_draw_uniform(const cn_random *random)
{
    return ((double)(cn_random_u64(random) >> 11) + 0.5) * 0x1p-53;
}

double cn_draw_exponential(const cn_random *random) { return -log(cn_draw_uniform(random)); }

// Box and Muller 1958; the second value is not kept, so that a draw has no state.
double cn_draw_normal(const cn_random *random)
{
    const double radius = sqrt(2 * cn_draw_exponential(random));
    return radius * cos(2 * M_PI * cn_draw_uniform(random));
}

/* Marsaglia and Tsang 2000. A shape below 1 is drawn as shape + 1 and scaled by u^(1/shape): with
 * very small shapes most values underflow to 0, which is what such traffic looks like. */
double cn_draw_gamma(double shape, const cn_random *random)
{
    const double boost = shape < 1 ? pow(cn_draw_uniform(random), 1 / shape) : 1;
    const double d = (shape < 1 ? shape + 1 : shape) - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        const double x = cn_draw_normal(random), root = 1 + c * x, v = root * root * root;
        if (v > 0 && log(cn_draw_uniform(random)) < 0.5 * x * x + d - d * v + d * log(v)) {
            return boost * d * v;
        }
    }
}

double cn_draw_take(const cn_draw *draw, const cn_random *random)
{
    static const double normal_p90 = 1.2815515655446004;     // of the standard normal distribution
    double value = draw->a;
    switch (draw->kind) {
    case CN_DRAW_FIXED: break;
    case CN_DRAW_UNIFORM: value += (draw->b - draw->a) * cn_draw_uniform(random); break;
    case CN_DRAW_NORMAL: value += draw->b * cn_draw_normal(random); break;
    case CN_DRAW_LOGNORMAL:
        value *= exp(log(draw->b / draw->a) / normal_p90 * cn_draw_normal(random));
        break;
    case CN_DRAW_EXPONENTIAL: value *= cn_draw_exponential(random); break;
    }
    return value > 0 ? value : 0;
}

uint32_t cn_draw_take_count(const cn_draw *draw, const cn_random *random, uint32_t min,
                            uint32_t max)
{
    const double value = round(cn_draw_take(draw, random));
    if (value < min) return min;
    return value > max ? max : (uint32_t)value;
}
