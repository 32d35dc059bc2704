#include "tests/unit/cmocka_all.h"

#include <pthread.h>

#include "state/store.h"
#include "state/store_int.h"

enum { OPS = 8 };

// A port that counted messages instead of operations would overflow the ring that leads back.
static void chains_count_each_operation(void **state)
{
    (void)state;
    cn_store store = {0};
    assert_int_equal(cn_store_ports_open(&store, 2, OPS, NULL), CN_OK);
    cn_store_port *port = cn_store_port_at(&store, 1);
    cn_store_op ops[OPS + 1] = {0};
    for (int i = 0; i < 5; i++) ops[i].then = &ops[i + 1];           // a chain of six
    assert_false(cn_store_ports_waiting(&store));
    assert_true(cn_store_port_submit(port, &ops[0]));
    ops[6].then = &ops[7];
    ops[7].then = &ops[8];
    assert_false(cn_store_port_submit(port, &ops[6]));               // three do not fit
    assert_true(cn_store_port_submit(port, &ops[7]));
    ops[8].then = NULL;
    assert_true(cn_store_ports_waiting(&store));
    assert_null(cn_store_port_take(cn_store_port_at(&store, 0)));
    assert_ptr_equal(cn_store_port_take(port), &ops[0]);
    assert_ptr_equal(cn_store_port_take(port), &ops[7]);
    assert_null(cn_store_port_take(port));
    cn_store_port_give(port, &ops[1]);
    assert_false(cn_store_port_submit(port, &ops[6]));               // given, but not taken back
    assert_ptr_equal(cn_store_port_next(port), &ops[1]);
    assert_null(cn_store_port_next(port));
    ops[6].then = NULL;
    assert_true(cn_store_port_submit(port, &ops[6]));
    cn_store_ports_close(&store);
}

typedef struct echo {
    cn_store store;
    cn_wake store_wake;
    _Atomic bool stop;
} echo;

static void *run_echo(void *argument)
{
    echo *e = argument;
    while (!atomic_load(&e->stop)) {
        bool worked = false;
        for (uint32_t i = 0; i < e->store.port_count; i++) {
            cn_store_port *port = cn_store_port_at(&e->store, i);
            cn_store_op *op = cn_store_port_take(port);
            if (!op) continue;
            op->code = CN_E_EXISTS;
            cn_store_port_give(port, op);
            worked = true;
        }
        cn_store_ports_flush(&e->store);
        if (worked) continue;
        cn_wake_prepare(&e->store_wake);
        if (cn_store_ports_waiting(&e->store)) cn_wake_cancel(&e->store_wake);
        else cn_wake_wait(&e->store_wake, UINT64_MAX);
    }
    return NULL;
}

// Two threads that both sleep whenever they can: a wake-up that is lost hangs the test.
static void operations_go_round_between_threads(void **state)
{
    (void)state;
    static echo e;
    cn_wake wake;
    pthread_t thread;
    cn_store_op op = {0};
    assert_int_equal(cn_wake_open(&e.store_wake, NULL), CN_OK);
    assert_int_equal(cn_wake_open(&wake, NULL), CN_OK);
    assert_int_equal(cn_store_ports_open(&e.store, 1, OPS, &e.store_wake), CN_OK);
    cn_store_port *port = cn_store_port_at(&e.store, 0);
    cn_store_port_attach(port, &wake);
    assert_int_equal(pthread_create(&thread, NULL, run_echo, &e), 0);
    for (int i = 0; i < 2000; i++) {
        op.code = CN_OK;
        assert_true(cn_store_port_submit(port, &op));
        for (cn_store_op *back = NULL; !back;) {
            cn_wake_prepare(&wake);
            back = cn_store_port_next(port);
            if (back) cn_wake_cancel(&wake);
            else cn_wake_wait(&wake, UINT64_MAX);
        }
        assert_int_equal(op.code, CN_E_EXISTS);
    }
    atomic_store(&e.stop, true);
    cn_wake_signal(&e.store_wake);
    // The thread may have looked at `stop` just before: it is woken until it ends.
    while (pthread_tryjoin_np(thread, NULL) != 0) cn_wake_signal(&e.store_wake);
    cn_store_ports_close(&e.store);
    cn_wake_close(&wake);
    cn_wake_close(&e.store_wake);
}

static void durability_has_names(void **state)
{
    (void)state;
    for (int i = CN_DURABILITY_MEMORY; i <= CN_DURABILITY_FSYNC_REPLICA; i++)
        assert_int_equal(cn_store_durability_parse(cn_store_durability_name((cn_durability)i)), i);
    assert_string_equal(cn_store_durability_name(CN_DURABILITY_FSYNC_REPLICA), "fsync+replica");
    assert_int_equal(cn_store_durability_parse("disk"), -1);
    assert_int_equal(cn_store_durability_parse(""), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chains_count_each_operation),
        cmocka_unit_test(operations_go_round_between_threads),
        cmocka_unit_test(durability_has_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
