#include "appliance/manual.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "appliance/cli.h"
#include "appliance/explain.h"
#include "appliance/help_text.h"
#include "appliance/nearest.h"

/* How it works. A page is troff with the macros of man(7). The page of a command is its --help: lines
 * that begin with "usage:" become the synopsis, lines "  name   what" a list, a line that ends with a
 * colon a heading, and others paragraphs. cairn.yaml(5) and cairn-errors(7) come from their tables. */

enum { PAGE_BYTES_MAX = 4 << 20, PAGES_MAX = 40, NAME_BYTES = 32 };

// Text that troff takes as it is; a hyphen that is typed must stay one.
static void add(cn_buf *out, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (i == 0 && (text[i] == '.' || text[i] == '\'')) cn_buf_add_text(out, "\\&");
        if (text[i] == '\\') cn_buf_add_text(out, "\\e");
        else if (text[i] == '-') cn_buf_add_text(out, "\\-");
        else if (text[i] == '"') cn_buf_add_text(out, "\\(dq");
        else if (text[i] == '~') cn_buf_add_text(out, "\\(ti");
        else if (text[i] == '^') cn_buf_add_text(out, "\\(ha");
        else if (text[i] == '`') cn_buf_add_text(out, "\\(ga");
        else cn_buf_add_char(out, text[i]);
    }
}

static void add_text(cn_buf *out, const char *text) { add(out, text, strlen(text)); }

// No date: the page of one commit is the same whenever it is made.
static void begin(cn_buf *out, const char *page, const char *section, const char *what)
{
    cn_buf_add_text(out, ".\\\" Made by `cairn manual`; the program's tables are the source.\n.TH ");
    for (const char *c = page; *c; c++) {
        const char upper = (char)toupper((unsigned char)*c);
        add(out, &upper, 1);
    }
    cn_buf_add_format(out, " %s \"\" \"Cairn " CN_VERSION "\" \"Cairn manual\"\n.SH NAME\n", section);
    add_text(out, page);
    cn_buf_add_text(out, " \\- ");
    add_text(out, what);
    cn_buf_add_char(out, '\n');
}

static void add_item(cn_buf *out, const char *head, const char *text)
{
    cn_buf_add_text(out, ".TP\n.B \"");
    add_text(out, head);
    cn_buf_add_text(out, "\"\n");
    add_text(out, text[0] ? text : "\\&");
    cn_buf_add_char(out, '\n');
}

static size_t line_len(const char *line) { return strcspn(line, "\n"); }

// "  --kv.bytes N        memory for pages [0]": the name in bold, then what it is.
static void add_listed(cn_buf *out, const char *line, size_t len)
{
    size_t head = 0;
    while (head + 1 < len && !(line[head] == ' ' && line[head + 1] == ' ')) head++;
    if (head + 1 >= len) head = len;
    cn_buf_add_text(out, ".TP\n.B \"");
    add(out, line, head);
    cn_buf_add_text(out, "\"\n");
    while (head < len && line[head] == ' ') head++;
    add(out, line + head, len - head);
    cn_buf_add_char(out, '\n');
}

static void add_help(cn_buf *out, const char *help)
{
    bool blank = false, in_list = false;
    for (const char *line = help; *line; line += line_len(line) + (line[line_len(line)] == '\n')) {
        const size_t len = line_len(line), indent = strspn(line, " ");
        if (len == 0) {
            blank = true;
            continue;
        }
        if (indent == 0 && line[len - 1] == ':') {
            cn_buf_add_text(out, ".SS ");
            add(out, line, len - 1);
            cn_buf_add_char(out, '\n');
        } else if (indent == 2) {
            add_listed(out, line + 2, len - 2);
        } else {
            if (indent == 0 && (blank || in_list)) cn_buf_add_text(out, ".PP\n");
            add(out, line + indent, len - indent);
            cn_buf_add_char(out, '\n');
        }
        in_list = indent >= 2;
        blank = false;
    }
}

// Lines up to the first blank one, each a way to call it; returns what follows.
static const char *add_synopsis(cn_buf *out, const char *help)
{
    cn_buf_add_text(out, ".SH SYNOPSIS\n.nf\n");
    while (*help && *help != '\n') {
        const size_t len = line_len(help), skip = strncmp(help, "usage: ", 7) == 0 ? 7 : strspn(help, " ");
        const bool continues = skip > 7;
        cn_buf_add_text(out, continues ? "    " : ".B \"");
        add(out, help + skip, len - skip);
        cn_buf_add_text(out, continues ? "\n" : "\"\n");
        help += len + (help[len] == '\n');
    }
    cn_buf_add_text(out, ".fi\n");
    return help;
}

static void add_see_also(cn_buf *out)
{
    cn_buf_add_text(out, ".SH SEE ALSO\n.BR cairn (1),\n.BR cairn.yaml (5),\n.BR cairn\\-errors (7)\n");
}

static void write_command(const cn_command *command, cn_buf *out)
{
    char page[NAME_BYTES];
    cn_buf help;
    cn_buf_init(&help, PAGE_BYTES_MAX);
    snprintf(page, sizeof page, "cairn-%s", command->name);
    cn_help_text_read(command, "", &help);
    begin(out, page, "1", command->what);
    const char *rest = add_synopsis(out, help.data);
    cn_buf_add_text(out, ".SH DESCRIPTION\n");
    add_help(out, rest);
    // The flags of jobs that have help of their own: cairn bench run.
    static cn_help_item jobs[CN_HELP_ITEMS_MAX];
    const uint32_t count = cn_help_text_jobs(command->name, help.data, jobs, CN_HELP_ITEMS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        cn_buf of_job;
        cn_buf_init(&of_job, PAGE_BYTES_MAX);
        cn_help_text_read(command, jobs[i].name, &of_job);
        if (of_job.len > 1 && strcmp(of_job.data, help.data) != 0) {
            cn_buf_add_format(out, ".SH %s %s\n", command->name, jobs[i].name);
            add_help(out, of_job.data);
        }
        cn_buf_close(&of_job);
    }
    cn_buf_add_text(out, ".SH EXIT STATUS\n0: done; 1: failed; 2: bad usage or configuration.\n");
    add_see_also(out);
    cn_buf_close(&help);
}

static void write_cairn(const cn_commands *commands, cn_buf *out)
{
    begin(out, "cairn", "1", "an LLM inference appliance that remembers");
    cn_buf_add_text(out, ".SH SYNOPSIS\n.B cairn\nCOMMAND [\\-\\-flag value ...]\n.SH DESCRIPTION\n"
                    "Cairn serves a Hugging Face checkpoint to OpenAI clients and keeps conversations "
                    "over connections,\nrestarts and machines. One program, one command per job:\n");
    for (uint32_t i = 0; i < commands->count; i++) {
        char head[NAME_BYTES];
        snprintf(head, sizeof head, "cairn-%s(1)", commands->list[i].name);
        add_item(out, head, commands->list[i].what);
    }
    cn_buf_add_text(out, ".SH EXIT STATUS\n");
    add_item(out, "0", "done");
    add_item(out, "1", "failed: a file, a port, the server");
    add_item(out, "2", "bad usage or configuration");
    add_item(out, "3", "cairn bench: a run was made and may not be believed");
    add_item(out, "128 + n", "ended by a second signal n");
    cn_buf_add_text(out, ".SH ENVIRONMENT\n");
    add_item(out, "CAIRN_KEY_NAME", "sets key.name of cairn.yaml(5): CAIRN_KV_BYTES for kv.bytes");
    add_item(out, "CAIRN_API_KEY", "the key that cairn chat, session, prove and bench send");
    cn_buf_add_text(out, ".SH FILES\n");
    add_item(out, "/etc/cairn/cairn.yaml", "the configuration of the service");
    add_item(out, "/var/lib/cairn", "turns and pages of its private servers");
    add_item(out, "/run/cairn", "sockets of a running server");
    add_see_also(out);
}

static void write_config(cn_buf *out)
{
    uint32_t count;
    char head[96], what[640];
    const cn_config_key *keys = cn_config_keys(&count);
    begin(out, "cairn.yaml", "5", "configuration of cairn");
    cn_buf_add_text(out, ".SH DESCRIPTION\nA file of YAML that \\-\\-config names. Keys with a dot stand in "
                    "sections: kv.bytes is\n.EX\nkv:\n  bytes: 2G\n.EE\nFlags (\\-\\-kv.bytes 2G) win over the "
                    "environment (CAIRN_KV_BYTES), which wins over the file, which wins over\ndefaults. "
                    "Numbers may end in K, M, G or T, powers of 1024. API keys may stand in the list api_keys.\n"
                    ".SH KEYS\n");
    for (uint32_t i = 0; i < count; i++) {
        cn_buf bounds;
        cn_buf_init(&bounds, 512);
        if (keys[i].is_text && keys[i].initial_text[0])
            cn_buf_add_format(&bounds, " [%s]", keys[i].initial_text);
        if (!keys[i].is_text) {
            cn_buf_add_text(&bounds, " (");
            cn_config_write_number(keys[i].min, &bounds);
            cn_buf_add_text(&bounds, " to ");
            cn_config_write_number(keys[i].max, &bounds);
            cn_buf_add_text(&bounds, ") [");
            cn_config_write_number(keys[i].initial, &bounds);
            cn_buf_add_char(&bounds, ']');
        }
        cn_buf_add_char(&bounds, '\0');
        snprintf(head, sizeof head, "%s %s", keys[i].key, keys[i].is_text ? "TEXT" : "N");
        snprintf(what, sizeof what, "%s%s", keys[i].what, bounds.data);
        add_item(out, head, what);
        cn_buf_close(&bounds);
    }
    add_see_also(out);
}

static void write_errors(cn_buf *out)
{
    begin(out, "cairn-errors", "7", "errors of cairn, what they mean and what to do");
    cn_buf_add_text(out, ".SH DESCRIPTION\nAn error is one sentence that names the thing, the value that it had, "
                    "and what would be right.\nAnswers of the server have error.code beside it; "
                    "cairn\\-explain(1) takes code, name and status.\n.SH ERRORS\n");
    for (unsigned i = CN_OK + 1; i < CN_CODE_COUNT; i++) {
        const cn_code_info *info = cn_err_info((cn_code)i);
        const cn_explanation *e = cn_explain_find((cn_code)i);
        char head[128];
        snprintf(head, sizeof head, "%s  %u  %s", info->name, info->http_status, info->code);
        add_item(out, head, info->meaning);
        if (!e) continue;
        cn_buf_add_text(out, ".IP\n");
        add_text(out, e->when);
        cn_buf_add_char(out, '\n');
        add_text(out, e->cure);
        cn_buf_add_text(out, "\n.IP\n.EX\n");
        add_text(out, e->example);
        cn_buf_add_text(out, "\n.EE\n");
    }
    add_see_also(out);
}

static void print_help(FILE *to)
{
    fputs("usage: cairn manual [PAGE]\n\n"
          "Prints a manual page for man(1); without PAGE, the names of all. To read one that is not\n"
          "installed: cairn manual cairn-serve.1 | man -l -\n", to);
}

int cn_manual_run(const cn_commands *commands, int argc, char **argv)
{
    static char names[PAGES_MAX][NAME_BYTES];
    const char *list[PAGES_MAX], *wanted = argc > 0 ? argv[0] : NULL;
    uint32_t count = 0;
    if (argc > 1 || (wanted && strcmp(wanted, "--help") == 0)) {
        print_help(argc > 1 ? stderr : stdout);
        return argc > 1 ? CN_EXIT_USAGE : CN_EXIT_OK;
    }
    snprintf(names[count++], NAME_BYTES, "cairn.1");
    for (uint32_t i = 0; i < commands->count && count + 3 < PAGES_MAX; i++)
        snprintf(names[count++], NAME_BYTES, "cairn-%.16s.1", commands->list[i].name);
    snprintf(names[count++], NAME_BYTES, "cairn.yaml.5");
    snprintf(names[count++], NAME_BYTES, "cairn-errors.7");
    for (uint32_t i = 0; i < count; i++) {
        list[i] = names[i];
        if (!wanted) puts(names[i]);
    }
    if (!wanted) return CN_EXIT_OK;
    uint32_t at = 0;
    while (at < count && strcmp(names[at], wanted) != 0) at++;
    if (at == count) {
        cn_nearest_refuse("unknown page ", "cairn manual", wanted, list, count);
        return CN_EXIT_USAGE;
    }
    cn_buf out;
    cn_buf_init(&out, PAGE_BYTES_MAX);
    if (at == 0) write_cairn(commands, &out);
    else if (at <= commands->count) write_command(&commands->list[at - 1], &out);
    else if (at == count - 2) write_config(&out);
    else write_errors(&out);
    fwrite(out.data, 1, out.len, stdout);
    cn_buf_close(&out);
    return CN_EXIT_OK;
}
