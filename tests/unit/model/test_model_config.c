// config.json field by field: defaults, older and newer spellings, and everything it may not say.
#include "tests/unit/cmocka_all.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/model_config.h"
#include "tests/unit/test_rng.h"

#define SERVED "LlamaForCausalLM, MistralForCausalLM, Qwen3ForCausalLM"

static cn_code read_json(json_t *root, cn_arena *arena, cn_model_config *out, cn_err *err)
{
    const cn_json_object object = {.value = root, .file = "config.json"};
    return cn_model_config_read(&object, arena, out, err);
}

static cn_code read_config(const char *text, cn_model_config *out, cn_err *err)
{
    cn_arena arena;
    cn_arena_init(&arena, 1 << 20);
    json_t *root = json_loads(text, 0, NULL);
    assert_non_null(root);
    const cn_code code = read_json(root, &arena, out, err);
    out->spec.rope_inv_freq = NULL;          // it dies here
    json_decref(root);
    cn_arena_close(&arena);
    return code;
}

static void assert_sizes(const cn_model_spec *spec, const uint32_t want[8])
{
    const uint32_t got[8] = {spec->vocab_count, spec->dim, spec->mlp_dim, spec->layer_count,
                             spec->head_count, spec->kv_head_count, spec->head_dim,
                             spec->context_tokens_max};
    assert_memory_equal(got, want, sizeof got);
}

static void missing_fields_are_those_of_transformers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t want[8];
    } cases[] = {
        {"{\"model_type\": \"llama\"}", {32000, 4096, 11008, 32, 32, 32, 128, 2048}},
        {"{\"model_type\": \"qwen3\"}", {151936, 4096, 22016, 32, 32, 32, 128, 32768}},
        {"{\"model_type\": \"llama\", \"num_attention_heads\": 16, \"head_dim\": null}",
         {32000, 4096, 11008, 32, 16, 16, 256, 2048}},
        {"{\"model_type\": \"qwen3\", \"num_attention_heads\": 16, \"num_key_value_heads\": null}",
         {151936, 4096, 22016, 32, 16, 16, 128, 32768}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cn_model_config config;
        assert_int_equal(read_config(cases[i].text, &config, NULL), CN_OK);
        assert_sizes(&config.spec, cases[i].want);
        assert_true(config.spec.norm_eps == 1e-6f);
        assert_true(config.spec.rope_magnitude == 1.0f);
        assert_false(config.tied);
    }
}

static void published_configurations_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text, *family;
        uint32_t want[8];
        float eps;
        bool tied;
    } cases[] = {
        // Llama 3.2 1B, as published
        {"{\"architectures\": [\"LlamaForCausalLM\"], \"attention_bias\": false, "
         "\"attention_dropout\": 0.0, \"bos_token_id\": 128000, \"eos_token_id\": [128001, "
         "128008], "
         "\"head_dim\": 64, \"hidden_act\": \"silu\", \"hidden_size\": 2048, "
         "\"initializer_range\": "
         "0.02, \"intermediate_size\": 8192, \"max_position_embeddings\": 131072, \"mlp_bias\": "
         "false, \"model_type\": \"llama\", \"num_attention_heads\": 32, \"num_hidden_layers\": "
         "16, "
         "\"num_key_value_heads\": 8, \"pretraining_tp\": 1, \"rms_norm_eps\": 1e-05, "
         "\"rope_scaling\": {\"factor\": 32.0, \"high_freq_factor\": 4.0, \"low_freq_factor\": "
         "1.0, "
         "\"original_max_position_embeddings\": 8192, \"rope_type\": \"llama3\"}, \"rope_theta\": "
         "500000.0, \"tie_word_embeddings\": true, \"torch_dtype\": \"bfloat16\", \"use_cache\": "
         "true, \"vocab_size\": 128256}",
         "llama",
         {128256, 2048, 8192, 16, 32, 8, 64, 131072},
         1e-5f,
         true},
        // Qwen3 0.6B, as published
        {"{\"architectures\": [\"Qwen3ForCausalLM\"], \"attention_bias\": false, \"head_dim\": "
         "128, "
         "\"hidden_act\": \"silu\", \"hidden_size\": 1024, \"intermediate_size\": 3072, "
         "\"max_position_embeddings\": 40960, \"max_window_layers\": 28, \"model_type\": "
         "\"qwen3\", "
         "\"num_attention_heads\": 16, \"num_hidden_layers\": 28, \"num_key_value_heads\": 8, "
         "\"rms_norm_eps\": 1e-06, \"rope_scaling\": null, \"rope_theta\": 1000000, "
         "\"sliding_window\": null, \"tie_word_embeddings\": true, \"use_sliding_window\": false, "
         "\"vocab_size\": 151936}",
         "qwen3",
         {151936, 1024, 3072, 28, 16, 8, 128, 40960},
         1e-6f,
         true},
        // Mistral 7B v0.3, as published
        {"{\"architectures\": [\"MistralForCausalLM\"], \"attention_dropout\": 0.0, "
         "\"bos_token_id\": 1, \"eos_token_id\": 2, \"hidden_act\": \"silu\", \"hidden_size\": "
         "4096, \"initializer_range\": 0.02, \"intermediate_size\": 14336, "
         "\"max_position_embeddings\": 32768, \"model_type\": \"mistral\", "
         "\"num_attention_heads\": 32, \"num_hidden_layers\": 32, \"num_key_value_heads\": 8, "
         "\"rms_norm_eps\": 1e-05, \"rope_theta\": 1000000.0, \"sliding_window\": null, "
         "\"tie_word_embeddings\": false, \"torch_dtype\": \"bfloat16\", \"vocab_size\": 32768}",
         "mistral",
         {32768, 4096, 14336, 32, 32, 8, 128, 32768},
         1e-5f,
         false},
        // a window as wide as the context
        {"{\"model_type\": \"mistral\", \"max_position_embeddings\": 4096}",
         "mistral",
         {32000, 4096, 14336, 32, 32, 8, 128, 4096},
         1e-6f,
         false},
        // windows that would begin behind the last layer
        {"{\"model_type\": \"qwen3\", \"use_sliding_window\": true, \"max_window_layers\": 32}",
         "qwen3",
         {151936, 4096, 22016, 32, 32, 32, 128, 32768},
         1e-6f,
         false},
        // transformers decides by the list where there is one
        {"{\"model_type\": \"qwen3\", \"use_sliding_window\": true, \"num_hidden_layers\": 2, "
         "\"layer_types\": [\"full_attention\", \"full_attention\"], \"max_window_layers\": 0}",
         "qwen3",
         {151936, 4096, 22016, 2, 32, 32, 128, 32768},
         1e-6f,
         false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cn_model_config config;
        cn_err err = {0};
        if (read_config(cases[i].text, &config, &err) != CN_OK) fail_msg("%s", err.text);
        assert_sizes(&config.spec, cases[i].want);
        assert_string_equal(config.family->name, cases[i].family);
        assert_true(config.spec.norm_eps == cases[i].eps);
        assert_int_equal(config.tied, cases[i].tied);
    }
}

static void bad_fields_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *fields;      // behind the model_type
        cn_code code;
        const char *text;
    } cases[] = {
        {"\"vocab_size\": 0", CN_E_FORMAT, "vocab_size: 0; must be an integer from 1 to 4194304"},
        {"\"vocab_size\": \"97\"", CN_E_FORMAT,
         "vocab_size: \"97\"; must be an integer from 1 to 4194304"},
        {"\"hidden_size\": 2097152", CN_E_FORMAT,
         "hidden_size: 2097152; must be an integer from 1 to 1048576"},
        {"\"hidden_size\": -64", CN_E_FORMAT,
         "hidden_size: -64; must be an integer from 1 to 1048576"},
        {"\"hidden_size\": 9223372036854775807", CN_E_FORMAT,
         "hidden_size: 9223372036854775807; must be an integer from 1 to 1048576"},
        {"\"intermediate_size\": 1.5", CN_E_FORMAT,
         "intermediate_size: 1.5; must be an integer from 1 to 4194304"},
        {"\"num_hidden_layers\": \"two\"", CN_E_FORMAT,
         "num_hidden_layers: \"two\"; must be an integer from 1 to 1024"},
        {"\"num_hidden_layers\": 1025", CN_E_FORMAT,
         "num_hidden_layers: 1025; must be an integer from 1 to 1024"},
        {"\"num_attention_heads\": [32]", CN_E_FORMAT,
         "num_attention_heads: an array; must be an integer from 1 to 4096"},
        {"\"num_attention_heads\": 32, \"num_key_value_heads\": 5", CN_E_FORMAT,
         "num_attention_heads: 32; must be a multiple of num_key_value_heads (5)"},
        {"\"num_attention_heads\": 48", CN_E_FORMAT,
         "hidden_size: 4096; must be a multiple of num_attention_heads (48) where head_dim is "
         "missing"},
        {"\"head_dim\": 15", CN_E_FORMAT, "head_dim: 15; must be even and at most 4096"},
        {"\"num_attention_heads\": 4096, \"head_dim\": null", CN_E_FORMAT,
         "head_dim: 1; must be even and at most 4096"},
        {"\"head_dim\": 8192", CN_E_FORMAT, "head_dim: 8192; must be an integer from 1 to 4096"},
        {"\"max_position_embeddings\": 0", CN_E_FORMAT,
         "max_position_embeddings: 0; must be an integer from 1 to 67108864"},
        {"\"rms_norm_eps\": 0", CN_E_FORMAT, "rms_norm_eps: 0; must be a number from 1e-30 to 1"},
        {"\"rms_norm_eps\": \"1e-5\"", CN_E_FORMAT,
         "rms_norm_eps: \"1e-5\"; must be a number from 1e-30 to 1"},
        {"\"rms_norm_eps\": \"a string that goes on and on and on and on and on\"", CN_E_FORMAT,
         "rms_norm_eps: \"a string that goes on and on and on and ...\"; must be a number from "
         "1e-30 "
         "to 1"},
        {"\"tie_word_embeddings\": 1", CN_E_FORMAT,
         "tie_word_embeddings: 1; must be true or false"},
        {"\"attention_bias\": true", CN_E_UNSUPPORTED,
         "attention_bias: true; Cairn computes without biases"},
        {"\"attention_bias\": \"yes\"", CN_E_FORMAT,
         "attention_bias: \"yes\"; must be true or false"},
        {"\"mlp_bias\": true", CN_E_UNSUPPORTED, "mlp_bias: true; Cairn computes without biases"},
        {"\"hidden_act\": \"gelu\"", CN_E_UNSUPPORTED, "hidden_act: \"gelu\"; must be \"silu\""},
        {"\"quantization_config\": {\"quant_method\": \"awq\"}", CN_E_UNSUPPORTED,
         "quantization_config: an object; Cairn reads weights in BF16, F16 and F32 only"},
        {"\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}", CN_E_UNSUPPORTED,
         "rope_scaling.type: \"dynamic\"; Cairn computes default, linear, llama3 and yarn"},
        {"\"architectures\": \"LlamaForCausalLM\"", CN_E_FORMAT,
         "architectures: \"LlamaForCausalLM\"; must be an array of strings"},
        {"\"architectures\": [\"Gemma2ForCausalLM\"]", CN_E_UNSUPPORTED,
         "architectures: Gemma2ForCausalLM; Cairn serves " SERVED},
        {"\"architectures\": [7]", CN_E_UNSUPPORTED,
         "architectures: not a string; Cairn serves " SERVED},
        {"\"architectures\": [\"Qwen3ForCausalLM\"]", CN_E_FORMAT,
         "model_type: \"llama\"; must be \"qwen3\", as architectures says Qwen3ForCausalLM"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cn_model_config config;
        cn_err err = {0};
        char text[512];
        snprintf(text, sizeof text, "{\"model_type\": \"llama\", %s}", cases[i].fields);
        assert_int_equal(read_config(text, &config, &err), cases[i].code);
        snprintf(text, sizeof text, "config.json: %s", cases[i].text);
        assert_string_equal(err.text, text);
    }
}

static void bad_families_and_windows_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        cn_code code;
        const char *want;
    } cases[] = {
        {"{}", CN_E_UNSUPPORTED, "model_type: missing; Cairn serves " SERVED},
        {"{\"model_type\": \"gpt2\"}", CN_E_UNSUPPORTED,
         "model_type: \"gpt2\"; Cairn serves " SERVED},
        {"{\"model_type\": 7}", CN_E_FORMAT, "model_type: 7; must be a string"},
        {"{\"model_type\": \"qwen3\", \"use_sliding_window\": true}", CN_E_UNSUPPORTED,
         "use_sliding_window: true; Cairn computes full attention in every layer"},
        {"{\"model_type\": \"mistral\", \"sliding_window\": 1024}", CN_E_UNSUPPORTED,
         "sliding_window: 1024; Cairn computes full attention: must be null, or at least "
         "max_position_embeddings (131072)"},
        {"{\"model_type\": \"mistral\"}", CN_E_UNSUPPORTED,
         "sliding_window: missing; Cairn computes full attention: must be null, or at least "
         "max_position_embeddings (131072)"},
        {"{\"model_type\": \"mistral\", \"sliding_window\": \"no\"}", CN_E_FORMAT,
         "sliding_window: \"no\"; must be an integer from 1 to 4294967295"},
        {"{\"model_type\": \"qwen3\", \"num_hidden_layers\": 2, \"layer_types\": "
         "[\"full_attention\", \"sliding_attention\"]}", CN_E_UNSUPPORTED,
         "layer_types[1]: sliding_attention; Cairn computes full_attention in every layer"},
        {"{\"model_type\": \"qwen3\", \"layer_types\": [\"full_attention\"]}", CN_E_FORMAT,
         "layer_types: an array; must have one string for each of the 32 layers"},
        {"{\"model_type\": \"qwen3\", \"layer_types\": \"full_attention\"}", CN_E_FORMAT,
         "layer_types: \"full_attention\"; must have one string for each of the 32 layers"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cn_model_config config;
        cn_err err = {0};
        char text[512];
        assert_int_equal(read_config(cases[i].text, &config, &err), cases[i].code);
        snprintf(text, sizeof text, "config.json: %s", cases[i].want);
        assert_string_equal(err.text, text);
    }
}

/* Whatever damage still parses as JSON is refused with a text, or gives numbers within all bounds.
 * CN_FUZZ_ROUNDS=100000 under ASan is the long form. */
static void damaged_configurations_are_refused_or_bounded(void **state)
{
    (void)state;
    static const char good[] =
        "{\"model_type\": \"qwen3\", \"vocab_size\": 97, \"hidden_size\": 80, "
        "\"num_hidden_layers\": 2,"
        "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 16, "
        "\"rms_norm_eps\":"
        "1e-6, \"layer_types\": [\"full_attention\", \"full_attention\"], \"rope_parameters\": {"
        "\"rope_type\": \"yarn\", \"rope_theta\": 1e4, \"factor\": 4.0, \"beta_fast\": 32, "
        "\"original_max_position_embeddings\": 128}, \"tie_word_embeddings\": true}";
    static const char alphabet[] = "0123456789-.eE\"\\[]{},: nul";
    const char *rounds_text = getenv("CN_FUZZ_ROUNDS");
    const long rounds = rounds_text ? strtol(rounds_text, NULL, 10) : 20000;
    test_rng rng = test_rng_open("model_config");
    long parsed = 0;
    cn_arena arena;
    cn_arena_init(&arena, 1 << 20);
    for (long round = 0; round < rounds; round++) {
        char text[sizeof good];
        cn_model_config config;
        cn_err err = {0};
        memcpy(text, good, sizeof good);
        for (uint32_t n = test_rng_below(&rng, 3) + 1; n > 0; n--) {
            text[test_rng_below(&rng, sizeof good - 1)] =
                alphabet[test_rng_below(&rng, sizeof alphabet - 1)];
        }
        json_t *root = json_loads(text, 0, NULL);
        if (!json_is_object(root)) {
            json_decref(root);
            continue;
        }
        parsed++;
        cn_arena_reset(&arena);
        if (read_json(root, &arena, &config, &err) != CN_OK) {
            assert_memory_equal(err.text, "config.json: ", 13);
        } else {
            const cn_model_spec *spec = &config.spec;
            assert_in_range(spec->dim, 1, CN_MODEL_CONFIG_DIM_MAX);
            assert_in_range(spec->head_dim, 2, CN_MODEL_CONFIG_HEAD_DIM_MAX);
            assert_int_equal(spec->head_count % spec->kv_head_count, 0);
            for (uint32_t i = 0; i < spec->head_dim / 2; i++) {
                assert_true(isfinite(spec->rope_inv_freq[i]) && spec->rope_inv_freq[i] >= 0);
            }
        }
        json_decref(root);
    }
    assert_true(parsed > rounds / 20);       // the damage is not all in the syntax
    cn_arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing_fields_are_those_of_transformers),
        cmocka_unit_test(published_configurations_are_read),
        cmocka_unit_test(bad_fields_are_refused),
        cmocka_unit_test(bad_families_and_windows_are_refused),
        cmocka_unit_test(damaged_configurations_are_refused_or_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
