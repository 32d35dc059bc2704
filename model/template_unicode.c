#include "model/template_unicode_int.h"

#include <utf8proc.h>

#include "base/assert.h"
#include "base/utf8.h"
#include "model/template_casing_int.h"
#include "model/template_run_int.h"

uint32_t cn_template_unicode_decode(cn_text text, size_t *len)
{
    CN_ASSERT(text.len > 0);
    const unsigned char *at = (const unsigned char *)text.at;
    *len = 1;
    if (at[0] < 0x80) return at[0];
    const size_t wide = cn_utf8_len(text.at, text.len);
    if (!wide) return 0xFFFD;
    uint32_t point = at[0] & (0xFFu >> (wide + 1));
    for (size_t i = 1; i < wide; i++) point = point << 6 | (at[i] & 0x3F);
    *len = wide;
    return point;
}

int cn_template_unicode_encode(uint32_t point, char *out)
{
    return (int)utf8proc_encode_char((utf8proc_int32_t)point, (utf8proc_uint8_t *)out);
}

bool cn_template_unicode_is_space(uint32_t point)
{
    if (point < 0x80) return (point >= 9 && point <= 13) || (point >= 0x1C && point <= 0x20);
    return point == 0x85 || point == 0xA0 || point == 0x1680 ||
           (point >= 0x2000 && point <= 0x200A) || point == 0x2028 || point == 0x2029 ||
           point == 0x202F || point == 0x205F || point == 0x3000;
}

size_t cn_template_unicode_space(cn_text text)
{
    size_t at = 0, len;
    while (at < text.len) {
        if (!cn_template_unicode_is_space(
                cn_template_unicode_decode((cn_text){text.at + at, text.len - at}, &len))) {
            break;
        }
        at += len;
    }
    return at;
}

size_t cn_template_unicode_space_back(cn_text text)
{
    size_t end = text.len, len;
    while (end > 0) {
        size_t from = end - 1;
        while (from > 0 && ((unsigned char)text.at[from] & 0xC0) == 0x80) from--;
        if (!cn_template_unicode_is_space(
                cn_template_unicode_decode((cn_text){text.at + from, end - from}, &len))) {
            break;
        }
        end = from;
    }
    return text.len - end;
}

static utf8proc_category_t category(uint32_t point)
{
    return utf8proc_category((utf8proc_int32_t)point);
}

bool cn_template_unicode_is_alpha(uint32_t point)
{
    const utf8proc_category_t c = category(point);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

bool cn_template_unicode_is_decimal(uint32_t point)
{
    return category(point) == UTF8PROC_CATEGORY_ND;
}

bool cn_template_unicode_is_digit(uint32_t point)
{
    // Superscripts and circled digits are digits for Python, though not decimals.
    return cn_template_unicode_is_decimal(point) || point == 0xB2 || point == 0xB3 ||
           point == 0xB9 || point == 0x2070 || (point >= 0x2074 && point <= 0x2079) ||
           (point >= 0x2080 && point <= 0x2089) || (point >= 0x2460 && point <= 0x2468);
}

bool cn_template_unicode_is_numeric(uint32_t point)
{
    const utf8proc_category_t c = category(point);
    return c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO;
}

bool cn_template_unicode_is_upper(uint32_t point)
{
    return category(point) == UTF8PROC_CATEGORY_LU || (point >= 0x2160 && point <= 0x216F) ||
           (point >= 0x24B6 && point <= 0x24CF);
}

bool cn_template_unicode_is_lower(uint32_t point)
{
    return category(point) == UTF8PROC_CATEGORY_LL || point == 0xAA || point == 0xBA ||
           (point >= 0x2170 && point <= 0x217F) || (point >= 0x24D0 && point <= 0x24E9);
}

bool cn_template_unicode_is_title(uint32_t point)
{
    return category(point) == UTF8PROC_CATEGORY_LT;
}

bool cn_template_unicode_is_printable(uint32_t point)
{
    if (point < 0x7F) return point >= 0x20;
    switch (category(point)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS: return false;
    default: return true;
    }
}

static bool is_word(uint32_t point)
{
    if (point < 0x80) {
        return (point >= '0' && point <= '9') || ((point | 32) >= 'a' && (point | 32) <= 'z') ||
               point == '_';
    }
    return cn_template_unicode_is_alpha(point) || cn_template_unicode_is_numeric(point);
}

static bool is_mark(uint32_t point)
{
    const utf8proc_category_t c = category(point);
    return c >= UTF8PROC_CATEGORY_MN && c <= UTF8PROC_CATEGORY_ME;
}

static size_t word(cn_text text, bool with_marks)
{
    size_t at = 0, len;
    for (; at < text.len; at += len) {
        const uint32_t point =
            cn_template_unicode_decode((cn_text){text.at + at, text.len - at}, &len);
        if (!is_word(point) && !(with_marks && is_mark(point))) break;
    }
    return at;
}

size_t cn_template_unicode_word(cn_text text) { return word(text, false); }

size_t cn_template_unicode_name(cn_text text) { return word(text, true); }

static bool ends_line(uint32_t point)
{
    return (point >= 0x0A && point <= 0x0D) || (point >= 0x1C && point <= 0x1E) || point == 0x85 ||
           point == 0x2028 || point == 0x2029;
}

size_t cn_template_unicode_line(cn_text text, size_t *end_len)
{
    size_t at = 0, len;
    *end_len = 0;
    for (; at < text.len; at += len) {
        const uint32_t point =
            cn_template_unicode_decode((cn_text){text.at + at, text.len - at}, &len);
        if (!ends_line(point)) continue;
        *end_len = len;
        if (point == '\r' && at + 1 < text.len && text.at[at + 1] == '\n') *end_len = 2;
        return at;
    }
    return at;
}

static bool emit_point(cn_run *run, uint32_t point)
{
    char bytes[4];
    return cn_template_run_emit(run, bytes, (size_t)cn_template_unicode_encode(point, bytes));
}

static bool emit_cased(cn_run *run, uint32_t point, bool title)
{
    for (size_t i = 0; point >= 0x80 && i < sizeof casing_special / sizeof *casing_special; i++) {
        if (casing_special[i].point != point) continue;
        return cn_template_run_emit_text(run, title ? casing_special[i].title
                                                    : casing_special[i].upper);
    }
    const utf8proc_int32_t p = (utf8proc_int32_t)point;
    return emit_point(run, (uint32_t)(title ? utf8proc_totitle(p) : utf8proc_toupper(p)));
}

bool cn_template_unicode_upper(cn_run *run, cn_text text)
{
    size_t len;
    for (size_t at = 0; at < text.len; at += len) {
        const cn_text rest = {text.at + at, text.len - at};
        if (!emit_cased(run, cn_template_unicode_decode(rest, &len), false)) return false;
    }
    return true;
}

static bool is_cased(uint32_t point)
{
    return cn_template_unicode_is_upper(point) || cn_template_unicode_is_lower(point) ||
           cn_template_unicode_is_title(point);
}

static bool is_case_ignorable(uint32_t point)
{
    const utf8proc_category_t c = category(point);
    return c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_ME || c == UTF8PROC_CATEGORY_CF ||
           c == UTF8PROC_CATEGORY_LM || c == UTF8PROC_CATEGORY_SK || point == '\'' ||
           point == '.' || point == ':' || point == 0xB7 || point == 0x2018 || point == 0x2019;
}

// Whether the sigma at `at` ends a word: a cased letter before it, none after.
static bool is_final_sigma(cn_text text, size_t at, size_t len)
{
    size_t from = at;
    bool before = false;
    while (from > 0 && !before) {
        size_t unused;
        do from--;
        while (from > 0 && ((unsigned char)text.at[from] & 0xC0) == 0x80);
        const uint32_t point =
            cn_template_unicode_decode((cn_text){text.at + from, at - from}, &unused);
        if (is_case_ignorable(point)) continue;
        before = is_cased(point);
        break;
    }
    for (size_t i = at + len, step; i < text.len; i += step) {
        const uint32_t point =
            cn_template_unicode_decode((cn_text){text.at + i, text.len - i}, &step);
        if (!is_case_ignorable(point)) return before && !is_cased(point);
    }
    return before;
}

static bool lower_from(cn_run *run, cn_text text, size_t at)
{
    size_t len;
    for (; at < text.len; at += len) {
        const uint32_t point =
            cn_template_unicode_decode((cn_text){text.at + at, text.len - at}, &len);
        uint32_t lower = (uint32_t)utf8proc_tolower((utf8proc_int32_t)point);
        if (point == 0x3A3 && is_final_sigma(text, at, len)) lower = 0x3C2;
        if (!emit_point(run, lower)) return false;
        if (point == 0x130 && !emit_point(run, 0x307)) return false;
    }
    return true;
}

bool cn_template_unicode_lower(cn_run *run, cn_text text)
{
    return lower_from(run, text, 0);
}

bool cn_template_unicode_capitalize(cn_run *run, cn_text text)
{
    size_t len;
    if (!text.len) return true;
    if (!emit_cased(run, cn_template_unicode_decode(text, &len), true)) return false;
    return lower_from(run, text, len);
}
