#include "dataplane/params.h"

#include <string.h>

#include "tests/unit/cmocka_all.h"

enum { VOCAB = 100 };

typedef struct world {
    cn_limits limits;
    cn_generation_defaults defaults;
    cn_arena arena;
    cn_params params;
    cn_err err;
} world;

static int open_world(void **state)
{
    world *w = calloc(1, sizeof *w);
    w->limits = cn_limits_default();
    w->limits.turn_tokens = 1000;
    w->limits.choices = 4;
    w->limits.stop_strings = 2;
    w->limits.stop_string_bytes = 5;
    w->limits.stop_tokens = 3;
    w->limits.logit_bias = 2;
    w->defaults = (cn_generation_defaults){.temperature = 0.6f, .top_p = 0.9f, .min_p = 0.05f,
                                           .top_k = 20, .repetition_penalty = 1.1f};
    cn_arena_init(&w->arena, 1 << 20);
    *state = w;
    return 0;
}

static int close_world(void **state)
{
    world *w = *state;
    cn_arena_close(&w->arena);
    free(w);
    return 0;
}

static cn_code read(world *w, unsigned requests, const char *text)
{
    const cn_params_context context = {requests, &w->limits, &w->defaults, VOCAB, &w->arena};
    json_t *body = json_loads(text, 0, NULL);
    assert_non_null(body);
    w->err = (cn_err){CN_OK, "", ""};
    const cn_code code = cn_params_read(body, &context, &w->params, &w->err);
    json_decref(body);
    return code;
}

typedef struct row {
    unsigned requests;
    const char *body;
    cn_code code;
    const char *param;
} row;

static void check_rows(world *w, const row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const cn_code code = read(w, rows[i].requests, rows[i].body);
        if (code != rows[i].code) print_message("%s: %s\n", rows[i].body, w->err.text);
        assert_int_equal(code, rows[i].code);
        if (code == CN_OK) continue;
        assert_string_equal(w->err.param, rows[i].param);
        assert_non_null(strstr(w->err.text, rows[i].param));     // the text names the parameter
    }
}
#define CHECK_ROWS(w, rows) check_rows(w, rows, sizeof(rows) / sizeof((rows)[0]))

// Both sides of every bound, and every wrong type.
static void numbers_are_taken_at_their_bounds_and_not_beyond(void **state)
{
    static const row rows[] = {
        {CN_PARAMS_CHAT, "{\"temperature\":0}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"temperature\":2}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"temperature\":-0.001}", CN_E_INVALID, "temperature"},
        {CN_PARAMS_CHAT, "{\"temperature\":2.001}", CN_E_INVALID, "temperature"},
        {CN_PARAMS_CHAT, "{\"temperature\":\"1\"}", CN_E_INVALID, "temperature"},
        {CN_PARAMS_CHAT, "{\"temperature\":true}", CN_E_INVALID, "temperature"},
        {CN_PARAMS_CHAT, "{\"top_p\":0}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"top_p\":1.0}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"top_p\":1.01}", CN_E_INVALID, "top_p"},
        {CN_PARAMS_CHAT, "{\"min_p\":-0.1}", CN_E_INVALID, "min_p"},
        {CN_PARAMS_CHAT, "{\"min_p\":1}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"top_k\":-1}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"top_k\":-2}", CN_E_INVALID, "top_k"},
        {CN_PARAMS_CHAT, "{\"top_k\":2147483647}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"top_k\":2147483648}", CN_E_INVALID, "top_k"},
        {CN_PARAMS_CHAT, "{\"top_k\":1.5}", CN_E_INVALID, "top_k"},
        {CN_PARAMS_CHAT, "{\"top_k\":2.0}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"frequency_penalty\":-2}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"frequency_penalty\":-2.1}", CN_E_INVALID, "frequency_penalty"},
        {CN_PARAMS_CHAT, "{\"presence_penalty\":2.1}", CN_E_INVALID, "presence_penalty"},
        {CN_PARAMS_CHAT, "{\"repetition_penalty\":0}", CN_E_INVALID, "repetition_penalty"},
        {CN_PARAMS_CHAT, "{\"repetition_penalty\":10}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"seed\":-9223372036854775807}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"seed\":9223372036854775807}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"seed\":\"x\"}", CN_E_INVALID, "seed"},
        {CN_PARAMS_CHAT, "{\"n\":1}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"n\":4}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"n\":0}", CN_E_LIMIT, "n"},
        {CN_PARAMS_CHAT, "{\"n\":5}", CN_E_LIMIT, "n"},
        {CN_PARAMS_CHAT, "{\"max_tokens\":0}", CN_E_LIMIT, "max_tokens"},
        {CN_PARAMS_TEXT, "{\"max_tokens\":0}", CN_OK, ""},
        {CN_PARAMS_TEXT, "{\"max_tokens\":-1}", CN_E_LIMIT, "max_tokens"},
        {CN_PARAMS_TEXT, "{\"max_tokens\":1000}", CN_OK, ""},
        {CN_PARAMS_TEXT, "{\"max_tokens\":1001}", CN_E_LIMIT, "max_tokens"},
        {CN_PARAMS_CHAT, "{\"max_completion_tokens\":1001}", CN_E_LIMIT, "max_completion_tokens"},
        {CN_PARAMS_CHAT, "{\"min_tokens\":5,\"max_tokens\":5}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"min_tokens\":6,\"max_tokens\":5}", CN_E_INVALID, "min_tokens"},
        {CN_PARAMS_CHAT, "{\"stream\":1}", CN_E_INVALID, "stream"},
        {CN_PARAMS_CHAT, "{\"ignore_eos\":\"true\"}", CN_E_INVALID, "ignore_eos"},
        {CN_PARAMS_CHAT, "{\"logprobs\":5}", CN_E_INVALID, "logprobs"},
        {CN_PARAMS_TEXT, "{\"logprobs\":true}", CN_E_INVALID, "logprobs"},
        {CN_PARAMS_TEXT, "{\"logprobs\":20}", CN_OK, ""},
        {CN_PARAMS_TEXT, "{\"logprobs\":21}", CN_E_INVALID, "logprobs"},
        {CN_PARAMS_CHAT, "{\"logprobs\":true,\"top_logprobs\":20}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"logprobs\":true,\"top_logprobs\":21}", CN_E_INVALID, "top_logprobs"},
        {CN_PARAMS_CHAT, "{\"top_logprobs\":1}", CN_E_INVALID, "top_logprobs"},
        {CN_PARAMS_CHAT, "{\"top_logprobs\":0}", CN_OK, ""},
    };
    CHECK_ROWS(*state, rows);
}

static void lists_are_bounded_by_limits(void **state)
{
    static const row rows[] = {
        {CN_PARAMS_CHAT, "{\"stop\":\"12345\"}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"stop\":\"123456\"}", CN_E_LIMIT, "stop"},
        {CN_PARAMS_CHAT, "{\"stop\":\"\"}", CN_E_INVALID, "stop"},
        {CN_PARAMS_CHAT, "{\"stop\":[]}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"stop\":[\"a\",\"b\"]}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"stop\":[\"a\",\"b\",\"c\"]}", CN_E_LIMIT, "stop"},
        {CN_PARAMS_CHAT, "{\"stop\":[\"a\",1]}", CN_E_INVALID, "stop"},
        {CN_PARAMS_CHAT, "{\"stop\":5}", CN_E_INVALID, "stop"},
        {CN_PARAMS_CHAT, "{\"stop_token_ids\":[0,99]}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"stop_token_ids\":[100]}", CN_E_INVALID, "stop_token_ids"},
        {CN_PARAMS_CHAT, "{\"stop_token_ids\":[-1]}", CN_E_INVALID, "stop_token_ids"},
        {CN_PARAMS_CHAT, "{\"stop_token_ids\":[1,2,3,4]}", CN_E_LIMIT, "stop_token_ids"},
        {CN_PARAMS_CHAT, "{\"stop_token_ids\":1}", CN_E_INVALID, "stop_token_ids"},
        {CN_PARAMS_CHAT, "{\"logit_bias\":{\"0\":-100,\"99\":100}}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"logit_bias\":{\"0\":100.5}}", CN_E_INVALID, "logit_bias"},
        {CN_PARAMS_CHAT, "{\"logit_bias\":{\"100\":1}}", CN_E_INVALID, "logit_bias"},
        {CN_PARAMS_CHAT, "{\"logit_bias\":{\"-1\":1}}", CN_E_INVALID, "logit_bias"},
        {CN_PARAMS_CHAT, "{\"logit_bias\":{\"1x\":1}}", CN_E_INVALID, "logit_bias"},
        {CN_PARAMS_CHAT, "{\"logit_bias\":{\"\":1}}", CN_E_INVALID, "logit_bias"},
        {CN_PARAMS_CHAT, "{\"logit_bias\":{\"1\":\"1\"}}", CN_E_INVALID, "logit_bias"},
        {CN_PARAMS_CHAT, "{\"logit_bias\":{\"1\":1,\"2\":1,\"3\":1}}", CN_E_LIMIT, "logit_bias"},
        {CN_PARAMS_CHAT, "{\"logit_bias\":[]}", CN_E_INVALID, "logit_bias"},
        {CN_PARAMS_CHAT, "{\"stream_options\":{\"include_usage\":true}}", CN_E_INVALID,
         "stream_options"},
        {CN_PARAMS_CHAT, "{\"stream\":true,\"stream_options\":{\"include_usage\":true}}", CN_OK,
         ""},
        {CN_PARAMS_CHAT, "{\"stream\":true,\"stream_options\":{\"include_usage\":1}}", CN_E_INVALID,
         "stream_options.include_usage"},
        {CN_PARAMS_CHAT, "{\"stream\":true,\"stream_options\":[]}", CN_E_INVALID, "stream_options"},
    };
    CHECK_ROWS(*state, rows);
}

// What would be ignored silently elsewhere is refused by name, unless it asks for nothing.
static void known_and_not_served_is_refused_by_name(void **state)
{
    static const row rows[] = {
        {CN_PARAMS_TEXT, "{\"best_of\":1}", CN_OK, ""},
        {CN_PARAMS_TEXT, "{\"best_of\":1.0}", CN_OK, ""},
        {CN_PARAMS_TEXT, "{\"best_of\":2}", CN_E_UNSUPPORTED, "best_of"},
        {CN_PARAMS_TEXT, "{\"suffix\":\"\"}", CN_OK, ""},
        {CN_PARAMS_TEXT, "{\"suffix\":\"x\"}", CN_E_UNSUPPORTED, "suffix"},
        {CN_PARAMS_CHAT, "{\"suffix\":\"x\"}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"response_format\":{\"type\":\"text\"}}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"response_format\":{\"type\":\"json_object\"}}", CN_E_UNSUPPORTED,
         "response_format"},
        {CN_PARAMS_CHAT, "{\"tool_choice\":\"none\"}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"tool_choice\":\"auto\"}", CN_OK, ""},
        {CN_PARAMS_CHAT, "{\"tool_choice\":\"required\"}", CN_E_UNSUPPORTED, "tool_choice"},
        {CN_PARAMS_CHAT, "{\"tool_choice\":{\"type\":\"function\"}}", CN_E_UNSUPPORTED,
         "tool_choice"},
        {CN_PARAMS_CHAT, "{\"chat_template\":\"x\"}", CN_E_UNSUPPORTED, "chat_template"},
        {CN_PARAMS_TOKENS, "{\"chat_template\":\"x\"}", CN_E_UNSUPPORTED, "chat_template"},
        {CN_PARAMS_CHAT, "{\"guided_json\":{}}", CN_E_UNSUPPORTED, "guided_json"},
        {CN_PARAMS_CHAT, "{\"use_beam_search\":true}", CN_E_UNSUPPORTED, "use_beam_search"},
        {CN_PARAMS_CHAT, "{\"whatever\":{\"n\":[]},\"user\":\"u\",\"metadata\":{}}", CN_OK, ""},
    };
    CHECK_ROWS(*state, rows);
}

static void what_is_absent_or_null_has_the_models_default(void **state)
{
    world *w = *state;
    static const char *const bodies[] = {
        "{}", "{\"temperature\":null,\"top_p\":null,\"top_k\":null,\"n\":null,\"stop\":null,"
              "\"max_tokens\":null,\"seed\":null,\"stream\":null,\"stream_options\":null,"
              "\"logit_bias\":null,\"tools\":null,\"response_format\":null,\"best_of\":null,"
              "\"stop_token_ids\":null,\"logprobs\":null,\"min_tokens\":null}"};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(read(w, i ? CN_PARAMS_TEXT : CN_PARAMS_CHAT, bodies[i]), CN_OK);
        assert_true((float)w->params.temperature == 0.6f);
        assert_true((float)w->params.top_p == 0.9f);
        assert_true((float)w->params.min_p == 0.05f);
        assert_true((float)w->params.repetition_penalty == 1.1f);
        assert_int_equal(w->params.top_k, 20);
        assert_int_equal(w->params.n, 1);
        assert_int_equal(w->params.max_tokens, CN_PARAMS_ABSENT);
        assert_int_equal(w->params.text_logprobs, CN_PARAMS_ABSENT);
        assert_int_equal(w->params.stop.count, 0);
        assert_false(w->params.seed_given);
        assert_true(w->params.skip_special);
        assert_true(w->params.add_generation_prompt);
    }
}

static void values_arrive(void **state)
{
    world *w = *state;
    assert_int_equal(read(w, CN_PARAMS_CHAT,
                          "{\"temperature\":0.001,\"seed\":-5,\"max_tokens\":3,"
                          "\"max_completion_tokens\":7,\"stop\":[\"a\",\"bc\"],"
                          "\"stop_token_ids\":[7],\"logit_bias\":{\"12\":-1.5},\"stream\":true,"
                          "\"stream_options\":{\"continuous_usage_stats\":true},"
                          "\"continue_final_message\":true}"), CN_OK);
    assert_true(w->params.temperature == 0.01);          // clamped, as at vLLM
    assert_true(w->params.seed_given);
    assert_int_equal(w->params.seed, -5);
    assert_int_equal(w->params.max_tokens, 7);           // the newer name wins
    assert_int_equal(w->params.stop.count, 2);
    assert_string_equal(w->params.stop.texts[1], "bc");
    assert_int_equal(w->params.stop.lens[1], 2);
    assert_int_equal(w->params.stop_ids[0], 7);
    assert_int_equal(w->params.bias_count, 1);
    assert_int_equal(w->params.bias_ids[0], 12);
    assert_true(w->params.bias_values[0] == -1.5f);
    assert_true(w->params.continuous_usage);
    assert_false(w->params.include_usage);
    assert_int_equal(read(w, CN_PARAMS_CHAT, "{\"continue_final_message\":true,"
                          "\"add_generation_prompt\":true}"), CN_E_INVALID);
    assert_int_equal(read(w, CN_PARAMS_TEXT, "{\"max_tokens\":3}"), CN_OK);
    assert_int_equal(w->params.max_tokens, 3);
}

static void texts_name_value_and_bounds(void **state)
{
    world *w = *state;
    read(w, CN_PARAMS_CHAT, "{\"temperature\":3}");
    assert_string_equal(w->err.text, "temperature: 3; must be 0 to 2");
    read(w, CN_PARAMS_CHAT, "{\"n\":9}");
    assert_string_equal(w->err.text, "n: 9; must be 1 to 4 (limit choices)");
    read(w, CN_PARAMS_CHAT, "{\"top_k\":\"many\"}");
    assert_string_equal(w->err.text, "top_k: a string; must be an integer");
    read(w, CN_PARAMS_TEXT, "{\"best_of\":3}");
    assert_string_equal(w->err.text,
                        "best_of: Cairn does not serve choosing among more answers than "
                        "n; leave it out or use one of [1]");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(numbers_are_taken_at_their_bounds_and_not_beyond),
        TEST(lists_are_bounded_by_limits),
        TEST(known_and_not_served_is_refused_by_name),
        TEST(what_is_absent_or_null_has_the_models_default),
        TEST(values_arrive),
        TEST(texts_name_value_and_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
