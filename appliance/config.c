#include "appliance/config.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "appliance/backends.h"
#include "appliance/keys.h"
#include "appliance/nearest.h"
#include "appliance/network.h"
#include "dataplane/networks.h"
#include "base/log.h"

enum { API_KEY_BYTES_MAX = 512, LINE_BYTES_MAX = 100 };

static const cn_config_key keys[] = {
#define X(key, member, initial, what)                                                              \
    {key, what, true, 0, 0, 0, initial, offsetof(cn_config_settings, member)},
    CN_CONFIG_TEXTS(X)
#undef X
#define X(key, member, initial, min, max, what)                                                    \
    {key, what, false, initial, min, max, NULL, offsetof(cn_config_settings, member)},
    CN_CONFIG_NUMBERS(X)
#undef X
#define X(key, unit, initial, min, max, what)                                                      \
    {"limits." #key, what, false, initial, min, max, NULL,                                         \
     offsetof(cn_config_settings, limits) + offsetof(cn_limits, key)},
    CN_LIMITS(X)
#undef X
};

enum { KEY_COUNT = sizeof keys / sizeof keys[0] };
_Static_assert(sizeof keys / sizeof keys[0] <= CN_CONFIG_KEYS_MAX,
               "sources has a place for every key");

const cn_config_key *cn_config_keys(uint32_t *count)
{
    *count = KEY_COUNT;
    return keys;
}

static char **text_at(const cn_config_settings *s, const cn_config_key *key)
{
    return (char **)((char *)s + key->offset);
}

static uint64_t *number_at(const cn_config_settings *s, const cn_config_key *key)
{
    return (uint64_t *)((char *)s + key->offset);
}

cn_code cn_config_open(cn_config_settings *s, cn_err *err)
{
    memset(s, 0, sizeof *s);
    s->api_keys = calloc(CN_CONFIG_API_KEYS_MAX, sizeof *s->api_keys);
    bool ok = s->api_keys != NULL;
    for (uint32_t i = 0; i < KEY_COUNT; i++) {
        if (!keys[i].is_text) *number_at(s, &keys[i]) = keys[i].initial;
        else ok = (*text_at(s, &keys[i]) = strdup(keys[i].initial_text)) && ok;
    }
    return ok ? CN_OK : cn_err_set(err, CN_E_MEMORY, "configuration: no memory");
}

void cn_config_close(cn_config_settings *s)
{
    for (uint32_t i = 0; i < KEY_COUNT; i++) {
        if (keys[i].is_text) free(*text_at(s, &keys[i]));
    }
    for (uint32_t i = 0; i < s->api_key_count; i++) free(s->api_keys[i]);
    free(s->api_keys);
}

// ---- one value

static cn_code unknown_key(const char *key, const char *place, cn_err *err)
{
    const char *names[KEY_COUNT];
    for (uint32_t i = 0; i < KEY_COUNT; i++) names[i] = keys[i].key;
    const char *nearest = cn_nearest_find(key, names, KEY_COUNT);
    if (nearest) {
        return cn_err_set(err, CN_E_INVALID, "%s: unknown key %.60s; is %s meant?", place, key,
                          nearest);
    }
    return cn_err_set(err, CN_E_INVALID,
                      "%s: unknown key %.60s; `cairn config print` lists all keys", place, key);
}

// Digits with an optional K, M, G or T (powers of 1024, as memory is counted).
static bool parse_number(const char *text, uint64_t *out)
{
    static const char suffixes[] = "KMGT";
    char *end;
    if (!isdigit((unsigned char)text[0])) return false;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (errno) return false;
    const char *suffix = *end ? strchr(suffixes, *end) : NULL;
    if (*end && (!suffix || end[1])) return false;
    for (int i = 0; suffix && i <= suffix - suffixes; i++) {
        if (value > UINT64_MAX / 1024) return false;
        value *= 1024;
    }
    *out = value;
    return true;
}

static cn_code set_number(cn_config_settings *s, const cn_config_key *key, const char *value,
                          bool keep, const char *place, cn_err *err)
{
    uint64_t number;
    if (!parse_number(value, &number) || number < key->min || number > key->max) {
        return cn_err_set(err, CN_E_INVALID,
                          "%s: %s: %.40s; must be a whole number from %llu to %llu (K, M, G, T may "
                          "follow it)", place, key->key, value, (unsigned long long)key->min,
                          (unsigned long long)key->max);
    }
    if (!keep) *number_at(s, key) = number;
    return CN_OK;
}

static cn_code set_text(cn_config_settings *s, const cn_config_key *key, const char *value,
                        bool keep, cn_err *err)
{
    if (keep) return CN_OK;
    char *copy = strdup(value);
    if (!copy) return cn_err_set(err, CN_E_MEMORY, "configuration: no memory");
    free(*text_at(s, key));
    *text_at(s, key) = copy;
    return CN_OK;
}

cn_code cn_config_set(cn_config_settings *s, const char *key, const char *value,
                      cn_config_source source, const char *place, cn_err *err)
{
    for (uint32_t i = 0; i < KEY_COUNT; i++) {
        if (strcmp(keys[i].key, key) != 0) continue;
        const bool keep = s->sources[i] > source;
        const cn_code code = keys[i].is_text ? set_text(s, &keys[i], value, keep, err)
                                             : set_number(s, &keys[i], value, keep, place, err);
        if (code == CN_OK && !keep) s->sources[i] = source;
        return code;
    }
    return unknown_key(key, place, err);
}

// ---- API keys

static cn_code add_api_key(cn_config_settings *s, const char *key, const char *place, cn_err *err)
{
    const size_t len = strlen(key);
    if (len == 0 || len > API_KEY_BYTES_MAX) {
        return cn_err_set(err, CN_E_INVALID, "%s: an API key of %zu bytes; must have 1 to %d",
                          place, len, API_KEY_BYTES_MAX);
    }
    if (s->api_key_count == CN_CONFIG_API_KEYS_MAX) {
        return cn_err_set(err, CN_E_INVALID, "%s: more than %d API keys", place,
                          CN_CONFIG_API_KEYS_MAX);
    }
    char *copy = strdup(key);
    if (!copy) return cn_err_set(err, CN_E_MEMORY, "configuration: no memory");
    s->api_keys[s->api_key_count++] = copy;
    return CN_OK;
}

// ---- the file

typedef struct reader {
    cn_config_settings *settings;
    yaml_document_t document;
    const char *path;
    bool seen[KEY_COUNT], seen_api_keys;
} reader;

static void place_of(const reader *r, const yaml_node_t *node, char *out, size_t out_bytes)
{
    snprintf(out, out_bytes, "%.200s:%zu", r->path, node->start_mark.line + 1);
}

// One value without a zero byte, which YAML can write and a C string would end at.
static bool is_text(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE &&
           strlen((const char *)node->data.scalar.value) == node->data.scalar.length;
}

static cn_code read_api_keys(reader *r, const yaml_node_t *node, cn_err *err)
{
    char place[256];
    place_of(r, node, place, sizeof place);
    if (node->type != YAML_SEQUENCE_NODE) {
        return cn_err_set(err, CN_E_INVALID, "%s: api_keys: must be a list of texts", place);
    }
    if (r->seen_api_keys) return cn_err_set(err, CN_E_INVALID, "%s: api_keys: stands twice", place);
    r->seen_api_keys = true;
    for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top;
         i++) {
        const yaml_node_t *item = yaml_document_get_node(&r->document, *i);
        place_of(r, item, place, sizeof place);
        if (!is_text(item)) {
            return cn_err_set(err, CN_E_INVALID, "%s: api_keys: must be a list of texts", place);
        }
        const cn_code code =
            add_api_key(r->settings, (const char *)item->data.scalar.value, place, err);
        if (code != CN_OK) return code;
    }
    return CN_OK;
}

static cn_code read_scalar(reader *r, const char *key, const yaml_node_t *node, cn_err *err)
{
    char place[256];
    place_of(r, node, place, sizeof place);
    if (!is_text(node)) {
        return cn_err_set(err, CN_E_INVALID, "%s: %.60s: must be a single value", place, key);
    }
    for (uint32_t i = 0; i < KEY_COUNT; i++) {
        if (strcmp(keys[i].key, key) != 0) continue;
        if (r->seen[i]) return cn_err_set(err, CN_E_INVALID, "%s: %s: stands twice", place, key);
        r->seen[i] = true;
    }
    return cn_config_set(r->settings, key, (const char *)node->data.scalar.value, CN_CONFIG_FILE,
                         place, err);
}

static bool is_section(const char *name)
{
    const size_t len = strlen(name);
    for (uint32_t i = 0; i < KEY_COUNT; i++) {
        if (strncmp(keys[i].key, name, len) == 0 && keys[i].key[len] == '.') return true;
    }
    return false;
}

// Sections are one level deep: `kv: {bytes: 1G}` is kv.bytes.
static cn_code read_mapping(reader *r, const char *section, const yaml_node_t *node, cn_err *err)
{
    char place[256], key[128];
    for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top;
         p++) {
        const yaml_node_t *name = yaml_document_get_node(&r->document, p->key);
        const yaml_node_t *value = yaml_document_get_node(&r->document, p->value);
        place_of(r, name, place, sizeof place);
        if (!is_text(name)) return cn_err_set(err, CN_E_INVALID, "%s: a key must be a text", place);
        const char *text = (const char *)name->data.scalar.value;
        snprintf(key, sizeof key, "%s%s%s", section, section[0] ? "." : "", text);
        cn_code code;
        if (!section[0] && strcmp(text, "api_keys") == 0) code = read_api_keys(r, value, err);
        else if (!section[0] && value->type == YAML_MAPPING_NODE && is_section(text)) {
            code = read_mapping(r, text, value, err);
        } else code = read_scalar(r, key, value, err);
        if (code != CN_OK) return code;
    }
    return CN_OK;
}

static cn_code read_document(reader *r, cn_err *err)
{
    const yaml_node_t *root = yaml_document_get_root_node(&r->document);
    if (!root) return CN_OK;             // an empty file says nothing
    if (root->type == YAML_MAPPING_NODE) return read_mapping(r, "", root, err);
    return cn_err_set(err, CN_E_INVALID, "%.200s:1: must be a mapping of keys to values", r->path);
}

cn_code cn_config_read_file(cn_config_settings *s, const char *path, cn_err *err)
{
    yaml_parser_t parser;
    reader r = {.settings = s, .path = path};
    FILE *file = fopen(path, "re");
    if (!file) return cn_err_set(err, CN_E_IO, "--config: %.200s: %s", path, strerror(errno));
    if (!yaml_parser_initialize(&parser)) {
        fclose(file);
        return cn_err_set(err, CN_E_MEMORY, "configuration: no memory");
    }
    yaml_parser_set_input_file(&parser, file);
    cn_code code;
    if (yaml_parser_load(&parser, &r.document)) {
        code = read_document(&r, err);
        yaml_document_delete(&r.document);
    } else {
        code = cn_err_set(err, CN_E_INVALID, "%.200s:%zu: is not YAML: %s", path,
                          parser.problem_mark.line + 1,
                          parser.problem ? parser.problem : "unreadable");
    }
    yaml_parser_delete(&parser);
    fclose(file);
    return code;
}

// ---- the environment

// kv.bytes is CAIRN_KV_BYTES.
static void environment_name(const char *key, char *out, size_t out_bytes)
{
    snprintf(out, out_bytes, "CAIRN_%s", key);
    for (char *c = out; *c; c++) *c = *c == '.' ? '_' : (char)toupper((unsigned char)*c);
}

cn_code cn_config_read_environment(cn_config_settings *s, char **environment, cn_err *err)
{
    for (; *environment; environment++) {
        char name[128];
        const char *equals = strchr(*environment, '=');
        if (!equals || strncmp(*environment, "CAIRN_", 6) != 0) continue;
        const size_t len = (size_t)(equals - *environment);
        bool known = strncmp(*environment, "CAIRN_API_KEY=", 14) == 0;   // `cairn chat` reads it
        for (uint32_t i = 0; i < KEY_COUNT && !known; i++) {
            environment_name(keys[i].key, name, sizeof name);
            known = strlen(name) == len && strncmp(name, *environment, len) == 0;
            if (!known) continue;
            const cn_code code =
                cn_config_set(s, keys[i].key, equals + 1, CN_CONFIG_ENVIRONMENT, name, err);
            if (code != CN_OK) return code;
        }
        if (!known) {
            return cn_err_set(err, CN_E_INVALID,
                              "environment: unknown variable %.*s; `cairn config "
                              "print` lists all keys",
                              (int)(len > 80 ? 80 : len), *environment);
        }
    }
    return CN_OK;
}

// ---- the whole

static cn_code check_networks(const cn_config_settings *s, cn_err *err)
{
    cn_networks networks;
    const cn_code code = cn_networks_parse("proxy_protocol.from", s->proxy_from, &networks, err);
    return code == CN_OK ? cn_networks_parse("forwarded.from", s->forwarded_from, &networks, err) : code;
}

static cn_code check_api_keys(cn_config_settings *s, cn_err *err)
{
    cn_key_file *file;
    const cn_code code = cn_keys_read(s, &file, err);
    if (code != CN_OK) return code;
    s->key_count = file->key_count;
    cn_key_file_close(file);
    // An empty file would open the server to everybody, which nobody means by naming one.
    if (s->key_count || !s->api_keys_file[0]) return CN_OK;
    return cn_err_set(err, CN_E_INVALID, "api_keys_file: %.200s: has no keys; must have one per line",
                      s->api_keys_file);
}

static cn_code check_backend(const cn_config_settings *s, cn_err *err)
{
    if (!cn_backends_find(s->backend)) {
        return cn_err_set(err, CN_E_INVALID, "backend: %.40s; must be one of %s", s->backend,
                          cn_backends_names());
    }
    if (cn_backends_numerics(s->numerics) < 0) {
        return cn_err_set(err, CN_E_INVALID, "numerics: %.40s; must be shard_invariant or per_rank",
                          s->numerics);
    }
    if (s->tensor_parallel & (s->tensor_parallel - 1)) {
        return cn_err_set(err, CN_E_INVALID, "devices.tensor_parallel: %llu; must be 1, 2, 4 or 8",
                          (unsigned long long)s->tensor_parallel);
    }
    return CN_OK;
}

cn_code cn_config_finish(cn_config_settings *s, cn_err *err)
{
    cn_code code = check_api_keys(s, err);
    if (code == CN_OK) code = check_backend(s, err);
    if (code != CN_OK) return code;
    if (cn_log_level_parse(s->log_level) < 0) {
        return cn_err_set(err, CN_E_INVALID,
                          "log.level: %.40s; must be debug, info, warn, error or off",
                          s->log_level);
    }
    if (s->step_tokens < s->sequences + 16) {
        return cn_err_set(err, CN_E_INVALID,
                          "engine.step_tokens: %llu; must be at least "
                          "engine.sequences + 16 (%llu), so that prompts go on while all decode",
                          (unsigned long long)s->step_tokens,
                          (unsigned long long)s->sequences + 16);
    }
    if (s->limits.choices > s->limits.queue_requests) {
        return cn_err_set(err, CN_E_INVALID, "limits.choices: %llu; must be at most "
                          "limits.queue_requests (%llu)", (unsigned long long)s->limits.choices,
                          (unsigned long long)s->limits.queue_requests);
    }
    return check_networks(s, err) ? err->code : cn_network_check(s, err);
}

static const char *source_name(cn_config_source source)
{
    static const char *const names[] = {"default", "file", "environment", "flag"};
    return names[source];
}

void cn_config_write_number(uint64_t value, cn_buf *out)
{
    static const char suffixes[] = "KMGT";
    int i = -1;
    // Below a million the digits are easier to read: 4096, not 4K.
    const bool is_large = value >= 1 << 20;
    while (is_large && i < 3 && value >= 1024 && value % 1024 == 0) {
        value /= 1024;
        i++;
    }
    cn_buf_add_u64(out, value);
    if (i >= 0) cn_buf_add_char(out, suffixes[i]);
}

static void write_value(const cn_config_settings *s, const cn_config_key *key, cn_buf *out)
{
    if (key->is_text) cn_buf_add_json(out, *text_at(s, key), strlen(*text_at(s, key)));
    else cn_buf_add_u64(out, *number_at(s, key));
}

// Length of the section's name in front of the dot; 0 at the top level.
static size_t section_len(const char *key)
{
    const char *dot = strchr(key, '.');
    return dot ? (size_t)(dot - key) : 0;
}

static bool same_section(const char *a, const char *b)
{
    const size_t len = section_len(a);
    return len == section_len(b) && strncmp(a, b, len) == 0;
}

void cn_config_write_what(const cn_config_key *key, size_t column, const char *prefix, cn_buf *out)
{
    cn_buf text;
    cn_buf_init(&text, 4096);
    cn_buf_add_text(&text, key->what);
    if (!key->is_text) {
        cn_buf_add_text(&text, " (");
        cn_config_write_number(key->min, &text);
        cn_buf_add_text(&text, " to ");
        cn_config_write_number(key->max, &text);
        cn_buf_add_char(&text, ')');
    }
    cn_buf_add_char(&text, '\0');
    for (const char *word = text.data; word && *word;) {
        const size_t len = strcspn(word, " ");
        if (column + 1 + len > LINE_BYTES_MAX) {
            cn_buf_add_format(out, "\n%s", prefix);
            column = strlen(prefix);
        }
        cn_buf_add_format(out, " %.*s", (int)len, word);
        column += 1 + len;
        word += len + (word[len] == ' ');
    }
    cn_buf_close(&text);
}

static void write_line(const cn_config_settings *s, uint32_t index, cn_buf *out)
{
    const cn_config_key *key = &keys[index];
    const size_t len = section_len(key->key);
    const char *prefix = len ? "  #" : "#";
    cn_buf_add_text(out, prefix);
    cn_config_write_what(key, strlen(prefix), prefix, out);
    cn_buf_add_format(out, "\n%s%s: ", len ? "  " : "", key->key + (len ? len + 1 : 0));
    if (key->is_text) write_value(s, key, out);
    else cn_config_write_number(*number_at(s, key), out);
    cn_buf_add_format(out, "    # %s\n", source_name(s->sources[index]));
}

// The lines of one section stand together, where its first key stands in the tables.
static void write_yaml(const cn_config_settings *s, cn_buf *out)
{
    bool written[KEY_COUNT] = {false};
    for (uint32_t i = 0; i < KEY_COUNT; i++) {
        const size_t len = section_len(keys[i].key);
        if (written[i]) continue;
        if (len) cn_buf_add_format(out, "%.*s:\n", (int)len, keys[i].key);
        for (uint32_t j = i; j < KEY_COUNT; j++) {
            if (j > i && (!len || !same_section(keys[i].key, keys[j].key))) continue;
            write_line(s, j, out);
            written[j] = true;
        }
    }
    if (s->key_count) cn_buf_add_format(out, "# and %u API keys\n", s->key_count);
}

void cn_config_write(const cn_config_settings *s, bool json, cn_buf *out)
{
    if (!json) {
        write_yaml(s, out);
        return;
    }
    cn_buf_add_char(out, '{');
    for (uint32_t i = 0; i < KEY_COUNT; i++) {
        cn_buf_add_format(out, "\"%s\":{\"value\":", keys[i].key);
        write_value(s, &keys[i], out);
        cn_buf_add_format(out, ",\"source\":\"%s\"},", source_name(s->sources[i]));
    }
    cn_buf_add_format(out, "\"api_keys\":{\"count\":%u}}\n", s->key_count);
}
