#include "dataplane/metadata.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"

// An object with `count` pairs, whose key and value have so many characters of two bytes each.
static json_t *make(int count, int key_chars, int value_chars)
{
    json_t *object = json_object();
    for (int i = 0; i < count; i++) {
        char key[256], value[2048] = "";
        snprintf(key, sizeof key, "%02d", i);
        for (int c = 2; c < key_chars; c++) strcat(key, "\xC3\xA9");
        for (int c = 0; c < value_chars; c++) strcat(value, "\xC3\xA9");
        json_object_set_new(object, key, json_string(value));
    }
    return object;
}

static void bounds_are_openais(void **state)
{
    (void)state;
    static const struct {
        int count, key_chars, value_chars;
        cn_code code;
    } table[] = {
        {0, 2, 0, CN_OK},          {16, 64, 512, CN_OK},      {17, 2, 1, CN_E_INVALID},
        {1, 65, 1, CN_E_INVALID},  {1, 2, 513, CN_E_INVALID},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        cn_err err = {.param = ""};
        json_t *made = make(table[i].count, table[i].key_chars, table[i].value_chars);
        assert_int_equal(cn_metadata_check(made, &err), table[i].code);
        if (table[i].code != CN_OK) assert_string_equal(err.param, "metadata");
        json_decref(made);
    }
    assert_int_equal(cn_metadata_check(NULL, NULL), CN_OK);
}

static void only_strings_are_taken(void **state)
{
    (void)state;
    static const char *const wrong[] = {"[]", "{\"a\":1}", "{\"a\":null}", "{\"a\":{}}"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        json_t *made = json_loads(wrong[i], 0, NULL);
        assert_int_equal(cn_metadata_check(made, NULL), CN_E_INVALID);
        json_decref(made);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_are_openais),
        cmocka_unit_test(only_strings_are_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
