// Where the chat template and the special tokens come from, in all spellings that are published.
#include "test_files.h"

#include "model/checkpoint_text.h"

typedef struct text_case {
    const char *jinja, *tokenizer_config, *special_tokens_map;       // NULL: no such file
} text_case;

static cn_code read_text(const text_case *given, cn_arena *arena, cn_checkpoint_text *out,
                         cn_err *err)
{
    const test_files files = test_files_open();
    cn_arena_init(arena, 1 << 20);
    if (given->jinja) test_files_write_text(&files, "chat_template.jinja", given->jinja);
    if (given->tokenizer_config) {
        test_files_write_text(&files, "tokenizer_config.json", given->tokenizer_config);
    }
    if (given->special_tokens_map) {
        test_files_write_text(&files, "special_tokens_map.json", given->special_tokens_map);
    }
    const cn_code code = cn_checkpoint_text_read(files.directory, arena, out, err);
    test_files_close(&files);
    return code;
}

static void template_comes_from_the_first_that_has_one(void **state)
{
    (void)state;
    static const struct {
        text_case given;
        const char *want;        // NULL: no template
    } cases[] = {
        {{NULL, NULL, NULL}, NULL},
        {{NULL, "{\"chat_template\": null}", NULL}, NULL},
        {{"{{ a }}\n", NULL, NULL}, "{{ a }}\n"},
        {{"", "{\"chat_template\": \"b\"}", NULL}, ""},
        {{"{{ a }}", "{\"chat_template\": \"b\"}", NULL}, "{{ a }}"},
        {{NULL, "{\"chat_template\": \"{{ b }}\"}", NULL}, "{{ b }}"},
        {{NULL, "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"r\"}, "
                "{\"name\": \"default\", \"template\": \"d\"}]}", NULL}, "d"},
        {{NULL, "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"r\"}]}", NULL}, NULL},
        {{NULL, NULL, "{\"chat_template\": \"not here\"}"}, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cn_arena arena;
        cn_checkpoint_text text;
        cn_err err = {0};
        if (read_text(&cases[i].given, &arena, &text, &err) != CN_OK) fail_msg("%s", err.text);
        if (cases[i].want) {
            assert_string_equal(text.chat_template, cases[i].want);
            assert_int_equal(text.chat_template_len, strlen(cases[i].want));
        } else {
            assert_null(text.chat_template);
            assert_int_equal(text.chat_template_len, 0);
        }
        cn_arena_close(&arena);
    }
}

static void special_tokens_are_found_in_both_files(void **state)
{
    (void)state;
    static const text_case given = {
        NULL,
        "{\"bos_token\": \"<s>\", \"eos_token\": {\"content\": \"</s>\", \"lstrip\": false}, "
        "\"add_bos_token\": true, \"add_prefix_token\": \"x\", \"unk_token\": null, "
        "\"image_token\": \"<image>\", \"_token\": \"y\", \"model_max_length\": 4096}",
        "{\"bos_token\": \"<other>\", \"unk_token\": {\"content\": \"<unk>\"}, "
        "\"additional_special_tokens\": [\"<a>\"]}"};
    static const struct {
        const char *name, *want;
    } tokens[] = {{"bos_token", "<s>"},     {"eos_token", "</s>"},  {"unk_token", "<unk>"},
                  {"image_token", "<image>"}, {"pad_token", ""},    {"add_bos_token", ""},
                  {"add_prefix_token", ""}, {"_token", ""},         {"", ""}};
    cn_arena arena;
    cn_checkpoint_text text;
    assert_int_equal(read_text(&given, &arena, &text, NULL), CN_OK);
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
        assert_string_equal(cn_checkpoint_text_token(&text, tokens[i].name), tokens[i].want);
    }
    cn_arena_close(&arena);
}

static void bad_fields_are_refused(void **state)
{
    (void)state;
    static const struct {
        text_case given;
        const char *text;
    } cases[] = {
        {{NULL, "{\"chat_template\": 7}", NULL},
         "tokenizer_config.json: chat_template: 7; must be a string, or a list of {name, "
         "template}"},
        {{NULL, "{\"chat_template\": [{\"name\": \"a\", \"template\": \"x\"}, {\"name\": \"b\"}]}",
          NULL},
         "tokenizer_config.json: chat_template[1]: must be an object with name and template, both "
         "strings"},
        {{NULL, "{\"bos_token\": 7}", NULL},
         "tokenizer_config.json: bos_token: 7; must be a string, or an object with the string "
         "content"},
        {{NULL, NULL, "{\"eos_token\": {\"content\": null}}"},
         "special_tokens_map.json: eos_token: an object; must be a string, or an object with the "
         "string content"},
        {{NULL, "{", NULL},
         "tokenizer_config.json: line 1: string or '}' expected near end of file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cn_arena arena;
        cn_checkpoint_text text;
        cn_err err = {0};
        assert_int_equal(read_text(&cases[i].given, &arena, &text, &err), CN_E_FORMAT);
        assert_string_equal(err.text, cases[i].text);
        cn_arena_close(&arena);
    }
}

static void too_many_tokens_are_refused(void **state)
{
    (void)state;
    cn_buf config;
    cn_buf_init(&config, 1 << 16);
    for (int i = 0; i <= CN_CHECKPOINT_SPECIAL_TOKENS_MAX; i++) {
        cn_buf_add_format(&config, "%s\"t%d_token\": \"x\"", i ? ", " : "{", i);
    }
    cn_buf_add(&config, "}", 2);
    const text_case given = {NULL, config.data, NULL};
    cn_arena arena;
    cn_checkpoint_text text;
    cn_err err = {0};
    assert_int_equal(read_text(&given, &arena, &text, &err), CN_E_FORMAT);
    assert_string_equal(err.text,
                        "tokenizer_config.json: t64_token: is special token 65; at most 64 "
                        "are kept");
    cn_arena_close(&arena);
    cn_buf_close(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(template_comes_from_the_first_that_has_one),
        cmocka_unit_test(special_tokens_are_found_in_both_files),
        cmocka_unit_test(bad_fields_are_refused),
        cmocka_unit_test(too_many_tokens_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
