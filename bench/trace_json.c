#include "bench/trace_int.h"

#include <string.h>

#include <jansson.h>

#include "bench/words.h"

enum { MOONCAKE_BLOCK_TOKENS = 512, BYTES_PER_TOKEN = 4 };

typedef cn_code (*take_record)(const cn_trace_options *o, const json_t *record, uint64_t number,
                               cn_plan *plan, cn_err *err);

static cn_code refuse(const cn_trace_options *o, uint64_t number, const char *what, cn_err *err)
{
    return cn_err_set(err, CN_E_FORMAT, "%s record %llu: %s", o->name, (unsigned long long)number,
                      what);
}

// Objects one after another, on lines or not, or in one array.
static cn_code each_record(const cn_trace_options *o, const char *text, size_t len,
                           take_record take, cn_plan *plan, cn_err *err)
{
    uint64_t number = 0;
    cn_code code = CN_OK;
    while (code == CN_OK) {
        json_error_t failure;
        while (len > 0 && strchr(" \t\r\n", *text)) text++, len--;
        if (len == 0) return CN_OK;
        json_t *root = json_loadb(text, len, JSON_DISABLE_EOF_CHECK, &failure);
        if (!root) return refuse(o, number + 1, failure.text, err);
        if (json_is_array(root)) {
            for (size_t i = 0; i < json_array_size(root) && code == CN_OK; i++) {
                code = take(o, json_array_get(root, i), ++number, plan, err);
            }
        } else code = take(o, root, ++number, plan, err);
        json_decref(root);
        text += failure.position;
        len -= (size_t)failure.position;
    }
    return code;
}

static bool get_count(const json_t *record, const char *key, uint64_t max, uint64_t *out)
{
    const json_t *value = json_object_get(record, key);
    if (!json_is_number(value)) return false;
    const double number = json_number_value(value);
    if (!(number >= 0 && number <= (double)max)) return false;
    *out = (uint64_t)number;
    return true;
}

static cn_code take_mooncake(const cn_trace_options *o, const json_t *record, uint64_t number,
                             cn_plan *plan, cn_err *err)
{
    uint64_t at_ms, input, output;
    const json_t *ids = json_object_get(record, "hash_ids");
    if (!get_count(record, "timestamp", (uint64_t)1e12, &at_ms) ||
        !get_count(record, "input_length", CN_PLAN_TOKENS_MAX, &input) ||
        !get_count(record, "output_length", CN_PLAN_TOKENS_MAX, &output) || !json_is_array(ids)) {
        return refuse(o, number,
                      "must have the numbers timestamp, input_length and output_length, and "
                      "the array hash_ids",
                      err);
    }
    const size_t count = json_array_size(ids);
    uint64_t *blocks = cn_arena_take_array(&plan->arena, count + 1, sizeof *blocks);
    cn_plan_session *session = cn_plan_add_session(plan);
    if (session) session->due_ns = at_ms * 1000000;
    cn_plan_turn *turn = session ? cn_plan_add_turn(plan) : NULL;
    if (!blocks || !turn) return cn_trace_refuse(o, err);
    for (size_t i = 0; i < count; i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_integer(id)) return refuse(o, number, "hash_ids must be integers", err);
        blocks[i] = cn_words_mix((uint64_t)json_integer_value(id), MOONCAKE_BLOCK_TOKENS);
    }
    turn->blocks = blocks;
    turn->block_count = (uint32_t)count;
    turn->block_tokens = MOONCAKE_BLOCK_TOKENS;
    turn->seed = cn_words_mix(number, input);
    turn->input_tokens = input ? (uint32_t)input : 1;
    turn->output_tokens = output ? (uint32_t)output : 1;
    return CN_OK;
}

cn_code cn_trace_read_mooncake(const cn_trace_options *o, const char *text, size_t len,
                               cn_plan *plan, cn_err *err)
{
    return each_record(o, text, len, take_mooncake, plan, err);
}

typedef enum speaker { NOBODY, SYSTEM, USER, ASSISTANT } speaker;

static speaker speaker_of(const json_t *message)
{
    static const struct {
        const char *name;
        speaker who;
    } names[] = {
        {"human", USER},         {"user", USER},       {"gpt", ASSISTANT},
        {"assistant", ASSISTANT}, {"chatgpt", ASSISTANT}, {"bing", ASSISTANT},
        {"bard", ASSISTANT},     {"model", ASSISTANT}, {"system", SYSTEM},
    };
    const json_t *who = json_object_get(message, "from");
    const char *name = json_string_value(who ? who : json_object_get(message, "role"));
    for (size_t i = 0; name && i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i].name) == 0) return names[i].who;
    }
    return NOBODY;
}

// A token has about four bytes in English; what it really was, the server says in its usage.
static uint32_t guess_tokens(size_t bytes) { return (uint32_t)(bytes / BYTES_PER_TOKEN + 1); }

static bool take_message(const json_t *message, const json_t *said, cn_plan *plan)
{
    const size_t len = json_string_length(said);
    cn_plan_session *session = &plan->sessions[plan->session_count - 1];
    const speaker who = speaker_of(message);
    // An answer before any question cannot be asked for.
    if (who == NOBODY || (who == ASSISTANT && session->turn_count == 0)) return true;
    char *copy = cn_arena_copy(&plan->arena, json_string_value(said), len);
    if (!copy) return false;
    if (who == SYSTEM) {
        session->system = copy;
        session->system_len = (uint32_t)len;
        return true;
    }
    if (who == ASSISTANT) {
        cn_plan_turn *last = &plan->turns[plan->turn_count - 1];
        last->answer = copy;
        last->answer_len = (uint32_t)len;
        last->output_tokens = guess_tokens(len);
        return true;
    }
    cn_plan_turn *turn = cn_plan_add_turn(plan);
    if (!turn) return false;
    turn->text = copy;
    turn->text_len = (uint32_t)len;
    turn->input_tokens = guess_tokens(len);
    turn->output_tokens = 128;   // where no answer was recorded
    return true;
}

static cn_code take_sharegpt(const cn_trace_options *o, const json_t *record, uint64_t number,
                             cn_plan *plan, cn_err *err)
{
    const json_t *messages = json_object_get(record, "conversations");
    if (!messages) messages = json_object_get(record, "messages");
    if (!json_is_array(messages))
        return refuse(o, number, "must have an array `conversations` or `messages`", err);
    if (!cn_plan_add_session(plan)) return cn_trace_refuse(o, err);
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *message = json_array_get(messages, i);
        const json_t *said = json_object_get(message, "value");
        if (!said) said = json_object_get(message, "content");
        if (!json_is_string(said))
            return refuse(o, number, "each message must have a string `value` or `content`", err);
        if (!take_message(message, said, plan)) return cn_trace_refuse(o, err);
    }
    // Nobody asks anything in it.
    if (plan->sessions[plan->session_count - 1].turn_count == 0) plan->session_count--;
    return CN_OK;
}

cn_code cn_trace_read_sharegpt(const cn_trace_options *o, const char *text, size_t len,
                               cn_plan *plan, cn_err *err)
{
    return each_record(o, text, len, take_sharegpt, plan, err);
}
