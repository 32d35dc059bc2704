#include "model/tokenizer_unicode_int.h"

#include <ctype.h>
#include <string.h>

#include <utf8proc.h>

enum {                       // categories of the generated table
    NEW_LU, NEW_LL, NEW_LM, NEW_LO, NEW_HAN, NEW_MN, NEW_MC, NEW_ND, NEW_NO,
    NEW_PD, NEW_PO, NEW_SM, NEW_SO, NEW_CF, NEW_COUNT,
};

#include "model/tokenizer_unicode_table_int.h"

/* Characters old enough for every PCRE2 that has Unicode properties, by category and length; NULL
 * where the table has no such character. */
static const char *const stand_ins[NEW_COUNT][2] = {
    [NEW_LU] = {"\u1E00", "\U00010400"}, [NEW_LL] = {"\u1E01", "\U00010428"},
    [NEW_LM] = {"\u1D2C", "\U00016B40"}, [NEW_LO] = {"\uA000", "\U00010000"},
    [NEW_HAN] = {"\u4E00", "\U00020000"}, [NEW_MN] = {"\u20D0", "\U0001D167"},
    [NEW_MC] = {"\u0903", "\U0001D165"}, [NEW_ND] = {"\uFF10", "\U0001D7CE"},
    [NEW_NO] = {"\u2460", "\U00010107"}, [NEW_PD] = {"\u2010", "\U00010EAD"},
    [NEW_PO] = {"\u2020", "\U00010100"}, [NEW_SM] = {"\u2200", "\U0001D6C1"},
    [NEW_SO] = {"\u2100", "\U00010137"}, [NEW_CF] = {"\u200B", "\U000E0001"},
};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static const cn_tokenizer_unicode_range *find(const cn_tokenizer_unicode_range *ranges,
                                              size_t count, int32_t c)
{
    size_t low = 0, high = count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (ranges[middle].last < c) low = middle + 1;
        else high = middle;
    }
    return low < count && ranges[low].first <= c ? &ranges[low] : NULL;
}

bool cn_tokenizer_unicode_is_space(int32_t c)
{
    if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool cn_tokenizer_unicode_is_numeric(int32_t c)
{
    if (c < 0x80) return c >= '0' && c <= '9';
    const cn_tokenizer_unicode_range *other = find(numeric, COUNT(numeric), c);
    if (other) return other->value;
    const utf8proc_category_t category = utf8proc_category(c);
    return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}

bool cn_tokenizer_unicode_is_punctuation(int32_t c)
{
    if (c < 0x80) return ispunct(c);
    const cn_tokenizer_unicode_range *other = find(punctuation, COUNT(punctuation), c);
    if (other) return other->value;
    const utf8proc_category_t category = utf8proc_category(c);
    return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

// Alphabetic symbols that are no letters: enclosed and squared Latin letters.
static bool is_alphabetic_symbol(int32_t c)
{
    return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
           (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
}

bool cn_tokenizer_unicode_is_word(int32_t c)
{
    const cn_tokenizer_unicode_range *other = find(newer, COUNT(newer), c);
    if (other) return other->value <= NEW_ND;
    if (c == 0x200C || c == 0x200D || is_alphabetic_symbol(c)) return true;
    const utf8proc_category_t category = utf8proc_category(c);
    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) ||
           category == UTF8PROC_CATEGORY_PC;
}

int cn_tokenizer_unicode_lower(int32_t c, int32_t out[2])
{
    const cn_tokenizer_unicode_range *other = c < 0x80 ? NULL : find(lower, COUNT(lower), c);
    out[0] = other ? c + other->value : utf8proc_tolower(c);
    if (c != 0x130) return 1;
    out[1] = 0x307;          // the one character whose lower case is two: i with a dot above
    return 2;
}

bool cn_tokenizer_unicode_is_inert(int32_t c)
{
    return c >= inert[0].first && find(inert, COUNT(inert), c);
}

/* U+180E is a space for PCRE2's \s and is not one since Unicode 6.3. */
static const char *stand_in(int32_t c, size_t step)
{
    if (c == 0x180E) return stand_ins[NEW_CF][0];
    if (c < newer[0].first) return NULL;
    const cn_tokenizer_unicode_range *range = find(newer, COUNT(newer), c);
    return range ? stand_ins[range->value][step - 3] : NULL;
}

/* Most three-byte text is CJK or Hangul, where nothing is new; it needs no search. */
static bool may_be_new(unsigned char lead)
{
    return lead >= 0xF0 || (lead >= 0xE0 && lead <= 0xE3) || lead == 0xEA;
}

const char *cn_tokenizer_unicode_shadow(const char *text, size_t len, cn_arena *arena)
{
    char *copy = NULL;
    for (size_t at = 0; at < len;) {
        const unsigned char lead = (unsigned char)text[at];
        size_t step = cn_tokenizer_unicode_step(text + at);
        const char *other = NULL;
        if (may_be_new(lead)) other = stand_in(cn_tokenizer_unicode_at(text + at, &step), step);
        if (other) {
            if (!copy) copy = cn_arena_copy(arena, text, len);
            if (!copy) return NULL;
            memcpy(copy + at, other, step);
        }
        at += step;
    }
    return copy ? copy : text;
}
