/* dataplane/params.h: the parameters of a request, from one table.
 * Every member that Cairn honours is a line here, with its type, its bounds and what it is when
 * absent or null; every member that it knows and does not serve is a line of the second table, with
 * the values that ask for nothing. Other members are accepted and ignored.
 *
 * Threads: any, nothing is kept.
 * Memory:  lists are in the arena given to read. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/limits.h"
#include "model/checkpoint.h"

/* Which requests have a parameter. */
enum {
    CN_PARAMS_CHAT = 1,
    CN_PARAMS_TEXT = 2,          // /v1/completions
    CN_PARAMS_TOKENS = 4,        // /tokenize and /apply-template
    CN_PARAMS_RESPONSE = 8,      // /v1/responses
    CN_PARAMS_ANSWER = CN_PARAMS_CHAT | CN_PARAMS_TEXT,
    CN_PARAMS_SAMPLED = CN_PARAMS_ANSWER | CN_PARAMS_RESPONSE,
    CN_PARAMS_MESSAGES = CN_PARAMS_CHAT | CN_PARAMS_TOKENS
};

enum { CN_PARAMS_ABSENT = -1 };  // of an integer whose bounds begin at 0 or above

/* `absent` may use the model's defaults `d`.
 *  id                key                        kind     requests            absent                 min   max */
#define CN_PARAMS(X)                                                                               \
    X(temperature,       "temperature",           NUMBER,  CN_PARAMS_SAMPLED,  (double)d->temperature, 0,    2) \
    X(top_p,             "top_p",                 NUMBER,  CN_PARAMS_SAMPLED,  (double)d->top_p,     0,    1) \
    X(min_p,             "min_p",                 NUMBER,  CN_PARAMS_SAMPLED,  (double)d->min_p,     0,    1) \
    X(top_k,             "top_k",                 INTEGER, CN_PARAMS_SAMPLED,  d->top_k,             -1,   2147483647) \
    X(repetition_penalty, "repetition_penalty",   NUMBER,  CN_PARAMS_SAMPLED,  (double)d->repetition_penalty, 0.01, 10) \
    X(presence_penalty,  "presence_penalty",      NUMBER,  CN_PARAMS_SAMPLED,  0,                    -2,   2) \
    X(frequency_penalty, "frequency_penalty",     NUMBER,  CN_PARAMS_SAMPLED,  0,                    -2,   2) \
    X(seed,              "seed",                  INTEGER, CN_PARAMS_SAMPLED,  0,                    -9223372036854775807.0, 9223372036854775807.0) \
    X(ignore_eos,        "ignore_eos",            FLAG,    CN_PARAMS_SAMPLED,  false,                0,    0) \
    X(include_stop,      "include_stop_str_in_output", FLAG, CN_PARAMS_SAMPLED, false,                0,    0) \
    X(skip_special,      "skip_special_tokens",   FLAG,    CN_PARAMS_SAMPLED,  true,                 0,    0) \
    X(stream,            "stream",                FLAG,    CN_PARAMS_SAMPLED,  false,                0,    0) \
    X(return_token_ids,  "return_token_ids",      FLAG,    CN_PARAMS_ANSWER,   false,                0,    0) \
    X(tokens_as_ids,     "return_tokens_as_token_ids", FLAG, CN_PARAMS_SAMPLED, false,                0,    0) \
    X(chat_logprobs,     "logprobs",              FLAG,    CN_PARAMS_CHAT,     false,                0,    0) \
    X(top_logprobs,      "top_logprobs",          INTEGER, CN_PARAMS_CHAT | CN_PARAMS_RESPONSE, CN_PARAMS_ABSENT,     0,    CN_TOP_LOGPROBS_MAX) \
    X(text_logprobs,     "logprobs",              INTEGER, CN_PARAMS_TEXT,     CN_PARAMS_ABSENT,     0,    CN_TOP_LOGPROBS_MAX) \
    X(echo,              "echo",                  FLAG,    CN_PARAMS_TEXT,     false,                0,    0) \
    X(add_special_tokens, "add_special_tokens",   FLAG,    CN_PARAMS_ANSWER | CN_PARAMS_TOKENS, false, 0,  0) \
    X(add_generation_prompt, "add_generation_prompt", FLAG, CN_PARAMS_MESSAGES, true,                0,    0) \
    X(continue_final,    "continue_final_message", FLAG,   CN_PARAMS_MESSAGES, false,                0,    0) \
    X(parallel_tools,    "parallel_tool_calls",   FLAG,    CN_PARAMS_CHAT | CN_PARAMS_RESPONSE, true,                 0,    0) \
    X(token_strings,     "return_token_strs",     FLAG,    CN_PARAMS_TOKENS,   true,                 0,    0)

/* As above; the upper bound is a limit.
 *  id                key                        kind     requests            absent              min   limit */
#define CN_PARAMS_LIMITED(X)                                                                       \
    X(n,                 "n",                     INTEGER, CN_PARAMS_ANSWER,   1,                    1,    choices) \
    X(max_tokens,        "max_tokens",            INTEGER, CN_PARAMS_CHAT,     CN_PARAMS_ABSENT,     1,    turn_tokens) \
    X(max_completion_tokens, "max_completion_tokens", INTEGER, CN_PARAMS_CHAT, CN_PARAMS_ABSENT,     1,    turn_tokens) \
    X(text_max_tokens,   "max_tokens",            INTEGER, CN_PARAMS_TEXT,     CN_PARAMS_ABSENT,     0,    turn_tokens) \
    X(max_output_tokens, "max_output_tokens",     INTEGER, CN_PARAMS_RESPONSE, CN_PARAMS_ABSENT,     1,    turn_tokens) \
    X(min_tokens,        "min_tokens",            INTEGER, CN_PARAMS_SAMPLED,  0,                    0,    turn_tokens)

/* Known and not served. `neutral` is a JSON list of the values that ask for nothing.
 *  key                       requests           neutral                          what it asks for */
#define CN_PARAMS_REFUSED(X)                                                                       \
    X("best_of",               CN_PARAMS_TEXT,    "[1]",                           "choosing among more answers than n") \
    X("suffix",                CN_PARAMS_TEXT,    "[\"\"]",                        "insertion before a suffix") \
    X("prompt_embeds",         CN_PARAMS_TEXT,    "[]",                            "prompts as embeddings") \
    X("echo",                  CN_PARAMS_CHAT,    "[false]",                       "repetition of the last message") \
    X("response_format",       CN_PARAMS_SAMPLED, "[{\"type\":\"text\"}]",         "structured output") \
    X("structured_outputs",    CN_PARAMS_SAMPLED, "[{}]",                          "structured output") \
    X("guided_json",           CN_PARAMS_SAMPLED, "[]",                            "structured output") \
    X("guided_regex",          CN_PARAMS_SAMPLED, "[]",                            "structured output") \
    X("guided_choice",         CN_PARAMS_SAMPLED, "[[]]",                          "structured output") \
    X("guided_grammar",        CN_PARAMS_SAMPLED, "[]",                            "structured output") \
    X("grammar",               CN_PARAMS_SAMPLED, "[\"\"]",                        "structured output") \
    X("json_schema",           CN_PARAMS_SAMPLED, "[{}]",                          "structured output") \
    X("tool_choice",           CN_PARAMS_CHAT | CN_PARAMS_RESPONSE, "[\"none\",\"auto\"]",           "a forced tool call") \
    X("function_call",         CN_PARAMS_CHAT,    "[\"none\",\"auto\"]",           "a forced function call") \
    X("functions",             CN_PARAMS_CHAT,    "[[]]",                          "functions in the old form; use tools") \
    X("modalities",            CN_PARAMS_CHAT,    "[[\"text\"],[]]",               "answers other than text") \
    X("audio",                 CN_PARAMS_CHAT,    "[]",                            "audio")        \
    X("prediction",            CN_PARAMS_CHAT,    "[]",                            "predicted output") \
    X("web_search_options",    CN_PARAMS_CHAT,    "[]",                            "web search")   \
    X("mm_processor_kwargs",   CN_PARAMS_CHAT,    "[{}]",                          "input other than text") \
    X("store",                 CN_PARAMS_ANSWER,  "[false]",                       "stored answers") \
    X("prompt",                CN_PARAMS_RESPONSE, "[]",                           "stored prompts") \
    X("context_management",    CN_PARAMS_RESPONSE, "[[]]",                         "compaction of the history") \
    X("chat_template",         CN_PARAMS_MESSAGES, "[]",                           "a template from the client; templates come from the operator") \
    X("use_beam_search",       CN_PARAMS_SAMPLED, "[false]",                       "beam search")  \
    X("length_penalty",        CN_PARAMS_SAMPLED, "[1]",                           "beam search")  \
    X("prompt_logprobs",       CN_PARAMS_ANSWER,  "[]",                            "logprobs of the prompt in vLLM's form; use echo and logprobs of /v1/completions") \
    X("allowed_token_ids",     CN_PARAMS_SAMPLED, "[[]]",                          "a choice of tokens") \
    X("bad_words",             CN_PARAMS_SAMPLED, "[[]]",                          "banned words; use logit_bias") \
    X("logits_processors",     CN_PARAMS_SAMPLED, "[[]]",                          "code from the client") \
    X("truncate_prompt_tokens", CN_PARAMS_ANSWER, "[]",                            "truncation of the prompt") \
    X("priority",              CN_PARAMS_SAMPLED, "[0]",                           "priorities")   \
    X("kv_transfer_params",    CN_PARAMS_SAMPLED, "[{}]",                          "transfer of KV pages") \
    X("typical_p",             CN_PARAMS_SAMPLED, "[1]",                           "locally typical sampling") \
    X("mirostat",              CN_PARAMS_SAMPLED, "[0]",                           "mirostat sampling") \
    X("dry_multiplier",        CN_PARAMS_SAMPLED, "[0]",                           "DRY sampling") \
    X("xtc_probability",       CN_PARAMS_SAMPLED, "[0]",                           "XTC sampling")

typedef double cn_params_NUMBER;
typedef int64_t cn_params_INTEGER;
typedef bool cn_params_FLAG;

typedef struct cn_params_stop {
    const char *const *texts;
    const uint32_t *lens;
    uint32_t count;
} cn_params_stop;

typedef struct cn_params {
#define X(id, key, kind, requests, absent, min, max) cn_params_##kind id;
    CN_PARAMS(X)
    CN_PARAMS_LIMITED(X)
#undef X
    bool seed_given, add_special_tokens_given, add_generation_prompt_given;
    bool include_usage, continuous_usage;        // stream_options
    cn_params_stop stop;
    const int32_t *stop_ids;
    uint32_t stop_id_count;
    const int32_t *bias_ids;
    const float *bias_values;
    uint32_t bias_count;
} cn_params;

typedef struct cn_params_context {
    unsigned requests;                           // one of CN_PARAMS_CHAT, ...
    const cn_limits *limits;
    const cn_generation_defaults *defaults;
    uint32_t vocab_count;
    cn_arena *arena;
} cn_params_context;

/* Reads all parameters of `body` (an object). Errors, each with the member's name as param:
 * CN_E_INVALID (type or bound), CN_E_LIMIT, CN_E_UNSUPPORTED (not served), CN_E_MEMORY. */
cn_code cn_params_read(const json_t *body, const cn_params_context *context, cn_params *out,
                       cn_err *err);

/* One list of token ids, under the name `param` in error texts: at most `count_max` of them (0: no
 * bound). Errors: CN_E_INVALID, CN_E_LIMIT, CN_E_MEMORY. */
cn_code cn_params_token_ids(const json_t *list, const char *param, uint32_t vocab_count,
                            cn_arena *arena, int32_t **out, uint32_t *count, cn_err *err);
