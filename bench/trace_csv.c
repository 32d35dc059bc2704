#include "bench/trace_int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "bench/words.h"

enum { COLUMNS_MAX = 32, KEY_BYTES = 64 };

typedef struct field {
    const char *at;
    size_t len;
} field;

// The next line, without its end; false at the end of the text.
static bool next_line(const char **at, const char *end, field *out)
{
    if (*at == end) return false;
    const char *stop = memchr(*at, '\n', (size_t)(end - *at));
    const char *line_end = stop ? stop : end;
    *out = (field){*at, (size_t)(line_end - *at)};
    if (out->len > 0 && out->at[out->len - 1] == '\r') out->len--;
    *at = stop ? stop + 1 : end;
    return true;
}

static field unquote(field f)
{
    if (f.len >= 2 && f.at[0] == '"' && f.at[f.len - 1] == '"') return (field){f.at + 1, f.len - 2};
    return f;
}

// None of these files has a comma inside of a field.
static uint32_t split(field line, field columns[COLUMNS_MAX])
{
    uint32_t count = 0;
    while (count < COLUMNS_MAX) {
        const char *comma = memchr(line.at, ',', line.len);
        const size_t len = comma ? (size_t)(comma - line.at) : line.len;
        columns[count++] = unquote((field){line.at, len});
        if (!comma) break;
        line = (field){comma + 1, line.len - len - 1};
    }
    return count;
}

typedef struct row {
    char session[KEY_BYTES];     // "" if it has none
    uint64_t at_ns, elapsed_ns;
    uint32_t input_tokens, output_tokens, line;
} row;

typedef enum column { AT, INPUT, OUTPUT, SESSION, ELAPSED, COLUMN_COUNT } column;

typedef struct csv {
    const cn_trace_options *o;
    const char *names[COLUMN_COUNT];         // NULL: the format has no such column
    bool (*parse_time)(const char *text, uint64_t *ns);
    int32_t at[COLUMN_COUNT];                // -1: not in this file
    uint32_t line;
} csv;

static cn_code read_header(csv *c, field line, cn_err *err)
{
    field columns[COLUMNS_MAX];
    const uint32_t count = split(line, columns);
    for (int k = 0; k < COLUMN_COUNT; k++) {
        c->at[k] = -1;
        for (uint32_t i = 0; c->names[k] && i < count; i++) {
            if (strlen(c->names[k]) == columns[i].len &&
                strncasecmp(c->names[k], columns[i].at, columns[i].len) == 0) {
                c->at[k] = (int32_t)i;
            }
        }
        if (k <= OUTPUT && c->at[k] < 0) {
            return cn_err_set(err, CN_E_FORMAT, "%s line 1: has no column %s", c->o->name,
                              c->names[k]);
        }
    }
    return CN_OK;
}

static bool parse_count(const char *text, uint32_t *out)
{
    char *end;
    const double value = strtod(text, &end);
    *out = value >= 0 && value <= CN_PLAN_TOKENS_MAX ? (uint32_t)value : 0;
    return end != text && *end == '\0' && value >= 0 && value <= CN_PLAN_TOKENS_MAX;
}

static bool parse_seconds(const char *text, uint64_t *ns)
{
    char *end;
    const double value = strtod(text, &end);
    *ns = value >= 0 && value < 1e9 ? (uint64_t)(value * 1e9) : 0;
    return end != text && *end == '\0' && value >= 0 && value < 1e9;
}

/* "2023-11-16 18:15:46.6805900": nanoseconds since 1970 (days from the civil calendar, after
 * Hinnant: the year begins in March, so that the leap day is its last). */
static bool parse_date(const char *text, uint64_t *ns)
{
    int year, month, day, hour, minute, used = 0;
    double second;
    if (sscanf(text, "%d-%d-%d%*[ T]%d:%d:%lf%n", &year, &month, &day, &hour, &minute, &second,
               &used) != 6)
        return false;
    if (year < 1970 || year > 2400 || month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 ||
        hour > 23 || minute < 0 || minute > 59 || !(second >= 0 && second < 61)) {
        return false;
    }
    const int64_t y = year - (month <= 2), m = (month + 9) % 12;
    const int64_t days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
    *ns = (uint64_t)((days * 24 + hour) * 60 + minute) * 60000000000u + (uint64_t)(second * 1e9);
    return text[used] == '\0' || text[used] == '+' || text[used] == 'Z';
}

// One value as text; false if the line does not have so many columns, or it is too long.
static bool copy_field(const csv *c, column k, const field *columns, uint32_t count,
                       char out[KEY_BYTES])
{
    out[0] = '\0';
    if (c->at[k] < 0) return true;
    if ((uint32_t)c->at[k] >= count || columns[c->at[k]].len >= KEY_BYTES) return false;
    snprintf(out, KEY_BYTES, "%.*s", (int)columns[c->at[k]].len, columns[c->at[k]].at);
    return true;
}

static cn_code read_row(const csv *c, field line, row *out, cn_err *err)
{
    field columns[COLUMNS_MAX];
    char text[COLUMN_COUNT][KEY_BYTES];
    const uint32_t count = split(line, columns);
    *out = (row){.line = c->line};
    bool sound[COLUMN_COUNT];
    for (int k = 0; k < COLUMN_COUNT; k++) {
        sound[k] = copy_field(c, (column)k, columns, count, text[k]);
    }
    sound[AT] = sound[AT] && c->parse_time(text[AT], &out->at_ns);
    sound[INPUT] = sound[INPUT] && parse_count(text[INPUT], &out->input_tokens);
    sound[OUTPUT] = sound[OUTPUT] && parse_count(text[OUTPUT], &out->output_tokens);
    if (text[ELAPSED][0]) sound[ELAPSED] = parse_seconds(text[ELAPSED], &out->elapsed_ns);
    snprintf(out->session, sizeof out->session, "%s", text[SESSION]);
    for (int k = 0; k < COLUMN_COUNT; k++) {
        if (sound[k]) continue;
        return cn_err_set(err, CN_E_FORMAT, "%s line %u: %s is \"%.40s\"; must be %s", c->o->name,
                          c->line, c->names[k], text[k],
                          k == AT ? "a time" : "a number that is not negative");
    }
    return CN_OK;
}

static int compare_rows(const void *a, const void *b)
{
    const row *x = a, *y = b;
    const int order = strcmp(x->session, y->session);
    if (order) return order;
    if (x->at_ns != y->at_ns) return (x->at_ns > y->at_ns) - (x->at_ns < y->at_ns);
    return (x->line > y->line) - (x->line < y->line);
}

// Rows of one session id follow each other; rows without one are sessions of their own.
static bool add_rows(const row *rows, uint32_t count, cn_plan *plan)
{
    for (uint32_t i = 0; i < count; i++) {
        const row *r = &rows[i], *before = i ? &rows[i - 1] : NULL;
        const bool goes_on = before && r->session[0] && strcmp(r->session, before->session) == 0;
        if (!goes_on) {
            cn_plan_session *session = cn_plan_add_session(plan);
            if (!session) return false;
            session->due_ns = r->at_ns;
        }
        cn_plan_turn *turn = cn_plan_add_turn(plan);
        if (!turn) return false;
        turn->input_tokens = r->input_tokens ? r->input_tokens : 1;
        turn->output_tokens = r->output_tokens ? r->output_tokens : 1;
        turn->seed = cn_words_mix(r->line, r->input_tokens);
        const uint64_t gap = goes_on ? r->at_ns - before->at_ns : 0;
        turn->think_ns = goes_on && gap > before->elapsed_ns ? gap - before->elapsed_ns : 0;
    }
    return true;
}

static cn_code read_rows(csv *c, const char *text, size_t len, row **rows, uint32_t *count,
                         cn_err *err)
{
    const char *at = text, *end = text + len;
    uint32_t capacity = 0;
    field line;
    while (next_line(&at, end, &line)) {
        c->line++;
        if (line.len == 0) continue;
        if (*count == capacity) {
            capacity = capacity ? capacity * 2 : 1024;
            row *grown =
                capacity <= CN_PLAN_COUNT_MAX ? realloc(*rows, capacity * sizeof *grown) : NULL;
            if (!grown) return cn_trace_refuse(c->o, err);
            *rows = grown;
        }
        const cn_code code = c->line == 1 ? read_header(c, line, err)
                                          : read_row(c, line, &(*rows)[*count], err);
        if (code != CN_OK) return code;
        *count += c->line > 1;
    }
    return CN_OK;
}

static cn_code read_csv(csv *c, const char *text, size_t len, cn_plan *plan, cn_err *err)
{
    row *rows = NULL;
    uint32_t count = 0;
    cn_code code = read_rows(c, text, len, &rows, &count, err);
    if (code == CN_OK && count > 0) {
        qsort(rows, count, sizeof *rows, compare_rows);
        if (!add_rows(rows, count, plan)) code = cn_trace_refuse(c->o, err);
    }
    free(rows);
    return code;
}

cn_code cn_trace_read_azure(const cn_trace_options *o, const char *text, size_t len, cn_plan *plan,
                            cn_err *err)
{
    csv c = {.o = o, .names = {"TIMESTAMP", "ContextTokens", "GeneratedTokens", NULL, NULL},
             .parse_time = parse_date};
    return read_csv(&c, text, len, plan, err);
}

cn_code cn_trace_read_burstgpt(const cn_trace_options *o, const char *text, size_t len,
                               cn_plan *plan, cn_err *err)
{
    csv c = {
        .o = o,
        .names = {"Timestamp", "Request tokens", "Response tokens", "Session ID", "Elapsed time"},
        .parse_time = parse_seconds};
    return read_csv(&c, text, len, plan, err);
}
