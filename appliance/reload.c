#include "appliance/reload.h"

#include <stdio.h>
#include <string.h>

#include "appliance/cli.h"

/* Keys whose values are read where they are used, by the main thread alone. Everything else has become
 * memory, sockets or threads, or is read by several of them at any moment. */
static const char *const reloadable[] = {"log.level", "drain.seconds", "drain.notice_ms",
                                         "watchdog.stall_seconds"};

static bool is_reloadable(const char *key)
{
    for (size_t i = 0; i < sizeof reloadable / sizeof reloadable[0]; i++) {
        if (strcmp(reloadable[i], key) == 0) return true;
    }
    return false;
}

static void *member(cn_config_settings *settings, const cn_config_key *key)
{
    return (char *)settings + key->offset;
}

static bool is_same(const cn_config_key *key, cn_config_settings *a, cn_config_settings *b)
{
    if (key->is_text) return strcmp(*(char **)member(a, key), *(char **)member(b, key)) == 0;
    return *(uint64_t *)member(a, key) == *(uint64_t *)member(b, key);
}

// Values change places, so that each text is freed with the settings that it is in.
static void swap(const cn_config_key *key, cn_config_settings *a, cn_config_settings *b)
{
    char kept[sizeof(uint64_t)];
    const size_t bytes = key->is_text ? sizeof(char *) : sizeof(uint64_t);
    memcpy(kept, member(a, key), bytes);
    memcpy(member(a, key), member(b, key), bytes);
    memcpy(member(b, key), kept, bytes);
}

static bool are_same_api_keys(const cn_config_settings *a, const cn_config_settings *b)
{
    if (a->api_key_count != b->api_key_count) return false;
    for (uint32_t i = 0; i < a->api_key_count; i++) {
        if (strcmp(a->api_keys[i], b->api_keys[i]) != 0) return false;
    }
    return true;
}

static void take_over(const cn_config_key *key, cn_config_settings *settings, cn_config_settings *fresh,
                      const cn_log *log)
{
    char number[24];
    swap(key, settings, fresh);
    snprintf(number, sizeof number, "%llu",
             key->is_text ? 0 : (unsigned long long)*(uint64_t *)member(settings, key));
    cn_log_event(log, CN_LOG_INFO, "reloaded", cn_log_text("key", key->key),
                 cn_log_text("value", key->is_text ? *(char **)member(settings, key) : number));
}

static void compare(cn_config_settings *settings, cn_config_settings *fresh, const cn_log *log)
{
    uint32_t count;
    const cn_config_key *keys = cn_config_keys(&count);
    for (uint32_t i = 0; i < count; i++) {
        if (is_same(&keys[i], settings, fresh)) continue;
        if (is_reloadable(keys[i].key)) take_over(&keys[i], settings, fresh, log);
        else cn_log_event(log, CN_LOG_WARN, "needs_restart", cn_log_text("key", keys[i].key));
    }
    if (!are_same_api_keys(settings, fresh))
        cn_log_event(log, CN_LOG_WARN, "needs_restart", cn_log_text("key", "api_keys"));
}

cn_code cn_reload_run(const cn_reload_source *source, cn_config_settings *settings, cn_log *log,
                      cn_err *err)
{
    cn_config_settings fresh = {0};
    cn_cli_flags flags = {0};
    const cn_code code = cn_cli_read(source->argc, source->argv, &fresh, &flags, err);
    if (code == CN_OK) {
        log->level = (cn_log_level)cn_log_level_parse(fresh.log_level);
        compare(settings, &fresh, log);
    }
    cn_config_close(&fresh);
    return code;
}
