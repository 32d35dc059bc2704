/* tests/unit/state/store_contract.h: what state/store.h promises, as tests that every store passes.
 *
 * Threads: one, which submits and polls.
 * Memory:  a contract_op owns its reply buffer. */
#pragma once

#include "tests/unit/cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "state/store.h"

enum { CONTRACT_PAGE_BYTES = 70000, CONTRACT_REPLY_MAX = 1 << 20 };

typedef struct contract {
    cn_store *store;
    cn_store_port *port;
    cn_clock clock;
    char prefix[32];             // of every key, so that a server may be shared
} contract;

static inline cn_store_op contract_op(const contract *c, cn_store_kind kind, const char *key,
                                      const char *value)
{
    cn_store_op op = {
        .kind = kind, .value = value, .value_len = value ? (uint32_t)strlen(value) : 0};
    snprintf(op.key, sizeof op.key, "%s%s", c->prefix, key);
    op.deadline_ns = cn_clock_now_ns(&c->clock) + 5000000000u;
    cn_buf_init(&op.reply, CONTRACT_REPLY_MAX);
    return op;
}

static inline void contract_expect(cn_store_op *op, const char *value)
{
    op->expected = value;
    op->expected_len = (uint32_t)strlen(value);
}

/* Submits the chain that begins with `op` and polls until all of it is back, in its order. */
static inline cn_code contract_run(const contract *c, cn_store_op *op)
{
    assert_true(cn_store_port_submit(c->port, op));
    for (cn_store_op *next = op; next;) {
        cn_store_op *back = cn_store_port_next(c->port);
        if (!back) c->store->ops->poll(c->store, 1000000);
        if (!back) continue;
        assert_ptr_equal(back, next);
        next = next->then;
    }
    return op->code;
}

static inline void contract_assert_reply(cn_store_op *op, const char *text)
{
    assert_int_equal(op->reply.len, strlen(text));
    if (op->reply.len) assert_memory_equal(op->reply.data, text, op->reply.len);
    cn_buf_close(&op->reply);
}

/* Runs one operation and compares its result and its reply. */
static inline void contract_check(const contract *c, cn_store_kind kind, const char *key,
                                  const char *expected, const char *value, cn_code code,
                                  const char *reply)
{
    cn_store_op op = contract_op(c, kind, key, value);
    if (expected) contract_expect(&op, expected);
    assert_int_equal(contract_run(c, &op), code);
    contract_assert_reply(&op, reply);
}

static inline void contract_values(const contract *c)
{
    contract_check(c, CN_STORE_GET, "a", NULL, NULL, CN_E_NOT_FOUND, "");
    contract_check(c, CN_STORE_PUT_NEW, "a", NULL, "one", CN_OK, "");
    contract_check(c, CN_STORE_PUT_NEW, "a", NULL, "one", CN_OK, "");         // a repetition
    contract_check(c, CN_STORE_PUT_NEW, "a", NULL, "two", CN_E_EXISTS, "one");
    contract_check(c, CN_STORE_GET, "a", NULL, NULL, CN_OK, "one");
    contract_check(c, CN_STORE_SWAP, "b", NULL, "1", CN_OK, "");
    contract_check(c, CN_STORE_SWAP, "b", NULL, "1", CN_OK, "");
    contract_check(c, CN_STORE_SWAP, "b", NULL, "2", CN_E_CONFLICT, "1");
    contract_check(c, CN_STORE_SWAP, "b", "1", "2", CN_OK, "");
    contract_check(c, CN_STORE_SWAP, "b", "1", "2", CN_OK, "");
    contract_check(c, CN_STORE_SWAP, "b", "1", "3", CN_E_CONFLICT, "2");
    contract_check(c, CN_STORE_SWAP, "c", "1", "2", CN_E_CONFLICT, "");
    contract_check(c, CN_STORE_DELETE, "b", NULL, NULL, CN_OK, "");
    contract_check(c, CN_STORE_DELETE, "b", NULL, NULL, CN_OK, "");
    contract_check(c, CN_STORE_GET, "b", NULL, NULL, CN_E_NOT_FOUND, "");
    contract_check(c, CN_STORE_PUT_NEW, "empty", NULL, "", CN_OK, "");
    contract_check(c, CN_STORE_GET, "empty", NULL, NULL, CN_OK, "");
    contract_check(c, CN_STORE_SWAP, "empty", NULL, "x", CN_E_CONFLICT, "");
    contract_check(c, CN_STORE_SWAP, "empty", "", "x", CN_OK, "");
}

// Bytes of any kind, longer than any buffer on the way, and not longer than the reply may be.
static inline void contract_binary(const contract *c)
{
    enum { BYTES = 300000 };
    char *bytes = test_malloc(BYTES);
    for (int i = 0; i < BYTES; i++) bytes[i] = (char)(i * 7 + i / 251);
    cn_store_op op = contract_op(c, CN_STORE_PUT_NEW, "binary", NULL);
    op.value = bytes;
    op.value_len = BYTES;
    assert_int_equal(contract_run(c, &op), CN_OK);
    op.kind = CN_STORE_GET;
    assert_int_equal(contract_run(c, &op), CN_OK);
    assert_int_equal(op.reply.len, BYTES);
    assert_memory_equal(op.reply.data, bytes, BYTES);
    cn_buf_close(&op.reply);
    cn_buf_init(&op.reply, BYTES - 1);
    assert_int_equal(contract_run(c, &op), CN_E_LIMIT);
    cn_buf_close(&op.reply);
    test_free(bytes);
}

// A commit: the turn, then the head; the head never moves to a turn that was refused.
static inline void contract_chain(const contract *c)
{
    cn_store_op turn = contract_op(c, CN_STORE_PUT_NEW, "turn", "T1");
    cn_store_op head = contract_op(c, CN_STORE_SWAP, "head", "h1");
    turn.then = &head;
    assert_int_equal(contract_run(c, &turn), CN_OK);
    assert_int_equal(head.code, CN_OK);
    assert_int_equal(contract_run(c, &turn), CN_OK);          // sent again after a lost answer
    assert_int_equal(head.code, CN_OK);

    turn.value = "T2";
    contract_expect(&head, "h1");
    head.value = "h2";
    assert_int_equal(contract_run(c, &turn), CN_E_EXISTS);
    assert_int_equal(head.code, CN_E_EXISTS);
    contract_assert_reply(&turn, "T1");
    contract_check(c, CN_STORE_GET, "head", NULL, NULL, CN_OK, "h1");

    snprintf(turn.key, sizeof turn.key, "%sturn2", c->prefix);
    contract_expect(&head, "h0");
    assert_int_equal(contract_run(c, &turn), CN_OK);          // stays, an orphan
    assert_int_equal(head.code, CN_E_CONFLICT);
    contract_assert_reply(&head, "h1");
    cn_buf_close(&turn.reply);

    // Other kinds in a chain, three of them, with one key twice.
    cn_store_op first = contract_op(c, CN_STORE_SWAP, "chain", "1");
    cn_store_op second = contract_op(c, CN_STORE_SWAP, "chain", "2");
    cn_store_op third = contract_op(c, CN_STORE_GET, "chain", NULL);
    contract_expect(&second, "1");
    first.then = &second;
    second.then = &third;
    assert_int_equal(contract_run(c, &first), CN_OK);
    assert_int_equal(second.code, CN_OK);
    contract_assert_reply(&third, "2");
    assert_int_equal(contract_run(c, &first), CN_E_CONFLICT);
    assert_int_equal(second.code, CN_E_CONFLICT);
    assert_int_equal(third.code, CN_E_CONFLICT);
    contract_assert_reply(&first, "2");
    contract_assert_reply(&second, "");
    contract_assert_reply(&third, "");
}

// Submitted together, operations on one key are carried out one after another.
static inline void contract_order(const contract *c)
{
    enum { OPS = 40 };
    cn_store_op ops[OPS];
    static char values[OPS + 1][16];
    for (int i = 0; i <= OPS; i++) snprintf(values[i], sizeof values[i], "v%d", i);
    contract_check(c, CN_STORE_PUT_NEW, "order", NULL, values[0], CN_OK, "");
    for (int i = 0; i < OPS; i++) {
        ops[i] = contract_op(c, CN_STORE_SWAP, "order", values[i + 1]);
        contract_expect(&ops[i], values[i]);
        assert_true(cn_store_port_submit(c->port, &ops[i]));
    }
    for (int back = 0; back < OPS;) {
        if (cn_store_port_next(c->port)) back++;
        else c->store->ops->poll(c->store, 1000000);
    }
    for (int i = 0; i < OPS; i++) {
        assert_int_equal(ops[i].code, CN_OK);
        cn_buf_close(&ops[i].reply);
    }
    contract_check(c, CN_STORE_GET, "order", NULL, NULL, CN_OK, values[OPS]);
}

static inline void contract_scan(const contract *c)
{
    enum { KEYS = 100 };
    bool seen[KEYS] = {0};
    for (int i = 0; i < KEYS; i++) {
        char key[32];
        snprintf(key, sizeof key, "s[c*n?:%d", i);
        contract_check(c, CN_STORE_PUT_NEW, key, NULL, "x", CN_OK, "");
    }
    contract_check(c, CN_STORE_PUT_NEW, "sXc*nY:1", NULL, "x", CN_OK, ""); // no pattern matches it
    cn_store_op op = contract_op(c, CN_STORE_SCAN, "s[c*n?:", NULL);
    do {
        assert_int_equal(contract_run(c, &op), CN_OK);
        const char *at = op.reply.data, *end = at + op.reply.len;
        while (at < end) {
            const char *stop = memchr(at, '\n', (size_t)(end - at));
            assert_non_null(stop);
            assert_memory_equal(at, op.key, strlen(op.key));
            seen[atoi(at + strlen(op.key))] = true;
            at = stop + 1;
        }
    } while (op.cursor != 0);
    for (int i = 0; i < KEYS; i++) assert_true(seen[i]);
    cn_buf_close(&op.reply);
}

static inline void contract_pages(const contract *c)
{
    static char page[CONTRACT_PAGE_BYTES], back[CONTRACT_PAGE_BYTES];
    cn_store_op op = contract_op(c, CN_STORE_PAGE_GET, "", NULL);
    op.page = back;
    memset(op.page_key.bytes, 0x5A, sizeof op.page_key.bytes);
    assert_int_equal(contract_run(c, &op), CN_E_NOT_FOUND);
    for (uint8_t n = 0; n < 20; n++) {
        for (int i = 0; i < CONTRACT_PAGE_BYTES; i++) page[i] = (char)(i * n + i / 256);
        op.kind = CN_STORE_PAGE_PUT;
        op.page = page;
        op.page_key.bytes[0] = n;
        assert_int_equal(contract_run(c, &op), CN_OK);
        op.kind = CN_STORE_PAGE_GET;
        op.page = back;
        assert_int_equal(contract_run(c, &op), CN_OK);
        assert_memory_equal(page, back, sizeof page);
    }
    op.page_key.bytes[CN_KEY_BYTES - 1] ^= 1;
    assert_int_equal(contract_run(c, &op), CN_E_NOT_FOUND);
    cn_buf_close(&op.reply);
}

static inline void contract_all(const contract *c)
{
    contract_values(c);
    contract_binary(c);
    contract_chain(c);
    contract_order(c);
    contract_scan(c);
    contract_pages(c);
}
