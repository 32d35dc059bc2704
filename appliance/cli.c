#include "appliance/cli.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* One argument: `--json`, `--help`, `--config FILE`, or a key of the table. *i is its index, and after
 * the call the index of its value if that stood apart. */
static cn_code read_argument(int argc, char **argv, int *i, cn_config_settings *settings,
                             cn_cli_flags *flags, cn_err *err)
{
    char key[128], place[144];
    const char *argument = argv[*i];
    if (strncmp(argument, "--", 2) != 0) {
        return cn_err_set(err, CN_E_INVALID, "unexpected argument %.80s; flags begin with --", argument);
    }
    const size_t len = strcspn(argument + 2, "=");
    snprintf(key, sizeof key, "%.*s", (int)(len < 100 ? len : 100), argument + 2);
    if (strcmp(key, "json") == 0 || strcmp(key, "help") == 0) {
        *(key[0] == 'j' ? &flags->json : &flags->help) = true;
        return CN_OK;
    }
    const char *value = argument[2 + len] ? argument + 3 + len : NULL;
    if (!value && *i + 1 < argc) value = argv[++*i];
    if (!value) return cn_err_set(err, CN_E_INVALID, "--%s: needs a value", key);
    if (strcmp(key, "config") == 0) {
        flags->config = value;
        return CN_OK;
    }
    snprintf(place, sizeof place, "--%s", key);
    return cn_config_set(settings, key, value, CN_CONFIG_FLAG, place, err);
}

cn_code cn_cli_read(int argc, char **argv, cn_config_settings *settings, cn_cli_flags *flags,
                    cn_err *err)
{
    cn_code code = cn_config_open(settings, err);
    for (int i = 0; i < argc && code == CN_OK; i++) {
        code = read_argument(argc, argv, &i, settings, flags, err);
    }
    if (code != CN_OK || flags->help) return code;
    if (flags->config) code = cn_config_read_file(settings, flags->config, err);
    if (code == CN_OK) code = cn_config_read_environment(settings, environ, err);
    return code == CN_OK ? cn_config_finish(settings, err) : code;
}

static void print_key(const cn_config_key *key)
{
    char name[64];
    snprintf(name, sizeof name, "--%s %s", key->key, key->is_text ? "TEXT" : "N");
    printf("  %-32s %s", name, key->what);
    if (key->is_text && key->initial_text[0]) printf(" (default %s)", key->initial_text);
    if (!key->is_text) {
        printf(" (default %llu, %llu to %llu)", (unsigned long long)key->initial,
               (unsigned long long)key->min, (unsigned long long)key->max);
    }
    putchar('\n');
}

void cn_cli_print_keys(void)
{
    uint32_t count;
    const cn_config_key *keys = cn_config_keys(&count);
    for (uint32_t i = 0; i < count; i++) print_key(&keys[i]);
}
