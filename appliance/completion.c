#include "appliance/completion.h"

#include <stdio.h>
#include <string.h>

#include "appliance/cli.h"
#include "appliance/help_text.h"
#include "appliance/nearest.h"

// ---- bash: one case per place, most special first, each with its words

static void write_bash(void *self, const cn_help_place *place)
{
    cn_buf *out = self;
    if (!place->path[0]) cn_buf_add_text(out, "    \"\") words=\"");
    else cn_buf_add_format(out, "    \"%s\"*) words=\"", place->path);
    for (uint32_t i = 0; i < place->count; i++)
        cn_buf_add_format(out, "%s%s", i ? " " : "", place->items[i].name);
    cn_buf_add_text(out, "\" switches=\"");
    for (uint32_t i = 0; i < place->count; i++) {
        if (!place->items[i].takes_value && place->items[i].name[0] == '-')
            cn_buf_add_format(out, " %s", place->items[i].name);
    }
    cn_buf_add_text(out, " \" ;;\n");
}

static void bash(const cn_commands *commands, cn_buf *out)
{
    cn_buf_add_text(out,
        "# cairn completion for bash; made by `cairn completion bash`.\n"
        "_cairn() {\n"
        "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
        "    local place= words= switches= i\n"
        "    for ((i = 1; i < COMP_CWORD && i < 3; i++)); do\n"
        "        [[ ${COMP_WORDS[i]} == -* ]] && break\n"
        "        place+=${place:+ }${COMP_WORDS[i]}\n"
        "    done\n"
        "    COMPREPLY=()\n"
        "    case $place in\n");
    cn_help_text_walk(commands, write_bash, out);
    cn_buf_add_text(out,
        "    esac\n"
        "    # What follows a flag that takes a value is a file, as far as anybody can tell.\n"
        "    if [[ $prev == --* && $switches != *\" $prev \"* ]]; then\n"
        "        mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
        "    else\n"
        "        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
        "    fi\n"
        "}\n"
        "complete -o default -F _cairn cairn\n");
}

// ---- zsh: the same cases, with descriptions

// Inside single quotes: a quote ends them, is written, and begins them again.
static void quote(const char *text, const char *escaped, cn_buf *out)
{
    for (; *text; text++) {
        if (*text == '\'') cn_buf_add_text(out, "'\\''");
        else {
            if (strchr(escaped, *text)) cn_buf_add_char(out, '\\');
            cn_buf_add_char(out, *text);
        }
    }
}

static void write_zsh(void *self, const cn_help_place *place)
{
    cn_buf *out = self;
    if (!place->path[0]) cn_buf_add_text(out, "('') items=(");
    else cn_buf_add_format(out, "('%s'*) items=(", place->path);
    for (uint32_t i = 0; i < place->count; i++) {
        cn_buf_add_text(out, "\n    '");
        quote(place->items[i].name, ":", out);
        cn_buf_add_char(out, ':');
        quote(place->items[i].what, "", out);
        cn_buf_add_char(out, '\'');
    }
    cn_buf_add_text(out, ") ;;\n");
}

static void zsh(const cn_commands *commands, cn_buf *out)
{
    cn_buf_add_text(out,
        "#compdef cairn\n"
        "# cairn completion for zsh; made by `cairn completion zsh`.\n"
        "local -a items\n"
        "local place= i\n"
        "for ((i = 2; i < CURRENT && i < 4; i++)); do\n"
        "    [[ $words[i] == -* ]] && break\n"
        "    place+=${place:+ }$words[i]\n"
        "done\n"
        "case $place in\n");
    cn_help_text_walk(commands, write_zsh, out);
    cn_buf_add_text(out,
        "esac\n"
        "_describe -o 'cairn' items || _files\n");
}

// ---- fish: one line per word


static void write_fish_item(const cn_help_place *place, const cn_help_item *item, cn_buf *out)
{
    char command[CN_HELP_WORD_BYTES];
    const size_t len = strcspn(place->path, " ");
    const bool has_job = place->path[len] == ' ';
    snprintf(command, sizeof command, "%.*s", (int)len, place->path);
    const bool is_flag = strncmp(item->name, "--", 2) == 0, takes_file = is_flag && item->takes_value;
    cn_buf_add_format(out, "complete -c cairn %s -n '", takes_file ? "-r -F" : "-f");
    if (!len) cn_buf_add_text(out, "__fish_use_subcommand");
    else cn_buf_add_format(out, "__fish_seen_subcommand_from %s", command);
    if (has_job) cn_buf_add_format(out, "; and __fish_seen_subcommand_from %s", place->path + len + 1);
    cn_buf_add_char(out, '\'');
    cn_buf_add_format(out, is_flag ? " -l %s" : " -a %s", item->name + (is_flag ? 2 : 0));
    cn_buf_add_text(out, " -d '");
    for (const char *c = item->what; *c; c++) {
        if (*c == '\'' || *c == '\\') cn_buf_add_char(out, '\\');
        cn_buf_add_char(out, *c);
    }
    cn_buf_add_text(out, "'\n");
}

static void write_fish(void *self, const cn_help_place *place)
{
    for (uint32_t i = 0; i < place->count; i++) write_fish_item(place, &place->items[i], self);
}

static void fish(const cn_commands *commands, cn_buf *out)
{
    cn_buf_add_text(out, "# cairn completion for fish; made by `cairn completion fish`.\n");
    cn_help_text_walk(commands, write_fish, out);
}

static const struct {
    const char *name;
    void (*write)(const cn_commands *commands, cn_buf *out);
    const char *what;
} shells[] = {
    {"bash", bash, "source <(cairn completion bash)"},
    {"zsh", zsh, "cairn completion zsh > ~/.zfunc/_cairn, with ~/.zfunc in fpath"},
    {"fish", fish, "cairn completion fish | source"},
};

enum { SHELL_COUNT = sizeof shells / sizeof *shells };

static void print_help(FILE *to)
{
    fputs("usage: cairn completion COMMAND\n\n"
          "Prints a script with which a shell completes commands, jobs and flags:\n\n", to);
    for (int i = 0; i < SHELL_COUNT; i++) fprintf(to, "  %-6s %s\n", shells[i].name, shells[i].what);
    fputs("\nThe package installs all three where the shells find them.\n", to);
}

int cn_completion_run(const cn_commands *commands, int argc, char **argv)
{
    const char *name = argc > 0 ? argv[argc - 1] : "", *names[SHELL_COUNT];
    const bool help = strcmp(name, "--help") == 0;
    if (!name[0] || help) {
        print_help(help ? stdout : stderr);
        return help ? CN_EXIT_OK : CN_EXIT_USAGE;
    }
    for (int i = 0; i < SHELL_COUNT; i++) {
        names[i] = shells[i].name;
        if (strcmp(name, names[i]) != 0) continue;
        cn_buf out;
        cn_buf_init(&out, 4 << 20);
        shells[i].write(commands, &out);
        fwrite(out.data, 1, out.len, stdout);
        cn_buf_close(&out);
        return CN_EXIT_OK;
    }
    cn_nearest_refuse("unknown shell ", "cairn completion", name, names, SHELL_COUNT);
    return CN_EXIT_USAGE;
}
