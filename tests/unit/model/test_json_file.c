// JSON files that are none, and fields of the wrong type: what the person at fault gets to read.
#include "test_files.h"

#include "model/checkpoint_file.h"
#include "model/json_file.h"

static void files_that_are_no_json_objects(void **state)
{
    (void)state;
    static const struct {
        const char *content, *text;
    } cases[] = {
        {"", "line 1: '[' or '{' expected near end of file"},
        {"7", "line 1: '[' or '{' expected near '7'"},
        {"[1, 2]", "is an array; must be a JSON object"},
        {"{\"a\": 1,\n \"rms_norm_eps\": NaN}", "line 2: invalid token near 'NaN'"},
        {"{\"a\": 1,\n \"rms_norm_eps\": Infinity}", "line 2: invalid token near 'Infinity'"},
        {"{\"a\": 1e999}", "line 1: real number overflow near '1e999'"},
        {"{\"a\": 99999999999999999999}", "line 1: too big integer near '99999999999999999999'"},
        {"{\"a\": 1, \"a\": 1}", "line 1: duplicate object key near '\"a\"'"},
        {"{\"a\": \"\xff\"}", "line 1: unable to decode byte 0xff near '\"'"},
        {"{\"a\": 1} {}", "line 1: end of file expected near '{'"},
        {"{\"a\": ", "line 1: unexpected token near end of file"},
        {"\x1f\x8b\x08garbage", "line 1: '[' or '{' expected near '\x1f'"},
    };
    const test_files files = test_files_open();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cn_json_file file;
        cn_err err = {0};
        char text[256];
        snprintf(text, sizeof text, "config.json: %s", cases[i].text);
        test_files_write_text(&files, "config.json", cases[i].content);
        assert_int_equal(cn_json_file_open(files.directory, "config.json", &file, &err),
                         CN_E_FORMAT);
        assert_string_equal(err.text, text);
        assert_null(file.root);
    }
    test_files_close(&files);
}

static void deep_json_is_refused(void **state)
{
    (void)state;
    enum { DEPTH = 1000000 };
    const test_files files = test_files_open();
    cn_json_file file;
    cn_err err;
    char *text = malloc(DEPTH + 5);
    memcpy(text, "{\"a\":", 5);
    memset(text + 5, '[', DEPTH);
    test_files_write(&files, "config.json", text, DEPTH + 5);
    assert_int_equal(cn_json_file_open(files.directory, "config.json", &file, &err), CN_E_FORMAT);
    assert_string_equal(err.text, "config.json: line 1: maximum parsing depth reached near '['");
    free(text);
    test_files_close(&files);
}

static void files_that_cannot_be_read(void **state)
{
    (void)state;
    const test_files files = test_files_open();
    cn_json_file file;
    cn_err err;
    char text[256], path[512];
    assert_int_equal(cn_json_file_open(files.directory, "config.json", &file, &err),
                     CN_E_NOT_FOUND);
    snprintf(text, sizeof text, "config.json: No such file or directory in %s", files.directory);
    assert_string_equal(err.text, text);
    assert_int_equal(cn_json_file_open_if_there(files.directory, "config.json", &file, &err),
                     CN_OK);
    const cn_json_object root = cn_json_file_root(&file);
    assert_null(cn_json_file_find(&root, "a"));

    assert_int_equal(cn_json_file_open(files.directory, ".", &file, &err), CN_E_IO);
    assert_string_equal(err.text, ".: is not a regular file");

    test_files_path(&files, "big.json", path);
    test_files_write_text(&files, "big.json", "{}");
    assert_int_equal(truncate(path, (off_t)CN_CHECKPOINT_FILE_BYTES_MAX + 1), 0);
    assert_int_equal(cn_json_file_open(files.directory, "big.json", &file, &err), CN_E_FORMAT);
    assert_string_equal(err.text, "big.json: has 67108865 bytes; at most 67108864 are read");

    char *directory = malloc(5000);
    memset(directory, 'd', 4999);
    directory[4999] = '\0';
    assert_int_equal(cn_json_file_open(directory, "config.json", &file, &err), CN_E_IO);
    assert_string_equal(err.text,
                        "config.json: the path of its directory has 4999 bytes; at most 4095 fit");
    free(directory);
    test_files_close(&files);
}

// Absent and null leave the default; every other type than the wanted one is named.
static void getters_check_type_and_range(void **state)
{
    (void)state;
    json_t *value = json_loads("{\"null\": null, \"int\": 7, \"real\": 0.5, \"text\": \"a\\nb\","
                               "\"yes\": true, \"object\": {\"int\": 3}}", 0, NULL);
    const cn_json_object root = {.value = value, .file = "x.json"};
    cn_json_object child;
    cn_err err;
    uint32_t count = 42;
    double number = 42;
    bool on = true;
    const char *text = "default";

    assert_int_equal(cn_json_file_u32(&root, "null", 0, 9, &count, &err), CN_OK);
    assert_int_equal(cn_json_file_u32(&root, "none", 0, 9, &count, &err), CN_OK);
    assert_int_equal(count, 42);
    assert_int_equal(cn_json_file_u32(&root, "int", 7, 7, &count, &err), CN_OK);
    assert_int_equal(count, 7);
    assert_int_equal(cn_json_file_u32(&root, "int", 8, 9, &count, &err), CN_E_FORMAT);
    assert_string_equal(err.text, "x.json: int: 7; must be an integer from 8 to 9");
    assert_int_equal(cn_json_file_u32(&root, "real", 0, 9, &count, &err), CN_E_FORMAT);
    assert_string_equal(err.text, "x.json: real: 0.5; must be an integer from 0 to 9");
    assert_int_equal(cn_json_file_u32(&root, "yes", 0, 9, &count, &err), CN_E_FORMAT);
    assert_string_equal(err.text, "x.json: yes: true; must be an integer from 0 to 9");

    assert_int_equal(cn_json_file_double(&root, "int", 0, 9, &number, &err), CN_OK);
    assert_true(number == 7);
    assert_int_equal(cn_json_file_double(&root, "text", 0, 9, &number, &err), CN_E_FORMAT);
    assert_string_equal(err.text, "x.json: text: \"a?b\"; must be a number from 0 to 9");
    assert_int_equal(cn_json_file_bool(&root, "null", &on, &err), CN_OK);
    assert_true(on);
    assert_int_equal(cn_json_file_bool(&root, "object", &on, &err), CN_E_FORMAT);
    assert_string_equal(err.text, "x.json: object: an object; must be true or false");
    assert_int_equal(cn_json_file_string(&root, "none", &text, &err), CN_OK);
    assert_string_equal(text, "default");
    assert_int_equal(cn_json_file_string(&root, "int", &text, &err), CN_E_FORMAT);
    assert_string_equal(err.text, "x.json: int: 7; must be a string");

    assert_int_equal(cn_json_file_child(&root, "none", &child, &err), CN_OK);
    assert_null(child.value);
    assert_int_equal(cn_json_file_child(&root, "object", &child, &err), CN_OK);
    assert_int_equal(cn_json_file_u32(&child, "int", 5, 9, &count, &err), CN_E_FORMAT);
    assert_string_equal(err.text, "x.json: object.int: 3; must be an integer from 5 to 9");
    assert_int_equal(cn_json_file_child(&root, "int", &child, &err), CN_E_FORMAT);
    assert_string_equal(err.text, "x.json: int: 7; must be an object");
    json_decref(value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_that_are_no_json_objects),
        cmocka_unit_test(deep_json_is_refused),
        cmocka_unit_test(files_that_cannot_be_read),
        cmocka_unit_test(getters_check_type_and_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
