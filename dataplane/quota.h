/* dataplane/quota.h: how much a key and its tenant may use, and what they have used.
 * An account belongs to a key or to a tenant. A request claims both of its accounts: it counts as one
 * request, holds one of the turns that may run at once, and reserves tokens before it is submitted:
 * those of its prompt and those that it may generate. When it ends, what it did not use is given back.
 *
 * Requests and tokens refill steadily: a limit of 60 per minute is one per second, and at most 60 at
 * once. A minute's tokens are also the most that one request reserves, so one that may generate more
 * is not refused; what it then uses beyond is a debt, paid off before the next one is admitted.
 *
 * Threads: api only.
 * Memory:  all allocated in open. An account stays as long as it is listed or claimed. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "dataplane/reply.h"

enum { CN_QUOTA_NAME_BYTES = 65, CN_QUOTA_ID_BYTES = 32 };

/*  member               max          of a key, too?  what it bounds */
#define CN_QUOTAS(X)                                                                               \
    X(requests_per_minute, 1000000,      true,  "requests in a minute, of any kind that needs a key") \
    X(tokens_per_minute,   10000000000,  true,  "tokens of prompts and answers in a minute")       \
    X(concurrent,          1000000,      true,  "generating requests under way at once")           \
    X(weight,              1000,         false, "share of the device among tenants that want it: 1 unless said")

typedef struct cn_quota_limits {
#define X(member, max, of_key, what) uint64_t member;        /* 0: no limit */
    CN_QUOTAS(X)
#undef X
} cn_quota_limits;

typedef struct cn_quota cn_quota;

typedef struct cn_quota_account {
    cn_quota *quota;             // whose it is
    uint8_t id[CN_QUOTA_ID_BYTES];
    const char *kind;            // "key", "tenant"
    char name[CN_QUOTA_NAME_BYTES];
    cn_quota_limits limits;
    uint64_t requests_full_ns, tokens_full_ns;   // when nothing is owed any more
    uint32_t index;              // below account_max, of no other account meanwhile
    uint32_t claims, running;
    bool listed;
    struct cn_quota_account *next_free;
} cn_quota_account;

/* What one request has of its accounts. */
typedef struct cn_quota_claim {
    cn_quota_account *accounts[2];       // the tenant's and the key's (NULL: there are no keys)
    uint64_t reserved;           // tokens
    bool runs;                   // counted in `running`
    uint64_t retry_ns;           // of a refusal: when to try again; UINT64_MAX: never
} cn_quota_claim;

/* At most `account_max` accounts. Errors: CN_E_MEMORY. */
cn_code cn_quota_open(uint32_t account_max, uint64_t seed, cn_quota **out);
void cn_quota_close(cn_quota *quota);

/* A new list of accounts: between begin and end each that is to stay is named, with its limits. Those
 * that were there before keep what they have used. There must be room: account_max is at least twice
 * what is listed and claimed. */
void cn_quota_list_begin(cn_quota *quota);
cn_quota_account *cn_quota_list(cn_quota *quota, const char *kind,
                                const uint8_t id[CN_QUOTA_ID_BYTES], const char *name,
                                const cn_quota_limits *limits);
void cn_quota_list_end(cn_quota *quota);

/* A claim without anything yet. */
void cn_quota_claim_open(cn_quota_account *tenant, cn_quota_account *key, cn_quota_claim *out);
/* Gives everything back; an empty claim is fine. */
void cn_quota_claim_close(cn_quota_claim *claim, uint64_t now_ns);

/* Each of these takes from both accounts or from none. */
/* One request. Errors: CN_E_RATE_REQUESTS. */
cn_code cn_quota_request(cn_quota_claim *claim, uint64_t now_ns, cn_err *err);
/* One turn that runs. Errors: CN_E_RATE_REQUESTS. */
cn_code cn_quota_run(cn_quota_claim *claim, cn_err *err);
/* Tokens of the prompts and of the answers. Errors: CN_E_RATE_TOKENS. */
cn_code cn_quota_reserve(cn_quota_claim *claim, uint64_t prompt_tokens, uint64_t answer_tokens,
                         uint64_t now_ns, cn_err *err);
/* The turn has ended and has used so many tokens: the rest of its reservation is given back. Once. */
void cn_quota_settle(cn_quota_claim *claim, uint64_t used_tokens, uint64_t now_ns);

/* Adds the x-ratelimit-* fields, of the account that is nearer to its limit. */
void cn_quota_tell(const cn_quota_claim *claim, uint64_t now_ns, cn_reply *reply);
/* Adds Retry-After, or that trying again is of no use. */
void cn_quota_tell_retry(const cn_quota_claim *claim, cn_reply *reply);
