#include "dataplane/auth.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"

static cn_key_file *read_keys(const char *text)
{
    cn_key_file *file;
    cn_err err = {0};
    assert_int_equal(cn_key_file_open(&file, &err), CN_OK);
    if (cn_key_file_read(file, text, strlen(text), "keys", &err) != CN_OK) fail_msg("%s", err.text);
    return file;
}

static cn_auth *open_auth(const char *text)
{
    uint64_t seed = 1;
    const cn_random random = cn_random_seeded(&seed);
    cn_key_file *file = text ? read_keys(text) : NULL;
    cn_auth *auth;
    assert_int_equal(cn_auth_open(file, &random, &auth, NULL), CN_OK);
    cn_key_file_close(file);
    return auth;
}

// The tenant that a key stands for.
static void tenant_of(const cn_auth *auth, const char *authorization,
                      uint8_t out[CN_AUTH_TENANT_BYTES])
{
    uint32_t key;
    assert_int_equal(cn_auth_check(auth, authorization, &key, NULL), CN_OK);
    const cn_key_file *file = cn_auth_file(auth);
    assert_true(key < file->key_count);
    memcpy(out, file->tenants[file->keys[key].tenant].id, CN_AUTH_TENANT_BYTES);
}

static void without_keys_everybody_is_let_in(void **state)
{
    (void)state;
    uint32_t key;
    cn_auth *auth = open_auth(NULL);
    assert_int_equal(cn_auth_check(auth, NULL, &key, NULL), CN_OK);
    assert_int_equal(cn_auth_check(auth, "Bearer whatever", &key, NULL), CN_OK);
    assert_int_equal(key, UINT32_MAX);
    assert_int_equal(cn_auth_permit(auth, key, CN_SCOPE_ALL, NULL), CN_OK);
    cn_auth_close(auth);
}

// Catches a file whose last key was revoked, and which opens the server.
static void with_no_key_left_nobody_is_let_in(void **state)
{
    (void)state;
    uint32_t key;
    cn_auth *auth = open_auth("# all are gone\n");
    assert_int_equal(cn_auth_check(auth, NULL, &key, NULL), CN_E_AUTH);
    assert_int_equal(cn_auth_check(auth, "Bearer x", &key, NULL), CN_E_AUTH);
    cn_auth_close(auth);
}

static void only_a_whole_key_is_let_in(void **state)
{
    (void)state;
    static const struct {
        const char *authorization;
        cn_code code;
        uint32_t key;
    } rows[] = {
        {"Bearer sk-one", CN_OK, 0}, {"Bearer sk-two", CN_OK, 1}, {"bearer sk-two", CN_OK, 1},
        {"BEARER   sk-one", CN_OK, 0}, {NULL, CN_E_AUTH, 0}, {"", CN_E_AUTH, 0},
        {"Bearer", CN_E_AUTH, 0}, {"Bearer ", CN_E_AUTH, 0}, {"Bearer sk-on", CN_E_AUTH, 0},
        {"Bearer sk-onee", CN_E_AUTH, 0}, {"Bearer sk-one ", CN_E_AUTH, 0},
        {"Basic sk-one", CN_E_AUTH, 0}, {"sk-one", CN_E_AUTH, 0}, {"Bearersk-one", CN_E_AUTH, 0},
        {"Bearer SK-ONE", CN_E_AUTH, 0},
    };
    cn_auth *auth = open_auth("sk-one\nsk-two\n");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t key;
        cn_err err;
        assert_int_equal(cn_auth_check(auth, rows[i].authorization, &key, &err), rows[i].code);
        if (rows[i].code == CN_OK) assert_int_equal(key, rows[i].key);
        else if (rows[i].authorization && *rows[i].authorization) {
            assert_null(strstr(err.text, "sk-"));    // an error never repeats a key
        }
    }
    cn_auth_close(auth);
}

static void scopes_bound_what_a_key_is_for(void **state)
{
    (void)state;
    char text[512];
    uint8_t hash[CN_KEY_FILE_HASH_BYTES];
    uint32_t key;
    cn_err err;
    size_t len = (size_t)snprintf(text, sizeof text,
                                  "{\"key\":\"k\",\"tenant\":\"t\",\"scopes\":[\"inference\",\"metrics\"],"
                                  "\"hash\":\"blake2b-256:");
    cn_key_file_hash("ck-secret", 9, hash);
    for (size_t i = 0; i < sizeof hash; i++) len += (size_t)snprintf(text + len, 3, "%02x", hash[i]);
    snprintf(text + len, sizeof text - len, "\"}");
    cn_auth *auth = open_auth(text), *plain = open_auth("ck-secret");
    assert_int_equal(cn_auth_check(auth, "Bearer ck-secret", &key, NULL), CN_OK);
    assert_int_equal(cn_auth_permit(auth, key, CN_SCOPE_INFERENCE | CN_SCOPE_METRICS, &err), CN_OK);
    assert_int_equal(cn_auth_permit(auth, key, CN_SCOPE_CONVERSATIONS, &err), CN_E_SCOPE);
    assert_string_equal(err.text,
                        "API key \"k\" has no scope \"conversations\", which this route needs");
    assert_int_equal(cn_auth_permit(auth, key, CN_SCOPE_ADMIN, &err), CN_E_SCOPE);
    assert_true(cn_auth_guards_metrics(auth));
    // A key in plain text may do everything, and closes nothing that was open.
    assert_int_equal(cn_auth_check(plain, "Bearer ck-secret", &key, NULL), CN_OK);
    assert_int_equal(cn_auth_permit(plain, key, CN_SCOPE_ALL, &err), CN_OK);
    assert_false(cn_auth_guards_metrics(plain));
    cn_auth_close(auth);
    cn_auth_close(plain);
}

// Two keys, or one key with two salts, must never share a page; the same must, on every appliance.
static void salts_differ_where_tenants_or_cache_salts_do(void **state)
{
    (void)state;
    uint8_t one[CN_AUTH_TENANT_BYTES], two[CN_AUTH_TENANT_BYTES], again[CN_AUTH_TENANT_BYTES];
    uint8_t salts[5][CN_KEY_BYTES];
    cn_auth *auth = open_auth("sk-one\nsk-two\n"), *other = open_auth("sk-two\nsk-one\n");
    tenant_of(auth, "Bearer sk-one", one);
    tenant_of(auth, "Bearer sk-two", two);
    tenant_of(other, "Bearer sk-one", again);
    cn_auth_salt(one, "", 0, salts[0]);
    cn_auth_salt(two, "", 0, salts[1]);
    cn_auth_salt(one, "a", 1, salts[2]);
    cn_auth_salt(one, "a\0", 2, salts[3]);
    cn_auth_salt(again, "", 0, salts[4]);
    assert_memory_equal(salts[0], salts[4], CN_KEY_BYTES);
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < i; j++) assert_memory_not_equal(salts[i], salts[j], CN_KEY_BYTES);
    }
    cn_auth_close(auth);
    cn_auth_close(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_keys_everybody_is_let_in),
        cmocka_unit_test(with_no_key_left_nobody_is_let_in),
        cmocka_unit_test(only_a_whole_key_is_let_in),
        cmocka_unit_test(scopes_bound_what_a_key_is_for),
        cmocka_unit_test(salts_differ_where_tenants_or_cache_salts_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
