#include "dataplane/paging.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"

static void queries_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *query, *after;
        uint32_t limit;
        bool ascending;
    } good[] = {
        {"", "", 20, false},
        {"limit=1&order=asc&after=x", "x", 1, true},
        {"order=desc&limit=100", "", 100, false},
    };
    static const struct {
        const char *query, *param;
    } bad[] = {{"limit=0", "limit"},   {"limit=101", "limit"}, {"limit=", "limit"},
               {"limit=-1", "limit"},  {"limit=1x", "limit"},  {"limit= 1", "limit"},
               {"limit=99999999999999999999", "limit"},        {"order=ASC", "order"},
               {"order=", "order"}};
    cn_paging paging;
    cn_err err;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(cn_paging_read(good[i].query, &paging, &err), CN_OK);
        assert_string_equal(paging.after, good[i].after);
        assert_int_equal(paging.limit, good[i].limit);
        assert_int_equal(paging.ascending, good[i].ascending);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(cn_paging_read(bad[i].query, &paging, &err), CN_E_INVALID);
        assert_string_equal(err.param, bad[i].param);
    }
}

enum { COUNT = 5 };

static void make_items(cn_bytes items[COUNT], char memory[COUNT][16])
{
    for (uint32_t i = 0; i < COUNT; i++) {
        items[i].len = (uint32_t)snprintf(memory[i], 16, "{\"id\":\"%u\"}", i);
        items[i].data = memory[i];
    }
}

/* All pages of a list, followed by last_id as clients do, are the list: in both orders and with every
 * page size. */
static void pages_put_together_are_the_list(void **state)
{
    (void)state;
    cn_bytes items[COUNT];
    char memory[COUNT][16], seen[COUNT + 1];
    cn_buf out;
    make_items(items, memory);
    cn_buf_init(&out, 4096);
    for (uint32_t limit = 1; limit <= COUNT + 1; limit++) {
        for (int ascending = 0; ascending < 2; ascending++) {
            cn_paging paging = {.limit = limit, .ascending = ascending};
            size_t count = 0;
            bool more = true;
            while (more) {
                cn_buf_clear(&out);
                assert_int_equal(cn_paging_write(&paging, items, COUNT, &out, NULL), CN_OK);
                cn_buf_add_char(&out, '\0');
                const char *end = strstr(out.data, "],\"first_id\"");
                for (const char *at = out.data; (at = strstr(at, "{\"id\":\"")) && at < end; at++) {
                    assert_true(count < COUNT);
                    seen[count++] = at[7];
                }
                more = strstr(out.data, "\"has_more\":true") != NULL;
                paging.after[0] = seen[count - 1];
                paging.after[1] = '\0';
            }
            seen[count] = '\0';
            assert_string_equal(seen, ascending ? "01234" : "43210");
        }
    }
    cn_buf_close(&out);
}

static void lists_have_their_ends(void **state)
{
    (void)state;
    cn_bytes items[COUNT];
    char memory[COUNT][16];
    cn_buf out;
    cn_err err;
    make_items(items, memory);
    cn_buf_init(&out, 4096);
    cn_paging paging = {.limit = 2, .ascending = true, .after = "0"};
    assert_int_equal(cn_paging_write(&paging, items, COUNT, &out, NULL), CN_OK);
    static const char page[] = "{\"object\":\"list\",\"data\":[{\"id\":\"1\"},{\"id\":\"2\"}],"
                               "\"first_id\":\"1\",\"last_id\":\"2\",\"has_more\":true}";
    assert_int_equal(out.len, sizeof page - 1);
    assert_memory_equal(out.data, page, out.len);
    cn_buf_clear(&out);
    paging.after[0] = '4';
    assert_int_equal(cn_paging_write(&paging, items, COUNT, &out, NULL), CN_OK);
    static const char none[] = "{\"object\":\"list\",\"data\":[],\"first_id\":null,\"last_id\":null,"
                               "\"has_more\":false}";
    assert_int_equal(out.len, sizeof none - 1);
    assert_memory_equal(out.data, none, out.len);
    paging.after[0] = '5';
    assert_int_equal(cn_paging_write(&paging, items, COUNT, &out, &err), CN_E_INVALID);
    assert_string_equal(err.param, "after");
    cn_buf_close(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queries_are_read),
        cmocka_unit_test(pages_put_together_are_the_list),
        cmocka_unit_test(lists_have_their_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
