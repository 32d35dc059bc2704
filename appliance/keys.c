#include "appliance/keys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

enum { FILE_BYTES_MAX = 8 << 20 };

static cn_code cannot_read(const char *path, cn_err *err)
{
    return cn_err_set(err, CN_E_IO, "api_keys_file: %.200s: %s", path, strerror(errno));
}

cn_code cn_keys_load(const char *path, char **out, size_t *len, cn_err *err)
{
    struct stat about;
    cn_code code = CN_OK;
    *out = NULL;
    FILE *file = fopen(path, "re");
    if (!file) return cannot_read(path, err);
    if (fstat(fileno(file), &about) != 0) code = cannot_read(path, err);
    else if (about.st_size > FILE_BYTES_MAX) {
        code = cn_err_set(err, CN_E_INVALID, "api_keys_file: %.200s: has %lld bytes; must have at "
                          "most %d", path, (long long)about.st_size, FILE_BYTES_MAX);
    } else if (!(*out = malloc(FILE_BYTES_MAX))) {
        code = cn_err_set(err, CN_E_MEMORY, "API keys: no memory");
    } else {
        *len = fread(*out, 1, FILE_BYTES_MAX, file);
        if (ferror(file)) code = cannot_read(path, err);
    }
    fclose(file);
    if (code != CN_OK) {
        free(*out);
        *out = NULL;
    }
    return code;
}

static cn_code read_file(cn_key_file *keys, const char *path, cn_err *err)
{
    char *text;
    size_t len;
    cn_code code = cn_keys_load(path, &text, &len, err);
    if (code != CN_OK) return code;
    code = cn_key_file_read(keys, text, len, path, err);
    sodium_memzero(text, len);
    free(text);
    return code;
}

cn_code cn_keys_read(const cn_config_settings *s, cn_key_file **out, cn_err *err)
{
    cn_code code = cn_key_file_open(out, err);
    for (uint32_t i = 0; i < s->api_key_count && code == CN_OK; i++) {
        code = cn_key_file_add(*out, s->api_keys[i], 0, "api_keys", err);
    }
    if (code == CN_OK && s->api_keys_file[0]) code = read_file(*out, s->api_keys_file, err);
    if (code != CN_OK) {
        cn_key_file_close(*out);
        *out = NULL;
    }
    return code;
}

// ---- while the server runs

static void look(const cn_keys_watch *w, struct stat *out)
{
    memset(out, 0, sizeof *out);
    if (w->settings->api_keys_file[0]) (void)stat(w->settings->api_keys_file, out);
}

void cn_keys_watch_init(cn_keys_watch *watch, const cn_config_settings *settings, cn_api *api,
                        const cn_log *log)
{
    *watch = (cn_keys_watch){settings, api, log, {0}};
    look(watch, &watch->seen);
}

void cn_keys_watch_poll(cn_keys_watch *watch)
{
    struct stat now;
    look(watch, &now);
    // A file that is gone is one that is being replaced; if it stays away, the keys stay, too.
    if (now.st_ino == 0) return;
    if (now.st_ino != watch->seen.st_ino || now.st_size != watch->seen.st_size ||
        now.st_mtim.tv_sec != watch->seen.st_mtim.tv_sec ||
        now.st_mtim.tv_nsec != watch->seen.st_mtim.tv_nsec) {
        cn_keys_watch_reload(watch);
    }
}

bool cn_keys_watch_reload(cn_keys_watch *watch)
{
    cn_key_file *keys;
    cn_err err;
    if (!watch->settings->key_count) return true;
    look(watch, &watch->seen);           // first: what is written from now on is seen next time
    cn_code code = cn_keys_read(watch->settings, &keys, &err);
    const uint32_t count = code == CN_OK ? keys->key_count : 0;
    if (code == CN_OK) {
        code = cn_api_set_keys(watch->api, keys, &err);
        cn_key_file_close(keys);
    }
    if (code != CN_OK) {
        cn_log_event(watch->log, CN_LOG_ERROR, "keys_kept", cn_log_text("why", err.text));
        return false;
    }
    cn_log_event(watch->log, CN_LOG_INFO, "keys_read", cn_log_number("keys", count));
    return true;
}
