#include "dataplane/key_file.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <sodium.h>

#include "dataplane/json_body.h"

enum { LINE_BYTES_MAX = 4096, LINE_DEPTH_MAX = 4, PLACE_BYTES = 288 };

static const char hash_prefix[] = "blake2b-256:";

static const struct {
    const char *name;
    unsigned scope;
} scopes[] = {
    {"inference", CN_SCOPE_INFERENCE},
    {"conversations", CN_SCOPE_CONVERSATIONS},
    {"metrics", CN_SCOPE_METRICS},
    {"admin", CN_SCOPE_ADMIN},
};

enum { SCOPE_COUNT = sizeof scopes / sizeof scopes[0] };

unsigned cn_key_file_scope(const char *name)
{
    for (int i = 0; i < SCOPE_COUNT; i++) {
        if (strcmp(scopes[i].name, name) == 0) return scopes[i].scope;
    }
    return 0;
}

const char *cn_key_file_scope_name(unsigned scope)
{
    for (int i = 0; i < SCOPE_COUNT; i++) {
        if (scopes[i].scope == scope) return scopes[i].name;
    }
    return "";
}

cn_code cn_key_file_open(cn_key_file **out, cn_err *err)
{
    *out = calloc(1, sizeof **out);
    return *out ? CN_OK : cn_err_set(err, CN_E_MEMORY, "API keys: no memory");
}

void cn_key_file_close(cn_key_file *file)
{
    if (!file) return;
    sodium_memzero(file, sizeof *file);
    free(file);
}

// ---- keys and tenants

bool cn_key_file_is_name(const char *name)
{
    const size_t len = strlen(name);
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)name[i]) && !strchr("._-", name[i])) return false;
    }
    return len > 0 && len < CN_QUOTA_NAME_BYTES;
}

void cn_key_file_hash(const char *key, size_t len, uint8_t out[CN_KEY_FILE_HASH_BYTES])
{
    static const unsigned char purpose[] = "cairn api key 01";
    crypto_generichash(out, CN_KEY_FILE_HASH_BYTES, (const unsigned char *)key, len, purpose,
                       sizeof purpose);
}

// `purpose` keeps ids of different things apart; it has at least 16 bytes with its terminator.
static void name_id(const char *name, const char *purpose, uint8_t out[CN_QUOTA_ID_BYTES])
{
    crypto_generichash(out, CN_QUOTA_ID_BYTES, (const unsigned char *)name, strlen(name),
                       (const unsigned char *)purpose, strlen(purpose) + 1);
}

// Finds a tenant by name or makes it; NULL: there are too many.
static cn_key_file_tenant *tenant_of(cn_key_file *file, const char *name)
{
    for (uint32_t i = 0; i < file->tenant_count; i++) {
        if (strcmp(file->tenants[i].name, name) == 0) return &file->tenants[i];
    }
    if (file->tenant_count == CN_KEY_FILE_TENANTS_MAX) return NULL;
    cn_key_file_tenant *t = &file->tenants[file->tenant_count++];
    snprintf(t->name, sizeof t->name, "%s", name);
    name_id(name, "cairn tenant id 1", t->id);
    t->limits = file->usual;
    return t;
}

static cn_code too_many(const char *place, const char *what, int most, cn_err *err)
{
    return cn_err_set(err, CN_E_INVALID, "%s: more than %d %s", place, most, what);
}

static cn_code add_key(cn_key_file *file, const cn_key_file_key *key, const char *place,
                       cn_err *err)
{
    if (file->key_count == CN_KEY_FILE_KEYS_MAX) {
        return too_many(place, "API keys", CN_KEY_FILE_KEYS_MAX, err);
    }
    for (uint32_t i = 0; i < file->key_count; i++) {
        const cn_key_file_key *other = &file->keys[i];
        if (strcmp(other->name, key->name) == 0) {
            return cn_err_set(err, CN_E_INVALID, "%s: key %s: stands twice, first in line %u",
                              place, key->name, other->line);
        }
        if (memcmp(other->hash, key->hash, sizeof key->hash) == 0) {
            return cn_err_set(err, CN_E_INVALID, "%s: key %s: has the hash of key %s; must be a "
                              "key of its own", place, key->name, other->name);
        }
    }
    cn_key_file_key *added = &file->keys[file->key_count++];
    *added = *key;
    name_id(key->name, "cairn key name 1", added->id);
    return CN_OK;
}

static bool has_hash(const cn_key_file *file, const uint8_t hash[CN_KEY_FILE_HASH_BYTES])
{
    for (uint32_t i = 0; i < file->key_count; i++) {
        if (memcmp(file->keys[i].hash, hash, CN_KEY_FILE_HASH_BYTES) == 0) return true;
    }
    return false;
}

static cn_code check_plain(const char *key, const char *place, cn_err *err)
{
    const size_t len = strlen(key);
    if (len == 0 || len > CN_KEY_FILE_SECRET_BYTES_MAX) {
        return cn_err_set(err, CN_E_INVALID, "%s: an API key of %zu bytes; must have 1 to %d",
                          place, len, CN_KEY_FILE_SECRET_BYTES_MAX);
    }
    for (size_t i = 0; i < len; i++) {
        if (key[i] > 0x20 && key[i] < 0x7F) continue;
        return cn_err_set(err, CN_E_INVALID,
                          "%s: an API key whose byte %zu is 0x%02x; must be visible ASCII without "
                          "spaces", place, i + 1, (unsigned char)key[i]);
    }
    return CN_OK;
}

cn_code cn_key_file_add(cn_key_file *file, const char *key, uint32_t line, const char *place,
                        cn_err *err)
{
    cn_key_file_key k = {.scopes = CN_SCOPE_ALL, .line = line, .is_plain = true};
    const cn_code code = check_plain(key, place, err);
    if (code != CN_OK) return code;
    cn_key_file_hash(key, strlen(key), k.hash);
    if (has_hash(file, k.hash)) return CN_OK;        // a list and a file may name the same
    snprintf(k.name, sizeof k.name, "plain-%u", file->key_count + 1);
    cn_key_file_tenant *tenant = tenant_of(file, k.name);
    if (!tenant) return too_many(place, "tenants", CN_KEY_FILE_TENANTS_MAX, err);
    // What it was before tenants had names: the hash of the key.
    crypto_generichash(tenant->id, sizeof tenant->id, (const unsigned char *)key, strlen(key), NULL,
                       0);
    k.tenant = (uint32_t)(tenant - file->tenants);
    return add_key(file, &k, place, err);
}

// ---- lines

static cn_code wrong(const char *place, const char *member, const json_t *value, const char *right,
                     cn_err *err)
{
    if (json_is_string(value)) {
        return cn_err_set(err, CN_E_INVALID, "%s: %s: \"%.60s\"; must be %s", place, member,
                          json_string_value(value), right);
    }
    if (json_is_integer(value)) {
        return cn_err_set(err, CN_E_INVALID, "%s: %s: %lld; must be %s", place, member,
                          (long long)json_integer_value(value), right);
    }
    return cn_err_set(err, CN_E_INVALID, "%s: %s: %s; must be %s", place, member,
                      value ? cn_json_body_kind(value) : "is missing", right);
}

// A limit, if `member` is one; *known says so.
static cn_code read_limit(const char *member, const json_t *value, bool of_key,
                          cn_quota_limits *out, bool *known, const char *place, cn_err *err)
{
    static const struct {
        const char *name;
        uint64_t max;
        bool of_key;
        size_t offset;
    } rows[] = {
#define X(member, max, of_key, what) {#member, max, of_key, offsetof(cn_quota_limits, member)},
        CN_QUOTAS(X)
#undef X
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].name, member) != 0) continue;
        char right[64];
        *known = true;
        if (of_key && !rows[i].of_key) {
            return cn_err_set(err, CN_E_INVALID, "%s: %s: must stand in the line of the tenant, "
                              "whose keys share it", place, member);
        }
        const json_int_t number = json_is_integer(value) ? json_integer_value(value) : 0;
        snprintf(right, sizeof right, "a whole number from 1 to %llu",
                 (unsigned long long)rows[i].max);
        if (number < 1 || (uint64_t)number > rows[i].max) {
            return wrong(place, member, value, right, err);
        }
        memcpy((char *)out + rows[i].offset, &(uint64_t){(uint64_t)number}, sizeof(uint64_t));
    }
    return CN_OK;
}

static cn_code unknown_member(const char *place, const char *member, bool of_key, cn_err *err)
{
    return cn_err_set(err, CN_E_INVALID, "%s: unknown member %.60s; a %s", place, member,
                      of_key ? "key has: key, tenant, hash, scopes, created, note, "
                               "requests_per_minute, tokens_per_minute, concurrent"
                             : "tenant has: tenant, note, weight, requests_per_minute, "
                               "tokens_per_minute, concurrent");
}

// Every member is a limit, or one of `names`.
static cn_code read_limits(const json_t *line, const char *const *names, bool of_key,
                           cn_quota_limits *out, const char *place, cn_err *err)
{
    const char *member;
    json_t *value;
    json_object_foreach((json_t *)line, member, value) {
        bool known = false;
        for (int i = 0; names[i]; i++) known |= strcmp(names[i], member) == 0;
        const cn_code code =
            known ? CN_OK : read_limit(member, value, of_key, out, &known, place, err);
        if (code != CN_OK) return code;
        if (!known) return unknown_member(place, member, of_key, err);
    }
    return CN_OK;
}

static cn_code read_name(const json_t *line, const char *member, const char **out,
                         const char *place, cn_err *err)
{
    const json_t *value = json_object_get(line, member);
    *out = json_string_value(value);
    if (*out && cn_key_file_is_name(*out)) return CN_OK;
    return wrong(place, member, value, "1 to 64 letters, digits, '.', '_' or '-'", err);
}

static cn_code read_hash(const json_t *line, uint8_t out[CN_KEY_FILE_HASH_BYTES],
                         const char *place, cn_err *err)
{
    const json_t *value = json_object_get(line, "hash");
    const char *text = json_is_string(value) ? json_string_value(value) : "";
    const size_t prefix_len = sizeof hash_prefix - 1, hex_len = 2 * CN_KEY_FILE_HASH_BYTES;
    const char *end;
    if (strncmp(text, hash_prefix, prefix_len) == 0 && strlen(text) == prefix_len + hex_len &&
        sodium_hex2bin(out, CN_KEY_FILE_HASH_BYTES, text + prefix_len, hex_len, NULL, NULL, &end) ==
            0 && *end == '\0') {
        return CN_OK;
    }
    return wrong(place, "hash", value, "blake2b-256: and 64 hexadecimal digits, as `cairn key new` "
                 "writes it", err);
}

static cn_code read_scopes(const json_t *line, unsigned *out, const char *place, cn_err *err)
{
    static const char right[] = "a list of: inference, conversations, metrics, admin";
    const json_t *value = json_object_get(line, "scopes"), *item;
    size_t i;
    if (!json_is_array(value) || json_array_size(value) == 0) {
        return wrong(place, "scopes", value, right, err);
    }
    json_array_foreach(value, i, item) {
        const unsigned scope = json_is_string(item) ? cn_key_file_scope(json_string_value(item)) : 0;
        if (!scope) return wrong(place, "scopes", item, right, err);
        *out |= scope;
    }
    return CN_OK;
}

static cn_code read_key(cn_key_file *file, const json_t *line, uint32_t number, const char *place,
                        cn_err *err)
{
    static const char *const members[] = {"key", "tenant", "hash", "scopes", "created", "note",
                                          NULL};
    cn_key_file_key key = {.line = number};
    const char *name, *tenant_name = NULL;
    const json_t *created = json_object_get(line, "created");
    cn_code code = read_name(line, "key", &name, place, err);
    if (code == CN_OK) code = read_name(line, "tenant", &tenant_name, place, err);
    if (code == CN_OK) code = read_hash(line, key.hash, place, err);
    if (code == CN_OK) code = read_scopes(line, &key.scopes, place, err);
    if (code == CN_OK) code = read_limits(line, members, true, &key.limits, place, err);
    if (code != CN_OK) return code;
    snprintf(key.name, sizeof key.name, "%s", name);
    snprintf(key.created, sizeof key.created, "%s",
             json_is_string(created) ? json_string_value(created) : "");
    const cn_key_file_tenant *tenant = tenant_of(file, tenant_name);
    if (!tenant) return too_many(place, "tenants", CN_KEY_FILE_TENANTS_MAX, err);
    key.tenant = (uint32_t)(tenant - file->tenants);
    return add_key(file, &key, place, err);
}

static cn_code read_tenant(cn_key_file *file, const json_t *line, uint32_t number,
                           const char *place, cn_err *err)
{
    static const char *const members[] = {"tenant", "note", NULL};
    const json_t *value = json_object_get(line, "tenant");
    const char *name;
    if (json_is_string(value) && strcmp(json_string_value(value), "*") == 0) {
        return read_limits(line, members, false, &file->usual, place, err);
    }
    cn_code code = read_name(line, "tenant", &name, place, err);
    if (code != CN_OK) return code;
    cn_key_file_tenant *tenant = tenant_of(file, name);
    if (!tenant) return too_many(place, "tenants", CN_KEY_FILE_TENANTS_MAX, err);
    if (tenant->line) {
        return cn_err_set(err, CN_E_INVALID, "%s: tenant %s: stands twice, first in line %u", place,
                          name, tenant->line);
    }
    tenant->line = number;
    tenant->limits = (cn_quota_limits){0};
    return read_limits(line, members, false, &tenant->limits, place, err);
}

static cn_code read_json(cn_key_file *file, const char *text, size_t len, uint32_t number,
                         const char *place, cn_err *err)
{
    json_error_t problem;
    json_t *line = json_loadb(text, len, JSON_REJECT_DUPLICATES, &problem);
    if (!line) {
        return cn_err_set(err, CN_E_INVALID, "%s: is not JSON: %s; a line that begins with { must "
                          "be one object", place, problem.text);
    }
    const cn_code code = json_object_get(line, "key") ? read_key(file, line, number, place, err)
                                                      : read_tenant(file, line, number, place, err);
    json_decref(line);
    return code;
}

static cn_code read_line(cn_key_file *file, const char *text, size_t len, uint32_t number,
                         const char *name, cn_err *err)
{
    char place[PLACE_BYTES], key[LINE_BYTES_MAX + 1];
    snprintf(place, sizeof place, "%.200s:%u", name, number);
    while (len > 0 && isspace((unsigned char)text[len - 1])) len--;
    if (len == 0 || text[0] == '#') return CN_OK;
    if (len > LINE_BYTES_MAX) {
        return cn_err_set(err, CN_E_INVALID, "%s: has %zu bytes; must have at most %d", place, len,
                          LINE_BYTES_MAX);
    }
    if (text[0] == '{') return read_json(file, text, len, number, place, err);
    snprintf(key, sizeof key, "%.*s", (int)len, text);
    return cn_key_file_add(file, key, number, place, err);
}

cn_code cn_key_file_read(cn_key_file *file, const char *text, size_t len, const char *name,
                         cn_err *err)
{
    uint32_t number = 1;
    cn_code code = CN_OK;
    for (size_t at = 0; at < len && code == CN_OK; number++) {
        const char *end = memchr(text + at, '\n', len - at);
        const size_t line_len = end ? (size_t)(end - text) - at : len - at;
        code = read_line(file, text + at, line_len, number, name, err);
        at += line_len + 1;
    }
    for (uint32_t i = 0; i < file->tenant_count; i++) {
        if (!file->tenants[i].line) file->tenants[i].limits = file->usual;
    }
    return code;
}
