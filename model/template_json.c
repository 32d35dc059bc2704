#include "model/template_json_int.h"

#include <math.h>
#include <stdio.h>

#include "model/template_sort_int.h"
#include "model/template_text_int.h"
#include "model/template_unicode_int.h"

static bool emit(cn_run *run, const char *text) { return cn_template_run_emit_text(run, text); }

static bool emit_text(cn_run *run, cn_text text)
{
    return cn_template_run_emit(run, text.at, text.len);
}

static bool emit_unicode_escape(cn_run *run, uint32_t point)
{
    char text[16];
    int len;
    if (point < 0x10000) {
        len = snprintf(text, sizeof text, "\\u%04x", point);
    } else {
        point -= 0x10000;
        len = snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xD800 + (point >> 10),
                       0xDC00 + (point & 0x3FF));
    }
    return cn_template_run_emit(run, text, (size_t)len);
}

// Writes `point` escaped if JSON or the style wants that; false in *escaped if it may stay.
static bool emit_escaped(cn_run *run, uint32_t point, bool ascii_only, bool *escaped)
{
    static const char named[] = "\"\\\"\\\\\\\n\\n\r\\r\t\\t\f\\f\b\\b";
    *escaped = true;
    for (const char *entry = named; point < 0x80 && *entry; entry += 3) {
        if (point == (unsigned char)*entry) return cn_template_run_emit(run, entry + 1, 2);
    }
    if (point < 0x20 || (ascii_only && point > 0x7E)) return emit_unicode_escape(run, point);
    *escaped = false;
    return true;
}

static bool write_string(cn_run *run, cn_text text, bool ascii_only)
{
    size_t plain = 0, len = 1;
    if (!emit(run, "\"")) return false;
    for (size_t at = 0; at < text.len; at += len) {
        const unsigned char c = (unsigned char)text.at[at];
        bool escaped = false;
        len = 1;
        if (c >= 0x20 && c != '"' && c != '\\' && (!ascii_only || c < 0x7F)) continue;
        const uint32_t point =
            cn_template_unicode_decode((cn_text){text.at + at, text.len - at}, &len);
        if (!cn_template_run_emit(run, text.at + plain, at - plain)) return false;
        plain = at;
        if (!emit_escaped(run, point, ascii_only, &escaped)) return false;
        if (escaped) plain = at + len;
    }
    return cn_template_run_emit(run, text.at + plain, text.len - plain) && emit(run, "\"");
}

static bool write_float(cn_run *run, double real)
{
    if (isnan(real)) return emit(run, "NaN");
    if (isinf(real)) return emit(run, real < 0 ? "-Infinity" : "Infinity");
    return cn_template_text_str(run, make_float(real));
}

static bool break_line(cn_run *run, const cn_json_style *style, uint32_t level)
{
    if (!style->lines) return true;
    if (!emit(run, "\n")) return false;
    for (uint32_t i = 0; i < level; i++) {
        if (!emit_text(run, style->indent)) return false;
    }
    return true;
}

static bool write_value(cn_run *run, cn_value v, const cn_json_style *style, uint32_t level);

static bool write_key(cn_run *run, cn_value key, const cn_json_style *style)
{
    switch (key.kind) {
    case CN_STRING: return write_string(run, text_of(key), style->ascii_only);
    case CN_NONE:
    case CN_BOOL:
    case CN_INT:
    case CN_FLOAT: return emit(run, "\"") && write_value(run, key, style, 0) && emit(run, "\"");
    default:
        cn_template_run_invalid(run, "keys must be str, int, float, bool or None, not %s",
                                cn_template_value_type(key));
        return false;
    }
}

static bool write_dict(cn_run *run, cn_value v, const cn_json_style *style, uint32_t level)
{
    const cn_dict *dict = v.as.dict;
    if (!dict->count) return emit(run, "{}");
    cn_value items = (cn_value){.kind = CN_VIEW, .flags = CN_VIEW_ITEMS, .as.dict = v.as.dict};
    if (style->sorted) {
        items = cn_template_sort_items(run, items, false, NULL, NULL);
        if (is_bad(items)) return false;
    }
    cn_walk walk;
    cn_value pair;
    if (!emit(run, "{") || !cn_template_value_walk(run, items, &walk)) return false;
    for (bool first = true; cn_template_value_next(run, &walk, &pair); first = false) {
        if (!first && !emit_text(run, style->item_separator)) return false;
        if (!break_line(run, style, level + 1) || !write_key(run, pair.as.items[0], style) ||
            !emit_text(run, style->key_separator) ||
            !write_value(run, pair.as.items[1], style, level + 1)) {
            return false;
        }
    }
    return break_line(run, style, level) && emit(run, "}");
}

static bool write_list(cn_run *run, cn_value v, const cn_json_style *style, uint32_t level)
{
    if (!v.len) return emit(run, "[]");
    if (!emit(run, "[")) return false;
    for (uint32_t i = 0; i < v.len; i++) {
        if (i && !emit_text(run, style->item_separator)) return false;
        if (!break_line(run, style, level + 1)) return false;
        if (!write_value(run, v.as.items[i], style, level + 1)) return false;
    }
    return break_line(run, style, level) && emit(run, "]");
}

static bool write_value(cn_run *run, cn_value v, const cn_json_style *style, uint32_t level)
{
    bool ok;
    switch (v.kind) {
    case CN_NONE: return emit(run, "null");
    case CN_BOOL: return emit(run, v.as.integer ? "true" : "false");
    case CN_INT: return cn_template_text_str(run, v);
    case CN_FLOAT: return write_float(run, v.as.real);
    case CN_STRING: return write_string(run, text_of(v), style->ascii_only);
    case CN_LIST:
    case CN_TUPLE:
    case CN_DICT: break;
    default:
        cn_template_run_invalid(run, "Object of type %s is not JSON serializable",
                                cn_template_value_type(v));
        return false;
    }
    if (!cn_template_run_charge(run, 1) || !cn_template_run_enter(run)) return false;
    ok = v.kind == CN_DICT ? write_dict(run, v, style, level) : write_list(run, v, style, level);
    leave(run);
    return ok;
}

bool cn_template_json_write(cn_run *run, cn_value v, const cn_json_style *style)
{
    return write_value(run, v, style, 0);
}
