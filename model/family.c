#include "model/family.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"

#define LAYER(member) offsetof(cn_layer_weights, member)
#define MODEL(member) offsetof(cn_model_spec, member)
#define COUNT(array) ((uint32_t)(sizeof(array) / sizeof(array)[0]))

static const cn_family_tensor llama_layer[] = {
    {"input_layernorm.weight", LAYER(attn_norm), CN_FAMILY_ONE, CN_FAMILY_DIM, 0},
    {"self_attn.q_proj.weight", LAYER(q), CN_FAMILY_Q_DIM, CN_FAMILY_DIM, 0},
    {"self_attn.k_proj.weight", LAYER(k), CN_FAMILY_KV_DIM, CN_FAMILY_DIM, 0},
    {"self_attn.v_proj.weight", LAYER(v), CN_FAMILY_KV_DIM, CN_FAMILY_DIM, 0},
    {"self_attn.q_norm.weight", LAYER(q_norm), CN_FAMILY_ONE, CN_FAMILY_HEAD_DIM,
     CN_FAMILY_QK_NORM},
    {"self_attn.k_norm.weight", LAYER(k_norm), CN_FAMILY_ONE, CN_FAMILY_HEAD_DIM,
     CN_FAMILY_QK_NORM},
    {"self_attn.o_proj.weight", LAYER(o), CN_FAMILY_DIM, CN_FAMILY_Q_DIM, 0},
    {"post_attention_layernorm.weight", LAYER(mlp_norm), CN_FAMILY_ONE, CN_FAMILY_DIM, 0},
    {"mlp.gate_proj.weight", LAYER(gate), CN_FAMILY_MLP_DIM, CN_FAMILY_DIM, 0},
    {"mlp.up_proj.weight", LAYER(up), CN_FAMILY_MLP_DIM, CN_FAMILY_DIM, 0},
    {"mlp.down_proj.weight", LAYER(down), CN_FAMILY_DIM, CN_FAMILY_MLP_DIM, 0},
};

static const cn_family_tensor llama_model[] = {
    {"model.embed_tokens.weight", MODEL(embed), CN_FAMILY_VOCAB, CN_FAMILY_DIM, 0},
    {"model.norm.weight", MODEL(final_norm), CN_FAMILY_ONE, CN_FAMILY_DIM, 0},
    {"lm_head.weight", MODEL(head), CN_FAMILY_VOCAB, CN_FAMILY_DIM, 0},
};

#define LLAMA_TENSORS                                                                              \
    .layer_prefix = "model.layers.", .layer_tensors = llama_layer, .model_tensors = llama_model,   \
    .layer_tensor_count = COUNT(llama_layer), .model_tensor_count = COUNT(llama_model),            \
    .embed_name = "model.embed_tokens.weight", .head_name = "lm_head.weight",                      \
    .ignored_suffix = ".rotary_emb.inv_freq"

// Defaults: LlamaConfig, MistralConfig and Qwen3Config of transformers 5.23.
static const cn_family families[] = {
    {.name = "llama", .architecture = "LlamaForCausalLM", .flags = 0, LLAMA_TENSORS,
     .defaults = {.vocab_count = 32000, .dim = 4096, .mlp_dim = 11008, .layer_count = 32,
                  .head_count = 32, .kv_head_count = 0, .head_dim = 0, .context_tokens = 2048,
                  .bos_token = 1, .eos_token = 2}},
    {.name = "mistral", .architecture = "MistralForCausalLM", .flags = CN_FAMILY_WINDOW_ALL,
     LLAMA_TENSORS,
     .defaults = {.vocab_count = 32000, .dim = 4096, .mlp_dim = 14336, .layer_count = 32,
                  .head_count = 32, .kv_head_count = 8, .head_dim = 0, .context_tokens = 131072,
                  .bos_token = 1, .eos_token = 2}},
    {.name = "qwen3", .architecture = "Qwen3ForCausalLM",
     .flags = CN_FAMILY_QK_NORM | CN_FAMILY_WINDOW_LAYERS, LLAMA_TENSORS,
     .defaults = {.vocab_count = 151936, .dim = 4096, .mlp_dim = 22016, .layer_count = 32,
                  .head_count = 32, .kv_head_count = 32, .head_dim = 128, .context_tokens = 32768,
                  .bos_token = -1, .eos_token = -1}},
};

const cn_family *cn_family_find(const char *architecture, const char *model_type)
{
    for (uint32_t i = 0; i < COUNT(families); i++) {
        const char *name = architecture ? families[i].architecture : families[i].name;
        const char *wanted = architecture ? architecture : model_type;
        if (wanted && strcmp(name, wanted) == 0) return &families[i];
    }
    return NULL;
}

void cn_family_list(char text[CN_FAMILY_LIST_BYTES])
{
    size_t len = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < COUNT(families) && len < CN_FAMILY_LIST_BYTES; i++) {
        len += (size_t)snprintf(text + len, CN_FAMILY_LIST_BYTES - len, "%s%s", i ? ", " : "",
                                families[i].architecture);
    }
}

uint64_t cn_family_dim_size(cn_family_dim dim, const cn_model_spec *spec)
{
    switch (dim) {
    case CN_FAMILY_ONE: return 1;
    case CN_FAMILY_DIM: return spec->dim;
    case CN_FAMILY_HEAD_DIM: return spec->head_dim;
    case CN_FAMILY_Q_DIM: return (uint64_t)spec->head_count * spec->head_dim;
    case CN_FAMILY_KV_DIM: return (uint64_t)spec->kv_head_count * spec->head_dim;
    case CN_FAMILY_MLP_DIM: return spec->mlp_dim;
    case CN_FAMILY_VOCAB: return spec->vocab_count;
    }
    CN_ASSERT(!"a dimension of the table");
    return 0;
}

const char *cn_family_dim_fields(cn_family_dim dim)
{
    switch (dim) {
    case CN_FAMILY_ONE: return "1";
    case CN_FAMILY_DIM: return "hidden_size";
    case CN_FAMILY_HEAD_DIM: return "head_dim";
    case CN_FAMILY_Q_DIM: return "num_attention_heads * head_dim";
    case CN_FAMILY_KV_DIM: return "num_key_value_heads * head_dim";
    case CN_FAMILY_MLP_DIM: return "intermediate_size";
    case CN_FAMILY_VOCAB: return "vocab_size";
    }
    CN_ASSERT(!"a dimension of the table");
    return "";
}
