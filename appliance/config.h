/* appliance/config.h: the effective configuration, and where each value came from.
 * Flags win over the environment, the environment over the file, the file over defaults. Whatever
 * is wrong is one sentence that names where it stands, the key, the value and what would be right.
 *
 * Threads: filled before the threads start, read-only afterwards.
 * Memory:  texts are copies owned by the configuration, freed by close. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "appliance/config_table.h"
#include "base/buf.h"
#include "base/err.h"

typedef enum cn_config_source {
    CN_CONFIG_DEFAULT,
    CN_CONFIG_FILE,
    CN_CONFIG_ENVIRONMENT,
    CN_CONFIG_FLAG
} cn_config_source;

enum { CN_CONFIG_KEYS_MAX = 128, CN_CONFIG_API_KEYS_MAX = 1024 };

typedef struct cn_config_settings {
#define X(key, member, initial, what) char *member;
    CN_CONFIG_TEXTS(X)
#undef X
#define X(key, member, initial, min, max, what) uint64_t member;
    CN_CONFIG_NUMBERS(X)
#undef X
    cn_limits limits;
    char **api_keys;             // the list `api_keys` of the file
    uint32_t api_key_count;
    uint32_t key_count;          // of these and of api_keys_file
    cn_config_source sources[CN_CONFIG_KEYS_MAX];    // of the keys, in the order of the tables
} cn_config_settings;

typedef struct cn_config_key {
    const char *key;             // "kv.bytes"
    const char *what;
    bool is_text;
    uint64_t initial, min, max;  // numbers
    const char *initial_text;    // texts
    uint32_t offset;             // in cn_config_settings
} cn_config_key;

/* All keys, in the order of the tables; *count of them. */
const cn_config_key *cn_config_keys(uint32_t *count);

/* Every value at its default. Errors: CN_E_MEMORY. */
cn_code cn_config_open(cn_config_settings *settings, cn_err *err);
void cn_config_close(cn_config_settings *settings);

/* Sets one value from text. `place` begins error texts ("cairn.yaml:7", "--kv.bytes"). A value of a
 * weaker source than the one that is there is checked and dropped.
 * Errors: CN_E_INVALID, with the nearest key for an unknown one. */
cn_code cn_config_set(cn_config_settings *settings, const char *key, const char *value,
                      cn_config_source source, const char *place, cn_err *err);

/* Reads a YAML file. Errors: CN_E_IO, CN_E_INVALID (file:line, key, value). */
cn_code cn_config_read_file(cn_config_settings *settings, const char *path, cn_err *err);

/* Reads CAIRN_... of the environment; unknown names that begin so are refused. */
cn_code cn_config_read_environment(cn_config_settings *settings, char **environment, cn_err *err);

/* Reads api_keys_file, fills what depends on other values, and checks what only fits together.
 * Call last. Errors: CN_E_IO, CN_E_INVALID. */
cn_code cn_config_finish(cn_config_settings *settings, cn_err *err);

/* `value` as people write it: 1048576 is 1M. What cn_config_set reads back. */
void cn_config_write_number(uint64_t value, cn_buf *out);

/* The sentence of `key` and its bounds, broken into lines of at most 100 bytes that begin with
 * `prefix`; the first begins at `column`. */
void cn_config_write_what(const cn_config_key *key, size_t column, const char *prefix, cn_buf *out);

/* The settings as YAML with a comment per key that says where the value came from, or as JSON.
 * API keys are counted, not printed. */
void cn_config_write(const cn_config_settings *settings, bool json, cn_buf *out);
