#include "model/template_numbers_int.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "model/template_strings_int.h"

enum { NUMBER_BYTES_MAX = 400 };

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Copies a number without white space around it and without the single underscores between digits;
 * false if an underscore stands elsewhere. */
static bool plain_number(cn_text text, char out[NUMBER_BYTES_MAX])
{
    size_t len = 0;
    text = cn_template_strings_strip(text, (cn_text){0}, CN_STRIP_LEFT | CN_STRIP_RIGHT);
    if (!text.len || text.len >= NUMBER_BYTES_MAX) return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] != '_') {
            out[len++] = text.at[i];
        } else if (!i || i + 1 == text.len || text.at[i - 1] == '_' || text.at[i + 1] == '_' ||
                   text.at[i - 1] == '.' || text.at[i + 1] == '.') {
            return false;
        }
    }
    out[len] = '\0';
    return strlen(out) == len;
}

static bool has_prefix(const char *digits, int base)
{
    const char letter = (char)(digits[1] | 32);
    return digits[0] == '0' && ((base == 16 && letter == 'x') || (base == 8 && letter == 'o') ||
                                (base == 2 && letter == 'b'));
}

bool cn_template_numbers_int(cn_text text, int base, int64_t *out)
{
    char plain[NUMBER_BYTES_MAX];
    char *end;
    if (base < 2 || base > 36 || !plain_number(text, plain)) return false;
    char *digits = plain + (plain[0] == '+' || plain[0] == '-');
    if (has_prefix(digits, base)) {
        // strtoll knows 0x only; the sign moves behind what is cut.
        const char sign = plain[0];
        digits += 2;
        if (digits[0] == '+' || digits[0] == '-' || digits[0] == '\0') return false;
        if (sign == '-') *--digits = '-';
    } else {
        if (digits[0] == '+' || digits[0] == '-' || digits[0] == ' ') return false;
        digits = plain;
    }
    errno = 0;
    *out = strtoll(digits, &end, base);
    return errno == 0 && end != digits && *end == '\0';
}

bool cn_template_numbers_float(cn_text text, double *out)
{
    char plain[NUMBER_BYTES_MAX];
    char *end;
    if (!plain_number(text, plain)) return false;
    const char *digits = plain + (plain[0] == '+' || plain[0] == '-');
    const bool is_word = !strcasecmp(digits, "inf") || !strcasecmp(digits, "infinity") ||
                         !strcasecmp(digits, "nan");
    if (!is_word) {
        if (!is_digit(digits[0]) && digits[0] != '.') return false;
        if (strpbrk(digits, "xXpP")) return false;
    }
    *out = strtod(plain, &end);
    return end != plain && *end == '\0';
}

double cn_template_numbers_round(double real, int64_t digits)
{
    char text[700];
    if (!isfinite(real) || digits > 323) return real;
    if (digits < -308) return copysign(0, real);
    if (digits < 0) {
        const long double scale = powl(10, (long double)-digits);
        return (double)(rintl((long double)real / scale) * scale);
    }
    // printf rounds the exact value, ties to even: so does Python.
    snprintf(text, sizeof text, "%.*f", (int)digits, real);
    return strtod(text, NULL);
}

int64_t cn_template_numbers_round_int(int64_t whole, int64_t digits)
{
    if (digits < -18) return 0;
    int64_t scale = 1;
    for (; digits < 0; digits++) scale *= 10;
    const int64_t rest = whole % scale;
    const int64_t low = rest < 0 ? whole - rest - scale : whole - rest;
    const int64_t above = whole - low;                   // 0 to scale - 1
    const bool up = above > scale / 2 || (above == scale / 2 && scale > 1 && (low / scale) % 2);
    return up ? low + scale : low;
}
