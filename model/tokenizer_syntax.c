#include "model/tokenizer_syntax_int.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* How it works. The library compiles its expressions with Oniguruma in Ruby syntax. Most of what
 * tokenizers use means the same to PCRE2 and is copied; what means something else is rewritten
 * (\h is a hexadecimal digit, \w has its own set, \v is one character, {,n} begins at 0, \p{Han} is
 * the script alone), and the rest is refused by name rather than guessed. ^ and $ are those of
 * lines, which is an option of the compiler. */

// \w of Oniguruma: Alphabetic, marks, decimal digits, connectors, and by its mistake ² ³ ¹ ¼ ½ ¾.
#define WORD_SET                                                                                   \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\xB2\\xB3\\xB9\\xBC-\\xBE\\x{24B6}-\\x{24E9}"               \
    "\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}"
#define HEX_SET "0-9A-Fa-f"

typedef struct reader {
    const char *start, *at;
    cn_buf *out;
    const char *unread;              // set once: the construct that is refused
    bool in_class;
} reader;

static void refuse(reader *r, const char *what)
{
    if (!r->unread) r->unread = what;
}

static void put(reader *r, const char *text) { cn_buf_add_text(r->out, text); }

static void put_set(reader *r, const char *set, bool negated)
{
    if (r->in_class && negated) {
        refuse(r, "\\W or \\H in a class");
        return;
    }
    if (!r->in_class) put(r, negated ? "[^" : "[");
    put(r, set);
    if (!r->in_class) put(r, "]");
}

// At \p or \P: one- and two-letter names are categories, longer ones scripts.
static void property(reader *r)
{
    const char *close = r->at[2] == '{' ? strchr(r->at, '}') : NULL;
    if (!close) {
        refuse(r, "\\p without {}");
        return;
    }
    const char *name = r->at + 3;
    cn_buf_add(r->out, r->at, 3);
    if (*name == '^') cn_buf_add(r->out, name++, 1);
    for (const char *c = name; c < close; c++) {
        if (!isalpha((unsigned char)*c) && *c != '_') refuse(r, "such a \\p{...} name");
    }
    if (close - name > 2) put(r, "sc:");
    cn_buf_add(r->out, name, (size_t)(close - name) + 1);
    r->at = close + 1;
}

// At \x or \u: \xHH below 80, \x{H...}, \uHHHH.
static void code_point(reader *r)
{
    const bool braces = r->at[1] == 'x' && r->at[2] == '{';
    const char *digits = r->at + (braces ? 3 : 2);
    const size_t max = braces ? 6 : r->at[1] == 'x' ? 2 : 4;
    size_t n = 0;
    unsigned long value = 0;
    while (n < max && isxdigit((unsigned char)digits[n])) {
        const int c = tolower((unsigned char)digits[n++]);
        value = value * 16 + (unsigned long)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    if (n == 0 || (braces && digits[n] != '}') || (r->at[1] == 'u' && n != 4)) {
        refuse(r, "such a \\x or \\u");
        return;
    }
    if (r->at[1] == 'x' && !braces && value >= 0x80) refuse(r, "bytes (\\x80 to \\xFF)");
    cn_buf_add_format(r->out, "\\x{%lX}", value);
    r->at = digits + n + braces;
}

// Letters that mean the same behind a backslash, and characters that stand for themselves.
static bool is_common(char c)
{
    return c && (strchr("nrtfaesSdD ", c) || ispunct((unsigned char)c));
}

static bool is_anchor(char c) { return c == 'A' || c == 'z' || c == 'Z'; }

static void escape(reader *r)
{
    const char c = r->at[1];
    if (c == 'p' || c == 'P') {
        property(r);
        return;
    }
    if (c == 'x' || c == 'u') {
        code_point(r);
        return;
    }
    if (c == 'w' || c == 'W') put_set(r, WORD_SET, c == 'W');
    else if (c == 'h' || c == 'H') put_set(r, HEX_SET, c == 'H');
    else if (c == 'v') put(r, "\\x0B");
    else if (is_common(c) || (!r->in_class && is_anchor(c))) cn_buf_add(r->out, r->at, 2);
    else if ((unsigned char)c >= 0x80) cn_buf_add_char(r->out, c);
    else refuse(r, "a back reference or an escape other than \\s \\d \\w \\h \\p \\x \\u \\A \\z");
    r->at += c ? 2 : 1;
}

static void group(reader *r)
{
    static const char *const known[] = {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    if (r->at[1] != '?' && r->at[1] != '*') {
        cn_buf_add(r->out, r->at++, 1);
        return;
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const size_t len = strlen(known[i]);
        if (strncmp(r->at, known[i], len) != 0) continue;
        put(r, known[i]);
        r->at += len;
        return;
    }
    if (strncmp(r->at, "(?i)", 4) == 0 && r->at == r->start) {
        put(r, "(?i)");
        r->at += 4;
        return;
    }
    refuse(r, "groups other than ( (?: (?i: (?= (?! (?<= (?<! (?>");
}

// At {: an interval, or the character itself.
static void interval(reader *r)
{
    const char *at = r->at + 1;
    const char *low = at;
    while (isdigit((unsigned char)*at)) at++;
    const size_t low_len = (size_t)(at - low);
    const bool comma = *at == ',';
    const char *high = comma ? ++at : at;
    while (isdigit((unsigned char)*at)) at++;
    if (*at != '}' || (low_len == 0 && at == high)) {
        put(r, "\\{");
        r->at++;
        return;
    }
    if (at[1] == '+' || (at[1] == '?' && !comma)) refuse(r, "a + or ? behind {n}");
    put(r, low_len ? "{" : "{0");
    cn_buf_add(r->out, r->at + 1, (size_t)(at - r->at));
    r->at = at + 1;
}

static void class_part(reader *r)
{
    if (*r->at == '[') refuse(r, "a class within a class");
    if (r->at[0] == '&' && r->at[1] == '&') refuse(r, "&& in a class");
    if (*r->at == ']') r->in_class = false;
    cn_buf_add(r->out, r->at++, 1);
}

static void class_start(reader *r)
{
    const size_t len = r->at[1] == '^' ? 2 : 1;
    if (r->at[len] == ']') refuse(r, "] as the first of a class");
    cn_buf_add(r->out, r->at, len);
    r->at += len;
    r->in_class = true;
}

bool cn_tokenizer_syntax_translate(const char *regex, cn_buf *out, const char **unread)
{
    reader r = {.start = regex, .at = regex, .out = out};
    while (*r.at && !r.unread) {
        if (*r.at == '\\') escape(&r);
        else if (r.in_class) class_part(&r);
        else if (*r.at == '[') class_start(&r);
        else if (*r.at == '(') group(&r);
        else if (*r.at == '{') interval(&r);
        else cn_buf_add(out, r.at++, 1);
    }
    *unread = r.unread;
    return !r.unread;
}
