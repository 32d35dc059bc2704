#include "dataplane/metadata.h"

#include "dataplane/json_body.h"

static size_t count_chars(const char *text, size_t len)
{
    size_t count = 0;
    for (size_t i = 0; i < len; i++) count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

static cn_code check_pair(const char *key, size_t key_len, const json_t *value, cn_err *err)
{
    const size_t chars = count_chars(key, key_len);
    if (chars > CN_METADATA_KEY_CHARS_MAX) {
        return cn_err_set_param(err, CN_E_INVALID, "metadata", "metadata: a key of %zu characters; "
                                "must be at most %d", chars, CN_METADATA_KEY_CHARS_MAX);
    }
    if (!json_is_string(value)) {
        return cn_err_set_param(err, CN_E_INVALID, "metadata", "metadata[\"%.64s\"]: %s; must be a "
                                "string", key, cn_json_body_kind(value));
    }
    const size_t value_chars = count_chars(json_string_value(value), json_string_length(value));
    if (value_chars <= CN_METADATA_VALUE_CHARS_MAX) return CN_OK;
    return cn_err_set_param(err, CN_E_INVALID, "metadata", "metadata[\"%.64s\"]: %zu characters; "
                            "must be at most %d", key, value_chars, CN_METADATA_VALUE_CHARS_MAX);
}

cn_code cn_metadata_check(const json_t *metadata, cn_err *err)
{
    const char *key;
    size_t key_len;
    json_t *value;
    if (!metadata) return CN_OK;
    if (!json_is_object(metadata)) {
        return cn_err_set_param(err, CN_E_INVALID, "metadata", "metadata: %s; must be an object of "
                                "strings", cn_json_body_kind(metadata));
    }
    if (json_object_size(metadata) > CN_METADATA_PAIRS_MAX) {
        return cn_err_set_param(err, CN_E_INVALID, "metadata", "metadata: %zu pairs; must be at "
                                "most %d", json_object_size(metadata), CN_METADATA_PAIRS_MAX);
    }
    json_object_keylen_foreach((json_t *)metadata, key, key_len, value) {
        const cn_code code = check_pair(key, key_len, value, err);
        if (code != CN_OK) return code;
    }
    return CN_OK;
}
