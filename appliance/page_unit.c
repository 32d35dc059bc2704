#include "appliance/page_int.h"

#include <inttypes.h>
#include <string.h>

#include "base/utf8.h"

void cn_page_unit_text(const char *text, cn_buf *out)
{
    for (const char *at = text; *at; at++) {
        switch (*at) {
        case '&': cn_buf_add_text(out, "&amp;"); break;
        case '<': cn_buf_add_text(out, "&lt;"); break;
        case '>': cn_buf_add_text(out, "&gt;"); break;
        case '"': cn_buf_add_text(out, "&quot;"); break;
        case '\'': cn_buf_add_text(out, "&#39;"); break;
        default: cn_buf_add_char(out, (unsigned char)*at < 0x20 || *at == 0x7f ? ' ' : *at);
        }
    }
}

void cn_page_unit_count(uint64_t value, cn_buf *out)
{
    if (value >= 1000) {
        cn_page_unit_count(value / 1000, out);
        cn_buf_add_format(out, ",%03" PRIu64, value % 1000);
    } else {
        cn_buf_add_u64(out, value);
    }
}

void cn_page_unit_rate(double value, cn_buf *out)
{
    if (value < 0.005) cn_buf_add_char(out, '0');
    else if (value < 0.995) cn_buf_add_format(out, "%.2f", value);
    else if (value < 9.95) cn_buf_add_format(out, "%.1f", value);
    else cn_page_unit_count((uint64_t)(value + 0.5), out);
}

// Three digits that count, and no more.
static void add_scaled(double value, const char *unit, cn_buf *out)
{
    const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    cn_buf_add_format(out, "%.*f %s", decimals, value, unit);
}

void cn_page_unit_time(uint64_t ns, cn_buf *out)
{
    if (ns < 999500) add_scaled((double)ns / 1e3, "µs", out);
    else if (ns < 999500000) add_scaled((double)ns / 1e6, "ms", out);
    else if (ns < 120000000000) add_scaled((double)ns / 1e9, "s", out);
    else cn_page_unit_span(ns / 1000000000, out);
}

void cn_page_unit_bytes(double bytes, cn_buf *out)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int unit = 0;
    while (bytes >= 999.5 && unit < 4) {
        bytes /= 1024;
        unit++;
    }
    if (unit == 0) cn_buf_add_format(out, "%.0f B", bytes);
    else add_scaled(bytes, units[unit], out);
}

void cn_page_unit_span(uint64_t seconds, cn_buf *out)
{
    const uint64_t minutes = seconds / 60, hours = minutes / 60, days = hours / 24;
    if (days) cn_buf_add_format(out, "%" PRIu64 " d %" PRIu64 " h", days, hours % 24);
    else if (hours) cn_buf_add_format(out, "%" PRIu64 " h %" PRIu64 " min", hours, minutes % 60);
    else if (minutes)
        cn_buf_add_format(out, "%" PRIu64 " min %" PRIu64 " s", minutes, seconds % 60);
    else cn_buf_add_format(out, "%" PRIu64 " s", seconds);
}
