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

// Catches a new route that is open to everybody by accident.
static void only_probes_need_no_key(void **state)
{
    (void)state;
    static const cn_route_id open[] = {CN_ROUTE_LIVEZ, CN_ROUTE_READYZ, CN_ROUTE_HEALTH,
                                       CN_ROUTE_METRICS, CN_ROUTE_VERSION};
    uint32_t count = 0;
    for (int id = 0; id < CN_ROUTE_COUNT; id++) {
        cn_route route;
        char path[64];
        strcpy(path, cn_route_path((cn_route_id)id));
        if (path[strlen(path) - 1] == '/') strcat(path, "x");
        if (cn_route_find("GET", path, &route, NULL) == CN_E_NOT_FOUND) fail();
        assert_int_equal(route.id, id);
        if (route.flags & CN_ROUTE_OPEN) assert_int_equal(route.id, open[count++]);
    }
    assert_int_equal(count, sizeof open / sizeof open[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_and_methods_find_their_route),
        cmocka_unit_test(a_wrong_method_names_the_right_ones),
        cmocka_unit_test(only_probes_need_no_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
