// Frequencies against those of transformers 5.23, and what a configuration of them may not say.
#include "tests/unit/cmocka_all.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/rope.h"

static cn_code read_rope(const char *config, uint32_t context_tokens, cn_rope *out, cn_err *err)
{
    json_t *root = json_loads(config, 0, NULL);
    assert_non_null(root);
    const cn_json_object object = {.value = root, .file = "config.json"};
    const cn_code code = cn_rope_read(&object, context_tokens, out, err);
    json_decref(root);
    return code;
}

#define LLAMA3                                                                                     \
    "\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, "                       \
    "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 64"
#define YARN "\"rope_type\": \"yarn\", \"rope_theta\": 1000.0"

/* Each row is ROPE_INIT_FUNCTIONS[type](LlamaConfig(head_dim=16, ...)) of transformers. Its powers
 * are float32 and may be a unit in the last place off ours, so 3e-7 is the tolerance: two units. */
static void frequencies_equal_transformers(void **state)
{
    (void)state;
    static const float plain[8] = {1.0f,          0.316227764f,  0.100000001f,  0.0316227786f,
                                   0.00999999978f, 0.00316227786f, 0.00100000005f, 0.000316227786f};
    static const float linear[8] = {0.25f,          0.079056941f,   0.0250000004f,  0.00790569466f,
                                    0.00249999994f, 0.000790569466f, 0.000250000012f,
                                    7.90569466e-05f};
    static const float llama3[8] = {1.0f,           0.459863275f,  0.0976166278f,  0.0121561559f,
                                    0.00559017016f, 0.0025707141f, 0.00118217699f, 0.000543639821f};
    static const float yarn[8] = {1.0f,           0.342628419f,   0.111142464f,   0.0328078717f,
                                  0.00790569466f, 0.00333380373f, 0.00140585331f, 0.000592843455f};
    static const float smooth[8] = {1.0f,           0.33109346f,    0.10141395f,
                                    0.0266541466f,  0.00790569466f, 0.00333380373f,
                                    0.00140585331f, 0.000592843455f};
    static const float narrow[8] = {
        1.0f,           0.298701704f,   0.0740949735f,   0.00937367696f,
        0.00395284733f, 0.00166690187f, 0.000702926656f, 0.000296421727f};
    static const float wide[8] = {1.0f,           0.329450399f,   0.100028217f,    0.0257776119f,
                                  0.00395284733f, 0.00166690187f, 0.000702926656f, 0.000296421727f};
    static const struct {
        const char *config;
        uint32_t context_tokens;
        const float *want;
        double magnitude;
    } cases[] = {
        {"{}", 4096, plain, 1},
        {"{\"rope_theta\": 10000, \"rope_scaling\": null}", 4096, plain, 1},
        {"{\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 10000.0}}", 4096,
         plain, 1},
        {"{\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"linear\", \"factor\": 4}}}",
         4096, linear, 1},
        {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 4.0}}", 4096, linear, 1},
        {"{\"rope_theta\": 500.0, \"rope_scaling\": {" LLAMA3 "}}", 4096, llama3, 1},
        {"{\"rope_theta\": 7.0, \"rope_parameters\": {\"rope_theta\": 500.0, " LLAMA3 "}}", 4096,
         llama3, 1},
        {"{\"rope_theta\": 500.0, \"original_max_position_embeddings\": 64, \"rope_scaling\": "
         "{\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, "
         "\"high_freq_factor\": 4.0}}",
         4096, llama3, 1},
        {"{\"rope_parameters\": {" YARN ", \"factor\": 4.0, "
         "\"original_max_position_embeddings\": 128}}",
         4096, yarn, 1.138629436111989},
        {"{\"rope_parameters\": {" YARN ", \"original_max_position_embeddings\": 128}}", 512, yarn,
         1.138629436111989},
        {"{\"rope_parameters\": {" YARN ", \"factor\": 4.0, \"truncate\": false, "
         "\"original_max_position_embeddings\": 128}}",
         4096, smooth, 1.138629436111989},
        {"{\"rope_parameters\": {" YARN ", \"factor\": 8.0, \"beta_fast\": 16, \"beta_slow\": 2, "
         "\"mscale\": 1.0, \"mscale_all_dim\": 0.5, \"original_max_position_embeddings\": 128}}",
         4096, narrow, 1.094179988101349},
        {"{\"rope_parameters\": {" YARN ", \"factor\": 8.0, \"attention_factor\": 1.5, "
         "\"original_max_position_embeddings\": 128}}",
         4096, wide, 1.5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cn_rope rope;
        cn_err err = {0};
        float inv_freq[8];
        if (read_rope(cases[i].config, cases[i].context_tokens, &rope, &err) != CN_OK) {
            fail_msg("%s: %s", cases[i].config, err.text);
        }
        cn_rope_fill(&rope, 16, inv_freq);
        for (int k = 0; k < 8; k++) {
            const float relative = fabsf(inv_freq[k] / cases[i].want[k] - 1);
            if (relative > 3e-7f) {
                fail_msg("%s: frequency %d is %.9g, not %.9g", cases[i].config, k,
                         (double)inv_freq[k], (double)cases[i].want[k]);
            }
        }
        assert_true(fabs(rope.magnitude - cases[i].magnitude) < 1e-15);
    }
}

static void bad_fields_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *config;
        cn_code code;
        const char *text;
    } cases[] = {
        {"{\"rope_theta\": \"10000\"}", CN_E_FORMAT,
         "rope_theta: \"10000\"; must be a number from 2 to 1e+15"},
        {"{\"rope_theta\": 0}", CN_E_FORMAT, "rope_theta: 0; must be a number from 2 to 1e+15"},
        {"{\"rope_parameters\": {\"rope_theta\": -1.5}}", CN_E_FORMAT,
         "rope_parameters.rope_theta: -1.5; must be a number from 2 to 1e+15"},
        {"{\"rope_scaling\": \"linear\"}", CN_E_FORMAT,
         "rope_scaling: \"linear\"; must be an object"},
        {"{\"rope_parameters\": [1]}", CN_E_FORMAT, "rope_parameters: an array; must be an object"},
        {"{\"rope_scaling\": {\"rope_type\": \"dynamic\", \"factor\": 2.0}}", CN_E_UNSUPPORTED,
         "rope_scaling.rope_type: \"dynamic\"; Cairn computes default, linear, llama3 and yarn"},
        {"{\"rope_scaling\": {\"type\": \"su\"}}", CN_E_UNSUPPORTED,
         "rope_scaling.type: \"su\"; Cairn computes default, linear, llama3 and yarn"},
        {"{\"rope_scaling\": {\"rope_type\": 3}}", CN_E_FORMAT,
         "rope_scaling.rope_type: 3; must be a string"},
        {"{\"rope_scaling\": {\"type\": \"linear\"}}", CN_E_FORMAT,
         "rope_scaling.factor: missing; this rope_type needs a number from 1 to 1e+06"},
        {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0.5}}", CN_E_FORMAT,
         "rope_scaling.factor: 0.5; must be a number from 1 to 1e+06"},
        {"{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, "
         "\"high_freq_factor\": 4}}",
         CN_E_FORMAT, "rope_scaling.high_freq_factor: 4; must be above low_freq_factor (4)"},
        {"{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4}}",
         CN_E_FORMAT,
         "rope_scaling.high_freq_factor: missing; this rope_type needs a number from 0.001 to "
         "1e+06"},
        {"{\"rope_scaling\": {" LLAMA3 "}, \"original_max_position_embeddings\": 0}", CN_E_FORMAT,
         "original_max_position_embeddings: 0; must be a number from 1 to 6.71089e+07"},
        {"{\"rope_scaling\": {" YARN ", \"beta_fast\": 1, \"beta_slow\": 2}}", CN_E_FORMAT,
         "rope_scaling.beta_fast: 1; must not be below beta_slow (2)"},
        {"{\"rope_scaling\": {" YARN ", \"truncate\": 1}}", CN_E_FORMAT,
         "rope_scaling.truncate: 1; must be true or false"},
        {"{\"partial_rotary_factor\": 0.5}", CN_E_UNSUPPORTED,
         "partial_rotary_factor: 0.5; Cairn rotates whole heads, which is 1"},
        {"{\"rope_parameters\": {\"full_attention\": {\"partial_rotary_factor\": 0.25}}}",
         CN_E_UNSUPPORTED,
         "rope_parameters.full_attention.partial_rotary_factor: 0.25; Cairn rotates "
         "whole heads, which is 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cn_rope rope;
        cn_err err = {0};
        char text[256];
        snprintf(text, sizeof text, "config.json: %s", cases[i].text);
        assert_int_equal(read_rope(cases[i].config, 4096, &rope, &err), cases[i].code);
        assert_string_equal(err.text, text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frequencies_equal_transformers),
        cmocka_unit_test(bad_fields_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
