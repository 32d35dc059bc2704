#include "dataplane/live.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"

static void an_id_is_entered_once_per_tenant(void **state)
{
    (void)state;
    static cn_answer one = {.tenant = {1}}, two = {.tenant = {2}};
    const cn_session_id id = {"conv_1"}, longer = {"conv_12"};
    cn_live_entry a = {.is_in = false}, b = a, c = a, d = a;
    cn_map *live;
    assert_int_equal(cn_map_open(16, 7, &live), CN_OK);
    assert_true(cn_live_enter(live, &a, &id, &one));
    assert_false(cn_live_enter(live, &b, &id, &one));
    assert_false(b.is_in);
    assert_true(cn_live_enter(live, &c, &id, &two));
    assert_true(cn_live_enter(live, &d, &longer, &one));
    assert_ptr_equal(cn_live_find(live, one.tenant, &id), &one);
    assert_ptr_equal(cn_live_find(live, two.tenant, &id), &two);
    cn_live_leave(live, &b);             // which never got in: nothing of `a` may go
    assert_ptr_equal(cn_live_find(live, one.tenant, &id), &one);
    cn_live_leave(live, &a);
    cn_live_leave(live, &a);
    assert_null(cn_live_find(live, one.tenant, &id));
    assert_ptr_equal(cn_live_find(live, two.tenant, &id), &two);
    assert_ptr_equal(cn_live_find(live, one.tenant, &longer), &one);
    assert_true(cn_live_enter(live, &b, &id, &one));
    cn_live_leave(live, &b);
    cn_live_leave(live, &c);
    cn_live_leave(live, &d);
    assert_int_equal(cn_map_count(live), 0);
    cn_map_close(live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(an_id_is_entered_once_per_tenant)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
