#include "dataplane/auth.h"

#include <string.h>

#include "tests/unit/cmocka_all.h"

static cn_auth *open_auth(const char *const *keys, uint32_t count)
{
    uint64_t seed = 1;
    const cn_random random = cn_random_seeded(&seed);
    cn_auth *auth;
    assert_int_equal(cn_auth_open(keys, count, &random, &auth, NULL), CN_OK);
    return auth;
}

static void without_keys_everybody_is_let_in(void **state)
{
    (void)state;
    static const uint8_t nobody[CN_AUTH_TENANT_BYTES];
    uint8_t tenant[CN_AUTH_TENANT_BYTES];
    cn_auth *auth = open_auth(NULL, 0);
    assert_int_equal(cn_auth_check(auth, NULL, tenant, NULL), CN_OK);
    assert_memory_equal(tenant, nobody, sizeof tenant);
    assert_int_equal(cn_auth_check(auth, "Bearer whatever", tenant, NULL), CN_OK);
    assert_memory_equal(tenant, nobody, sizeof tenant);
    cn_auth_close(auth);
}

static void only_a_whole_key_is_let_in(void **state)
{
    (void)state;
    static const struct {
        const char *authorization;
        cn_code code;
    } rows[] = {
        {"Bearer sk-one", CN_OK}, {"Bearer sk-two", CN_OK}, {"bearer sk-two", CN_OK},
        {"BEARER   sk-one", CN_OK}, {NULL, CN_E_AUTH}, {"", CN_E_AUTH}, {"Bearer", CN_E_AUTH},
        {"Bearer ", CN_E_AUTH}, {"Bearer sk-on", CN_E_AUTH}, {"Bearer sk-onee", CN_E_AUTH},
        {"Bearer sk-one ", CN_E_AUTH}, {"Basic sk-one", CN_E_AUTH}, {"sk-one", CN_E_AUTH},
        {"Bearersk-one", CN_E_AUTH}, {"Bearer SK-ONE", CN_E_AUTH},
    };
    cn_auth *auth = open_auth((const char *const[]){"sk-one", "sk-two"}, 2);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t tenant[CN_AUTH_TENANT_BYTES];
        cn_err err;
        assert_int_equal(cn_auth_check(auth, rows[i].authorization, tenant, &err), rows[i].code);
        if (rows[i].code != CN_OK && rows[i].authorization && *rows[i].authorization) {
            assert_null(strstr(err.text, "sk-"));    // an error never repeats a key
        }
    }
    cn_auth_close(auth);
}

// Two keys, or one key with two salts, must never share a page; the same must, on every appliance.
static void salts_differ_where_tenants_or_cache_salts_do(void **state)
{
    (void)state;
    uint8_t one[CN_AUTH_TENANT_BYTES], two[CN_AUTH_TENANT_BYTES], again[CN_AUTH_TENANT_BYTES];
    uint8_t salts[5][CN_KEY_BYTES];
    const char *const keys[] = {"sk-one", "sk-two"}, *const reversed[] = {"sk-two", "sk-one"};
    cn_auth *auth = open_auth(keys, 2), *other = open_auth(reversed, 2);
    assert_int_equal(cn_auth_check(auth, "Bearer sk-one", one, NULL), CN_OK);
    assert_int_equal(cn_auth_check(auth, "Bearer sk-two", two, NULL), CN_OK);
    assert_int_equal(cn_auth_check(other, "Bearer sk-one", again, NULL), CN_OK);
    cn_auth_salt(one, "", 0, salts[0]);
    cn_auth_salt(two, "", 0, salts[1]);
    cn_auth_salt(one, "a", 1, salts[2]);
    cn_auth_salt(one, "a\0", 2, salts[3]);
    cn_auth_salt(again, "", 0, salts[4]);
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < i; j++) assert_memory_not_equal(salts[i], salts[j], CN_KEY_BYTES);
    }
    assert_memory_equal(salts[4], salts[0], CN_KEY_BYTES);
    cn_auth_close(auth);
    cn_auth_close(other);
}

static void keys_that_no_header_can_carry_are_refused(void **state)
{
    (void)state;
    char longest[CN_AUTH_KEY_BYTES_MAX + 2];
    uint64_t seed = 1;
    const cn_random random = cn_random_seeded(&seed);
    memset(longest, 'k', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    const char *const bad[] = {"", "a b", "a\n", "\xC3\xA9", longest};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cn_auth *auth;
        cn_err err;
        assert_int_equal(cn_auth_open(&bad[i], 1, &random, &auth, &err), CN_E_INVALID);
        assert_null(auth);
        assert_non_null(strstr(err.text, "API key 1"));
    }
    cn_auth_close(open_auth((const char *const[]){longest + 1}, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_keys_everybody_is_let_in),
        cmocka_unit_test(only_a_whole_key_is_let_in),
        cmocka_unit_test(salts_differ_where_tenants_or_cache_salts_do),
        cmocka_unit_test(keys_that_no_header_can_carry_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
