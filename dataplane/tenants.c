#include "dataplane/tenants.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* New keys are made ready by whoever brings them and are handed over through one pointer; if two come
 * in one round, the first is never used. */

struct cn_tenants {
    cn_tenants_options options;
    bool is_open;                // no keys
    cn_auth *auth;
    _Atomic(cn_auth *) next;     // NULL: none
    cn_quota *tenants, *keys;
    cn_quota_account *everybody;         // while there are no keys
    cn_quota_account *tenant_accounts[CN_KEY_FILE_TENANTS_MAX];  // in the order of the keys file
    cn_quota_account *key_accounts[CN_KEY_FILE_KEYS_MAX];
};

uint32_t cn_tenants_index_max(uint32_t claim_max)
{
    return CN_KEY_FILE_TENANTS_MAX + 1 + claim_max;
}

static void list_accounts(cn_tenants *t)
{
    static const uint8_t nobody[CN_QUOTA_ID_BYTES];
    const cn_key_file *file = cn_auth_file(t->auth);
    cn_quota_list_begin(t->tenants);
    cn_quota_list_begin(t->keys);
    if (t->is_open) {
        t->everybody = cn_quota_list(t->tenants, "tenant", nobody, "everybody", &file->usual);
    }
    for (uint32_t i = 0; i < file->tenant_count; i++) {
        const cn_key_file_tenant *tenant = &file->tenants[i];
        t->tenant_accounts[i] =
            cn_quota_list(t->tenants, "tenant", tenant->id, tenant->name, &tenant->limits);
    }
    for (uint32_t i = 0; i < file->key_count; i++) {
        const cn_key_file_key *key = &file->keys[i];
        t->key_accounts[i] = cn_quota_list(t->keys, "key", key->id, key->name, &key->limits);
    }
    cn_quota_list_end(t->tenants);
    cn_quota_list_end(t->keys);
}

cn_code cn_tenants_open(const cn_tenants_options *options, cn_tenants **out, cn_err *err)
{
    cn_tenants *t = calloc(1, sizeof *t);
    *out = NULL;
    if (!t) return cn_err_set(err, CN_E_MEMORY, "API keys: no memory");
    const uint64_t seed = cn_random_u64(&options->random);
    t->options = *options;
    t->is_open = !options->keys;
    cn_code code = cn_auth_open(options->keys, &options->random, &t->auth, err);
    if (code == CN_OK) {
        code = cn_quota_open(cn_tenants_index_max(options->claim_max), seed, &t->tenants);
    }
    if (code == CN_OK) {
        code = cn_quota_open(CN_KEY_FILE_KEYS_MAX + options->claim_max, seed, &t->keys);
    }
    if (code != CN_OK) {
        cn_tenants_close(t);
        return cn_err_set(err, code, "API keys: no memory");
    }
    list_accounts(t);
    *out = t;
    return CN_OK;
}

void cn_tenants_close(cn_tenants *tenants)
{
    if (!tenants) return;
    cn_auth_close(atomic_load(&tenants->next));
    cn_auth_close(tenants->auth);
    cn_quota_close(tenants->tenants);
    cn_quota_close(tenants->keys);
    free(tenants);
}

cn_code cn_tenants_replace(cn_tenants *tenants, const cn_key_file *keys, cn_err *err)
{
    cn_auth *next;
    if (tenants->is_open) {
        return cn_err_set(err, CN_E_INVALID, "API keys: the server was started without any; it must "
                          "be started again to ask for one");
    }
    const cn_code code = cn_auth_open(keys, &tenants->options.random, &next, err);
    if (code != CN_OK) return code;
    // Ordered: the api thread reads what `next` points to.
    cn_auth_close(atomic_exchange(&tenants->next, next));
    cn_wake_signal(tenants->options.wake);
    return CN_OK;
}

void cn_tenants_poll(cn_tenants *tenants)
{
    if (!atomic_load_explicit(&tenants->next, memory_order_relaxed)) return;
    cn_auth *before = tenants->auth;
    tenants->auth = atomic_exchange(&tenants->next, NULL);
    list_accounts(tenants);
    cn_auth_close(before);
}

static unsigned scopes_of(unsigned route_flags)
{
    return (route_flags & CN_ROUTE_FOR_INFERENCE ? CN_SCOPE_INFERENCE : 0) |
           (route_flags & CN_ROUTE_FOR_CONVERSATIONS ? CN_SCOPE_CONVERSATIONS : 0) |
           (route_flags & CN_ROUTE_FOR_METRICS ? CN_SCOPE_METRICS : 0) |
           (route_flags & CN_ROUTE_FOR_ADMIN ? CN_SCOPE_ADMIN : 0);
}

cn_code cn_tenants_admit(cn_tenants *t, const char *authorization, unsigned route_flags,
                         uint64_t now_ns, uint8_t tenant[CN_AUTH_TENANT_BYTES],
                         cn_quota_claim *claim, cn_err *err)
{
    uint32_t key;
    const bool is_public = (route_flags & CN_ROUTE_OPEN) ||
                           ((route_flags & CN_ROUTE_FOR_METRICS) && !cn_auth_guards_metrics(t->auth));
    *claim = (cn_quota_claim){0};
    memset(tenant, 0, CN_AUTH_TENANT_BYTES);
    if (is_public) return CN_OK;
    cn_code code = cn_auth_check(t->auth, authorization, &key, err);
    if (code == CN_OK) code = cn_auth_permit(t->auth, key, scopes_of(route_flags), err);
    if (code != CN_OK) return code;
    if (key == UINT32_MAX) {
        cn_quota_claim_open(t->everybody, NULL, claim);
    } else {
        const uint32_t index = cn_auth_file(t->auth)->keys[key].tenant;
        memcpy(tenant, cn_auth_file(t->auth)->tenants[index].id, CN_AUTH_TENANT_BYTES);
        cn_quota_claim_open(t->tenant_accounts[index], t->key_accounts[key], claim);
    }
    return cn_quota_request(claim, now_ns, err);
}
