#include "model/template_text_int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/template_eval_int.h"
#include "model/template_unicode_int.h"

enum { FLOAT_BYTES = 32 };       // the longest, -1.2345678901234567e-308, has 24

static bool emit(cn_run *run, const char *text) { return cn_template_run_emit_text(run, text); }

static bool emit_int(cn_run *run, int64_t integer)
{
    char text[24];
    return cn_template_run_emit(run, text,
                                (size_t)snprintf(text, sizeof text, "%lld", (long long)integer));
}

// Fixed notation of `count` digits with the point behind digit `point` (may be outside).
static size_t write_fixed(const char *digits, int count, int point, char *out)
{
    size_t len = 0;
    if (point <= 0) {
        out[len++] = '0';
        out[len++] = '.';
        for (int i = point; i < 0; i++) out[len++] = '0';
    }
    for (int i = 0; i < count || i < point; i++) {
        if (i == point && i > 0) out[len++] = '.';
        out[len++] = i < count ? digits[i] : '0';
    }
    if (point >= count) {
        out[len++] = '.';
        out[len++] = '0';
    }
    return len;
}

size_t cn_template_text_float(double real, char *out)
{
    char digits[24], shortest[32];
    if (!isfinite(real)) {
        return (size_t)snprintf(out, FLOAT_BYTES, isnan(real) ? "nan" : real < 0 ? "-inf" : "inf");
    }
    for (int precision = 0; precision < 17; precision++) {
        snprintf(shortest, sizeof shortest, "%.*e", precision, fabs(real));
        if (strtod(shortest, NULL) == fabs(real)) break;
    }
    int count = 0;
    const char *at = shortest;
    for (; *at && *at != 'e'; at++) {
        if (*at != '.') digits[count++] = *at;
    }
    const int exponent = atoi(at + 1);
    while (count > 1 && digits[count - 1] == '0') count--;
    size_t len = 0;
    if (signbit(real)) out[len++] = '-';
    if (exponent >= -4 && exponent < 16) {
        return len + write_fixed(digits, count, exponent + 1, out + len);
    }
    out[len++] = digits[0];
    if (count > 1) out[len++] = '.';
    memcpy(out + len, digits + 1, (size_t)count - 1);
    len += (size_t)count - 1;
    return len + (size_t)snprintf(out + len, FLOAT_BYTES - len, "e%c%02d", exponent < 0 ? '-' : '+',
                                  abs(exponent));
}

static bool emit_float(cn_run *run, double real)
{
    char text[40];
    return cn_template_run_emit(run, text, cn_template_text_float(real, text));
}

static bool emit_items(cn_run *run, cn_value v, const char *open, const char *close)
{
    if (!emit(run, open)) return false;
    for (uint32_t i = 0; i < v.len; i++) {
        if (i && !emit(run, ", ")) return false;
        if (!cn_template_text_repr(run, v.as.items[i])) return false;
    }
    if (v.kind == CN_TUPLE && v.len == 1 && !emit(run, ",")) return false;
    return emit(run, close);
}

static bool emit_dict(cn_run *run, const cn_dict *dict)
{
    if (!emit(run, "{")) return false;
    for (uint32_t i = 0; i < dict->count; i++) {
        if (i && !emit(run, ", ")) return false;
        if (!cn_template_text_repr(run, dict->entries[i].key) || !emit(run, ": ") ||
            !cn_template_text_repr(run, dict->entries[i].value)) {
            return false;
        }
    }
    return emit(run, "}");
}

static bool emit_view(cn_run *run, cn_value v)
{
    const cn_value list = cn_template_value_list(run, v);
    return !is_bad(list) && emit(run, cn_template_value_type(v)) &&
           emit_items(run, list, "([", "])");
}

static bool emit_range(cn_run *run, const cn_range *range)
{
    char text[80];
    int len = snprintf(text, sizeof text, "range(%lld, %lld", (long long)range->start,
                       (long long)range->stop);
    if (range->step != 1) {
        len += snprintf(text + len, sizeof text - (size_t)len, ", %lld", (long long)range->step);
    }
    return cn_template_run_emit(run, text, (size_t)len) && emit(run, ")");
}

static bool emit_object(cn_run *run, cn_value v)
{
    if (v.kind == CN_NAMESPACE) {
        return emit(run, "<Namespace ") && emit_dict(run, v.as.dict) && emit(run, ">");
    }
    if (v.kind == CN_MACRO) {
        const cn_text name = v.as.macro->def->name;
        if (!name.len) return emit(run, "<Macro anonymous>");
        return emit(run, "<Macro ") &&
               cn_template_text_repr(run, make_text(name.at, name.len)) && emit(run, ">");
    }
    return emit(run, "<") && emit(run, cn_template_value_type(v)) && emit(run, " object>");
}

static bool emit_inside(cn_run *run, cn_value v)
{
    switch (v.kind) {
    case CN_NONE: return emit(run, "None");
    case CN_BOOL: return emit(run, v.as.integer ? "True" : "False");
    case CN_INT: return emit_int(run, v.as.integer);
    case CN_FLOAT: return emit_float(run, v.as.real);
    case CN_LIST: return emit_items(run, v, "[", "]");
    case CN_TUPLE: return emit_items(run, v, "(", ")");
    case CN_DICT: return emit_dict(run, v.as.dict);
    case CN_VIEW: return emit_view(run, v);
    case CN_RANGE: return emit_range(run, v.as.range);
    default: return emit_object(run, v);
    }
}

static bool emit_structure(cn_run *run, cn_value v)
{
    if (!cn_template_run_charge(run, 1) || !cn_template_run_enter(run)) return false;
    const bool ok = emit_inside(run, v);
    leave(run);
    return ok;
}

bool cn_template_text_str(cn_run *run, cn_value v)
{
    if (is_bad(v)) return false;
    if (is_string(v)) return cn_template_run_emit(run, v.as.text, v.len);
    return is_undefined(v) || emit_structure(run, v);
}

static bool emit_escape(cn_run *run, uint32_t point)
{
    char text[16];
    const char *format = point < 0x100 ? "\\x%02x" : point < 0x10000 ? "\\u%04x" : "\\U%08x";
    return cn_template_run_emit(run, text, (size_t)snprintf(text, sizeof text, format, point));
}

static bool repr_point(cn_run *run, cn_text text, char quote)
{
    static const char named[] = "\n\\n\r\\r\t\\t\\\\\\";
    size_t len;
    const uint32_t point = cn_template_unicode_decode(text, &len);
    for (const char *entry = named; *entry; entry += 3) {
        if (point == (unsigned char)*entry) return cn_template_run_emit(run, entry + 1, 2);
    }
    if (point == (unsigned char)quote) {
        const char escaped[2] = {'\\', quote};
        return cn_template_run_emit(run, escaped, 2);
    }
    if (!cn_template_unicode_is_printable(point)) return emit_escape(run, point);
    return cn_template_run_emit(run, text.at, len);
}

static bool repr_string(cn_run *run, cn_text text)
{
    const bool has_single = text.len && memchr(text.at, '\'', text.len);
    const bool has_double = text.len && memchr(text.at, '"', text.len);
    const char quote = has_single && !has_double ? '"' : '\'';
    if (!cn_template_run_emit(run, &quote, 1)) return false;
    for (size_t at = 0, len; at < text.len; at += len) {
        const cn_text rest = {text.at + at, text.len - at};
        cn_template_unicode_decode(rest, &len);
        if (!repr_point(run, rest, quote)) return false;
    }
    return cn_template_run_emit(run, &quote, 1);
}

bool cn_template_text_repr(cn_run *run, cn_value v)
{
    if (is_undefined(v)) return emit(run, "Undefined");
    if (!is_string(v)) return emit_structure(run, v);
    if (!(v.flags & CN_MARKUP)) return repr_string(run, text_of(v));
    return emit(run, "Markup(") && repr_string(run, text_of(v)) && emit(run, ")");
}

cn_value cn_template_text_string(cn_run *run, cn_value v)
{
    if (is_string(v) || is_bad(v)) return v;
    if (is_undefined(v)) return make_text("", 0);
    const size_t mark = cn_template_run_begin(run);
    cn_template_text_str(run, v);
    return cn_template_run_end(run, mark);
}

bool cn_template_text_escape(cn_run *run, cn_text text)
{
    static const char special[] = "&<>\"'";
    static const char *const entities[] = {"&amp;", "&lt;", "&gt;", "&#34;", "&#39;"};
    size_t plain = 0;
    for (size_t i = 0; i < text.len; i++) {
        const char *found = text.at[i] ? strchr(special, text.at[i]) : NULL;
        if (!found) continue;
        if (!cn_template_run_emit(run, text.at + plain, i - plain)) return false;
        if (!emit(run, entities[found - special])) return false;
        plain = i + 1;
    }
    return cn_template_run_emit(run, text.at + plain, text.len - plain);
}
