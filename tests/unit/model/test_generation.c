// Which of two files says how an answer ends and how to sample, and what they may not say.
#include "test_files.h"

#include "model/generation.h"

/* Reads with a config.json of 100 tokens; `own` NULL: there is no generation_config.json. */
static cn_code read_defaults(const char *family, const char *config, const char *own,
                             cn_generation_defaults *out, cn_err *err)
{
    const test_files files = test_files_open();
    json_t *root = json_loads(config, 0, NULL);
    assert_non_null(root);
    const cn_json_object file = {.value = root, .file = "config.json"};
    const cn_model_config parsed = {.family = cn_family_find(NULL, family),
                                    .spec = {.vocab_count = 100}};
    if (own) test_files_write_text(&files, "generation_config.json", own);
    const cn_code code = cn_generation_read(files.directory, &file, &parsed, out, err);
    json_decref(root);
    test_files_close(&files);
    return code;
}

static void end_tokens_come_from_the_nearest_file(void **state)
{
    (void)state;
    static const struct {
        const char *family, *config, *own;
        uint32_t eos_count;
        int32_t eos[3], bos;
    } cases[] = {
        {"llama", "{}", NULL, 1, {2}, 1},
        {"qwen3", "{}", NULL, 0, {0}, -1},
        {"qwen3", "{\"eos_token_id\": 7, \"bos_token_id\": 6}", NULL, 1, {7}, 6},
        {"qwen3", "{\"eos_token_id\": [7, 9]}", "{}", 2, {7, 9}, -1},
        {"qwen3", "{\"eos_token_id\": 7}", "{\"eos_token_id\": [8, 9, 99]}", 3, {8, 9, 99}, -1},
        {"llama", "{\"eos_token_id\": 7, \"bos_token_id\": 5}", "{\"eos_token_id\": 0}", 1, {0}, 5},
        {"llama", "{\"eos_token_id\": null, \"bos_token_id\": null}", NULL, 0, {0}, -1},
        {"llama", "{\"eos_token_id\": 7}", "{\"eos_token_id\": null}", 0, {0}, 1},
        {"llama", "{\"eos_token_id\": []}", NULL, 0, {0}, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cn_generation_defaults got;
        cn_err err = {0};
        if (read_defaults(cases[i].family, cases[i].config, cases[i].own, &got, &err) != CN_OK) {
            fail_msg("%s", err.text);
        }
        assert_int_equal(got.eos_count, cases[i].eos_count);
        assert_memory_equal(got.eos_tokens, cases[i].eos, cases[i].eos_count * sizeof(int32_t));
        assert_int_equal(got.bos_token, cases[i].bos);
    }
}

static void sampling_comes_from_the_nearest_file(void **state)
{
    (void)state;
    static const struct {
        const char *config, *own;
        float temperature, top_p, min_p, repetition_penalty;
        uint32_t top_k;
    } cases[] = {
        {"{}", NULL, 1, 1, 0, 1, 0},
        {"{}", "{\"temperature\": null, \"top_k\": null, \"top_p\": null}", 1, 1, 0, 1, 0},
        {"{}", "{\"do_sample\": true, \"temperature\": 0.6, \"top_p\": 0.95, \"top_k\": 20}",
         0.6f, 0.95f, 0, 1, 20},
        {"{}", "{\"do_sample\": false, \"temperature\": 0.6}", 0, 1, 0, 1, 0},
        {"{\"temperature\": 0.5, \"min_p\": 0.05, \"repetition_penalty\": 1.1}",
         "{\"temperature\": 0.25}", 0.25f, 1, 0.05f, 1.1f, 0},
        {"{\"do_sample\": false}", NULL, 0, 1, 0, 1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cn_generation_defaults got;
        cn_err err = {0};
        if (read_defaults("llama", cases[i].config, cases[i].own, &got, &err) != CN_OK) {
            fail_msg("%s", err.text);
        }
        assert_true(got.temperature == cases[i].temperature);
        assert_true(got.top_p == cases[i].top_p);
        assert_true(got.min_p == cases[i].min_p);
        assert_true(got.repetition_penalty == cases[i].repetition_penalty);
        assert_int_equal(got.top_k, cases[i].top_k);
    }
}

static void bad_fields_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *config, *own, *text;
    } cases[] = {
        {"{\"eos_token_id\": 100}", NULL,
         "config.json: eos_token_id: 100; must be a token id from 0 to 99 (vocab_size - 1)"},
        {"{}", "{\"eos_token_id\": [2, -1]}",
         "generation_config.json: eos_token_id: -1; must be a token id from 0 to 99 (vocab_size - "
         "1)"},
        {"{}", "{\"eos_token_id\": \"</s>\"}",
         "generation_config.json: eos_token_id: must be a token id, not a string"},
        {"{}", "{\"eos_token_id\": [2, 2.5]}",
         "generation_config.json: eos_token_id: must be a token id, not a number that is no "
         "integer"},
        {"{}", "{\"eos_token_id\": [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]}",
         "generation_config.json: eos_token_id: an array; must have at most 16 ids"},
        {"{}", "{\"bos_token_id\": {}}",
         "generation_config.json: bos_token_id: must be a token id, not an object"},
        {"{}", "{\"temperature\": -1}",
         "generation_config.json: temperature: -1; must be a number from 0 to 100"},
        {"{}", "{\"top_p\": 1.5}",
         "generation_config.json: top_p: 1.5; must be a number from 0 to 1"},
        {"{}", "{\"top_k\": 0.5}",
         "generation_config.json: top_k: 0.5; must be an integer from 0 to 4194304"},
        {"{\"min_p\": \"x\"}", "{}", "config.json: min_p: \"x\"; must be a number from 0 to 1"},
        {"{}", "{\"repetition_penalty\": 0}",
         "generation_config.json: repetition_penalty: 0; must be a number from 0.01 to 100"},
        {"{}", "{\"do_sample\": \"no\"}",
         "generation_config.json: do_sample: \"no\"; must be true or false"},
        {"{}", "[]", "generation_config.json: is an array; must be a JSON object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cn_generation_defaults got;
        cn_err err = {0};
        assert_int_equal(read_defaults("llama", cases[i].config, cases[i].own, &got, &err),
                         CN_E_FORMAT);
        assert_string_equal(err.text, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(end_tokens_come_from_the_nearest_file),
        cmocka_unit_test(sampling_comes_from_the_nearest_file),
        cmocka_unit_test(bad_fields_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
