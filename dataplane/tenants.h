/* dataplane/tenants.h: who a request is from, what it may do, and how much of that is left.
 * Joins the keys (dataplane/auth.h) with the accounts of keys and tenants (dataplane/quota.h), and
 * lets the keys be replaced while the server runs: those that stay keep what they have used, requests
 * of a key that is gone end as they would have.
 *
 * Threads: api only, but for replace.
 * Memory:  all allocated in open, but for a copy of the keys in replace. */
#pragma once

#include "base/clock.h"
#include "base/random.h"
#include "base/wake.h"
#include "dataplane/auth.h"
#include "dataplane/route.h"

typedef struct cn_tenants cn_tenants;

typedef struct cn_tenants_options {
    const cn_key_file *keys;     // NULL: everybody is let in, as one tenant
    uint32_t claim_max;          // requests at once
    cn_random random;
    cn_wake *wake;               // the api thread's
} cn_tenants_options;            // keys are borrowed until open returns

/* Errors: CN_E_MEMORY. */
cn_code cn_tenants_open(const cn_tenants_options *options, cn_tenants **out, cn_err *err);
/* Every claim must have been closed. */
void cn_tenants_close(cn_tenants *tenants);

/* Other keys from the next round on; borrowed until it returns. If there are
 * none any more, nobody is let in. Errors: CN_E_MEMORY; CN_E_INVALID (the server was opened without
 * keys: it does not close by a reload). [any] */
cn_code cn_tenants_replace(cn_tenants *tenants, const cn_key_file *keys, cn_err *err);
/* Takes them over, if there are any. */
void cn_tenants_poll(cn_tenants *tenants);

/* Lets a request in, or not: by its Authorization field (NULL: it has none), the access that its
 * route needs, and the rate of its key and tenant. Fills `tenant` and opens `claim`, which must be
 * closed in any case. Errors: CN_E_AUTH, CN_E_SCOPE, CN_E_RATE_REQUESTS. */
cn_code cn_tenants_admit(cn_tenants *tenants, const char *authorization, unsigned route_flags,
                         uint64_t now_ns, uint8_t tenant[CN_AUTH_TENANT_BYTES],
                         cn_quota_claim *claim, cn_err *err);

/* Tenants have indices below this; see cn_quota_account. */
uint32_t cn_tenants_index_max(uint32_t claim_max);
