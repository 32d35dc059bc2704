#include "appliance/help_text.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HELP_BYTES_MAX = 1 << 20, INDENT = 2 };

void cn_help_text_read(const cn_command *command, const char *job, cn_buf *out)
{
    char *text = NULL, words[2][CN_HELP_WORD_BYTES] = {"", "--help"};
    char *argv[] = {words[0], words[1], NULL};
    size_t len = 0;
    snprintf(words[0], sizeof words[0], "%s", job);
    // Commands print to stdout, which is a variable of the C library's.
    FILE *const terminal = stdout;
    FILE *memory = open_memstream(&text, &len);
    if (memory) {
        stdout = memory;
        command->run(job[0] ? 2 : 1, job[0] ? argv : argv + 1);
        stdout = terminal;
        fclose(memory);
        cn_buf_add(out, text, len);
    }
    free(text);
    cn_buf_add_char(out, '\0');
}

static size_t line_len(const char *line) { return strcspn(line, "\n"); }

static const char *next_line(const char *line)
{
    line += line_len(line);
    return *line ? line + 1 : line;
}

static size_t indent_of(const char *line) { return strspn(line, " "); }

// Reads an item at `line`; false if there is none. Continued lines are indented further.
static bool read_item(const char *line, cn_help_item *out)
{
    const char *name = line + INDENT;
    if (indent_of(line) != INDENT || line_len(line) <= INDENT) return false;
    const size_t head = strcspn(name, " \n");
    *out = (cn_help_item){0};
    snprintf(out->name, sizeof out->name, "%.*s", (int)head, name);
    const char *gap = strstr(name, "  "), *end = line + line_len(line);
    const char *value = name + head + strspn(name + head, " ");
    out->takes_value = value < end && (!gap || value < gap) && isupper((unsigned char)*value);
    out->takes_value |= strncmp(value, "yes|no", 6) == 0;
    if (gap && gap < end) {
        gap += strspn(gap, " ");
        snprintf(out->what, sizeof out->what, "%.*s", (int)(end - gap), gap);
    }
    for (line = next_line(line); indent_of(line) > INDENT; line = next_line(line)) {
        const size_t len = strlen(out->what), skip = indent_of(line);
        snprintf(out->what + len, sizeof out->what - len, " %.*s", (int)(line_len(line) - skip), line + skip);
    }
    return true;
}

// "usage: cairn config check ..." names a job where the help lists none.
static void usage_jobs(const char *command, const char *help, cn_help_item *out, uint32_t max,
                       uint32_t *count)
{
    char prefix[64];
    const size_t len = (size_t)snprintf(prefix, sizeof prefix, "cairn %s ", command);
    for (const char *line = help; *line && *line != '\n'; line = next_line(line)) {
        const char *at = strstr(line, prefix);
        if (!at || at > line + line_len(line) || *count == max) continue;
        const size_t word = strspn(at + len, "abcdefghijklmnopqrstuvwxyz");
        if (word == 0 || (at[len + word] != ' ' && at[len + word] != '\n')) continue;
        out[*count] = (cn_help_item){0};
        snprintf(out[(*count)++].name, CN_HELP_WORD_BYTES, "%.*s", (int)word, at + len);
    }
}

uint32_t cn_help_text_jobs(const char *command, const char *help, cn_help_item *out, uint32_t max)
{
    char first[128];
    uint32_t count = 0;
    snprintf(first, sizeof first, "%.*s", (int)(line_len(help) < 120 ? line_len(help) : 120), help);
    if (!strstr(first, " COMMAND") && !strstr(first, " JOB")) {
        usage_jobs(command, help, out, max, &count);
        return count;
    }
    const char *line = help;
    while (*line && !(indent_of(line) == INDENT && islower((unsigned char)line[INDENT]))) line = next_line(line);
    for (; read_item(line, &out[count]) && count + 1 < max; line = next_line(line)) count++;
    return count;
}

static void add_item(cn_help_place *place, const cn_help_item *item)
{
    for (uint32_t i = 0; i < place->count; i++) {
        if (strcmp(place->items[i].name, item->name) == 0) return;
    }
    if (place->count < CN_HELP_ITEMS_MAX) place->items[place->count++] = *item;
}

static bool is_flag_byte(char c)
{
    return islower((unsigned char)c) || isdigit((unsigned char)c) || c == '-' || c == '_' || c == '.';
}

// Flags in running text: "[--json] [--at TURN]".
static void scan_flags(const char *line, cn_help_place *place)
{
    const char *end = line + line_len(line);
    for (const char *at = line; (at = strstr(at, "--")) && at < end;) {
        cn_help_item item = {0};
        size_t len = 2;
        while (is_flag_byte(at[len])) len++;
        while (len > 2 && at[len - 1] == '.') len--;
        const bool is_example = len == 6 && strncmp(at, "--flag", len) == 0;       // [--flag value ...]
        if (len > 3 && !is_example && islower((unsigned char)at[2]) && (at == line || strchr(" [`(", at[-1]))) {
            snprintf(item.name, sizeof item.name, "%.*s", (int)len, at);
            // "[--url http://...]" and "--at TURN", but "[--json]" and "--json prints"
            const char *value = at + len + 1;
            item.takes_value = at[len] == ' ' && (isupper((unsigned char)*value) || isdigit((unsigned char)*value) ||
                                                  strncmp(value, "http", 4) == 0);
            add_item(place, &item);
        }
        at += len;
    }
}

void cn_help_text_flags(const char *help, cn_help_place *place)
{
    cn_help_item item;
    for (const char *line = help; *line; line = next_line(line)) {
        if (read_item(line, &item) && strncmp(item.name, "--", 2) == 0) add_item(place, &item);
    }
    for (const char *line = help; *line; line = next_line(line)) scan_flags(line, place);
    const cn_help_item help_flag = {"--help", "say what there is", false};
    add_item(place, &help_flag);
}

static void walk_command(const cn_command *command, void (*each)(void *, const cn_help_place *), void *self,
                         cn_help_place *place)
{
    static cn_help_item jobs[CN_HELP_ITEMS_MAX];
    cn_buf help;
    cn_buf_init(&help, HELP_BYTES_MAX);
    cn_help_text_read(command, "", &help);
    const uint32_t count = cn_help_text_jobs(command->name, help.data, jobs, CN_HELP_ITEMS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        cn_buf of_job;
        cn_buf_init(&of_job, HELP_BYTES_MAX);
        cn_help_text_read(command, jobs[i].name, &of_job);
        place->count = 0;
        snprintf(place->path, sizeof place->path, "%.20s %.20s", command->name, jobs[i].name);
        cn_help_text_flags(of_job.data, place);
        each(self, place);
        cn_buf_close(&of_job);
    }
    memcpy(place->items, jobs, count * sizeof *jobs);
    place->count = count;
    snprintf(place->path, sizeof place->path, "%s", command->name);
    cn_help_text_flags(help.data, place);
    each(self, place);
    cn_buf_close(&help);
}

void cn_help_text_walk(const cn_commands *commands, void (*each)(void *self, const cn_help_place *place),
                       void *self)
{
    static cn_help_place place;
    place.count = 0;
    place.path[0] = '\0';
    for (uint32_t i = 0; i < commands->count; i++) {
        cn_help_item *item = &place.items[place.count++];
        *item = (cn_help_item){0};
        snprintf(item->name, sizeof item->name, "%s", commands->list[i].name);
        snprintf(item->what, sizeof item->what, "%s", commands->list[i].what);
    }
    each(self, &place);
    for (uint32_t i = 0; i < commands->count; i++) walk_command(&commands->list[i], each, self, &place);
}
