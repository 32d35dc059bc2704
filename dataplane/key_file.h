/* dataplane/key_file.h: who may use this server, for what, and how much of it.
 * The keys file has one key or one tenant per line; what begins with '#' is skipped:
 *
 *   {"tenant":"acme","weight":2,"tokens_per_minute":200000,"concurrent":16}
 *   {"key":"laptop","tenant":"acme","hash":"blake2b-256:...","scopes":["inference"]}
 *   sk-a-key-in-plain-text
 *
 * A tenant owns conversations and cached pages, and all its keys share its limits; a key may have
 * limits of its own beside them. A tenant without a line, and a key without limits, is not limited,
 * unless a line of the tenant "*" says what holds for those. A key in plain text is a tenant of its
 * own, has every scope, and is the tenant that it always was: what it stored is found again.
 *
 * Threads: one at a time; read-only once it is filled.
 * Memory:  one block of fixed size, owned by the caller; close wipes it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "dataplane/quota.h"

enum {
    CN_KEY_FILE_KEYS_MAX = 1024,
    CN_KEY_FILE_TENANTS_MAX = 1024,
    CN_KEY_FILE_SECRET_BYTES_MAX = 512,  // of a key as a client sends it
    CN_KEY_FILE_HASH_BYTES = 32
};

/* What a key may be used for. */
enum {
    CN_SCOPE_INFERENCE = 1,      // models, generating routes, responses, tokens
    CN_SCOPE_CONVERSATIONS = 2,  // /v1/conversations
    CN_SCOPE_METRICS = 4,        // /metrics
    CN_SCOPE_ADMIN = 8,          // whatever changes the server
    CN_SCOPE_ALL = 15
};

typedef struct cn_key_file_tenant {
    char name[CN_QUOTA_NAME_BYTES];
    uint8_t id[CN_QUOTA_ID_BYTES];       // equal names give equal ids on every appliance
    cn_quota_limits limits;
    uint32_t line;               // that says so; 0: none does
} cn_key_file_tenant;

typedef struct cn_key_file_key {
    char name[CN_QUOTA_NAME_BYTES];
    char created[16];            // day, for people; "" if the line does not say
    uint8_t id[CN_QUOTA_ID_BYTES];       // of its name
    uint8_t hash[CN_KEY_FILE_HASH_BYTES];
    uint32_t tenant;             // index in tenants
    unsigned scopes;
    cn_quota_limits limits;
    uint32_t line;               // 0: not of a file
    bool is_plain;
} cn_key_file_key;

typedef struct cn_key_file {
    cn_quota_limits usual;       // of tenants without a line
    uint32_t tenant_count, key_count;
    cn_key_file_tenant tenants[CN_KEY_FILE_TENANTS_MAX];
    cn_key_file_key keys[CN_KEY_FILE_KEYS_MAX];
} cn_key_file;

/* An empty one. Errors: CN_E_MEMORY. */
cn_code cn_key_file_open(cn_key_file **out, cn_err *err);
void cn_key_file_close(cn_key_file *file);

/* Adds a key in plain text; `place` begins the error text. Errors: CN_E_INVALID. */
cn_code cn_key_file_add(cn_key_file *file, const char *key, uint32_t line, const char *place,
                        cn_err *err);
/* Adds the lines of a keys file; `name` is the file's. Errors: CN_E_INVALID, with name:line. */
cn_code cn_key_file_read(cn_key_file *file, const char *text, size_t len, const char *name,
                         cn_err *err);

/* What is stored of a key. */
void cn_key_file_hash(const char *key, size_t len, uint8_t out[CN_KEY_FILE_HASH_BYTES]);
/* Whether a key or a tenant may have this name: 1 to 64 of [A-Za-z0-9._-]. */
bool cn_key_file_is_name(const char *name);
/* "inference" and so on, one bit; 0: there is no such scope. */
unsigned cn_key_file_scope(const char *name);
const char *cn_key_file_scope_name(unsigned scope);
