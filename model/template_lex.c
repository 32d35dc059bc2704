#include "model/template_lex_int.h"

#include <errno.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "model/template_unicode_int.h"

/* How it works. Two loops take turns: `split` looks for the next opening `{{`, `{%` or `{#` and
 * emits the data before it; `split_tag` emits what is inside until the matching end. White space
 * around tags follows Jinja with trim_blocks and lstrip_blocks:
 *
 *    text  {%-   cuts all white space before the tag         -%}  text   and after it
 *    line  {%    cuts blanks between line start and tag       %}\n       and one newline after it
 *    text  {%+   keeps what is before                        +%}         keeps what is after
 *
 * A print tag `{{` knows only `-`. `line_starting` says that the character before the data was the
 * newline that a tag's end swallowed (or the start of the template): then the data starts a line.
 */

typedef struct lexer {
    const char *name;
    const char *text;
    size_t len;
    size_t at;
    uint32_t line;
    uint32_t data_line;          // where the data before the current place starts
    bool line_starting;
    cn_arena *arena;
    cn_token *tokens;
    uint32_t count;
    uint32_t capacity;
    cn_err *err;
    cn_code code;
} lexer;

enum { BRACKETS_MAX = 256 };

static bool fail(lexer *lex, const char *what, cn_text shown)
{
    const int len = shown.len < 60 ? (int)shown.len : 60;
    lex->code = cn_err_set(lex->err, CN_E_FORMAT, "%s:%u: %s%.*s%s", lex->name, lex->line, what,
                           len, len ? shown.at : "", len ? "'" : "");
    return false;
}

static bool fail_plain(lexer *lex, const char *what) { return fail(lex, what, (cn_text){0}); }

static bool no_memory(lexer *lex)
{
    lex->code = cn_err_set(lex->err, CN_E_MEMORY, "%s: no memory for the parsed template",
                           lex->name);
    return false;
}

static cn_token *emit(lexer *lex, cn_token_kind kind, cn_text text)
{
    if (lex->count == lex->capacity) {
        const uint32_t capacity = lex->capacity ? lex->capacity * 2 : 128;
        cn_token *tokens = cn_arena_take_array(lex->arena, capacity, sizeof *tokens);
        if (!tokens) {
            no_memory(lex);
            return NULL;
        }
        if (lex->count) memcpy(tokens, lex->tokens, lex->count * sizeof *tokens);
        lex->tokens = tokens;
        lex->capacity = capacity;
    }
    cn_token *token = &lex->tokens[lex->count++];
    const uint32_t line = kind == CN_TOKEN_DATA ? lex->data_line : lex->line;
    *token = (cn_token){.kind = kind, .line = line, .text = text};
    return token;
}

static cn_text rest_of(const lexer *lex)
{
    return (cn_text){lex->text + lex->at, lex->len - lex->at};
}

static bool starts(const lexer *lex, const char *literal)
{
    const size_t len = strlen(literal);
    return lex->len - lex->at >= len && memcmp(lex->text + lex->at, literal, len) == 0;
}

static void step(lexer *lex, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) lex->line += lex->text[lex->at + i] == '\n';
    lex->at += bytes;
}

static void skip_space(lexer *lex)
{
    step(lex, cn_template_unicode_space(rest_of(lex)));
}

// Blanks between the last newline and the end of `data` do not count where a tag opens a line.
static size_t without_indent(cn_text data, bool line_starting)
{
    size_t from = data.len;
    while (from > 0 && data.at[from - 1] != '\n') from--;
    if (from == 0 && !line_starting) return data.len;
    const cn_text tail = {data.at + from, data.len - from};
    return cn_template_unicode_space(tail) == tail.len ? from : data.len;
}

// The data before a tag; `sign` is the character behind the tag's opening.
static bool emit_data(lexer *lex, cn_text data, char sign, bool is_print)
{
    if (sign == '-') data.len -= cn_template_unicode_space_back(data);
    else if (sign != '+' && !is_print) data.len = without_indent(data, lex->line_starting);
    return data.len == 0 || emit(lex, CN_TOKEN_DATA, data);
}

static char sign_at(const lexer *lex)
{
    if (lex->at < lex->len && (lex->text[lex->at] == '-' || lex->text[lex->at] == '+')) {
        return lex->text[lex->at];
    }
    return 0;
}

/* Passes the end of a tag if one is here: `close` with its sign, and the white space that goes with
 * it. A plus sign is one only where `trims`. */
static bool pass_close(lexer *lex, const char *close, bool trims)
{
    const size_t from = lex->at;
    const char sign = sign_at(lex);
    if (sign == '-' || (sign == '+' && trims)) lex->at++;
    if (!starts(lex, close)) {
        lex->at = from;
        return false;
    }
    lex->at += strlen(close);
    if (sign == '-') skip_space(lex);
    else if (trims && sign != '+' && starts(lex, "\n")) step(lex, 1);
    lex->line_starting = lex->text[lex->at - 1] == '\n';
    return true;
}

static bool skip_comment(lexer *lex)
{
    // Jinja accepts an opening that is the last thing in a template, here and for raw.
    if (lex->at == lex->len) return true;
    while (lex->at < lex->len) {
        if (pass_close(lex, "#}", true)) return true;
        step(lex, 1);
    }
    return fail_plain(lex, "a comment {# has no end #}");
}

// At `{%`: whether `word` is all there is in the tag; then *end is behind the word.
static bool tag_is(const lexer *lex, const char *word, size_t *end)
{
    lexer ahead = *lex;
    ahead.at += 2;
    if (sign_at(&ahead)) ahead.at++;
    skip_space(&ahead);
    if (!starts(&ahead, word)) return false;
    ahead.at += strlen(word);
    skip_space(&ahead);
    *end = ahead.at;
    return starts(&ahead, "%}") || starts(&ahead, "-%}") ||
           (starts(&ahead, "+%}") && strcmp(word, "endraw") == 0);
}

// At `{% raw %}`, whose end is `begin`: everything up to `{% endraw %}` is data.
static bool split_raw(lexer *lex, size_t begin)
{
    size_t end;
    step(lex, begin - lex->at);
    pass_close(lex, "%}", false);
    const size_t from = lex->at;
    lex->data_line = lex->line;
    if (from == lex->len) return true;
    for (; lex->at < lex->len; step(lex, 1)) {
        if (!starts(lex, "{%") || !tag_is(lex, "endraw", &end)) continue;
        const cn_text data = {lex->text + from, lex->at - from};
        const char sign = lex->at + 2 < lex->len ? lex->text[lex->at + 2] : 0;
        if (!emit_data(lex, data, sign, false)) return false;
        step(lex, end - lex->at);
        return pass_close(lex, "%}", true);
    }
    return fail_plain(lex, "a raw block has no end {% endraw %}");
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Length of digits with single underscores between them.
static size_t digits(const char *at, size_t len)
{
    size_t n = 0;
    while (n < len && (is_digit(at[n]) || (at[n] == '_' && n && n + 1 < len &&
                                           is_digit(at[n - 1]) && is_digit(at[n + 1])))) {
        n++;
    }
    return n;
}

// Length of the float that starts here, 0 if none does.
static size_t float_len(cn_text text)
{
    size_t n = digits(text.at, text.len);
    if (!n) return 0;
    bool is_float = false;
    if (n + 1 < text.len && text.at[n] == '.' && is_digit(text.at[n + 1])) {
        n += 1 + digits(text.at + n + 1, text.len - n - 1);
        is_float = true;
    }
    if (n < text.len && (text.at[n] | 32) == 'e') {
        size_t exponent = n + 1;
        if (exponent < text.len && (text.at[exponent] == '+' || text.at[exponent] == '-')) {
            exponent++;
        }
        const size_t len =
            exponent < text.len ? digits(text.at + exponent, text.len - exponent) : 0;
        if (len) return exponent + len;
    }
    return is_float ? n : 0;
}

static int digit_value(char c)
{
    if (is_digit(c)) return c - '0';
    const char lower = (char)(c | 32);
    return lower >= 'a' && lower <= 'z' ? lower - 'a' + 10 : 99;
}

// Length of the integer that starts here, with its prefix; *base is 2, 8, 10 or 16.
static size_t integer_len(cn_text text, int *base)
{
    static const struct { char letter; int base; } prefixes[] = {{'b', 2}, {'o', 8}, {'x', 16}};
    *base = 10;
    for (size_t i = 0; i < 3 && text.len > 2 && text.at[0] == '0'; i++) {
        if ((text.at[1] | 32) != prefixes[i].letter) continue;
        size_t n = 2;
        while (n < text.len && (digit_value(text.at[n]) < prefixes[i].base || text.at[n] == '_')) {
            n++;
        }
        if (n > 2) {
            *base = prefixes[i].base;
            return n;
        }
    }
    if (text.at[0] != '0') return digits(text.at, text.len);
    size_t zeros = 0;
    while (zeros < text.len && (text.at[zeros] == '0' || text.at[zeros] == '_')) zeros++;
    return zeros;
}

static bool emit_number(lexer *lex)
{
    char plain[400];
    size_t kept = 0;
    const cn_text rest = rest_of(lex);
    const bool after_dot = lex->at && lex->text[lex->at - 1] == '.';
    int base = 10;
    const size_t as_float = after_dot ? 0 : float_len(rest);
    const size_t len = as_float ? as_float : integer_len(rest, &base);
    const size_t skip = base == 10 ? 0 : 2;
    for (size_t i = skip; i < len; i++) {
        if (rest.at[i] != '_' && kept < sizeof plain - 1) plain[kept++] = rest.at[i];
    }
    plain[kept] = '\0';
    if (kept == sizeof plain - 1) return fail(lex, "a number is too long: '", rest);
    cn_token *token = emit(lex, as_float ? CN_TOKEN_FLOAT : CN_TOKEN_INT, (cn_text){rest.at, len});
    if (!token) return false;
    errno = 0;
    token->number =
        as_float ? make_float(strtod(plain, NULL)) : make_int(strtoll(plain, NULL, base));
    if (!as_float && errno) {
        return fail(lex, "an integer is beyond 64 bits: '", (cn_text){rest.at, len});
    }
    lex->at += len;
    return true;
}

static size_t put_point(char *out, uint32_t point)
{
    return (size_t)cn_template_unicode_encode(point, out);
}

// `\xhh`, `\uhhhh` and `\Uhhhhhhhh`, at the letter. False if it is none.
static bool hex_escape(cn_text text, size_t *used, uint32_t *point)
{
    const size_t len = text.at[0] == 'x' ? 2 : text.at[0] == 'u' ? 4 : 8;
    *point = 0;
    if (text.len < 1 + len) return false;
    for (size_t i = 1; i <= len; i++) {
        const int digit = digit_value(text.at[i]);
        if (digit > 15) return false;
        *point = *point * 16 + (uint32_t)digit;
    }
    *used = 1 + len;
    return *point < 0x110000 && (*point < 0xD800 || *point > 0xDFFF);
}

static size_t octal_escape(cn_text text, uint32_t *point)
{
    size_t n = 0;
    *point = 0;
    for (; n < 3 && n < text.len && text.at[n] >= '0' && text.at[n] <= '7'; n++) {
        *point = *point * 8 + (uint32_t)(text.at[n] - '0');
    }
    return n;
}

/* What Python's unicode-escape makes of `text`, which stands behind a backslash. Writes to `out`
 * and returns how much was written; *used of the text are eaten. */
static bool unescape_one(lexer *lex, cn_text text, char *out, size_t *written, size_t *used)
{
    static const char letters[] = "\\\\''\"\"a\ab\bf\fn\nr\rt\tv\v";
    uint32_t point;
    *used = 1;
    *written = 0;
    if (text.at[0] == '\n') return true;
    for (const char *pair = letters; *pair; pair += 2) {
        if (*pair != text.at[0]) continue;
        out[(*written)++] = pair[1];
        return true;
    }
    if (text.at[0] == 'x' || text.at[0] == 'u' || text.at[0] == 'U') {
        if (!hex_escape(text, used, &point)) return fail(lex, "not an escape: '\\", text);
        *written = put_point(out, point);
        return true;
    }
    if (text.at[0] == 'N') return fail(lex, "escapes by name are not supported: '\\", text);
    const size_t octal = octal_escape(text, &point);
    if (octal) {
        *used = octal;
        *written = put_point(out, point);
        return true;
    }
    out[0] = '\\';
    out[1] = text.at[0];
    *written = 2;
    return true;
}

static bool emit_string(lexer *lex)
{
    const char quote = lex->text[lex->at];
    size_t end = lex->at + 1;
    while (end < lex->len && lex->text[end] != quote) end += lex->text[end] == '\\' ? 2 : 1;
    if (end >= lex->len) return fail(lex, "a string has no end: '", rest_of(lex));
    const char *from = lex->text + lex->at + 1;
    const size_t len = (size_t)(lex->text + end - from);
    char *value = cn_arena_take(lex->arena, len + 8);
    size_t value_len = 0;
    if (!value) return no_memory(lex);
    for (size_t i = 0; i < len;) {
        size_t written = 1, used = 1;
        if (from[i] != '\\') {
            value[value_len++] = from[i++];
            continue;
        }
        const cn_text behind = {from + i + 1, len - i - 1};
        if (!unescape_one(lex, behind, value + value_len, &written, &used)) return false;
        value_len += written;
        i += 1 + used;
    }
    if (!emit(lex, CN_TOKEN_STRING, (cn_text){value, value_len})) return false;
    step(lex, end + 1 - lex->at);
    return true;
}

static size_t operator_len(const lexer *lex)
{
    static const char *const pairs[] = {"//", "**", "==", "!=", ">=", "<="};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        if (starts(lex, pairs[i])) return 2;
    }
    const char c = lex->text[lex->at];
    return c && strchr("+-*/%~[](){}<>=.:|,;", c) ? 1 : 0;
}

// Keeps the stack of open brackets in step with operator `c`.
static bool balance(lexer *lex, char c, char *open, size_t *depth)
{
    const char *closing = strchr("(){}[]", c);
    if (!closing) return true;
    if (c == '(' || c == '{' || c == '[') {
        if (*depth == BRACKETS_MAX) return fail_plain(lex, "brackets are nested too deeply");
        open[(*depth)++] = closing[1];
        return true;
    }
    if (*depth && open[*depth - 1] == c) {
        (*depth)--;
        return true;
    }
    return fail(lex, "a bracket closes what is not open: '", (cn_text){lex->text + lex->at, 1});
}

static bool emit_operator(lexer *lex, char *open, size_t *depth)
{
    const size_t len = operator_len(lex);
    const cn_text rest = rest_of(lex);
    if (!len) {
        const size_t shown = cn_utf8_len(rest.at, rest.len);
        return fail(lex, "unexpected character '", (cn_text){rest.at, shown});
    }
    if (!balance(lex, rest.at[0], open, depth)) return false;
    if (!emit(lex, CN_TOKEN_OPERATOR, (cn_text){rest.at, len})) return false;
    lex->at += len;
    return true;
}

// Behind `{{` or `{%`: everything up to `close`.
static bool split_tag(lexer *lex, const char *close, cn_token_kind end_kind)
{
    char open[BRACKETS_MAX];
    size_t depth = 0;
    const bool trims = end_kind == CN_TOKEN_TAG_END;
    for (;;) {
        skip_space(lex);
        if (lex->at >= lex->len) return fail(lex, "a tag is not closed with '", text_from(close));
        const uint32_t line = lex->line;
        if (depth == 0 && pass_close(lex, close, trims)) {
            cn_token *token = emit(lex, end_kind, (cn_text){0});
            if (token) token->line = line;
            return token != NULL;
        }
        const char c = lex->text[lex->at];
        const size_t name = cn_template_unicode_name(rest_of(lex));
        bool ok;
        if (is_digit(c)) {
            ok = emit_number(lex);
        } else if (name) {
            ok = emit(lex, CN_TOKEN_NAME, (cn_text){lex->text + lex->at, name}) != NULL;
            lex->at += name;
        } else if (c == '"' || c == '\'') {
            ok = emit_string(lex);
        } else {
            ok = emit_operator(lex, open, &depth);
        }
        if (!ok) return false;
    }
}

static bool split_opening(lexer *lex, cn_text data)
{
    size_t end;
    const char type = lex->text[lex->at + 1];
    const bool is_raw = type == '%' && tag_is(lex, "raw", &end);
    const char sign = lex->at + 2 < lex->len ? lex->text[lex->at + 2] : 0;
    if (!emit_data(lex, data, sign, type == '{')) return false;
    if (is_raw) return split_raw(lex, end);
    lex->at += 2;
    if (sign_at(lex)) lex->at++;
    if (type == '#') return skip_comment(lex);
    if (!emit(lex, type == '{' ? CN_TOKEN_PRINT_BEGIN : CN_TOKEN_TAG_BEGIN, (cn_text){0})) {
        return false;
    }
    return type == '{' ? split_tag(lex, "}}", CN_TOKEN_PRINT_END)
                       : split_tag(lex, "%}", CN_TOKEN_TAG_END);
}

static bool split(lexer *lex)
{
    size_t from = lex->at;
    while (lex->at < lex->len) {
        const char next = lex->at + 1 < lex->len ? lex->text[lex->at + 1] : 0;
        if (lex->text[lex->at] != '{' || (next != '{' && next != '%' && next != '#')) {
            step(lex, 1);
            continue;
        }
        if (!split_opening(lex, (cn_text){lex->text + from, lex->at - from})) return false;
        from = lex->at;
        lex->data_line = lex->line;
    }
    if (from < lex->len) {
        if (!emit(lex, CN_TOKEN_DATA, (cn_text){lex->text + from, lex->len - from})) return false;
    }
    return emit(lex, CN_TOKEN_END, (cn_text){0}) != NULL;
}

// As Jinja: every line break is \n, and one at the very end does not count.
static bool normalize(lexer *lex, cn_text text)
{
    char *copy = cn_arena_take(lex->arena, text.len + 1);
    size_t len = 0;
    if (!copy) return no_memory(lex);
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] == '\r' && i + 1 < text.len && text.at[i + 1] == '\n') continue;
        copy[len++] = text.at[i] == '\r' ? '\n' : text.at[i];
    }
    if (len && copy[len - 1] == '\n') len--;
    lex->text = copy;
    lex->len = len;
    return true;
}

static bool check_utf8(lexer *lex, cn_text text)
{
    for (size_t i = 0; i < text.len;) {
        const size_t len = cn_utf8_len(text.at + i, text.len - i);
        if (!len) return fail_plain(lex, "the template is not UTF-8");
        lex->line += text.at[i] == '\n';
        i += len;
    }
    lex->line = 1;
    return true;
}

cn_code cn_template_lex_split(const char *name, cn_text text, cn_arena *arena, cn_tokens *out,
                              cn_err *err)
{
    lexer lex = {
        .name = name, .line = 1, .data_line = 1, .line_starting = true, .arena = arena, .err = err};
    if (!check_utf8(&lex, text) || !normalize(&lex, text) || !split(&lex)) return lex.code;
    *out = (cn_tokens){.at = lex.tokens, .count = lex.count};
    return CN_OK;
}
