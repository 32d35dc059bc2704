// Tensors against a configuration: present, absent, misshapen, in the wrong shard, in no place.
#include "test_files.h"

#include "model/checkpoint_weights.h"

// A model small enough to write down: vocab 5, dim 4, mlp 6, 1 layer, 2 heads of 4, 1 KV head.
#define LAYER "model.layers.0."
static const test_tensor llama[] = {
    {"model.embed_tokens.weight", "BF16", "5, 4", 40},
    {LAYER "input_layernorm.weight", "F32", "4", 16},
    {LAYER "self_attn.q_proj.weight", "BF16", "8, 4", 64},
    {LAYER "self_attn.k_proj.weight", "F16", "4, 4", 32},
    {LAYER "self_attn.v_proj.weight", "BF16", "4, 4", 32},
    {LAYER "self_attn.o_proj.weight", "BF16", "4, 8", 64},
    {LAYER "post_attention_layernorm.weight", "BF16", "4", 8},
    {LAYER "mlp.gate_proj.weight", "BF16", "6, 4", 48},
    {LAYER "mlp.up_proj.weight", "BF16", "6, 4", 48},
    {LAYER "mlp.down_proj.weight", "BF16", "4, 6", 48},
    {"model.norm.weight", "BF16", "4", 8},
    {"lm_head.weight", "BF16", "5, 4", 40},
};
enum { LLAMA_TENSORS = sizeof llama / sizeof llama[0], LIST_MAX = LLAMA_TENSORS + 4 };
enum { PARAMETERS = 20 + 4 + 32 + 16 + 16 + 32 + 4 + 24 + 24 + 24 + 4 + 20 };

static cn_model_config config_of(const char *family, bool tied)
{
    return (cn_model_config){.family = cn_family_find(NULL, family),
                       .tied = tied,
                       .spec = {.layer_count = 1, .dim = 4, .head_count = 2, .kv_head_count = 1,
                                .head_dim = 4, .mlp_dim = 6, .vocab_count = 5}};
}

// The list above with `changed` in the place of the tensor of its name, or behind all.
static void list_with(const test_tensor *changed, test_tensor out[LIST_MAX])
{
    bool placed = false;
    uint32_t count = 0;
    for (uint32_t i = 0; i < LLAMA_TENSORS; i++) {
        const bool same = strcmp(llama[i].name, changed->name) == 0;
        placed = placed || same;
        if (!same) out[count++] = llama[i];
        else if (changed->dtype) out[count++] = *changed;        // no dtype: leave it out
    }
    if (!placed && changed->dtype) out[count++] = *changed;
    out[count] = (test_tensor){NULL, NULL, NULL, 0};
}

typedef struct opened {
    cn_code code;
    cn_err err;
    cn_model_config config;
    cn_arena arena;
    cn_checkpoint_weights *weights;
} opened;

static opened open_weights(const test_files *files, cn_model_config config)
{
    opened result = {.config = config};
    cn_arena_init(&result.arena, 1 << 20);
    result.code = cn_checkpoint_weights_open(files->directory, &result.config, &result.arena,
                                             &result.weights, &result.err);
    return result;
}

static void close_weights(opened *result)
{
    cn_checkpoint_weights_close(result->weights);
    cn_arena_close(&result->arena);
}

static void refuses(const test_files *files, cn_model_config config, cn_code code, const char *text)
{
    opened result = open_weights(files, config);
    assert_int_equal(result.code, code);
    assert_string_equal(result.err.text, text);
    assert_null(result.weights);
    close_weights(&result);
}

static void tensors_land_in_their_places(void **state)
{
    (void)state;
    const test_files files = test_files_open();
    test_tensor list[LIST_MAX];
    list_with(&llama[0], list);
    test_files_write_tensors(&files, "model.safetensors", list, 0);
    opened result = open_weights(&files, config_of("llama", false));
    if (result.code != CN_OK) fail_msg("%s", result.err.text);
    const cn_model_spec *spec = &result.config.spec;
    const cn_layer_weights *layer = &spec->layers[0];
    assert_int_equal(spec->embed.rows, 5);
    assert_int_equal(spec->embed.cols, 4);
    assert_int_equal(layer->q.rows, 8);
    assert_int_equal(layer->o.cols, 8);
    assert_int_equal(layer->attn_norm.rows, 1);
    assert_int_equal(layer->attn_norm.cols, 4);
    assert_int_equal(layer->attn_norm.dtype, CN_DTYPE_F32);
    assert_int_equal(layer->k.dtype, CN_DTYPE_F16);
    assert_int_equal(layer->v.dtype, CN_DTYPE_BF16);
    assert_null(layer->q_norm.data);
    const unsigned char *base = spec->embed.data;
    uint32_t at = 0;
    const cn_tensor *in_order[LLAMA_TENSORS] = {
        &spec->embed, &layer->attn_norm, &layer->q, &layer->k, &layer->v, &layer->o,
        &layer->mlp_norm, &layer->gate, &layer->up, &layer->down, &spec->final_norm, &spec->head};
    for (uint32_t i = 0; i < LLAMA_TENSORS; i++) {
        assert_ptr_equal(in_order[i]->data, base + at);
        at += llama[i].bytes;
    }
    assert_int_equal(cn_checkpoint_weights_parameter_count(result.weights), PARAMETERS);
    close_weights(&result);
    test_files_close(&files);
}

// Old tools did not pad the header: the bytes are the same at an address that fits.
static void unaligned_tensors_are_copied(void **state)
{
    (void)state;
    const test_files files = test_files_open();
    test_tensor list[LIST_MAX];
    list_with(&llama[0], list);
    for (uint32_t padding = 1; padding < 4; padding++) {
        test_files_write_tensors(&files, "model.safetensors", list, padding);
        opened result = open_weights(&files, config_of("llama", false));
        assert_int_equal(result.code, CN_OK);
        const cn_tensor *norm = &result.config.spec.layers[0].attn_norm;
        assert_int_equal((uintptr_t)norm->data % sizeof(float), 0);
        assert_int_equal((uintptr_t)result.config.spec.head.data % 2, 0);
        for (uint32_t i = 0; i < 16; i++) {
            assert_int_equal(((const unsigned char *)norm->data)[i], 40 + i);
        }
        close_weights(&result);
    }
    test_files_close(&files);
}

static void tied_heads_are_settled(void **state)
{
    (void)state;
    static const test_tensor no_head = {"lm_head.weight", NULL, NULL, 0};
    static const test_tensor no_embed = {"model.embed_tokens.weight", NULL, NULL, 0};
    const test_files files = test_files_open();
    test_tensor list[LIST_MAX];

    list_with(&no_head, list);               // the usual case
    test_files_write_tensors(&files, "model.safetensors", list, 0);
    opened result = open_weights(&files, config_of("llama", true));
    assert_int_equal(result.code, CN_OK);
    assert_ptr_equal(result.config.spec.head.data, result.config.spec.embed.data);
    assert_int_equal(result.config.spec.head.rows, 5);
    assert_int_equal(cn_checkpoint_weights_parameter_count(result.weights), PARAMETERS - 20);
    close_weights(&result);

    list_with(&no_embed, list);              // the embedding left out instead
    test_files_write_tensors(&files, "model.safetensors", list, 0);
    result = open_weights(&files, config_of("llama", true));
    assert_int_equal(result.code, CN_OK);
    assert_ptr_equal(result.config.spec.head.data, result.config.spec.embed.data);
    assert_int_equal(cn_checkpoint_weights_parameter_count(result.weights), PARAMETERS - 20);
    close_weights(&result);

    list_with(&llama[0], list);              // both, and they differ: the data decides
    test_files_write_tensors(&files, "model.safetensors", list, 0);
    result = open_weights(&files, config_of("llama", true));
    assert_int_equal(result.code, CN_OK);
    assert_ptr_not_equal(result.config.spec.head.data, result.config.spec.embed.data);
    close_weights(&result);
    test_files_close(&files);
}

static void bad_tensors_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *family;
        test_tensor changed;
        cn_code code;
        const char *text;
    } cases[] = {
        {"llama",
         {LAYER "mlp.up_proj.weight", NULL, NULL, 0},
         CN_E_FORMAT,
         "tensor model.layers.0.mlp.up_proj.weight is missing"},
        {"llama",
         {"lm_head.weight", NULL, NULL, 0},
         CN_E_FORMAT,
         "tensor lm_head.weight is missing; config.json (tie_word_embeddings) does not tie it"},
        {"llama",
         {LAYER "mlp.up_proj.weight", "BF16", "8, 4", 64},
         CN_E_FORMAT,
         "tensor model.layers.0.mlp.up_proj.weight has shape [8, 4]; config.json "
         "(intermediate_size, "
         "hidden_size) makes it [6, 4]"},
        {"llama",
         {LAYER "mlp.up_proj.weight", "BF16", "24", 48},
         CN_E_FORMAT,
         "tensor model.layers.0.mlp.up_proj.weight has shape [24]; config.json (intermediate_size, "
         "hidden_size) makes it [6, 4]"},
        {"llama",
         {LAYER "self_attn.k_proj.weight", "BF16", "8, 4", 64},
         CN_E_FORMAT,
         "tensor model.layers.0.self_attn.k_proj.weight has shape [8, 4]; config.json "
         "(num_key_value_heads * head_dim, hidden_size) makes it [4, 4]"},
        {"llama",
         {LAYER "self_attn.q_proj.weight", "BF16", "4, 8", 64},
         CN_E_FORMAT,
         "tensor model.layers.0.self_attn.q_proj.weight has shape [4, 8]; config.json "
         "(num_attention_heads * head_dim, hidden_size) makes it [8, 4]"},
        {"llama",
         {"model.norm.weight", "F32", "1, 4", 16},
         CN_E_FORMAT,
         "tensor model.norm.weight has shape [1, 4]; config.json (hidden_size) makes it [4]"},
        {"llama",
         {"model.norm.weight", "F32", "", 4},
         CN_E_FORMAT,
         "tensor model.norm.weight has shape []; config.json (hidden_size) makes it [4]"},
        {"llama",
         {"model.embed_tokens.weight", "BF16", "6, 4", 48},
         CN_E_FORMAT,
         "tensor model.embed_tokens.weight has shape [6, 4]; config.json (vocab_size, hidden_size) "
         "makes it [5, 4]"},
        {"llama",
         {"lm_head.weight", "F64", "5, 4", 160},
         CN_E_UNSUPPORTED,
         "tensor lm_head.weight is F64; Cairn reads BF16, F16 and F32"},
        {"llama",
         {LAYER "self_attn.q_proj.weight", "F8_E4M3", "8, 4", 32},
         CN_E_UNSUPPORTED,
         "tensor model.layers.0.self_attn.q_proj.weight is F8_E4M3; Cairn reads BF16, F16 and F32"},
        {"llama",
         {LAYER "self_attn.q_proj.bias", "BF16", "8", 16},
         CN_E_UNSUPPORTED,
         "tensor model.layers.0.self_attn.q_proj.bias is no part of the llama model that "
         "config.json describes (num_hidden_layers: 1)"},
        {"llama",
         {"model.layers.1.input_layernorm.weight", "BF16", "4", 8},
         CN_E_UNSUPPORTED,
         "tensor model.layers.1.input_layernorm.weight is no part of the llama model that "
         "config.json describes (num_hidden_layers: 1)"},
        {"llama",
         {LAYER "self_attn.q_norm.weight", "BF16", "4", 8},
         CN_E_UNSUPPORTED,
         "tensor model.layers.0.self_attn.q_norm.weight is no part of the llama model that "
         "config.json describes (num_hidden_layers: 1)"},
        {"qwen3",
         {LAYER "self_attn.q_norm.weight", "BF16", "4", 8},
         CN_E_FORMAT,
         "tensor model.layers.0.self_attn.k_norm.weight is missing"},
        {"qwen3",
         {LAYER "self_attn.q_norm.weight", "BF16", "8", 16},
         CN_E_FORMAT,
         "tensor model.layers.0.self_attn.q_norm.weight has shape [8]; config.json (head_dim) "
         "makes "
         "it [4]"},
    };
    const test_files files = test_files_open();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        test_tensor list[LIST_MAX];
        char text[512];
        list_with(&cases[i].changed, list);
        test_files_write_tensors(&files, "model.safetensors", list, 0);
        snprintf(text, sizeof text, "model.safetensors: %s", cases[i].text);
        refuses(&files, config_of(cases[i].family, false), cases[i].code, text);
    }
    test_files_close(&files);
}

// Llama checkpoints of 2023 hold a buffer that everyone computes.
static void old_buffers_are_ignored(void **state)
{
    (void)state;
    static const test_tensor buffer = {LAYER "self_attn.rotary_emb.inv_freq", "F32", "2", 8};
    const test_files files = test_files_open();
    test_tensor list[LIST_MAX];
    list_with(&buffer, list);
    test_files_write_tensors(&files, "model.safetensors", list, 0);
    opened result = open_weights(&files, config_of("llama", false));
    assert_int_equal(result.code, CN_OK);
    close_weights(&result);
    test_files_close(&files);
}

// ---- shards

static void write_index(const test_files *files, const char *first, const char *odd_name,
                        const char *odd_file)
{
    cn_buf text;
    cn_buf_init(&text, 1 << 16);
    cn_buf_add_text(&text, "{\"metadata\": {\"total_size\": 448}, \"weight_map\": {");
    for (uint32_t i = 0; i < LLAMA_TENSORS; i++) {
        const char *file = i < 6 ? first : "b.safetensors";
        if (odd_name && strcmp(odd_name, llama[i].name) == 0) file = odd_file;
        if (file) cn_buf_add_format(&text, "\"%s\": \"%s\",", llama[i].name, file);
    }
    text.data[text.len - 1] = '}';
    cn_buf_add(&text, "}", 2);
    test_files_write_text(files, "model.safetensors.index.json", text.data);
    cn_buf_close(&text);
}

static void write_shards(const test_files *files)
{
    test_tensor part[LIST_MAX] = {{NULL, NULL, NULL, 0}};
    memcpy(part, llama, 6 * sizeof llama[0]);
    test_files_write_tensors(files, "a.safetensors", part, 0);
    memset(part, 0, sizeof part);
    memcpy(part, llama + 6, 6 * sizeof llama[0]);
    test_files_write_tensors(files, "b.safetensors", part, 0);
}

static void shards_are_one_checkpoint(void **state)
{
    (void)state;
    const test_files files = test_files_open();
    write_shards(&files);
    write_index(&files, "a.safetensors", NULL, NULL);
    opened result = open_weights(&files, config_of("llama", false));
    if (result.code != CN_OK) fail_msg("%s", result.err.text);
    assert_int_equal(cn_checkpoint_weights_parameter_count(result.weights), PARAMETERS);
    close_weights(&result);

    // One file wins over an index, as in transformers; here it lacks what the shards have.
    test_files_write_header(&files, "model.safetensors", "{}", 2, 0);
    refuses(&files, config_of("llama", false), CN_E_FORMAT,
            "model.safetensors: tensor model.embed_tokens.weight is missing");
    test_files_close(&files);
}

static void bad_shards_are_refused(void **state)
{
    (void)state;
    const cn_model_config config = config_of("llama", false);
    const test_files files = test_files_open();
    char text[512];
    snprintf(text, sizeof text,
             "model.safetensors: no such file in %s, nor "
             "model.safetensors.index.json; Cairn reads weights in no other format",
             files.directory);
    refuses(&files, config, CN_E_IO, text);

    write_shards(&files);
    write_index(&files, "missing.safetensors", NULL, NULL);
    snprintf(text, sizeof text,
             "missing.safetensors: is missing in %s; model.safetensors.index.json: "
             "weight_map names it for tensor model.embed_tokens.weight",
             files.directory);
    refuses(&files, config, CN_E_IO, text);

    write_index(&files, "../a.safetensors", NULL, NULL);
    refuses(&files, config, CN_E_FORMAT, "model.safetensors.index.json: weight_map: "
            "model.embed_tokens.weight: ../a.safetensors; must be the name of a file beside it");

    write_index(&files, "a.safetensors", "lm_head.weight", "a.safetensors");
    refuses(&files, config, CN_E_FORMAT, "a.safetensors: tensor lm_head.weight is missing; "
            "model.safetensors.index.json says that it is here");

    write_index(&files, "a.safetensors", "lm_head.weight", NULL);
    refuses(&files, config, CN_E_FORMAT,
            "model.safetensors.index.json: weight_map: has no tensor lm_head.weight");

    write_index(&files, "a.safetensors", NULL, NULL);
    test_files_write_tensors(&files, "a.safetensors", (const test_tensor[LIST_MAX]){
        llama[0], llama[1], llama[2], llama[3], llama[4], llama[5], llama[10]}, 0);
    refuses(&files, config, CN_E_FORMAT,
            "a.safetensors: tensor model.norm.weight must not be here; "
            "model.safetensors.index.json places it in b.safetensors");

    static const struct {
        const char *index, *text;
    } cases[] = {
        {"{}", "weight_map: must name a file for each tensor"},
        {"{\"weight_map\": {}}", "weight_map: must name a file for each tensor"},
        {"{\"weight_map\": []}", "weight_map: an array; must be an object"},
        {"{\"weight_map\": {\"x\": 7}}",
         "weight_map: x: an integer; must be the name of a file beside it"},
        {"{\"weight_map\": {\"x\": \"\"}}",
         "weight_map: x: ; must be the name of a file beside it"},
        {"[]", "is an array; must be a JSON object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        test_files_write_text(&files, "model.safetensors.index.json", cases[i].index);
        snprintf(text, sizeof text, "model.safetensors.index.json: %s", cases[i].text);
        refuses(&files, config, CN_E_FORMAT, text);
    }
    test_files_close(&files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_land_in_their_places),
        cmocka_unit_test(unaligned_tensors_are_copied),
        cmocka_unit_test(tied_heads_are_settled),
        cmocka_unit_test(bad_tensors_are_refused),
        cmocka_unit_test(old_buffers_are_ignored),
        cmocka_unit_test(shards_are_one_checkpoint),
        cmocka_unit_test(bad_shards_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
