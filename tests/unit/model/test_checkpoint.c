// A whole directory: what a good one gives, and that a bad file of any kind is named.
#include "test_files.h"

#include "model/checkpoint.h"

static const char good_config[] =
    "{\"architectures\": [\"Qwen3ForCausalLM\"], \"model_type\": \"qwen3\", \"vocab_size\": 5, "
    "\"hidden_size\": 4, \"intermediate_size\": 6, \"num_hidden_layers\": 1, "
    "\"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"head_dim\": 4, "
    "\"max_position_embeddings\": 128, \"rms_norm_eps\": 1e-6, \"tie_word_embeddings\": true}";

#define LAYER "model.layers.0."
static const test_tensor good_tensors[] = {
    {"model.embed_tokens.weight", "BF16", "5, 4", 40},
    {LAYER "input_layernorm.weight", "BF16", "4", 8},
    {LAYER "self_attn.q_proj.weight", "BF16", "8, 4", 64},
    {LAYER "self_attn.k_proj.weight", "BF16", "4, 4", 32},
    {LAYER "self_attn.v_proj.weight", "BF16", "4, 4", 32},
    {LAYER "self_attn.q_norm.weight", "BF16", "4", 8},
    {LAYER "self_attn.k_norm.weight", "BF16", "4", 8},
    {LAYER "self_attn.o_proj.weight", "BF16", "4, 8", 64},
    {LAYER "post_attention_layernorm.weight", "BF16", "4", 8},
    {LAYER "mlp.gate_proj.weight", "BF16", "6, 4", 48},
    {LAYER "mlp.up_proj.weight", "BF16", "6, 4", 48},
    {LAYER "mlp.down_proj.weight", "BF16", "4, 6", 48},
    {"model.norm.weight", "BF16", "4", 8},
    {NULL, NULL, NULL, 0},
};

static test_files good_directory(void)
{
    const test_files files = test_files_open();
    test_files_write_text(&files, "config.json", good_config);
    test_files_write_text(&files, "generation_config.json",
                          "{\"eos_token_id\": [3, 4], \"temperature\": 0.5}");
    test_files_write_text(&files, "tokenizer_config.json",
                          "{\"eos_token\": \"<end>\", \"chat_template\": \"{{ messages }}\"}");
    test_files_write_tensors(&files, "model.safetensors", good_tensors, 0);
    return files;
}

static void good_directory_is_described(void **state)
{
    (void)state;
    const test_files files = good_directory();
    cn_checkpoint *checkpoint;
    cn_err err;
    size_t len;
    if (cn_checkpoint_open(files.directory, &checkpoint, &err) != CN_OK) fail_msg("%s", err.text);
    const cn_model_spec *spec = cn_checkpoint_spec(checkpoint);
    assert_string_equal(cn_checkpoint_family(checkpoint), "qwen3");
    assert_int_equal(spec->layer_count, 1);
    assert_int_equal(spec->context_tokens_max, 128);
    assert_true(spec->rope_inv_freq[0] == 1.0f && spec->rope_inv_freq[1] == 0.01f);
    assert_non_null(spec->layers[0].k_norm.data);
    assert_ptr_equal(spec->head.data, spec->embed.data);
    assert_int_equal(cn_checkpoint_parameter_count(checkpoint), 416 / 2);
    assert_int_equal(cn_checkpoint_generation(checkpoint)->eos_count, 2);
    assert_true(cn_checkpoint_generation(checkpoint)->temperature == 0.5f);
    assert_string_equal(cn_checkpoint_chat_template(checkpoint, &len), "{{ messages }}");
    assert_int_equal(len, 14);
    assert_string_equal(cn_checkpoint_special_token(checkpoint, "eos_token"), "<end>");
    assert_string_equal(cn_checkpoint_special_token(checkpoint, "bos_token"), "");

    cn_checkpoint_drop_weights(checkpoint);
    assert_null(spec->embed.data);
    assert_null(spec->layers);
    assert_int_equal(spec->vocab_count, 5);
    assert_int_equal(cn_checkpoint_parameter_count(checkpoint), 416 / 2);
    cn_checkpoint_close(checkpoint);
    test_files_close(&files);
}

static void refuses(const char *directory, cn_code code, const char *text)
{
    cn_checkpoint *checkpoint;
    cn_err err = {0};
    assert_int_equal(cn_checkpoint_open(directory, &checkpoint, &err), code);
    assert_null(checkpoint);
    assert_int_equal(err.code, code);
    assert_string_equal(err.text, text);
    assert_int_equal(cn_checkpoint_open(directory, &checkpoint, NULL), code);
}

static void bad_files_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *file, *content;
        cn_code code;
        const char *text;
    } cases[] = {
        {"config.json", "{\"model_type\": \"llama\", \"hidden_size\": null, \"vocab_size\": 0}",
         CN_E_FORMAT, "config.json: vocab_size: 0; must be an integer from 1 to 4194304"},
        {"config.json", "garbage", CN_E_FORMAT,
         "config.json: line 1: '[' or '{' expected near 'garbage'"},
        {"generation_config.json", "{\"eos_token_id\": 5}", CN_E_FORMAT,
         "generation_config.json: eos_token_id: 5; must be a token id from 0 to 4 (vocab_size - "
         "1)"},
        {"tokenizer_config.json", "{\"eos_token\": 4}", CN_E_FORMAT,
         "tokenizer_config.json: "
         "eos_token: 4; must be a string, or an object with the string content"},
        {"special_tokens_map.json", "[]", CN_E_FORMAT,
         "special_tokens_map.json: is an array; must be a JSON object"},
        {"model.safetensors", "cut", CN_E_FORMAT,
         "model.safetensors: has 3 bytes; the format begins "
         "with 8 that give the header's length"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const test_files files = good_directory();
        test_files_write_text(&files, cases[i].file, cases[i].content);
        refuses(files.directory, cases[i].code, cases[i].text);
        test_files_close(&files);
    }
}

static void missing_files_are_named(void **state)
{
    (void)state;
    const test_files files = good_directory();
    char text[640], path[512];
    test_files_remove(&files, "config.json");
    snprintf(text, sizeof text, "config.json: no such file in %s", files.directory);
    refuses(files.directory, CN_E_IO, text);

    test_files_write_text(&files, "config.json", good_config);
    test_files_path(&files, "config.json", path);
    snprintf(text, sizeof text, "%s: is not a directory; must be the directory of a checkpoint",
             path);
    refuses(path, CN_E_IO, text);

    test_files_path(&files, "nowhere", path);
    snprintf(text, sizeof text, "%s: No such file or directory", path);
    refuses(path, CN_E_IO, text);
    test_files_close(&files);
}

// Every prefix of a good weights file is a bad one: nothing past the end is ever looked at.
static void every_truncation_is_refused(void **state)
{
    (void)state;
    const test_files files = good_directory();
    char path[512];
    test_files_path(&files, "model.safetensors", path);
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    char bytes[8192];
    const size_t len = fread(bytes, 1, sizeof bytes, in);
    fclose(in);
    assert_in_range(len, 416, sizeof bytes - 1);
    for (size_t cut = 0; cut < len; cut += cut < 16 ? 1 : 29) {
        cn_checkpoint *checkpoint;
        cn_err err = {0};
        test_files_write(&files, "model.safetensors", bytes, cut);
        assert_int_equal(cn_checkpoint_open(files.directory, &checkpoint, &err), CN_E_FORMAT);
        assert_memory_equal(err.text, "model.safetensors: ", 19);
    }
    test_files_close(&files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_directory_is_described),
        cmocka_unit_test(bad_files_are_named),
        cmocka_unit_test(missing_files_are_named),
        cmocka_unit_test(every_truncation_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
