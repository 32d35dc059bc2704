#include "appliance/cli.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* One argument: `--json`, `--help`, `--config FILE`, or a key of the table. *i is its index, and
 * after the call the index of its value if that stood apart. */
static cn_code read_argument(int argc, char **argv, int *i, cn_config_settings *settings,
                             cn_cli_flags *flags, cn_err *err)
{
    char key[128], place[144];
    const char *argument = argv[*i];
    if (strncmp(argument, "--", 2) != 0) {
        return cn_err_set(err, CN_E_INVALID, "unexpected argument %.80s; flags begin with --",
                          argument);
    }
    const size_t len = strcspn(argument + 2, "=");
    snprintf(key, sizeof key, "%.*s", (int)(len < 100 ? len : 100), argument + 2);
    if (strcmp(key, "json") == 0 || strcmp(key, "help") == 0) {
        *(key[0] == 'j' ? &flags->json : &flags->help) = true;
        return CN_OK;
    }
    const char *value = argument[2 + len] ? argument + 3 + len : NULL;
    if (!value && *i + 1 < argc && strncmp(argv[*i + 1], "--", 2) != 0) value = argv[++*i];
    if (!value)
        return cn_err_set(err, CN_E_INVALID, "--%s: needs a value, as in --%s VALUE", key, key);
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

void cn_cli_complain(const cn_err *err)
{
    fprintf(stderr, "cairn: %s\n", err->text);
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "       `cairn explain %s` says more\n", cn_err_info(err->code)->name);
}

static void write_key(const cn_config_key *key, cn_buf *out)
{
    static const char indent[] = "                                ";
    const size_t start = out->len;
    cn_buf_add_format(out, "  --%s %s", key->key, key->is_text ? "TEXT" : "N");
    while (out->len - start < sizeof indent - 1 && !out->overflowed) cn_buf_add_char(out, ' ');
    cn_config_write_what(key, out->len - start, indent, out);
    if (!key->is_text) {
        cn_buf_add_text(out, " [");
        cn_config_write_number(key->initial, out);
        cn_buf_add_char(out, ']');
    } else if (key->initial_text[0]) cn_buf_add_format(out, " [%s]", key->initial_text);
    cn_buf_add_char(out, '\n');
}

void cn_cli_print_keys(void)
{
    uint32_t count;
    const cn_config_key *keys = cn_config_keys(&count);
    cn_buf out;
    cn_buf_init(&out, 1 << 20);
    for (uint32_t i = 0; i < count; i++) {
        const bool is_limit = strncmp(keys[i].key, "limits.", 7) == 0;
        const bool was_limit = i > 0 && strncmp(keys[i - 1].key, "limits.", 7) == 0;
        if (is_limit && !was_limit) cn_buf_add_text(&out, "\nLimits:\n");
        write_key(&keys[i], &out);
    }
    fwrite(out.data, 1, out.len, stdout);
    cn_buf_close(&out);
}
