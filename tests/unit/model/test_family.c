// The table of families: found by both of its names, and complete in itself.
#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "model/family.h"

static const struct {
    const char *name, *architecture;
    uint32_t layer_tensors;      // of one layer, without those of other families
} families[] = {{"llama", "LlamaForCausalLM", 9},
                {"mistral", "MistralForCausalLM", 9},
                {"qwen3", "Qwen3ForCausalLM", 11}};

enum { FAMILIES = sizeof families / sizeof families[0] };

static void families_are_found_by_both_names(void **state)
{
    (void)state;
    char list[CN_FAMILY_LIST_BYTES];
    cn_family_list(list);
    for (size_t i = 0; i < FAMILIES; i++) {
        const cn_family *family = cn_family_find(families[i].architecture, NULL);
        assert_non_null(family);
        assert_ptr_equal(cn_family_find(NULL, families[i].name), family);
        assert_ptr_equal(cn_family_find(families[i].architecture, "anything"), family);
        assert_non_null(strstr(list, families[i].architecture));
    }
    assert_null(cn_family_find("llama", NULL));
    assert_null(cn_family_find(NULL, "LlamaForCausalLM"));
    assert_null(cn_family_find(NULL, NULL));
}

/* Two rules for one place, or a place without a rule, would leave a tensor NULL that backends read.
 * Every cn_tensor of a layer is either named once or belongs to q_norm and k_norm. */
static void every_tensor_has_one_rule(void **state)
{
    (void)state;
    for (size_t i = 0; i < FAMILIES; i++) {
        const cn_family *family = cn_family_find(families[i].architecture, NULL);
        bool placed[sizeof(cn_layer_weights) / sizeof(cn_tensor)] = {false};
        uint32_t count = 0;
        for (uint32_t k = 0; k < family->layer_tensor_count; k++) {
            const cn_family_tensor *rule = &family->layer_tensors[k];
            if ((rule->flags & family->flags) != rule->flags) continue;
            assert_int_equal(rule->offset % sizeof(cn_tensor), 0);
            bool *place = &placed[rule->offset / sizeof(cn_tensor)];
            assert_false(*place);
            *place = true;
            count++;
        }
        assert_int_equal(count, families[i].layer_tensors);
        bool embed = false, head = false;
        for (uint32_t k = 0; k < family->model_tensor_count; k++) {
            embed = embed || strcmp(family->model_tensors[k].name, family->embed_name) == 0;
            head = head || strcmp(family->model_tensors[k].name, family->head_name) == 0;
        }
        assert_true(embed && head);
    }
}

// Every size comes from the field that its text names.
static void dimensions_are_those_of_the_specification(void **state)
{
    (void)state;
    const cn_model_spec spec = {.dim = 3, .head_count = 1 << 12, .kv_head_count = 5,
                                .head_dim = 1 << 12, .mlp_dim = 11, .vocab_count = 13};
    static const struct {
        cn_family_dim dim;
        uint64_t size;
        const char *fields;
    } dims[] = {{CN_FAMILY_ONE, 1, "1"},
                {CN_FAMILY_DIM, 3, "hidden_size"},
                {CN_FAMILY_HEAD_DIM, 1 << 12, "head_dim"},
                {CN_FAMILY_Q_DIM, 1 << 24, "num_attention_heads * head_dim"},
                {CN_FAMILY_KV_DIM, 5 << 12, "num_key_value_heads * head_dim"},
                {CN_FAMILY_MLP_DIM, 11, "intermediate_size"},
                {CN_FAMILY_VOCAB, 13, "vocab_size"}};
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++) {
        assert_int_equal(cn_family_dim_size(dims[i].dim, &spec), dims[i].size);
        assert_string_equal(cn_family_dim_fields(dims[i].dim), dims[i].fields);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_are_found_by_both_names),
        cmocka_unit_test(every_tensor_has_one_rule),
        cmocka_unit_test(dimensions_are_those_of_the_specification),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
