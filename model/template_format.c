#include "model/template_format_int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/template_ops_int.h"
#include "model/template_text_int.h"
#include "model/template_unicode_int.h"

/* How it works. Both styles end in one `spec` and one function that writes a value with it. Numbers
 * are made by snprintf into the run's memory and then padded, with the sign before zeros; widths
 * and precisions above CN_FORMAT_WIDTH_MAX are refused before anything is made. */

typedef struct spec {
    cn_text fill;
    char align;                  // < > = ^, 0: the type's own
    char sign;                   // + or space; - or 0: only minus
    char group;                  // , or _, 0: none
    bool alternate;
    int64_t width;
    int64_t precision;           // -1: none
    char type;                   // 0: none
} spec;

static bool emit(cn_run *run, const char *at, size_t len)
{
    return cn_template_run_emit(run, at, len);
}

static bool fill(cn_run *run, const spec *s, int64_t count)
{
    for (; count > 0; count--) {
        if (!emit(run, s->fill.at, s->fill.len)) return false;
    }
    return true;
}

// `head` (sign and prefix) and `body` in the width of the spec.
static bool emit_padded(cn_run *run, const spec *s, cn_text head, cn_text body, char align)
{
    if (s->align) align = s->align;
    const int64_t points =
        (int64_t)(cn_template_value_points(head) + cn_template_value_points(body));
    const int64_t space = s->width > points ? s->width - points : 0;
    const int64_t left = align == '>' ? space : align == '^' ? space / 2 : 0;
    const int64_t inside = align == '=' ? space : 0;
    return cn_template_run_charge(run, (uint64_t)space) && fill(run, s, left) &&
           emit(run, head.at, head.len) && fill(run, s, inside) && emit(run, body.at, body.len) &&
           fill(run, s, space - left - inside);
}

static bool invalid(cn_run *run, const char *sentence)
{
    cn_template_run_invalid(run, "%s", sentence);
    return false;
}

static bool bad_type(cn_run *run, const spec *s, cn_value v)
{
    cn_template_run_invalid(run, "format code '%c' cannot be used for '%s'", s->type,
                            cn_template_value_type(v));
    return false;
}

// The digits of `digits` in groups, up to a point or exponent.
static cn_text grouped(cn_run *run, cn_text digits, char separator, size_t group)
{
    size_t whole = 0, len = 0;
    if (!separator) return digits;
    while (whole < digits.len && !strchr(".eE%", digits.at[whole])) whole++;
    char *out = cn_template_run_take(run, digits.len * 2, 1);
    if (!out) return (cn_text){0};
    for (size_t i = 0; i < digits.len; i++) {
        if (i && i < whole && (whole - i) % group == 0) out[len++] = separator;
        out[len++] = digits.at[i];
    }
    return (cn_text){out, len};
}

static size_t write_base(uint64_t value, unsigned base, bool upper, char out[64])
{
    char reversed[64];
    size_t len = 0;
    do {
        const char digit = "0123456789abcdef"[value % base];
        reversed[len++] = upper && digit >= 'a' ? (char)(digit - 32) : digit;
        value /= base;
    } while (value);
    for (size_t i = 0; i < len; i++) out[i] = reversed[len - 1 - i];
    return len;
}

static bool emit_int(cn_run *run, const spec *s, int64_t value)
{
    char head[4], digits[64];
    size_t head_len = 0;
    const char plus = s->sign == '-' ? 0 : s->sign;
    const uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    const unsigned base = s->type == 'b' ? 2 : s->type == 'o' ? 8 : (s->type | 32) == 'x' ? 16 : 10;
    if (value < 0 || plus) head[head_len++] = value < 0 ? '-' : plus;
    if (s->alternate && base != 10) {
        head[head_len++] = '0';
        head[head_len++] = s->type;
    }
    cn_text body = {digits, write_base(magnitude, base, s->type == 'X', digits)};
    if (s->precision > (int64_t)body.len) {              // of printf: at least so many digits
        char *zeros = cn_template_run_take(run, (size_t)s->precision, 1);
        if (!zeros) return false;
        memset(zeros, '0', (size_t)s->precision);
        memcpy(zeros + s->precision - body.len, body.at, body.len);
        body = (cn_text){zeros, (size_t)s->precision};
    }
    body = grouped(run, body, s->group, base == 10 ? 3 : 4);
    return !run->code && emit_padded(run, s, (cn_text){head, head_len}, body, '>');
}

// Without a type a float looks as in repr, or has so many significant digits and at least one
// behind the point.
static size_t write_general(double real, int64_t precision, char *out, size_t room)
{
    if (precision < 0) return cn_template_text_float(real, out);
    const size_t digits = precision > 0 ? (size_t)precision : 1;
    size_t len = (size_t)snprintf(out, room, "%.*g", (int)digits, real);
    // Python wants a digit behind the point; where the precision leaves none, it writes an exponent.
    if (isfinite(real) && !strpbrk(out, ".e") && strspn(out + (*out == '-'), "0123456789") >= digits) {
        snprintf(out, room, "%.*e", (int)digits - 1, real);
        char *exponent = strchr(out, 'e'), *end = exponent;
        if (digits > 1) {                // there is a point, and zeros before the exponent go
            while (end[-1] == '0') end--;
            if (end[-1] == '.') end--;
        }
        memmove(end, exponent, strlen(exponent) + 1);
        return strlen(out);
    }
    if (isfinite(real) && !strpbrk(out, ".e")) len += (size_t)snprintf(out + len, room - len, ".0");
    return len;
}

static size_t write_float(double real, const spec *s, char *out, size_t room)
{
    char format[] = {'%', '#', '.', '*', 'f', '\0'};
    char *start = format;
    const int precision = s->precision < 0 ? 6 : (int)s->precision;
    if (!s->type) return write_general(real, s->precision, out, room);
    if (s->type == '%') {
        const size_t len = (size_t)snprintf(out, room, "%.*f", precision, real * 100);
        out[len] = '%';
        return len + 1;
    }
    format[4] = s->type == 'n' ? 'g' : s->type;
    if (!s->alternate) {
        format[1] = '%';
        start = format + 1;
    }
    return (size_t)snprintf(out, room, start, precision, real);
}

static bool emit_float(cn_run *run, const spec *s, double real)
{
    const size_t room = 400 + (s->precision > 0 ? (size_t)s->precision : 0);
    char *out = cn_template_run_take(run, room, 1);
    if (!out) return false;
    const bool negative = signbit(real) && !isnan(real);
    const char head = negative ? '-' : s->sign == '-' ? 0 : s->sign;
    cn_text body = {out, write_float(fabs(real), s, out, room)};
    body = grouped(run, body, s->group, 3);
    return !run->code && emit_padded(run, s, (cn_text){&head, head != 0}, body, '>');
}

static bool emit_string(cn_run *run, const spec *s, cn_text text)
{
    if (s->precision >= 0) text.len = cn_template_value_offset(text, (size_t)s->precision);
    return emit_padded(run, s, (cn_text){"", 0}, text, '<');
}

// A number that is at `*at`; false if it is too large.
static bool read_number(cn_run *run, cn_text text, size_t *at, int64_t *out)
{
    int64_t number = 0;
    for (; *at < text.len && text.at[*at] >= '0' && text.at[*at] <= '9'; (*at)++) {
        number = number * 10 + (text.at[*at] - '0');
        if (number <= CN_FORMAT_WIDTH_MAX) continue;
        cn_template_run_invalid(run, "a format is wider than %d", CN_FORMAT_WIDTH_MAX);
        return false;
    }
    *out = number;
    return true;
}

// Percent style

typedef struct percent {
    cn_text text;
    size_t at;
    cn_value values;
    uint32_t used;               // of a tuple; of one value 0 or 1
} percent;

static bool next_value(cn_run *run, percent *p, cn_value *out)
{
    if (p->values.kind == CN_TUPLE && p->used < p->values.len) {
        *out = p->values.as.items[p->used++];
        return true;
    }
    if (p->values.kind != CN_TUPLE && !p->used) {
        *out = p->values;
        p->used = 1;
        return true;
    }
    cn_template_run_invalid(run, "not enough arguments for format string");
    return false;
}

static bool keyed_value(cn_run *run, percent *p, cn_value *out)
{
    const char *from = p->text.at + p->at + 1;
    const char *end = memchr(from, ')', p->text.len - p->at - 1);
    if (!end || p->values.kind != CN_DICT) {
        cn_template_run_invalid(run, end ? "format requires a mapping" : "incomplete format key");
        return false;
    }
    const cn_text key = {from, (size_t)(end - from)};
    const cn_entry *entry = cn_template_value_find_text(run, p->values.as.dict, key);
    if (!entry) {
        cn_template_run_invalid(run, "there is no '%.*s' to format",
                                key.len < 60 ? (int)key.len : 60, key.at);
        return false;
    }
    *out = entry->value;
    p->at = (size_t)(end + 1 - p->text.at);
    return true;
}

// Width or precision: digits, or * for the next value.
static bool percent_number(cn_run *run, percent *p, int64_t *out)
{
    cn_value v;
    if (p->at >= p->text.len || p->text.at[p->at] != '*') {
        return read_number(run, p->text, &p->at, out);
    }
    p->at++;
    if (!next_value(run, p, &v)) return false;
    if (!is_whole(v) || whole_of(v) > CN_FORMAT_WIDTH_MAX || whole_of(v) < -CN_FORMAT_WIDTH_MAX) {
        cn_template_run_invalid(run, "* wants an int up to %d", CN_FORMAT_WIDTH_MAX);
        return false;
    }
    *out = whole_of(v);
    return true;
}

static bool percent_spec(cn_run *run, percent *p, spec *s)
{
    bool zero = false;
    *s = (spec){.fill = {" ", 1}, .precision = -1, .align = '>'};
    for (; p->at < p->text.len; p->at++) {
        const char c = p->text.at[p->at];
        if (c == '-') s->align = '<';
        else if (c == '+') s->sign = '+';
        else if (c == ' ') s->sign = s->sign ? s->sign : ' ';
        else if (c == '#') s->alternate = true;
        else if (c == '0') zero = true;
        else break;
    }
    if (!percent_number(run, p, &s->width)) return false;
    if (s->width < 0) {
        s->align = '<';
        s->width = -s->width;
    }
    if (p->at < p->text.len && p->text.at[p->at] == '.') {
        p->at++;
        if (!percent_number(run, p, &s->precision)) return false;
        if (s->precision < 0) s->precision = 0;
    }
    while (p->at < p->text.len && strchr("hlL", p->text.at[p->at])) p->at++;
    if (p->at >= p->text.len) {
        cn_template_run_invalid(run, "incomplete format");
        return false;
    }
    s->type = p->text.at[p->at++];
    if (zero && s->align != '<' && strchr("dioxXeEfFgGu", s->type)) {
        s->align = '=';
        s->fill = (cn_text){"0", 1};
    }
    return true;
}

static bool percent_whole(cn_run *run, spec *s, cn_value v)
{
    int64_t whole;
    if (is_whole(v)) {
        whole = whole_of(v);
    } else if (v.kind == CN_FLOAT && strchr("diu", s->type)) {
        if (!(fabs(v.as.real) < 0x1p63)) return invalid(run, "an integer is beyond 64 bits");
        whole = (int64_t)v.as.real;
    } else {
        return bad_type(run, s, v);
    }
    return emit_int(run, s, whole);
}

static bool percent_char(cn_run *run, spec *s, cn_value v)
{
    char bytes[4];
    s->precision = -1;
    if (is_string(v) && cn_template_value_points(text_of(v)) == 1) {
        return emit_string(run, s, text_of(v));
    }
    if (!is_whole(v) || whole_of(v) < 0 || whole_of(v) > 0x10FFFF) return bad_type(run, s, v);
    const int len = cn_template_unicode_encode((uint32_t)whole_of(v), bytes);
    return emit_string(run, s, (cn_text){bytes, (size_t)len});
}

static bool percent_text(cn_run *run, const spec *s, cn_value v)
{
    cn_value text = v;
    if (s->type == 's') {
        text = cn_template_text_string(run, v);
    } else {
        const size_t mark = cn_template_run_begin(run);
        cn_template_text_repr(run, v);
        text = cn_template_run_end(run, mark);
    }
    return !is_bad(text) && emit_string(run, s, text_of(text));
}

static bool percent_value(cn_run *run, spec *s, cn_value v)
{
    switch (s->type) {
    case 's':
    case 'r': return percent_text(run, s, v);
    case 'c': return percent_char(run, s, v);
    case 'd':
    case 'i':
    case 'u':
    case 'o':
    case 'x':
    case 'X': return percent_whole(run, s, v);
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
        if (is_number(v)) return emit_float(run, s, real_of(v));
        if (is_undefined(v)) cn_template_run_undefined(run, v);
        return bad_type(run, s, v);
    default:
        cn_template_run_invalid(run, "unsupported format character '%c'", s->type);
        return false;
    }
}

// Behind a percent sign.
static bool percent_item(cn_run *run, percent *p)
{
    spec s;
    cn_value v = make_missing();
    if (p->at < p->text.len && p->text.at[p->at] == '%') {
        p->at++;
        return emit(run, "%", 1);
    }
    if (p->at < p->text.len && p->text.at[p->at] == '(' && !keyed_value(run, p, &v)) return false;
    if (!percent_spec(run, p, &s)) return false;
    if (is_missing(v) && !next_value(run, p, &v)) return false;
    return percent_value(run, &s, v);
}

static bool percent_all(cn_run *run, percent *p)
{
    while (p->at < p->text.len) {
        const char *rest = p->text.at + p->at;
        const char *sign = memchr(rest, '%', p->text.len - p->at);
        const size_t plain = sign ? (size_t)(sign - rest) : p->text.len - p->at;
        if (!emit(run, rest, plain)) return false;
        p->at += plain + (sign != NULL);
        if (sign && !percent_item(run, p)) return false;
    }
    return true;
}

// Whether values were not used. What has items by index counts as a mapping, which need not be.
static bool is_left(const percent *p)
{
    switch (p->values.kind) {
    case CN_TUPLE: return p->used < p->values.len;
    case CN_UNDEFINED:
    case CN_DICT:
    case CN_LIST:
    case CN_RANGE: return false;
    default: return !p->used;
    }
}

cn_value cn_template_format_percent(cn_run *run, cn_value text, cn_value values)
{
    percent p = {.text = text_of(text), .values = values};
    const size_t mark = cn_template_run_begin(run);
    if (percent_all(run, &p) && is_left(&p)) {
        cn_template_run_invalid(run, "not all arguments converted during string formatting");
    }
    return cn_template_run_end(run, mark);
}

// Braces style

typedef struct braces {
    cn_text text;
    size_t at;
    const cn_args *args;         // the first positional one is the text itself
    int64_t next;                // number of the next {}; -1 once fields are numbered by hand
    int depth;
} braces;

static bool numbered(cn_run *run, braces *b, int64_t number, cn_value *out)
{
    if (number + 1 >= b->args->positional_count) {
        return invalid(run, "a replacement index is out of range for positional arguments");
    }
    *out = b->args->positional[number + 1];
    return true;
}

static size_t until(cn_text text, size_t at, const char *stops)
{
    while (at < text.len && !(text.at[at] && strchr(stops, text.at[at]))) at++;
    return at;
}

static bool first_value(cn_run *run, braces *b, cn_text name, cn_value *out)
{
    size_t at = 0;
    int64_t number;
    if (!name.len) {
        if (b->next < 0) return invalid(run, "fields are numbered both by hand and automatically");
        return numbered(run, b, b->next++, out);
    }
    if (name.at[0] >= '0' && name.at[0] <= '9') {
        if (!read_number(run, name, &at, &number)) return false;
        if (at == name.len) {
            if (b->next > 0) {
                return invalid(run, "fields are numbered both by hand and automatically");
            }
            b->next = -1;
            return numbered(run, b, number, out);
        }
    }
    for (uint32_t i = 0; i < b->args->named_count; i++) {
        const cn_named *named = &b->args->named[i];
        if (!text_equal(named->name, name)) continue;
        *out = named->value;
        return true;
    }
    cn_template_run_invalid(run, "there is no '%.*s' to format",
                            name.len < 60 ? (int)name.len : 60, name.at);
    return false;
}

static bool all_digits(cn_text text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] < '0' || text.at[i] > '9') return false;
    }
    return text.len > 0;
}

// name, then .attribute and [item]; stops at ! : or }.
static bool field_value(cn_run *run, braces *b, cn_value *out)
{
    size_t end = until(b->text, b->at, ".[!:}{");
    if (!first_value(run, b, (cn_text){b->text.at + b->at, end - b->at}, out)) return false;
    while (end < b->text.len && (b->text.at[end] == '.' || b->text.at[end] == '[')) {
        const bool is_item = b->text.at[end] == '[';
        const size_t from = end + 1;
        end = until(b->text, from, is_item ? "]" : ".[!:}{");
        const cn_text part = {b->text.at + from, end - from};
        cn_value index = make_text(part.at, part.len);
        size_t at = 0;
        int64_t number;
        if (is_item && all_digits(part)) {
            if (!read_number(run, part, &at, &number)) return false;
            index = make_int(number);
        }
        *out = is_item ? cn_template_ops_item(run, *out, index)
                       : cn_template_ops_member_or_item(run, *out, part);
        if (is_bad(*out)) return false;
        end += is_item && end < b->text.len;
    }
    b->at = end;
    return true;
}

static bool converted(cn_run *run, braces *b, cn_value *v)
{
    if (b->at >= b->text.len || b->text.at[b->at] != '!') return true;
    const char conversion = b->at + 1 < b->text.len ? b->text.at[b->at + 1] : 0;
    b->at += 2;
    if (conversion == 's') {
        *v = cn_template_text_string(run, *v);
    } else if (conversion == 'r') {
        const size_t mark = cn_template_run_begin(run);
        cn_template_text_repr(run, *v);
        *v = cn_template_run_end(run, mark);
    } else {
        return invalid(run, "unknown conversion in a format; expected !s or !r");
    }
    return !is_bad(*v);
}

static bool parse_spec(cn_run *run, cn_text text, spec *s)
{
    size_t at = 0;
    *s = (spec){.fill = {" ", 1}, .precision = -1};
    const size_t first = text.len ? cn_template_value_offset(text, 1) : 0;
    const bool filled = first < text.len && strchr("<>=^", text.at[first]);
    if (filled) {
        s->fill = (cn_text){text.at, first};
        s->align = text.at[first];
        at = first + 1;
    } else if (text.len && strchr("<>=^", text.at[0])) {
        s->align = text.at[at++];
    }
    if (at < text.len && strchr("+- ", text.at[at])) {
        s->sign = text.at[at++];
    }
    if (at < text.len && text.at[at] == '#') {
        s->alternate = true;
        at++;
    }
    if (at < text.len && text.at[at] == '0') {
        if (!filled) s->fill = (cn_text){"0", 1};
        if (!s->align) s->align = '=';
        at++;
    }
    if (!read_number(run, text, &at, &s->width)) return false;
    if (at < text.len && (text.at[at] == ',' || text.at[at] == '_')) s->group = text.at[at++];
    if (at < text.len && text.at[at] == '.') {
        const size_t digits = ++at;
        if (!read_number(run, text, &at, &s->precision)) return false;
        if (at == digits) return invalid(run, "a format misses its precision");
    }
    if (at < text.len) s->type = text.at[at++];
    return at == text.len || invalid(run, "invalid format specifier");
}

// What Python refuses, and the two that are not worth their code.
static bool is_odd(cn_run *run, const spec *s, cn_value v)
{
    if (s->group && (s->type == 'n' || s->type == 'c')) {
        invalid(run, "a format has a group separator where none is allowed");
    } else if (s->type == 'c' && (s->alternate || s->sign)) {
        invalid(run, "a format of a character has a sign or '#'");
    } else if (s->group && s->align == '=' && text_is(s->fill, "0")) {
        invalid(run, "a format with group separators and leading zeros is not supported");
    } else if (s->group == ',' && s->type && strchr("boxX", s->type)) {
        invalid(run, "a format groups such numbers with '_', not ','");
    } else if (s->alternate && (s->type == '%' || (!s->type && v.kind == CN_FLOAT))) {
        invalid(run, "'#' in a format of a float wants a type from e, f and g");
    }
    return run->code != CN_OK;
}

static bool emit_with_spec(cn_run *run, const spec *s, cn_value v)
{
    const bool numeric = s->type && strchr("bcdoxXn", s->type);
    const bool real = s->type && strchr("eEfFgG%", s->type);
    if (is_string(v)) {
        if ((s->type && s->type != 's') || s->group || s->sign || s->alternate) {
            return bad_type(run, s, v);
        }
        spec plain = *s;
        if (s->align == '=') {
            if (!text_is(s->fill, "0")) return invalid(run, "'=' alignment is not allowed for str");
            plain.align = '<';
        }
        return emit_string(run, &plain, text_of(v));
    }
    if (is_whole(v) && (numeric || !s->type)) {
        char bytes[4];
        if (s->precision >= 0) return invalid(run, "precision is not allowed for int");
        if (s->type != 'c') return emit_int(run, s, whole_of(v));
        if (whole_of(v) < 0 || whole_of(v) > 0x10FFFF) return bad_type(run, s, v);
        const int len = cn_template_unicode_encode((uint32_t)whole_of(v), bytes);
        return emit_padded(run, s, (cn_text){"", 0}, (cn_text){bytes, (size_t)len}, '<');
    }
    if (is_number(v) && (real || ((!s->type || s->type == 'n') && v.kind == CN_FLOAT))) {
        return emit_float(run, s, real_of(v));
    }
    return bad_type(run, s, v);
}

static bool braces_all(cn_run *run, braces *b);

// The text of a spec, with the fields in it replaced.
static bool spec_text(cn_run *run, braces *b, cn_text *out)
{
    const size_t from = b->at;
    for (int open = 1; b->at < b->text.len; b->at++) {
        if (b->text.at[b->at] == '{') open++;
        if (b->text.at[b->at] == '}' && --open == 0) break;
    }
    *out = (cn_text){b->text.at + from, b->at - from};
    if (!out->len || !memchr(out->at, '{', out->len)) return true;
    if (b->depth) return invalid(run, "formats are nested too deeply");
    braces inner = {.text = *out, .args = b->args, .next = b->next, .depth = b->depth + 1};
    const size_t mark = cn_template_run_begin(run);
    braces_all(run, &inner);
    const cn_value text = cn_template_run_end(run, mark);
    b->next = inner.next;
    *out = text_of(text);
    return !is_bad(text);
}

// Behind an opening brace, up to and with the closing one.
static bool braces_field(cn_run *run, braces *b)
{
    cn_value v;
    cn_text text = {"", 0};
    spec s;
    if (!field_value(run, b, &v) || !converted(run, b, &v)) return false;
    if (b->at < b->text.len && b->text.at[b->at] == ':') {
        b->at++;
        if (!spec_text(run, b, &text)) return false;
    }
    if (b->at >= b->text.len || b->text.at[b->at] != '}') {
        return invalid(run, "expected '}' in a format");
    }
    b->at++;
    if (!text.len) return cn_template_text_str(run, v);
    return parse_spec(run, text, &s) && !is_odd(run, &s, v) && emit_with_spec(run, &s, v);
}

static bool braces_all(cn_run *run, braces *b)
{
    while (b->at < b->text.len) {
        const size_t brace = until(b->text, b->at, "{}");
        if (!emit(run, b->text.at + b->at, brace - b->at)) return false;
        b->at = brace;
        if (brace == b->text.len) return true;
        const char c = b->text.at[b->at++];
        if (b->at < b->text.len && b->text.at[b->at] == c) {
            if (!emit(run, &c, 1)) return false;
            b->at++;
        } else if (c == '}') {
            return invalid(run, "single '}' in a format");
        } else if (!cn_template_run_charge(run, 1) || !braces_field(run, b)) {
            return false;
        }
    }
    return true;
}

cn_value cn_template_format_braces(cn_run *run, cn_text text, const cn_args *args)
{
    braces b = {.text = text, .args = args};
    const size_t mark = cn_template_run_begin(run);
    braces_all(run, &b);
    return cn_template_run_end(run, mark);
}
