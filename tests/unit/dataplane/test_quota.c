#include "dataplane/quota.h"

#include <string.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/test_rng.h"

static const uint64_t SECOND_NS = 1000000000u;

static cn_quota_account *add(cn_quota *q, const char *name, cn_quota_limits limits)
{
    uint8_t id[CN_QUOTA_ID_BYTES] = {0};
    memcpy(id, name, strlen(name));
    return cn_quota_list(q, "tenant", id, name, &limits);
}

static cn_quota *open_quota(uint32_t account_max)
{
    cn_quota *q;
    assert_int_equal(cn_quota_open(account_max, 1, &q), CN_OK);
    cn_quota_list_begin(q);
    return q;
}

static void requests_refill_steadily(void **state)
{
    (void)state;
    cn_quota *q = open_quota(2);
    cn_quota_account *a = add(q, "acme", (cn_quota_limits){.requests_per_minute = 60});
    cn_quota_claim c;
    cn_err err;
    uint64_t now_ns = 5 * SECOND_NS;
    cn_quota_claim_open(a, NULL, &c);
    for (int i = 0; i < 60; i++) assert_int_equal(cn_quota_request(&c, now_ns, &err), CN_OK);
    assert_int_equal(cn_quota_request(&c, now_ns, &err), CN_E_RATE_REQUESTS);
    assert_string_equal(err.text, "Rate limit reached: requests_per_minute of tenant \"acme\": 60. "
                                  "Please try again in 1s.");
    assert_int_equal(c.retry_ns, SECOND_NS);
    now_ns += SECOND_NS - 1;
    assert_int_equal(cn_quota_request(&c, now_ns, &err), CN_E_RATE_REQUESTS);
    now_ns += 1;
    assert_int_equal(cn_quota_request(&c, now_ns, &err), CN_OK);
    assert_int_equal(cn_quota_request(&c, now_ns, &err), CN_E_RATE_REQUESTS);
    now_ns += 3600 * SECOND_NS;          // no more than a minute's worth is ever saved up
    for (int i = 0; i < 60; i++) assert_int_equal(cn_quota_request(&c, now_ns, &err), CN_OK);
    assert_int_equal(cn_quota_request(&c, now_ns, &err), CN_E_RATE_REQUESTS);
    cn_quota_claim_close(&c, now_ns);
    cn_quota_close(q);
}

// A refusal by one account must not cost the other one anything.
static void both_accounts_or_none(void **state)
{
    (void)state;
    cn_quota *q = open_quota(3);
    cn_quota_account *tenant = add(q, "acme", (cn_quota_limits){.requests_per_minute = 10,
                                   .concurrent = 2, .tokens_per_minute = 1000});
    cn_quota_account *key = add(q, "key", (cn_quota_limits){.requests_per_minute = 2,
                                .concurrent = 1, .tokens_per_minute = 100});
    cn_quota_claim c, other;
    cn_err err;
    cn_quota_claim_open(tenant, key, &c);
    assert_int_equal(cn_quota_request(&c, 0, &err), CN_OK);
    assert_int_equal(cn_quota_request(&c, 0, &err), CN_OK);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(cn_quota_request(&c, 0, &err), CN_E_RATE_REQUESTS);
    }
    assert_int_equal(tenant->requests_full_ns, 12 * SECOND_NS);      // 2 of 10 per minute
    assert_int_equal(cn_quota_run(&c, &err), CN_OK);
    cn_quota_claim_open(tenant, key, &other);
    assert_int_equal(cn_quota_run(&other, &err), CN_E_RATE_REQUESTS);
    assert_string_equal(err.text, "Rate limit reached: 1 requests of tenant \"key\" are under way, and "
                                  "concurrent is 1. Please try again in 1s.");
    assert_int_equal(tenant->running, 1);
    assert_int_equal(cn_quota_reserve(&c, 90, 5, 0, &err), CN_OK);
    assert_int_equal(tenant->tokens_full_ns, 5700000000u);
    cn_quota_settle(&c, 95, 0);
    assert_int_equal(cn_quota_run(&other, &err), CN_OK);
    assert_int_equal(cn_quota_reserve(&other, 6, 5, 0, &err), CN_E_RATE_TOKENS);
    assert_int_equal(tenant->tokens_full_ns, 5700000000u);
    cn_quota_claim_close(&c, 0);
    cn_quota_claim_close(&other, 0);
    assert_int_equal(tenant->running + key->running + tenant->claims + key->claims, 0);
    cn_quota_close(q);
}

static void unused_tokens_come_back_and_excess_is_owed(void **state)
{
    (void)state;
    cn_quota *q = open_quota(1);
    cn_quota_account *a = add(q, "acme", (cn_quota_limits){.tokens_per_minute = 600});
    cn_quota_claim c;
    cn_err err;
    cn_quota_claim_open(a, NULL, &c);
    assert_int_equal(cn_quota_run(&c, &err), CN_OK);
    assert_int_equal(cn_quota_reserve(&c, 100, 400, 0, &err), CN_OK);
    assert_int_equal(a->tokens_full_ns, 50 * SECOND_NS);
    cn_quota_settle(&c, 120, 0);
    assert_int_equal(a->tokens_full_ns, 12 * SECOND_NS);
    cn_quota_settle(&c, 120, 0);                     // once is enough
    assert_int_equal(a->tokens_full_ns, 12 * SECOND_NS);
    // An answer that may be longer than a minute's tokens waits for a full account, and owes the rest.
    assert_int_equal(cn_quota_run(&c, &err), CN_OK);
    assert_int_equal(cn_quota_reserve(&c, 100, 100000, 11 * SECOND_NS, &err), CN_E_RATE_TOKENS);
    assert_int_equal(c.retry_ns, SECOND_NS);
    assert_int_equal(cn_quota_reserve(&c, 100, 100000, 12 * SECOND_NS, &err), CN_OK);
    cn_quota_settle(&c, 1200, 12 * SECOND_NS);
    assert_int_equal(a->tokens_full_ns, 132 * SECOND_NS);
    // A prompt that never fits is told so.
    assert_int_equal(cn_quota_run(&c, &err), CN_OK);
    assert_int_equal(cn_quota_reserve(&c, 601, 1, 500 * SECOND_NS, &err), CN_E_RATE_TOKENS);
    assert_int_equal(c.retry_ns, UINT64_MAX);
    assert_string_equal(err.text, "Request too large: its prompt has 601 tokens; tokens_per_minute of "
                                  "tenant \"acme\" is 600.");
    cn_quota_claim_close(&c, 0);
    cn_quota_close(q);
}

static void headers_tell_the_nearer_limit(void **state)
{
    (void)state;
    cn_quota *q = open_quota(2);
    cn_reply reply = {0};
    cn_quota_claim c;
    cn_err err;
    cn_quota_account *tenant = add(q, "t", (cn_quota_limits){.requests_per_minute = 7,
                                   .tokens_per_minute = 60000});
    cn_quota_account *key = add(q, "k", (cn_quota_limits){.tokens_per_minute = 1000});
    cn_quota_claim_open(tenant, key, &c);
    assert_int_equal(cn_quota_request(&c, 0, &err), CN_OK);
    assert_int_equal(cn_quota_run(&c, &err), CN_OK);
    assert_int_equal(cn_quota_reserve(&c, 1, 20, 0, &err), CN_OK);
    cn_quota_tell(&c, 0, &reply);
    assert_string_equal(reply.extra, "x-ratelimit-limit-requests: 7\r\n"
                                     "x-ratelimit-remaining-requests: 6\r\n"
                                     "x-ratelimit-reset-requests: 8.57s\r\n"
                                     "x-ratelimit-limit-tokens: 1000\r\n"
                                     "x-ratelimit-remaining-tokens: 979\r\n"
                                     "x-ratelimit-reset-tokens: 1.26s\r\n");
    reply.extra[0] = '\0';
    c.retry_ns = 1500000001;
    cn_quota_tell_retry(&c, &reply);
    assert_string_equal(reply.extra, "Retry-After: 2\r\nRetry-After-Ms: 1501\r\n");
    cn_quota_claim_close(&c, 0);
    // Without limits there is nothing to tell.
    reply.extra[0] = '\0';
    cn_quota_tell(&c, 0, &reply);
    assert_string_equal(reply.extra, "");
    cn_quota_close(q);
}

// A list that leaves an account out must not take it from requests that still run.
static void accounts_stay_while_they_are_listed_or_claimed(void **state)
{
    (void)state;
    cn_quota *q = open_quota(2);
    const cn_quota_limits limits = {.requests_per_minute = 60};
    cn_quota_claim c;
    cn_err err;
    cn_quota_account *a = add(q, "a", limits);
    cn_quota_claim_open(a, NULL, &c);
    assert_int_equal(cn_quota_request(&c, 0, &err), CN_OK);
    for (int round = 0; round < 3; round++) {        // the second account is free again each time
        cn_quota_list_begin(q);
        assert_ptr_not_equal(add(q, "b", limits), a);
        cn_quota_list_end(q);
        cn_quota_list_begin(q);
        cn_quota_list_end(q);
    }
    assert_int_equal(a->requests_full_ns, SECOND_NS);
    cn_quota_list_begin(q);
    assert_ptr_equal(add(q, "a", limits), a);        // what it used is known when it comes back
    cn_quota_list_end(q);
    cn_quota_list_begin(q);
    cn_quota_list_end(q);
    cn_quota_claim_close(&c, 0);
    cn_quota_list_begin(q);
    a = add(q, "a", limits);
    assert_int_equal(a->requests_full_ns, 0);        // it was forgotten
    cn_quota_list_end(q);
    cn_quota_close(q);
}

/* Against a model that counts every use in a window: over any minute, what was admitted and used is
 * never above limit + one request's excess; and what is told as remaining is admitted. */
static void never_more_than_the_limit(void **state)
{
    (void)state;
    enum { LIMIT = 50, STEPS = 20000 };
    test_rng rng = test_rng_open("quota");
    cn_quota *q = open_quota(1);
    cn_quota_account *a = add(q, "a", (cn_quota_limits){.tokens_per_minute = LIMIT});
    uint64_t now_ns = 0, owed_tokens_ns = 0;         // the model: LIMIT tokens leak per minute
    for (int step = 0; step < STEPS; step++) {
        cn_quota_claim c;
        cn_err err;
        const uint64_t passed_ns = test_rng_below(&rng, 10) * SECOND_NS;
        now_ns += passed_ns;
        owed_tokens_ns -= passed_ns * LIMIT < owed_tokens_ns ? passed_ns * LIMIT : owed_tokens_ns;
        const uint64_t prompt = 1 + test_rng_below(&rng, 20), answer = test_rng_below(&rng, 20);
        const uint64_t most_ns = 60 * SECOND_NS * LIMIT, asked_ns = (prompt + answer) * 60 * SECOND_NS;
        cn_quota_claim_open(a, NULL, &c);
        assert_int_equal(cn_quota_run(&c, &err), CN_OK);
        const bool fits = owed_tokens_ns + asked_ns <= most_ns;
        assert_int_equal(cn_quota_reserve(&c, prompt, answer, now_ns, &err) == CN_OK, fits);
        if (fits) {
            const uint64_t used = prompt + test_rng_below(&rng, (uint32_t)answer + 1);
            owed_tokens_ns += used * 60 * SECOND_NS;
            cn_quota_settle(&c, used, now_ns);
            assert_true(owed_tokens_ns <= most_ns);
        }
        cn_quota_claim_close(&c, now_ns);
    }
    cn_quota_close(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_refill_steadily),
        cmocka_unit_test(both_accounts_or_none),
        cmocka_unit_test(unused_tokens_come_back_and_excess_is_owed),
        cmocka_unit_test(headers_tell_the_nearer_limit),
        cmocka_unit_test(accounts_stay_while_they_are_listed_or_claimed),
        cmocka_unit_test(never_more_than_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
