#include "dataplane/key_file.h"

#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "tests/unit/cmocka_all.h"

#define HASH(c) "\"hash\":\"blake2b-256:" c c c c c c c c c c c c c c c c "\""
#define HASH_A HASH("aaaa")
#define HASH_B HASH("bbbb")
#define SCOPES "\"scopes\":[\"inference\"]"

static cn_code read_text(const char *text, cn_key_file **out, cn_err *err)
{
    assert_int_equal(cn_key_file_open(out, NULL), CN_OK);
    *err = (cn_err){.code = CN_OK};
    return cn_key_file_read(*out, text, strlen(text), "keys", err);
}

static void lines_become_keys_and_tenants(void **state)
{
    (void)state;
    cn_key_file *file;
    cn_err err;
    const char text[] =
        "# who may come in\n\n"
        "{\"key\":\"laptop\",\"tenant\":\"acme\"," HASH_A "," SCOPES ",\"created\":\"2026-11-24\","
        "\"tokens_per_minute\":500,\"note\":\"of Ann\"}\r\n"
        "{\"tenant\":\"*\",\"concurrent\":2}\n"
        "  sk-not-trimmed-in-front\n";
    // A blank in front is a byte of the key, which no header could carry.
    assert_int_equal(read_text(text, &file, &err), CN_E_INVALID);
    assert_string_equal(err.text, "keys:5: an API key whose byte 1 is 0x20; must be visible ASCII "
                                  "without spaces");
    cn_key_file_close(file);

    const char good[] =
        "{\"key\":\"laptop\",\"tenant\":\"acme\"," HASH_A "," SCOPES ",\"created\":\"2026-11-24\","
        "\"tokens_per_minute\":500,\"note\":\"of Ann\"}\r\n"
        "{\"tenant\":\"*\",\"concurrent\":2}\n"
        "{\"key\":\"ci\",\"tenant\":\"acme\"," HASH_B ",\"scopes\":[\"metrics\",\"admin\"]}\n"
        "{\"tenant\":\"acme\",\"weight\":3,\"requests_per_minute\":60,\"tokens_per_minute\":1000,"
        "\"concurrent\":4}\n"
        "sk-plain";
    assert_int_equal(read_text(good, &file, &err), CN_OK);
    assert_int_equal(file->key_count, 3);
    assert_int_equal(file->tenant_count, 2);
    const cn_key_file_key *laptop = &file->keys[0], *ci = &file->keys[1], *plain = &file->keys[2];
    assert_string_equal(laptop->name, "laptop");
    assert_string_equal(laptop->created, "2026-11-24");
    assert_int_equal(laptop->scopes, CN_SCOPE_INFERENCE);
    assert_int_equal(laptop->limits.tokens_per_minute, 500);
    assert_int_equal(laptop->line, 1);
    assert_int_equal(ci->scopes, CN_SCOPE_METRICS | CN_SCOPE_ADMIN);
    assert_int_equal(ci->tenant, laptop->tenant);
    const cn_quota_limits *acme = &file->tenants[laptop->tenant].limits;
    assert_int_equal(acme->weight, 3);
    assert_int_equal(acme->requests_per_minute, 60);
    assert_int_equal(acme->tokens_per_minute, 1000);
    assert_int_equal(acme->concurrent, 4);
    // A plain key is a tenant of its own, with what holds for tenants without a line.
    assert_true(plain->is_plain);
    assert_int_equal(plain->scopes, CN_SCOPE_ALL);
    assert_int_equal(file->tenants[plain->tenant].limits.concurrent, 2);
    assert_int_equal(file->tenants[plain->tenant].limits.weight, 0);
    cn_key_file_close(file);
}

// What a key stored before tenants had names must be found again: its tenant was the key's hash.
static void a_plain_key_is_the_tenant_that_it_was(void **state)
{
    (void)state;
    cn_key_file *file;
    cn_err err;
    uint8_t was[CN_QUOTA_ID_BYTES];
    assert_int_equal(read_text("sk-one\nsk-one\n", &file, &err), CN_OK);
    assert_int_equal(file->key_count, 1);            // named twice, it is still one
    crypto_generichash(was, sizeof was, (const unsigned char *)"sk-one", 6, NULL, 0);
    assert_memory_equal(file->tenants[file->keys[0].tenant].id, was, sizeof was);
    cn_key_file_close(file);
}

static void tenants_of_one_name_are_one_everywhere(void **state)
{
    (void)state;
    cn_key_file *one, *two;
    cn_err err;
    assert_int_equal(read_text("{\"tenant\":\"acme\"}\n{\"tenant\":\"other\"}", &one, &err), CN_OK);
    assert_int_equal(read_text("{\"tenant\":\"acme\"}", &two, &err), CN_OK);
    assert_memory_equal(one->tenants[0].id, two->tenants[0].id, CN_QUOTA_ID_BYTES);
    assert_memory_not_equal(one->tenants[0].id, one->tenants[1].id, CN_QUOTA_ID_BYTES);
    cn_key_file_close(one);
    cn_key_file_close(two);
}

static void what_is_wrong_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"{\"key\":", "keys:1: is not JSON"},
        {"{\"key\":\"a\",\"key\":\"b\"}", "keys:1: is not JSON: duplicate object key"},
        {"{\"tenant\":\"a\"} {}", "keys:1: is not JSON"},
        {"{}", "keys:1: tenant: is missing; must be 1 to 64 letters"},
        {"{\"tenant\":\"a b\"}", "keys:1: tenant: \"a b\"; must be 1 to 64 letters"},
        {"{\"tenant\":\"\"}", "keys:1: tenant: \"\"; must be"},
        {"{\"tenant\":7}", "keys:1: tenant: 7; must be"},
        {"{\"tenant\":\"a\",\"weight\":0}", "keys:1: weight: 0; must be a whole number from 1 to 1000"},
        {"{\"tenant\":\"a\",\"concurrent\":-1}", "keys:1: concurrent: -1; must be a whole number from 1"},
        {"{\"tenant\":\"a\",\"concurrent\":1.5}", "keys:1: concurrent: "},
        {"{\"tenant\":\"a\",\"tokens_per_minut\":5}", "keys:1: unknown member tokens_per_minut; a tenant has"},
        {"{\"tenant\":\"a\"}\n{\"tenant\":\"a\"}", "keys:2: tenant a: stands twice, first in line 1"},
        {"{\"key\":\"k\",\"tenant\":\"t\"," SCOPES "}", "keys:1: hash: is missing; must be blake2b-256"},
        {"{\"key\":\"k\",\"tenant\":\"t\",\"hash\":\"blake2b-256:00\"," SCOPES "}",
         "keys:1: hash: \"blake2b-256:00\"; must be blake2b-256: and 64 hexadecimal digits"},
        {"{\"key\":\"k\"," HASH_A "," SCOPES "}", "keys:1: tenant: is missing"},
        {"{\"key\":\"k\",\"tenant\":\"t\"," HASH_A "}", "keys:1: scopes: is missing; must be a list of"},
        {"{\"key\":\"k\",\"tenant\":\"t\"," HASH_A ",\"scopes\":[]}", "keys:1: scopes: "},
        {"{\"key\":\"k\",\"tenant\":\"t\"," HASH_A ",\"scopes\":[\"all\"]}", "keys:1: scopes: \"all\"; must be"},
        {"{\"key\":\"k\",\"tenant\":\"t\"," HASH_A "," SCOPES ",\"weight\":1}",
         "keys:1: weight: must stand in the line of the tenant, whose keys share it"},
        {"{\"key\":\"k\",\"tenant\":\"t\"," HASH_A "," SCOPES ",\"owner\":1}", "keys:1: unknown member owner; a key has"},
        {"{\"key\":\"k\",\"tenant\":\"t\"," HASH_A "," SCOPES "}\n{\"key\":\"k\",\"tenant\":\"t\"," HASH_B "," SCOPES "}",
         "keys:2: key k: stands twice, first in line 1"},
        {"{\"key\":\"k\",\"tenant\":\"t\"," HASH_A "," SCOPES "}\n{\"key\":\"l\",\"tenant\":\"t\"," HASH_A "," SCOPES "}",
         "keys:2: key l: has the hash of key k; must be a key of its own"},
        {"sk-\xC3\xA9", "keys:1: an API key whose byte 4 is 0xc3; must be visible ASCII"},
        {"ab cd", "keys:1: an API key whose byte 3 is 0x20"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cn_key_file *file;
        cn_err err;
        assert_int_equal(read_text(rows[i].text, &file, &err), CN_E_INVALID);
        if (strncmp(err.text, rows[i].why, strlen(rows[i].why)) != 0) {
            fail_msg("%s: \"%s\" instead of \"%s\"", rows[i].text, err.text, rows[i].why);
        }
        cn_key_file_close(file);
    }
}

static void keys_and_lines_are_bounded(void **state)
{
    (void)state;
    cn_key_file *file;
    cn_err err;
    char key[32], longest[CN_KEY_FILE_SECRET_BYTES_MAX + 2];
    assert_int_equal(cn_key_file_open(&file, &err), CN_OK);
    for (int i = 0; i < CN_KEY_FILE_KEYS_MAX; i++) {
        snprintf(key, sizeof key, "sk-%d", i);
        assert_int_equal(cn_key_file_add(file, key, 0, "list", &err), CN_OK);
    }
    assert_int_equal(cn_key_file_add(file, "sk-one-more", 0, "list", &err), CN_E_INVALID);
    assert_non_null(strstr(err.text, "list: more than 1024"));
    cn_key_file_close(file);

    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(read_text(longest, &file, &err), CN_E_INVALID);
    assert_string_equal(err.text, "keys:1: an API key of 513 bytes; must have 1 to 512");
    cn_key_file_close(file);
    assert_int_equal(read_text(longest + 1, &file, &err), CN_OK);
    cn_key_file_close(file);

    char line[5000];
    memset(line, 'x', sizeof line);
    line[sizeof line - 1] = '\0';
    assert_int_equal(read_text(line, &file, &err), CN_E_INVALID);
    assert_string_equal(err.text, "keys:1: has 4999 bytes; must have at most 4096");
    cn_key_file_close(file);
}

static void scopes_have_names(void **state)
{
    (void)state;
    for (unsigned bit = 1; bit <= CN_SCOPE_ADMIN; bit *= 2) {
        assert_int_equal(cn_key_file_scope(cn_key_file_scope_name(bit)), bit);
    }
    assert_int_equal(cn_key_file_scope("everything"), 0);
    assert_string_equal(cn_key_file_scope_name(64), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_become_keys_and_tenants),
        cmocka_unit_test(a_plain_key_is_the_tenant_that_it_was),
        cmocka_unit_test(tenants_of_one_name_are_one_everywhere),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(keys_and_lines_are_bounded),
        cmocka_unit_test(scopes_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
