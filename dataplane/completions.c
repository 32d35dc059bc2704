#include "dataplane/api_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "dataplane/json_body.h"

/* The forms of `prompt`: a string, a list of strings, token ids, a list of lists of token ids. */

static cn_code no_memory(cn_err *err)
{
    return cn_err_set_param(err, CN_E_LIMIT, "prompt",
                            "prompt: needs more working memory than limit request_bytes allows");
}

static cn_code no_tokens(const char *name, cn_err *err)
{
    return cn_err_set_param(err, CN_E_INVALID, "prompt", "%s: has no tokens; must have at least 1",
                            name);
}

static cn_code read_text(cn_answer *answer, const json_t *value, const char *name,
                         cn_answer_input *out, cn_err *err)
{
    const struct cn_api *api = answer->api;
    const cn_encode_options options = {
        .add_special_tokens =
            !answer->params.add_special_tokens_given || answer->params.add_special_tokens,
        .tokens_max = cn_generate_tokens_max(api),
    };
    const size_t len = json_string_length(value);
    cn_token_list tokens;
    // The text outlives the JSON only where it is to be echoed.
    const char *text = json_string_value(value);
    if (answer->params.echo) text = cn_arena_copy(&answer->request->arena, text, len);
    if (!text) return no_memory(err);
    cn_code code = cn_generate_check_bytes(answer, len, err);
    if (code != CN_OK) return code;
    code = cn_tokenizer_encode(api->options.tokenizer, text, len, &options,
                                             &answer->request->arena, &tokens, err);
    if (code == CN_E_LIMIT) {
        return cn_generate_context_error(answer, (uint64_t)options.tokens_max + 1, -1, err);
    }
    if (code != CN_OK) return code;
    if (tokens.count == 0) return no_tokens(name, err);
    *out = (cn_answer_input){tokens.ids, tokens.count, answer->params.echo ? text : NULL,
                             answer->params.echo ? len : 0};
    return CN_OK;
}

static cn_code decode(cn_answer *answer, cn_answer_input *input, cn_err *err)
{
    cn_buf *text = &answer->api->text;
    cn_buf_clear(text);
    cn_tokenizer_decode(answer->api->options.tokenizer, input->ids, input->count, false, text);
    input->text = text->overflowed
                      ? NULL : cn_arena_copy(&answer->request->arena, text->data, text->len);
    input->text_len = text->len;
    return input->text ? CN_OK : no_memory(err);
}

static cn_code read_ids(cn_answer *answer, const json_t *value, const char *name,
                        cn_answer_input *out, cn_err *err)
{
    const uint32_t vocab_count = cn_checkpoint_spec(answer->api->options.checkpoint)->vocab_count;
    int32_t *ids;
    uint32_t count;
    const cn_code code =
        cn_params_token_ids(value, name, vocab_count, &answer->request->arena, &ids, &count, err);
    if (code != CN_OK) return code;
    if (count == 0) return no_tokens(name, err);
    *out = (cn_answer_input){.ids = ids, .count = count};
    return answer->params.echo ? decode(answer, out, err) : CN_OK;
}

static cn_code read_one(cn_answer *answer, const json_t *value, const char *name,
                        cn_answer_input *out, cn_err *err)
{
    if (json_is_string(value)) return read_text(answer, value, name, out, err);
    if (json_is_array(value)) return read_ids(answer, value, name, out, err);
    return cn_err_set_param(err, CN_E_INVALID, "prompt",
                            "%s: %s; must be a string or a list of token ids", name,
                            cn_json_body_kind(value));
}

cn_code cn_completions_prompts(cn_answer *answer, const json_t *body, cn_answer_input **out,
                               uint32_t *count, cn_err *err)
{
    const json_t *prompt = cn_json_body_get(body, "prompt");
    const uint64_t max = answer->api->options.limits->prompts;
    const json_t *first = json_array_get(prompt, 0);
    const bool is_list = json_is_string(first) || json_is_array(first);
    const size_t size = is_list ? json_array_size(prompt) : 1;
    if (size > max) {
        return cn_err_set_param(err, CN_E_LIMIT, "prompt", "prompt: %zu prompts; must be at most %"
                                PRIu64 " (limit prompts)", size, max);
    }
    cn_answer_input *inputs = cn_arena_take_array(&answer->request->arena, size, sizeof *inputs);
    if (!inputs) return no_memory(err);
    for (size_t i = 0; i < size; i++) {
        char name[32] = "prompt";
        if (is_list) snprintf(name, sizeof name, "prompt[%zu]", i);
        const cn_code code = read_one(answer, is_list ? json_array_get(prompt, i) : prompt, name,
                                      &inputs[i], err);
        if (code != CN_OK) return code;
    }
    *out = inputs;
    *count = (uint32_t)size;
    return CN_OK;
}
