#include "appliance/explain.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "appliance/cli.h"
#include "appliance/explain_table.h"
#include "appliance/nearest.h"

static const cn_explanation explanations[CN_CODE_COUNT] = {
#define X(name, when, cure, example) [CN_##name] = {when, cure, example},
    CN_EXPLANATIONS(X)
#undef X
};

const cn_explanation *cn_explain_find(cn_code code)
{
    return explanations[code].when ? &explanations[code] : NULL;
}

static void add_member(cn_buf *out, const char *key, const char *text)
{
    cn_buf_add_format(out, ",\"%s\":", key);
    cn_buf_add_json(out, text, strlen(text));
}

static void write_json(cn_code code, cn_buf *out)
{
    const cn_code_info *info = cn_err_info(code);
    const cn_explanation *e = cn_explain_find(code);
    cn_buf_add_format(out, "{\"name\":\"%s\",\"status\":%u", info->name, info->http_status);
    add_member(out, "type", info->type);
    add_member(out, "code", info->code);
    add_member(out, "meaning", info->meaning);
    if (e) {
        add_member(out, "when", e->when);
        add_member(out, "do", e->cure);
        add_member(out, "example", e->example);
    }
    cn_buf_add_text(out, "}\n");
}

static void write_text(cn_code code, cn_buf *out)
{
    const cn_code_info *info = cn_err_info(code);
    const cn_explanation *e = cn_explain_find(code);
    cn_buf_add_format(out, "%s  HTTP %u  %s  %s\n\n%s.\n", info->name, info->http_status, info->type,
                      info->code[0] ? info->code : "(no code)", info->meaning);
    if (!e) return;
    cn_buf_add_format(out, "\nWhen     %s\nDo       %s\nExample  %s\n", e->when, e->cure, e->example);
}

/* E_QUEUE, CN_E_QUEUE, server_overloaded and 503 are all understood: what a log, an answer or a
 * status line shows. */
static bool means(const char *word, cn_code code)
{
    const cn_code_info *info = cn_err_info(code);
    if (strncasecmp(word, "CN_", 3) == 0) word += 3;
    return strcasecmp(word, info->name) == 0 || strcasecmp(word, info->code) == 0 ||
           (isdigit((unsigned char)word[0]) && strtoul(word, NULL, 10) == info->http_status);
}

static void print_list(bool json)
{
    cn_buf out;
    cn_buf_init(&out, 1 << 20);
    for (unsigned i = CN_OK + 1; i < CN_CODE_COUNT; i++) {
        const cn_code_info *info = cn_err_info((cn_code)i);
        if (json) write_json((cn_code)i, &out);
        else cn_buf_add_format(&out, "%-14s %u  %-29s %s\n", info->name, info->http_status, info->code,
                               info->meaning);
    }
    fwrite(out.data, 1, out.len, stdout);
    cn_buf_close(&out);
}

static int explain(const char *word, bool json)
{
    const char *names[2 * CN_CODE_COUNT];
    uint32_t count = 0, found = 0;
    cn_buf out;
    cn_buf_init(&out, 1 << 20);
    for (unsigned i = CN_OK + 1; i < CN_CODE_COUNT; i++) {
        names[count++] = cn_err_info((cn_code)i)->name;
        names[count++] = cn_err_info((cn_code)i)->code;
        if (!means(word, (cn_code)i)) continue;
        if (found++ && !json) cn_buf_add_char(&out, '\n');
        if (json) write_json((cn_code)i, &out);
        else write_text((cn_code)i, &out);
    }
    if (found) fwrite(out.data, 1, out.len, stdout);
    else cn_nearest_refuse("unknown error ", "cairn explain", word, names, count);
    cn_buf_close(&out);
    return found ? CN_EXIT_OK : CN_EXIT_USAGE;
}

int cn_explain_run(int argc, char **argv)
{
    const char *word = NULL;
    bool json = false;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            puts("usage: cairn explain [CODE] [--json]\n\n"
                 "Says when an error occurs, what to do, and what it looks like. CODE is what an answer has as\n"
                 "error.code (server_overloaded), a name (E_QUEUE), or a status (503). Without it: all of them.\n\n"
                 "  --json  one object per line");
            return CN_EXIT_OK;
        }
        if (strcmp(argv[i], "--json") == 0) json = true;
        else if (!word && argv[i][0] != '-') word = argv[i];
        else {
            fprintf(stderr, "cairn: unexpected argument %.80s; usage: cairn explain [CODE] [--json]\n", argv[i]);
            return CN_EXIT_USAGE;
        }
    }
    if (word) return explain(word, json);
    print_list(json);
    return CN_EXIT_OK;
}
