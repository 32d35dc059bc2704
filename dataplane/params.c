#include "dataplane/params.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/json_body.h"

typedef enum kind { NUMBER, INTEGER, FLAG } kind;

typedef struct row {
    const char *key;
    kind kind;
    unsigned requests;
    size_t offset;               // in cn_params
    double min, max;
    const char *limit;           // NULL, or the limit whose value is max
    size_t limit_offset;         // in cn_limits
} row;

static const row rows[] = {
#define X(id, key, kind, requests, absent, min, max)                                               \
    {key, kind, requests, offsetof(cn_params, id), min, max, NULL, 0},
    CN_PARAMS(X)
#undef X
#define X(id, key, kind, requests, absent, min, limit)                                             \
    {key, kind, requests, offsetof(cn_params, id), min, 0, #limit, offsetof(cn_limits, limit)},
    CN_PARAMS_LIMITED(X)
#undef X
};

typedef struct refused {
    const char *key;
    unsigned requests;
    const char *neutral;
    const char *what;
} refused;

static const refused refusals[] = {
#define X(key, requests, neutral, what) {key, requests, neutral, what},
    CN_PARAMS_REFUSED(X)
#undef X
};

static void fill_absent(const cn_generation_defaults *d, cn_params *out)
{
    *out = (cn_params){
#define X(id, key, kind, requests, absent, min, max) .id = absent,
        CN_PARAMS(X)
        CN_PARAMS_LIMITED(X)
#undef X
    };
}

static cn_code bad_type(const char *param, const json_t *value, const char *want, cn_err *err)
{
    return cn_err_set_param(err, CN_E_INVALID, param, "%s: %s; must be %s", param,
                            cn_json_body_kind(value), want);
}

static cn_code no_memory(cn_err *err)
{
    return cn_err_set(err, CN_E_MEMORY, "the request needs more memory than limit request_bytes");
}

// ---- scalars

static double max_of(const row *r, const cn_limits *limits)
{
    if (!r->limit) return r->max;
    return (double)*(const uint64_t *)((const char *)limits + r->limit_offset);
}

static cn_code out_of_bounds(const row *r, const char *value, double max, cn_err *err)
{
    if (r->limit) {
        return cn_err_set_param(err, CN_E_LIMIT, r->key,
                                "%s: %s; must be %.17g to %.17g (limit %s)", r->key, value, r->min,
                                max, r->limit);
    }
    return cn_err_set_param(err, CN_E_INVALID, r->key, "%s: %s; must be %.10g to %.10g", r->key,
                            value, r->min, max);
}

static cn_code read_number(const row *r, const json_t *value, double *out, cn_err *err)
{
    char text[40];
    if (!json_is_number(value)) return bad_type(r->key, value, "a number", err);
    const double number = json_number_value(value);
    snprintf(text, sizeof text, "%.10g", number);
    if (!(number >= r->min && number <= r->max)) return out_of_bounds(r, text, r->max, err);
    *out = number;
    return CN_OK;
}

static cn_code read_integer(const row *r, const json_t *value, const cn_limits *limits,
                            int64_t *out, cn_err *err)
{
    char text[40];
    int64_t integer;
    const double max = max_of(r, limits);
    if (!cn_json_body_integer(value, &integer)) {
        if (!json_is_real(value)) return bad_type(r->key, value, "an integer", err);
        return cn_err_set_param(err, CN_E_INVALID, r->key, "%s: %.10g; must be an integer", r->key,
                                json_real_value(value));
    }
    snprintf(text, sizeof text, "%" PRId64, integer);
    if ((double)integer < r->min || (double)integer > max) return out_of_bounds(r, text, max, err);
    *out = integer;
    return CN_OK;
}

static cn_code read_row(const row *r, const json_t *value, const cn_limits *limits, cn_params *out,
                        cn_err *err)
{
    char *field = (char *)out + r->offset;
    switch (r->kind) {
    case NUMBER: return read_number(r, value, (double *)field, err);
    case INTEGER: return read_integer(r, value, limits, (int64_t *)field, err);
    case FLAG: break;
    }
    if (!json_is_boolean(value)) return bad_type(r->key, value, "true or false", err);
    *(bool *)field = json_is_true(value);
    return CN_OK;
}

static cn_code read_rows(const json_t *body, const cn_params_context *context, cn_params *out,
                         cn_err *err)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (!(rows[i].requests & context->requests)) continue;
        const json_t *value = cn_json_body_get(body, rows[i].key);
        if (!value) continue;
        const cn_code code = read_row(&rows[i], value, context->limits, out, err);
        if (code != CN_OK) return code;
    }
    out->seed_given = cn_json_body_get(body, "seed") != NULL;
    out->add_special_tokens_given = cn_json_body_get(body, "add_special_tokens") != NULL;
    out->add_generation_prompt_given = cn_json_body_get(body, "add_generation_prompt") != NULL;
    return CN_OK;
}

// ---- what is not served

static bool is_same(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b)) return json_number_value(a) == json_number_value(b);
    return json_equal(a, b);
}

static cn_code check_refused(const refused *r, const json_t *value, cn_err *err)
{
    size_t i;
    json_t *allowed;
    bool neutral = false;
    json_t *list = json_loads(r->neutral, 0, NULL);
    json_array_foreach(list, i, allowed) neutral |= is_same(value, allowed);
    json_decref(list);
    if (neutral) return CN_OK;
    if (strcmp(r->neutral, "[]") == 0) {
        return cn_err_set_param(err, CN_E_UNSUPPORTED, r->key,
                                "%s: Cairn does not serve %s; leave it out", r->key, r->what);
    }
    return cn_err_set_param(err, CN_E_UNSUPPORTED, r->key,
                            "%s: Cairn does not serve %s; leave it out or use one of %s", r->key,
                            r->what, r->neutral);
}

static cn_code check_all_refused(const json_t *body, unsigned requests, cn_err *err)
{
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        if (!(refusals[i].requests & requests)) continue;
        const json_t *value = cn_json_body_get(body, refusals[i].key);
        const cn_code code = value ? check_refused(&refusals[i], value, err) : CN_OK;
        if (code != CN_OK) return code;
    }
    return CN_OK;
}

// ---- lists

static cn_code too_many(const char *param, size_t count, uint64_t max, const char *limit,
                        cn_err *err)
{
    return cn_err_set_param(err, CN_E_LIMIT, param, "%s: %zu entries; must be at most %" PRIu64
                            " (limit %s)", param, count, max, limit);
}

static cn_code read_stop_string(const json_t *value, uint32_t index,
                                const cn_params_context *context, const char **text, uint32_t *len,
                                cn_err *err)
{
    const uint64_t max = context->limits->stop_string_bytes;
    if (!json_is_string(value)) return bad_type("stop", value, "one string or a list", err);
    const size_t bytes = json_string_length(value);
    if (bytes == 0) {
        return cn_err_set_param(err, CN_E_INVALID, "stop", "stop[%u]: empty; must have at least 1 "
                                "byte", index);
    }
    if (bytes > max) {
        return cn_err_set_param(err, CN_E_LIMIT, "stop", "stop[%u]: %zu bytes; must be at most %"
                                PRIu64 " (limit stop_string_bytes)", index, bytes, max);
    }
    *text = cn_arena_copy(context->arena, json_string_value(value), bytes);
    *len = (uint32_t)bytes;
    return *text ? CN_OK : no_memory(err);
}

static cn_code read_stop(const json_t *body, const cn_params_context *context, cn_params *out,
                         cn_err *err)
{
    const json_t *stop = cn_json_body_get(body, "stop");
    const bool is_list = json_is_array(stop);
    const size_t count = !stop ? 0 : is_list ? json_array_size(stop) : 1;
    if (count > context->limits->stop_strings) {
        return too_many("stop", count, context->limits->stop_strings, "stop_strings", err);
    }
    if (count == 0) return CN_OK;
    const char **texts = cn_arena_take_array(context->arena, count, sizeof *texts);
    uint32_t *lens = cn_arena_take_array(context->arena, count, sizeof *lens);
    if (!texts || !lens) return no_memory(err);
    for (uint32_t i = 0; i < count; i++) {
        const cn_code code = read_stop_string(is_list ? json_array_get(stop, i) : stop, i, context,
                                              &texts[i], &lens[i], err);
        if (code != CN_OK) return code;
    }
    out->stop = (cn_params_stop){texts, lens, (uint32_t)count};
    return CN_OK;
}

cn_code cn_params_token_ids(const json_t *list, const char *param, uint32_t vocab_count,
                            cn_arena *arena, int32_t **out, uint32_t *count, cn_err *err)
{
    size_t i;
    json_t *value;
    if (!json_is_array(list)) return bad_type(param, list, "a list of token ids", err);
    int32_t *ids = cn_arena_take_array(arena, json_array_size(list) + 1, sizeof *ids);
    if (!ids) return no_memory(err);
    json_array_foreach(list, i, value) {
        int64_t id;
        if (!cn_json_body_integer(value, &id)) {
            return cn_err_set_param(err, CN_E_INVALID, param, "%s[%zu]: %s; must be a token id",
                                    param, i, cn_json_body_kind(value));
        }
        if (id < 0 || id >= vocab_count) {
            return cn_err_set_param(err, CN_E_INVALID, param,
                                    "%s[%zu]: %" PRId64 "; must be 0 to %u", param, i, id,
                                    vocab_count - 1);
        }
        ids[i] = (int32_t)id;
    }
    *out = ids;
    *count = (uint32_t)json_array_size(list);
    return CN_OK;
}

static cn_code read_stop_ids(const json_t *body, const cn_params_context *context, cn_params *out,
                             cn_err *err)
{
    const json_t *list = cn_json_body_get(body, "stop_token_ids");
    int32_t *ids;
    if (!list) return CN_OK;
    if (json_array_size(list) > context->limits->stop_tokens) {
        return too_many("stop_token_ids", json_array_size(list), context->limits->stop_tokens,
                        "stop_tokens", err);
    }
    const cn_code code = cn_params_token_ids(list, "stop_token_ids", context->vocab_count,
                                             context->arena, &ids, &out->stop_id_count, err);
    out->stop_ids = code == CN_OK ? ids : NULL;
    return code;
}

static cn_code read_bias(const char *key, const json_t *value, const cn_params_context *context,
                         int32_t *id, float *bias, cn_err *err)
{
    char *end = NULL;
    const long number = *key >= '0' && *key <= '9' ? strtol(key, &end, 10) : -1;
    if (!end || *end || number < 0 || number >= (long)context->vocab_count) {
        return cn_err_set_param(err, CN_E_INVALID, "logit_bias",
                                "logit_bias: member \"%.32s\"; must be a token id, 0 to %u", key,
                                context->vocab_count - 1);
    }
    if (!json_is_number(value)) {
        return cn_err_set_param(err, CN_E_INVALID, "logit_bias", "logit_bias[%ld]: %s; must be a "
                                "number", number, cn_json_body_kind(value));
    }
    const double wanted = json_number_value(value);
    if (!(wanted >= -100 && wanted <= 100)) {
        return cn_err_set_param(err, CN_E_INVALID, "logit_bias",
                                "logit_bias[%ld]: %.10g; must be -100 to 100", number, wanted);
    }
    *id = (int32_t)number;
    *bias = (float)wanted;
    return CN_OK;
}

static cn_code read_logit_bias(const json_t *body, const cn_params_context *context, cn_params *out,
                               cn_err *err)
{
    json_t *object = cn_json_body_get(body, "logit_bias");
    const char *key;
    json_t *value;
    if (!object) return CN_OK;
    if (!json_is_object(object)) {
        return bad_type("logit_bias", object, "an object of token ids and numbers", err);
    }
    const size_t count = json_object_size(object);
    if (count > context->limits->logit_bias) {
        return too_many("logit_bias", count, context->limits->logit_bias, "logit_bias", err);
    }
    int32_t *ids = cn_arena_take_array(context->arena, count, sizeof *ids);
    float *values = cn_arena_take_array(context->arena, count, sizeof *values);
    if (!ids || !values) return no_memory(err);
    json_object_foreach(object, key, value) {
        const cn_code code = read_bias(key, value, context, &ids[out->bias_count],
                                       &values[out->bias_count], err);
        if (code != CN_OK) return code;
        out->bias_count++;
    }
    out->bias_ids = ids;
    out->bias_values = values;
    return CN_OK;
}

static cn_code read_stream_options(const json_t *body, cn_params *out, cn_err *err)
{
    static const char *const names[] = {"stream_options.include_usage",
                                        "stream_options.continuous_usage_stats"};
    bool *const fields[] = {&out->include_usage, &out->continuous_usage};
    const json_t *options = cn_json_body_get(body, "stream_options");
    if (!options) return CN_OK;
    if (!json_is_object(options)) return bad_type("stream_options", options, "an object", err);
    if (!out->stream) {
        return cn_err_set_param(err, CN_E_INVALID, "stream_options",
                                "stream_options: given without \"stream\": true; leave it out");
    }
    for (int i = 0; i < 2; i++) {
        const json_t *value = cn_json_body_get(options, strchr(names[i], '.') + 1);
        if (!value) continue;
        if (!json_is_boolean(value)) return bad_type(names[i], value, "true or false", err);
        *fields[i] = json_is_true(value);
    }
    return CN_OK;
}

// ---- what must fit together

static cn_code check_together(const cn_params_context *context, cn_params *out, cn_err *err)
{
    const int64_t max_tokens = context->requests == CN_PARAMS_TEXT       ? out->text_max_tokens
                               : context->requests == CN_PARAMS_RESPONSE ? out->max_output_tokens
                               : out->max_completion_tokens >= 0 ? out->max_completion_tokens
                                                                 : out->max_tokens;
    out->max_tokens = max_tokens;
    if (max_tokens >= 0 && out->min_tokens > max_tokens) {
        return cn_err_set_param(err, CN_E_INVALID, "min_tokens",
                                "min_tokens: %" PRId64 "; must be at most max_tokens (%" PRId64 ")",
                                out->min_tokens, max_tokens);
    }
    if (out->top_logprobs > 0 && !out->chat_logprobs && context->requests == CN_PARAMS_CHAT) {
        return cn_err_set_param(err, CN_E_INVALID, "top_logprobs",
                                "top_logprobs: given without \"logprobs\": true; set it, too");
    }
    if (out->continue_final && out->add_generation_prompt_given && out->add_generation_prompt) {
        return cn_err_set_param(err, CN_E_INVALID, "continue_final_message",
                                "continue_final_message: true together with add_generation_prompt; "
                                "a message is either continued or begun");
    }
    // Below this the softmax is a maximum in all but name, and its division overflows.
    if (out->temperature > 0 && out->temperature < 0.01) out->temperature = 0.01;
    return CN_OK;
}

cn_code cn_params_read(const json_t *body, const cn_params_context *context, cn_params *out,
                       cn_err *err)
{
    fill_absent(context->defaults, out);
    cn_code code = read_rows(body, context, out, err);
    if (code == CN_OK) code = check_all_refused(body, context->requests, err);
    if (code == CN_OK && context->requests != CN_PARAMS_TOKENS) {
        code = read_stop(body, context, out, err);
        if (code == CN_OK) code = read_stop_ids(body, context, out, err);
        if (code == CN_OK) code = read_logit_bias(body, context, out, err);
        if (code == CN_OK) code = read_stream_options(body, out, err);
    }
    return code == CN_OK ? check_together(context, out, err) : code;
}
