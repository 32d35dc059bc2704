#include "bench/settings.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum kind { TEXT, NUMBER, SWITCH } kind;

static const struct row {
    const char *field;
    kind kind;
    size_t offset;
    const char *initial_text;
    double initial, min, max;
    unsigned commands;
    const char *help;
} rows[] = {
#define T(field, initial, commands, help)                                                          \
    {#field, TEXT, offsetof(cn_settings, field), initial, 0, 0, 0, commands, help},
#define N(field, initial, min, max, commands, help)                                                \
    {#field, NUMBER, offsetof(cn_settings, field), "", initial, min, max, commands, help},
#define S(field, initial, commands, help)                                                          \
    {#field, SWITCH, offsetof(cn_settings, field), "", initial, 0, 1, commands, help},
    CN_SETTINGS(T, N, S)
#undef T
#undef N
#undef S
};

enum { ROWS = sizeof rows / sizeof rows[0], HELP_COLUMN = 28, HELP_WIDTH = 100 };
static_assert(ROWS <= 128, "`given` has a bit for each");

static void *field_of(const cn_settings *settings, const struct row *row)
{
    return (char *)(uintptr_t)settings + row->offset;
}

void cn_settings_init(cn_settings *settings)
{
    *settings = (cn_settings){0};
    for (uint32_t i = 0; i < ROWS; i++) {
        void *field = field_of(settings, &rows[i]);
        switch (rows[i].kind) {
        case TEXT: *(const char **)field = rows[i].initial_text; break;
        case NUMBER: *(double *)field = rows[i].initial; break;
        case SWITCH: *(bool *)field = rows[i].initial != 0; break;
        }
    }
}

static void flag_of(const struct row *row, char out[40])
{
    snprintf(out, 40, "--%s", row->field);
    for (char *at = out; (at = strchr(at, '_'));) *at = '-';
}

static cn_code set_number(const struct row *row, const char *value, double *out, cn_err *err)
{
    char *end, flag[40];
    *out = strtod(value, &end);
    const bool is_rate = strcmp(row->field, "rate") == 0;
    if (end != value && !*end && *out >= row->min && (*out <= row->max || (is_rate && isinf(*out)))) {
        return CN_OK;
    }
    flag_of(row, flag);
    return cn_err_set(err, CN_E_INVALID, "%s: %.40s; must be a number from %g to %g%s", flag, value,
                      row->min, row->max, is_rate ? ", or inf" : "");
}

static cn_code set(cn_settings *settings, uint32_t i, const char *value, cn_err *err)
{
    char flag[40];
    void *field = field_of(settings, &rows[i]);
    settings->given[i / 64] |= UINT64_C(1) << i % 64;
    switch (rows[i].kind) {
    case TEXT: *(const char **)field = value; return CN_OK;
    case NUMBER: return set_number(&rows[i], value, field, err);
    case SWITCH:
        *(bool *)field = strcmp(value, "yes") == 0;
        if (*(bool *)field || strcmp(value, "no") == 0) return CN_OK;
    }
    flag_of(&rows[i], flag);
    return cn_err_set(err, CN_E_INVALID, "%s: %.40s; must be yes or no", flag, value);
}

static bool is_flag(const struct row *row, const char *name, size_t len)
{
    if (strlen(row->field) != len) return false;
    for (size_t i = 0; i < len; i++) {
        if ((name[i] == '_' ? '-' : name[i]) != (row->field[i] == '_' ? '-' : row->field[i])) return false;
    }
    return true;
}

static cn_code refuse(const char *argument, unsigned command,
                      const char *(*nearest)(const char *, const char *const *, uint32_t), cn_err *err)
{
    static char flags[ROWS][40];
    const char *names[ROWS];
    uint32_t count = 0;
    for (uint32_t i = 0; i < ROWS; i++) {
        if (!(rows[i].commands & command)) continue;
        flag_of(&rows[i], flags[count]);
        names[count] = flags[count];
        count++;
    }
    const char *near = nearest ? nearest(argument, names, count) : NULL;
    return cn_err_set(err, CN_E_INVALID, "unknown argument %.60s; %s%s", argument,
                      near ? "is this meant: " : "`--help` lists them", near ? near : "");
}

cn_code cn_settings_read(int argc, char **argv, unsigned command, cn_settings *settings,
                         const char *(*nearest)(const char *, const char *const *, uint32_t),
                         cn_err *err)
{
    cn_code code = CN_OK;
    for (int i = 0; i < argc && code == CN_OK; i++) {
        const char *argument = argv[i];
        if (strcmp(argument, "--json") == 0) settings->json = true;
        else if (strcmp(argument, "--help") == 0) settings->help = true;
        else if (strncmp(argument, "--", 2) != 0) {
            if (settings->file_count == sizeof settings->files / sizeof settings->files[0])
                return cn_err_set(err, CN_E_INVALID, "%.60s: too many files; at most 8", argument);
            settings->files[settings->file_count++] = argument;
        } else {
            const size_t len = strcspn(argument + 2, "=");
            uint32_t row = 0;
            while (row < ROWS && !(rows[row].commands & command && is_flag(&rows[row], argument + 2, len)))
                row++;
            if (row == ROWS) return refuse(argument, command, nearest, err);
            const char *value = argument[2 + len] ? argument + 3 + len : NULL;
            if (!value && i + 1 < argc) value = argv[++i];
            if (!value) return cn_err_set(err, CN_E_INVALID, "%s: needs a value, as in %s VALUE",
                                          argument, argument);
            code = set(settings, row, value, err);
        }
    }
    return code;
}

static uint32_t row_of(const char *field)
{
    uint32_t i = 0;
    while (i < ROWS && strcmp(rows[i].field, field) != 0) i++;
    return i;
}

bool cn_settings_is_given(const cn_settings *settings, const char *field)
{
    const uint32_t i = row_of(field);
    return i < ROWS && settings->given[i / 64] >> i % 64 & 1;
}

void cn_settings_suggest(cn_settings *settings, const char *field, const char *value)
{
    const uint64_t given[2] = {settings->given[0], settings->given[1]};
    if (cn_settings_is_given(settings, field)) return;
    set(settings, row_of(field), value, NULL);
    memcpy(settings->given, given, sizeof given);
}

// Words of the help, wrapped at HELP_WIDTH and indented to HELP_COLUMN.
static void write_wrapped(const char *text, size_t column, cn_buf *out)
{
    while (*text) {
        const size_t word = strcspn(text, " ");
        if (column + word > HELP_WIDTH) {
            cn_buf_add_format(out, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        }
        cn_buf_add(out, text, word);
        column += word;
        text += word;
        if (*text == ' ') {
            cn_buf_add_char(out, ' ');
            column++;
            text++;
        }
    }
}

void cn_settings_write_help(unsigned command, cn_buf *out)
{
    static const char *const values[] = {"TEXT", "N", "yes|no"};
    for (uint32_t i = 0; i < ROWS; i++) {
        char flag[40], head[64], help[256];
        const struct row *r = &rows[i];
        if (!(r->commands & command)) continue;
        flag_of(r, flag);
        snprintf(head, sizeof head, "  %s %s", flag, values[r->kind]);
        if (r->kind == NUMBER) snprintf(help, sizeof help, "%s [%g]", r->help, r->initial);
        else if (r->kind == SWITCH)
            snprintf(help, sizeof help, "%s [%s]", r->help, r->initial != 0 ? "yes" : "no");
        else if (r->initial_text[0]) snprintf(help, sizeof help, "%s [%s]", r->help, r->initial_text);
        else snprintf(help, sizeof help, "%s", r->help);
        cn_buf_add_format(out, "%-*s", HELP_COLUMN, head);
        write_wrapped(help, strlen(head) > HELP_COLUMN ? strlen(head) : HELP_COLUMN, out);
        cn_buf_add_char(out, '\n');
    }
}

void cn_settings_write(const cn_settings *settings, unsigned command, cn_buf *out)
{
    const char *separator = "{";
    for (uint32_t i = 0; i < ROWS; i++) {
        const void *field = field_of(settings, &rows[i]);
        if (!(rows[i].commands & command)) continue;
        cn_buf_add_format(out, "%s\"%s\":", separator, rows[i].field);
        separator = ",";
        switch (rows[i].kind) {
        case TEXT: cn_buf_add_json(out, *(char *const *)field, strlen(*(char *const *)field)); break;
        case NUMBER:
            if (isinf(*(const double *)field)) cn_buf_add_text(out, "\"inf\"");
            else cn_buf_add_format(out, "%.15g", *(const double *)field);
            break;
        case SWITCH: cn_buf_add_text(out, *(const bool *)field ? "true" : "false"); break;
        }
    }
    cn_buf_add_char(out, '}');
}
