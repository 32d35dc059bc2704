#include "dataplane/quota.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/map.h"

/* How it works. What an account owes is kept as a time: when it will owe nothing. Using something
 * moves that time away by what it takes to refill, giving back moves it nearer, and the clock does the
 * refilling. So there is one number per limit, nothing runs periodically, and it cannot drift.
 *
 *      now                 now + debt          now + minute
 *   ────┼──────── owed ────────┼──── may be used now ────┼──── refused, or a debt
 *
 * A use fits if the time stays within a minute from now. */

static const uint64_t MINUTE_NS = 60000000000u, TURN_RETRY_NS = 1000000000u;

struct cn_quota {
    uint32_t account_max;
    cn_map *by_id;
    cn_quota_account *free;
    cn_quota_account accounts[];
};

cn_code cn_quota_open(uint32_t account_max, uint64_t seed, cn_quota **out)
{
    cn_quota *q = calloc(1, sizeof *q + account_max * sizeof *q->accounts);
    *out = NULL;
    if (!q || cn_map_open(account_max, seed, &q->by_id) != CN_OK) {
        free(q);
        return CN_E_MEMORY;
    }
    q->account_max = account_max;
    for (uint32_t i = account_max; i-- > 0;) {       // low indices first
        q->accounts[i] = (cn_quota_account){.quota = q, .index = i, .next_free = q->free};
        q->free = &q->accounts[i];
    }
    *out = q;
    return CN_OK;
}

void cn_quota_close(cn_quota *quota)
{
    if (!quota) return;
    cn_map_close(quota->by_id);
    free(quota);
}

// ---- which accounts there are

static bool is_used(const cn_quota_account *a) { return a->listed || a->claims > 0; }

static void forget(cn_quota_account *a)
{
    cn_quota *q = a->quota;
    cn_map_del(q->by_id, a->id, sizeof a->id);
    *a = (cn_quota_account){.quota = q, .index = a->index, .next_free = q->free};
    q->free = a;
}

void cn_quota_list_begin(cn_quota *quota)
{
    for (uint32_t i = 0; i < quota->account_max; i++) quota->accounts[i].listed = false;
}

cn_quota_account *cn_quota_list(cn_quota *quota, const char *kind,
                                const uint8_t id[CN_QUOTA_ID_BYTES], const char *name,
                                const cn_quota_limits *limits)
{
    uint64_t found;
    cn_quota_account *a = quota->free;
    if (cn_map_find(quota->by_id, id, CN_QUOTA_ID_BYTES, &found)) {
        a = &quota->accounts[found];
    } else {
        CN_ASSERT(a);
        quota->free = a->next_free;
        memcpy(a->id, id, sizeof a->id);
        const cn_code code = cn_map_put(quota->by_id, a->id, sizeof a->id, a->index);
        CN_ASSERT(code == CN_OK);        // it was opened for all accounts
    }
    a->kind = kind;
    snprintf(a->name, sizeof a->name, "%s", name);
    a->limits = *limits;
    a->listed = true;
    return a;
}

void cn_quota_list_end(cn_quota *quota)
{
    for (uint32_t i = 0; i < quota->account_max; i++) {
        cn_quota_account *a = &quota->accounts[i];
        if (a->kind && !is_used(a)) forget(a);
    }
}

// ---- claims

void cn_quota_claim_open(cn_quota_account *tenant, cn_quota_account *key, cn_quota_claim *out)
{
    *out = (cn_quota_claim){.accounts = {tenant, key}};
    for (int i = 0; i < 2; i++) {
        if (out->accounts[i]) out->accounts[i]->claims++;
    }
}

void cn_quota_claim_close(cn_quota_claim *claim, uint64_t now_ns)
{
    cn_quota_settle(claim, 0, now_ns);
    for (int i = 0; i < 2; i++) {
        cn_quota_account *a = claim->accounts[i];
        if (!a) continue;
        a->claims--;
        if (!is_used(a)) forget(a);
    }
    *claim = (cn_quota_claim){0};
}

// ---- time

static uint64_t refill_ns(uint64_t amount, uint64_t limit)
{
    return (uint64_t)((unsigned __int128)amount * MINUTE_NS / limit);
}

static uint64_t owed_ns(uint64_t full_ns, uint64_t now_ns)
{
    return full_ns > now_ns ? full_ns - now_ns : 0;
}

// How long until `amount` fits; 0: it does now.
static uint64_t wait_ns(uint64_t full_ns, uint64_t now_ns, uint64_t amount, uint64_t limit)
{
    const uint64_t after_ns = owed_ns(full_ns, now_ns) + refill_ns(amount, limit);
    return after_ns > MINUTE_NS ? after_ns - MINUTE_NS : 0;
}

static void use(uint64_t *full_ns, uint64_t now_ns, uint64_t amount, uint64_t limit)
{
    *full_ns = now_ns + owed_ns(*full_ns, now_ns) + refill_ns(amount, limit);
}

static void give_back(uint64_t *full_ns, uint64_t amount, uint64_t limit)
{
    const uint64_t back_ns = refill_ns(amount, limit);
    *full_ns -= back_ns < *full_ns ? back_ns : *full_ns;
}

static uint64_t remaining(uint64_t full_ns, uint64_t now_ns, uint64_t limit)
{
    const uint64_t owed = owed_ns(full_ns, now_ns);
    if (owed >= MINUTE_NS) return 0;
    return limit - (uint64_t)(((unsigned __int128)owed * limit + MINUTE_NS - 1) / MINUTE_NS);
}

/* As OpenAI writes it: 20ms, 1.25s, 6m0s. */
static const char *duration(uint64_t ns, char out[32])
{
    const uint64_t ms = (ns + 999999) / 1000000;
    if (ms < 1000) snprintf(out, 32, "%" PRIu64 "ms", ms);
    else if (ms % 1000 && ms < 60000) snprintf(out, 32, "%.3gs", (double)ms / 1000);
    else if (ms < 60000) snprintf(out, 32, "%" PRIu64 "s", ms / 1000);
    else snprintf(out, 32, "%" PRIu64 "m%" PRIu64 "s", ms / 60000, ms % 60000 / 1000);
    return out;
}

// ---- requests, turns, tokens

static cn_code refuse_rate(cn_quota_claim *claim, const cn_quota_account *a, cn_code code,
                           const char *what, uint64_t limit, cn_err *err)
{
    char when[32];
    return cn_err_set(err, code, "Rate limit reached: %s of %s \"%s\": %" PRIu64 ". Please try "
                      "again in %s.", what, a->kind, a->name, limit,
                      duration(claim->retry_ns, when));
}

cn_code cn_quota_request(cn_quota_claim *claim, uint64_t now_ns, cn_err *err)
{
    for (int i = 0; i < 2; i++) {
        const cn_quota_account *a = claim->accounts[i];
        const uint64_t limit = a ? a->limits.requests_per_minute : 0;
        if (!limit) continue;
        claim->retry_ns = wait_ns(a->requests_full_ns, now_ns, 1, limit);
        if (claim->retry_ns) {
            return refuse_rate(claim, a, CN_E_RATE_REQUESTS, "requests_per_minute", limit, err);
        }
    }
    for (int i = 0; i < 2; i++) {
        cn_quota_account *a = claim->accounts[i];
        const uint64_t limit = a ? a->limits.requests_per_minute : 0;
        if (limit) use(&a->requests_full_ns, now_ns, 1, limit);
    }
    return CN_OK;
}

cn_code cn_quota_run(cn_quota_claim *claim, cn_err *err)
{
    CN_ASSERT(!claim->runs);
    for (int i = 0; i < 2; i++) {
        const cn_quota_account *a = claim->accounts[i];
        if (!a || !a->limits.concurrent || a->running < a->limits.concurrent) continue;
        claim->retry_ns = TURN_RETRY_NS;
        return cn_err_set(err, CN_E_RATE_REQUESTS, "Rate limit reached: %u requests of %s \"%s\" are "
                          "under way, and concurrent is %" PRIu64 ". Please try again in 1s.",
                          a->running, a->kind, a->name, a->limits.concurrent);
    }
    for (int i = 0; i < 2; i++) {
        if (claim->accounts[i]) claim->accounts[i]->running++;
    }
    claim->runs = true;
    return CN_OK;
}

// What is reserved of an account: no more than there is in a minute.
static uint64_t reservation(uint64_t tokens, uint64_t limit) { return tokens < limit ? tokens : limit; }

cn_code cn_quota_reserve(cn_quota_claim *claim, uint64_t prompt_tokens, uint64_t answer_tokens,
                         uint64_t now_ns, cn_err *err)
{
    CN_ASSERT(claim->runs && claim->reserved == 0);
    const uint64_t tokens = prompt_tokens + answer_tokens;
    for (int i = 0; i < 2; i++) {
        const cn_quota_account *a = claim->accounts[i];
        const uint64_t limit = a ? a->limits.tokens_per_minute : 0;
        if (!limit) continue;
        if (prompt_tokens > limit) {
            claim->retry_ns = UINT64_MAX;
            return cn_err_set(err, CN_E_RATE_TOKENS, "Request too large: its prompt has %" PRIu64
                              " tokens; tokens_per_minute of %s \"%s\" is %" PRIu64 ".",
                              prompt_tokens, a->kind, a->name, limit);
        }
        claim->retry_ns = wait_ns(a->tokens_full_ns, now_ns, reservation(tokens, limit), limit);
        if (claim->retry_ns) {
            return refuse_rate(claim, a, CN_E_RATE_TOKENS, "tokens_per_minute", limit, err);
        }
    }
    for (int i = 0; i < 2; i++) {
        cn_quota_account *a = claim->accounts[i];
        const uint64_t limit = a ? a->limits.tokens_per_minute : 0;
        if (limit) use(&a->tokens_full_ns, now_ns, reservation(tokens, limit), limit);
    }
    claim->reserved = tokens;
    return CN_OK;
}

/* A limit that was changed meanwhile makes the two sides differ a little; what is owed fades within a
 * minute either way. */
void cn_quota_settle(cn_quota_claim *claim, uint64_t used_tokens, uint64_t now_ns)
{
    if (!claim->runs) return;
    for (int i = 0; i < 2; i++) {
        cn_quota_account *a = claim->accounts[i];
        if (!a) continue;
        CN_ASSERT(a->running > 0);
        a->running--;
        const uint64_t limit = a->limits.tokens_per_minute;
        if (!limit || !claim->reserved) continue;
        const uint64_t reserved = reservation(claim->reserved, limit);
        if (used_tokens < reserved) give_back(&a->tokens_full_ns, reserved - used_tokens, limit);
        else use(&a->tokens_full_ns, now_ns, used_tokens - reserved, limit);
    }
    claim->runs = false;
    claim->reserved = 0;
}

// ---- what the client is told

static void tell(cn_reply *reply, const char *what, uint64_t limit, uint64_t full_ns,
                 uint64_t now_ns)
{
    char name[48], value[32];
    snprintf(name, sizeof name, "x-ratelimit-limit-%s", what);
    snprintf(value, sizeof value, "%" PRIu64, limit);
    cn_reply_header(reply, name, value);
    snprintf(name, sizeof name, "x-ratelimit-remaining-%s", what);
    snprintf(value, sizeof value, "%" PRIu64, remaining(full_ns, now_ns, limit));
    cn_reply_header(reply, name, value);
    snprintf(name, sizeof name, "x-ratelimit-reset-%s", what);
    cn_reply_header(reply, name, duration(owed_ns(full_ns, now_ns), value));
}

void cn_quota_tell(const cn_quota_claim *claim, uint64_t now_ns, cn_reply *reply)
{
    const cn_quota_account *requests = NULL, *tokens = NULL;
    uint64_t fewest = UINT64_MAX, least = UINT64_MAX;
    for (int i = 0; i < 2; i++) {
        const cn_quota_account *a = claim->accounts[i];
        if (!a) continue;
        const cn_quota_limits *l = &a->limits;
        if (l->requests_per_minute &&
            remaining(a->requests_full_ns, now_ns, l->requests_per_minute) < fewest) {
            fewest = remaining(a->requests_full_ns, now_ns, l->requests_per_minute);
            requests = a;
        }
        if (l->tokens_per_minute &&
            remaining(a->tokens_full_ns, now_ns, l->tokens_per_minute) < least) {
            least = remaining(a->tokens_full_ns, now_ns, l->tokens_per_minute);
            tokens = a;
        }
    }
    if (requests) {
        tell(reply, "requests", requests->limits.requests_per_minute, requests->requests_full_ns,
             now_ns);
    }
    if (tokens) {
        tell(reply, "tokens", tokens->limits.tokens_per_minute, tokens->tokens_full_ns, now_ns);
    }
}

void cn_quota_tell_retry(const cn_quota_claim *claim, cn_reply *reply)
{
    char value[32];
    if (claim->retry_ns == UINT64_MAX) {
        cn_reply_header(reply, "x-should-retry", "false");
        return;
    }
    // Clients that know the second field wait no longer than they must.
    snprintf(value, sizeof value, "%" PRIu64, (claim->retry_ns + 999999999) / 1000000000);
    cn_reply_header(reply, "Retry-After", value);
    snprintf(value, sizeof value, "%" PRIu64, (claim->retry_ns + 999999) / 1000000);
    cn_reply_header(reply, "Retry-After-Ms", value);
}
