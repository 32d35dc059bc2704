#include "dataplane/route.h"

#include <string.h>

#include "tests/unit/cmocka_all.h"

typedef struct row {
    const char *method, *path;
    cn_code code;
    cn_route_id id;
    const char *tail;
} row;

// Catches a route that answers the wrong path, or a method that slips through.
static void paths_and_methods_find_their_route(void **state)
{
    (void)state;
    static const row rows[] = {
        {"POST", "/v1/chat/completions", CN_OK, CN_ROUTE_CHAT, ""},
        {"POST", "/v1/completions", CN_OK, CN_ROUTE_COMPLETIONS, ""},
        {"GET", "/v1/models", CN_OK, CN_ROUTE_MODELS, ""},
        {"HEAD", "/v1/models", CN_OK, CN_ROUTE_MODELS, ""},
        {"GET", "/v1/models/a", CN_OK, CN_ROUTE_MODEL, "a"},
        {"GET", "/v1/models/org/name", CN_OK, CN_ROUTE_MODEL, "org/name"},
        {"GET", "/v1/models/", CN_E_NOT_FOUND, 0, NULL},
        {"GET", "/v1/chat/completions", CN_E_METHOD, CN_ROUTE_CHAT, ""},
        {"POST", "/metrics", CN_E_METHOD, CN_ROUTE_METRICS, ""},
        {"DELETE", "/v1/models/a", CN_E_METHOD, CN_ROUTE_MODEL, "a"},
        {"get", "/livez", CN_E_METHOD, CN_ROUTE_LIVEZ, ""},
        {"GET", "/livez/", CN_E_NOT_FOUND, 0, NULL},
        {"GET", "/LIVEZ", CN_E_NOT_FOUND, 0, NULL},
        {"POST", "/v1/responses", CN_OK, CN_ROUTE_RESPONSE_CREATE, ""},
        {"GET", "/v1/responses", CN_E_METHOD, CN_ROUTE_RESPONSE_CREATE, ""},
        {"GET", "/v1/responses/a", CN_OK, CN_ROUTE_RESPONSE_GET, ""},
        {"DELETE", "/v1/responses/a", CN_OK, CN_ROUTE_RESPONSE_DELETE, ""},
        {"POST", "/v1/responses/a", CN_E_METHOD, CN_ROUTE_RESPONSE_GET, ""},
        {"GET", "/v1/responses/", CN_E_NOT_FOUND, 0, NULL},
        {"POST", "/v1/responses/a/cancel", CN_OK, CN_ROUTE_RESPONSE_CANCEL, ""},
        {"POST", "/v1/responses//cancel", CN_E_NOT_FOUND, 0, NULL},
        {"POST", "/v1/responses/a/cancel/b", CN_E_NOT_FOUND, 0, NULL},
        {"POST", "/v1/conversations/import", CN_OK, CN_ROUTE_CONVERSATION_IMPORT, ""},
        {"POST", "/v1/conversations/a", CN_OK, CN_ROUTE_CONVERSATION_UPDATE, ""},
        {"DELETE", "/v1/conversations/a/items/b", CN_OK, CN_ROUTE_ITEM_DELETE, ""},
        {"GET", "/v1/conversations/a/items", CN_OK, CN_ROUTE_ITEM_LIST, ""},
        {"GET", "/v1/conversations/a/items/", CN_E_NOT_FOUND, 0, NULL},
        {"GET", "", CN_E_NOT_FOUND, 0, NULL},
        {"GET", "/", CN_E_NOT_FOUND, 0, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cn_route route;
        cn_err err;
        assert_int_equal(cn_route_find(rows[i].method, rows[i].path, &route, &err), rows[i].code);
        if (rows[i].code == CN_E_NOT_FOUND) continue;
        assert_int_equal(route.id, rows[i].id);
        assert_string_equal(route.tail, rows[i].tail);
    }
}

static void a_wrong_method_names_the_right_ones(void **state)
{
    (void)state;
    cn_route route;
    cn_err err;
    assert_int_equal(cn_route_find("PUT", "/health", &route, &err), CN_E_METHOD);
    assert_string_equal(route.allow, "GET, HEAD");
    assert_string_equal(err.text, "PUT /health: must be GET, HEAD");
    assert_int_equal(cn_route_find("GET", "/tokenize", &route, &err), CN_E_METHOD);
    assert_string_equal(route.allow, "POST");
}

// Catches a name that is cut, lost or left encoded.
static void names_are_taken_from_the_path(void **state)
{
    (void)state;
    cn_route route;
    char path[400] = "/v1/responses/";
    assert_int_equal(cn_route_find("GET", "/v1/conversations/conv_1/items/m%73g%5F2%", &route, NULL),
                     CN_OK);
    assert_string_equal(route.names[0], "conv_1");
    assert_string_equal(route.names[1], "msg_2%");
    memset(path + strlen(path), 'x', 300);
    assert_int_equal(cn_route_find("GET", path, &route, NULL), CN_OK);
    assert_int_equal(strlen(route.names[0]), CN_ROUTE_NAME_BYTES - 1);
}

static void members_of_a_query_are_found(void **state)
{
    (void)state;
    static const struct {
        const char *query, *name, *value;        // NULL: absent
    } table[] = {
        {"", "after", NULL},
        {"after=a", "after", "a"},
        {"after=", "after", ""},
        {"after", "after", NULL},
        {"before=1&after=2&after=3", "after", "2"},
        {"xafter=1", "after", NULL},
        {"after2=1", "after", NULL},
        {"a=%61%2f+%zz%4", "a", "a/+%zz%4"},
        {"&&a=1&", "a", "1"},
        {"a=1234567890", "a", "1234567"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        char out[8 + 8] = "";
        const size_t bytes = i + 1 == sizeof table / sizeof table[0] ? 8 : sizeof out;
        assert_int_equal(cn_route_query(table[i].query, table[i].name, out, bytes),
                         table[i].value != NULL);
        if (table[i].value) assert_string_equal(out, table[i].value);
    }
}

// Catches a new route that is open to everybody by accident.
static void only_probes_need_no_key(void **state)
{
    (void)state;
    static const cn_route_id open[] = {CN_ROUTE_LIVEZ, CN_ROUTE_READYZ, CN_ROUTE_HEALTH,
                                       CN_ROUTE_VERSION};
    static const char *const methods[] = {"GET", "POST", "DELETE"};
    bool seen[CN_ROUTE_COUNT] = {false};
    uint32_t count = 0;
    for (int id = 0; id < CN_ROUTE_COUNT; id++) {
        char path[64];
        strcpy(path, cn_route_path((cn_route_id)id));
        if (path[strlen(path) - 1] == '/') strcat(path, "x");
        for (int i = 0; i < 3; i++) {
            cn_route route;
            if (cn_route_find(methods[i], path, &route, NULL) != CN_OK || seen[route.id]) continue;
            seen[route.id] = true;
            if (route.flags & CN_ROUTE_OPEN) assert_int_equal(route.id, open[count++]);
        }
        assert_true(seen[id]);
    }
    assert_int_equal(count, sizeof open / sizeof open[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_and_methods_find_their_route),
        cmocka_unit_test(a_wrong_method_names_the_right_ones),
        cmocka_unit_test(names_are_taken_from_the_path),
        cmocka_unit_test(members_of_a_query_are_found),
        cmocka_unit_test(only_probes_need_no_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
