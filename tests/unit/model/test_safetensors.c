// What a file of tensors may not be: every way in which a header can lie about its data.
#include "test_files.h"

#include "model/safetensors.h"
#include "tests/unit/test_rng.h"

static void good_file_gives_its_tensors(void **state)
{
    (void)state;
    static const test_tensor tensors[] = {
        {"b", "F32", "2, 3", 24}, {"a", "BF16", "5", 10}, {"scalar", "F16", "", 2},
        {"none", "I64", "0, 7", 0}, {"half", "F4", "2, 2", 2}, {NULL, NULL, NULL, 0}};
    const test_files files = test_files_open();
    cn_safetensors *file;
    test_files_write_tensors(&files, "x.safetensors", tensors, 3);
    assert_int_equal(cn_safetensors_open(files.directory, "x.safetensors", &file, NULL), CN_OK);
    assert_string_equal(cn_safetensors_name(file), "x.safetensors");
    assert_int_equal(cn_safetensors_count(file), 5);
    const cn_safetensors_tensor *b = cn_safetensors_find(file, "b");
    const cn_safetensors_tensor *a = cn_safetensors_find(file, "a");
    assert_int_equal(b->dim_count, 2);
    assert_int_equal(b->shape[1], 3);
    assert_string_equal(a->dtype, "BF16");
    assert_int_equal(a->bytes, 10);
    assert_int_equal(((const unsigned char *)a->data)[0], 24);       // right behind b
    assert_int_equal(cn_safetensors_find(file, "scalar")->dim_count, 0);
    assert_int_equal(cn_safetensors_find(file, "none")->bytes, 0);
    assert_null(cn_safetensors_find(file, "__metadata__"));
    assert_ptr_equal(cn_safetensors_at(file, 0), b);
    cn_safetensors_close(file);
    test_files_close(&files);
}

static void empty_file_of_tensors_is_good(void **state)
{
    (void)state;
    const test_files files = test_files_open();
    cn_safetensors *file;
    test_files_write_header(&files, "x.safetensors", "{}", 2, 0);
    assert_int_equal(cn_safetensors_open(files.directory, "x.safetensors", &file, NULL), CN_OK);
    assert_int_equal(cn_safetensors_count(file), 0);
    cn_safetensors_close(file);
    test_files_close(&files);
}

static void refuses(const test_files *files, const char *text)
{
    cn_safetensors *file;
    cn_err err = {0};
    assert_int_equal(cn_safetensors_open(files->directory, "x.safetensors", &file, &err),
                     CN_E_FORMAT);
    assert_null(file);
    assert_string_equal(err.text, text);
    assert_int_equal(err.code, CN_E_FORMAT);
}

static void bad_headers_are_refused(void **state)
{
    (void)state;
#define T(dtype, shape, offsets) \
    "{\"w\": {\"dtype\": " dtype ", \"shape\": " shape ", \"data_offsets\": " offsets "}}"
    static const struct {
        const char *header;
        size_t data_bytes;
        const char *text;
    } cases[] = {
        {"", 0, "header: must begin with {"},
        {" {}", 0, "header: must begin with {"},
        {"[]", 0, "header: must begin with {"},
        {"{\"w\": ", 0, "header, byte 6: unexpected token near end of file"},
        {"{} x", 0, "header, byte 4: end of file expected near 'x'"},
        {"{\"w\": {}, \"w\": {}}", 0, "header, byte 13: duplicate object key near '\"w\"'"},
        {"{\"w\": 5}", 0, "tensor w must have exactly dtype, shape and data_offsets"},
        {"{\"w\": {\"dtype\": \"F32\", \"shape\": []}}", 0,
         "tensor w must have exactly dtype, shape and data_offsets"},
        {"{\"w\": {\"dtype\": \"F32\", \"shape\": [], \"data_offsets\": [0, 4], \"x\": 1}}", 4,
         "tensor w must have exactly dtype, shape and data_offsets"},
        {"{\"__metadata__\": {\"format\": 1}}", 0, "__metadata__: must be an object of strings"},
        {"{\"__metadata__\": []}", 0, "__metadata__: must be an object of strings"},
        {T("7", "[1]", "[0, 4]"), 4, "tensor w has a dtype that is not a string"},
        {T("\"F33\"", "[1]", "[0, 4]"), 4,
         "tensor w has dtype \"F33\"; the format has BF16, F16, F32 and others, not this one"},
        {T("\"F32\"", "1", "[0, 4]"), 4, "tensor w has a shape that is not an array"},
        {T("\"F32\"", "[1.0]", "[0, 4]"), 4,
         "tensor w has a shape whose sizes are not all integers from 0"},
        {T("\"F32\"", "[-1]", "[0, 4]"), 4,
         "tensor w has a shape whose sizes are not all integers from 0"},
        {T("\"F32\"", "[1, 1, 1, 1, 1, 1, 1, 1, 1]", "[0, 4]"), 4,
         "tensor w has 9 dimensions; at most 8 are read"},
        {T("\"F32\"", "[4294967296, 4294967296]", "[0, 0]"), 0,
         "tensor w has a shape whose product exceeds 64 bits"},
        {T("\"F32\"", "[4611686018427387904, 2]", "[0, 0]"), 0,
         "tensor w has a shape that is no number of bytes in 64 bits"},
        {T("\"F4\"", "[3]", "[0, 1]"), 1,
         "tensor w has a shape that is no number of bytes in 64 bits"},
        {T("\"F32\"", "[1]", "[0]"), 4,
         "tensor w has data_offsets that are not two integers, begin and end, from 0"},
        {T("\"F32\"", "[1]", "{}"), 4,
         "tensor w has data_offsets that are not two integers, begin and end, from 0"},
        {T("\"F32\"", "[1]", "[4, 0]"), 4,
         "tensor w has data_offsets that are not two integers, begin and end, from 0"},
        {T("\"F32\"", "[1]", "[-4, 0]"), 4,
         "tensor w has data_offsets that are not two integers, begin and end, from 0"},
        {T("\"F32\"", "[1]", "[0, \"4\"]"), 4,
         "tensor w has data_offsets that are not two integers, begin and end, from 0"},
        {T("\"F32\"", "[2]", "[0, 8]"), 7,
         "tensor w ends at byte 8 of the data, but the file has only 7; it is cut short"},
        {T("\"F32\"", "[1]", "[0, 8]"), 8,
         "tensor w has data_offsets for 8 bytes; its shape and dtype F32 make it 4"},
        {T("\"F32\"", "[1]", "[4, 8]"), 8,
         "tensor w begins at byte 4 of the data; must begin at 0, as the format allows no holes"},
        {T("\"F32\"", "[1]", "[0, 4]"), 5, "has 5 bytes of data; its tensors end at byte 4"},
        {"{\"w\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": [0, 4]}, "
         "\"v\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": [3, 7]}}", 7,
         "tensor v overlaps tensor w"},
        {"{\"w\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": [0, 4]}, "
         "\"v\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": [0, 4]}}", 4,
         "tensor w overlaps tensor v"},
        {"{\"w\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": [0, 4]}, "
         "\"v\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [5, 6]}}", 6,
         "tensor v begins at byte 5 of the data; must begin at 4, as the format allows no holes"},
        {T("\"F32\"", "[1]", "[0, 99999999999999999999]"), 4,
         "header, byte 77: too big integer near '99999999999999999999'"},
    };
#undef T
    const test_files files = test_files_open();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[256];
        test_files_write_header(&files, "x.safetensors", cases[i].header, strlen(cases[i].header),
                                cases[i].data_bytes);
        snprintf(text, sizeof text, "x.safetensors: %s", cases[i].text);
        refuses(&files, text);
    }
    test_files_close(&files);
}

static void bad_header_lengths_are_refused(void **state)
{
    (void)state;
    const test_files files = test_files_open();
    uint64_t length = htole64(100);
    test_files_write(&files, "x.safetensors", "", 0);
    refuses(&files, "x.safetensors: is empty");
    test_files_write(&files, "x.safetensors", "1234567", 7);
    refuses(&files,
            "x.safetensors: has 7 bytes; the format begins with 8 that give the header's length");
    test_files_write(&files, "x.safetensors", &length, 8);
    refuses(&files,
            "x.safetensors: header length: 100; only 0 bytes follow, the file is cut short");
    length = htole64(100000001);
    test_files_write(&files, "x.safetensors", &length, 8);
    refuses(&files, "x.safetensors: header length: 100000001; must be at most 100000000");
    length = UINT64_MAX;
    test_files_write(&files, "x.safetensors", &length, 8);
    refuses(&files,
            "x.safetensors: header length: 18446744073709551615; must be at most 100000000");
    test_files_close(&files);
}

// A header of a million brackets must end in an error and not in the end of the stack.
static void deep_header_is_refused(void **state)
{
    (void)state;
    enum { DEPTH = 1000000 };
    const test_files files = test_files_open();
    char *header = malloc(DEPTH + 6);
    memcpy(header, "{\"w\": ", 6);
    memset(header + 6, '[', DEPTH);
    test_files_write_header(&files, "x.safetensors", header, DEPTH + 6, 0);
    refuses(&files, "x.safetensors: header, byte 2054: maximum parsing depth reached near '['");
    free(header);
    test_files_close(&files);
}

static void files_that_cannot_be_opened(void **state)
{
    (void)state;
    const test_files files = test_files_open();
    cn_safetensors *file;
    cn_err err;
    char text[256];
    assert_int_equal(cn_safetensors_open(files.directory, "x.safetensors", &file, &err),
                     CN_E_NOT_FOUND);
    snprintf(text, sizeof text, "x.safetensors: No such file or directory in %s", files.directory);
    assert_string_equal(err.text, text);
    assert_int_equal(cn_safetensors_open(files.directory, ".", &file, &err), CN_E_IO);
    assert_string_equal(err.text, ".: is not a regular file");
    test_files_close(&files);
}

/* Whatever one to four changed bytes make of a good file: it opens with all tensors inside, or it
 * is refused with a text. CN_FUZZ_ROUNDS=100000 under ASan is the long form. */
static void damaged_files_are_refused_or_consistent(void **state)
{
    (void)state;
    static const char alphabet[] = "0123456789-.eE\"\\[]{},: FBU6321wdu";
    static const char header[] =
        "{\"w\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": [0, 4]}, "
        "\"v\": {\"dtype\": \"BF16\", \"shape\": [2, 3], \"data_offsets\": [4, 16]}}";
    const char *rounds_text = getenv("CN_FUZZ_ROUNDS");
    const long rounds = rounds_text ? strtol(rounds_text, NULL, 10) : 300;
    test_rng rng = test_rng_open("safetensors");
    const test_files files = test_files_open();
    for (long round = 0; round < rounds; round++) {
        char damaged[sizeof header];
        memcpy(damaged, header, sizeof header);
        for (uint32_t n = test_rng_below(&rng, 4) + 1; n > 0; n--) {
            damaged[test_rng_below(&rng, sizeof header - 1)] =
                test_rng_below(&rng, 2) ? (char)test_rng_u64(&rng)
                                        : alphabet[test_rng_below(&rng, sizeof alphabet - 1)];
        }
        test_files_write_header(&files, "x.safetensors", damaged, sizeof header - 1, 16);
        cn_safetensors *file;
        cn_err err = {0};
        uint64_t bytes = 0;
        if (cn_safetensors_open(files.directory, "x.safetensors", &file, &err) == CN_OK) {
            for (uint32_t i = 0; i < cn_safetensors_count(file); i++) {
                const cn_safetensors_tensor *tensor = cn_safetensors_at(file, i);
                bytes += tensor->bytes;
                assert_ptr_equal(cn_safetensors_find(file, tensor->name), tensor);
            }
            assert_int_equal(bytes, 16);
            cn_safetensors_close(file);
        } else {
            assert_int_equal(err.code, CN_E_FORMAT);
            assert_memory_equal(err.text, "x.safetensors: ", 15);
        }
    }
    test_files_close(&files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_file_gives_its_tensors),
        cmocka_unit_test(empty_file_of_tensors_is_good),
        cmocka_unit_test(bad_headers_are_refused),
        cmocka_unit_test(bad_header_lengths_are_refused),
        cmocka_unit_test(deep_header_is_refused),
        cmocka_unit_test(files_that_cannot_be_opened),
        cmocka_unit_test(damaged_files_are_refused_or_consistent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
