#include "appliance/page.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include <sodium.h>

#include "appliance/page_int.h"
#include "base/assert.h"

/* The static file, as it is. The assembler reads it; CMakeLists.txt says that this source depends
 * on it. */
__asm__(".pushsection .rodata\n"
        "page_file:\n.incbin \"" CN_PAGE_FILE "\"\n"
        "page_file_end:\n.byte 0\n.popsection\n");
extern const char page_file[], page_file_end[];

static const char live_begin[] = "<!--live-->\n", live_end[] = "<!--/live-->";

typedef struct piece {
    const char *text;
    size_t len;
} piece;

// The file in three: before the numbers, the numbers, behind them.
static void split(piece out[3])
{
    const char *begin = strstr(page_file, live_begin), *end = strstr(page_file, live_end);
    CN_ASSERT(begin && end);
    out[0] = (piece){page_file, (size_t)(begin - page_file)};
    begin += strlen(live_begin);
    out[1] = (piece){begin, (size_t)(end - begin)};
    end += strlen(live_end);
    out[2] = (piece){end, (size_t)(page_file_end - end)};
}

static void fill(const cn_page *page, piece text, cn_buf *out)
{
    const char *at = text.text, *end = at + text.len;
    for (;;) {
        const char *open = memmem(at, (size_t)(end - at), "{{", 2);
        const char *close = open ? memmem(open, (size_t)(end - open), "}}", 2) : NULL;
        if (!close) break;
        cn_buf_add(out, at, (size_t)(open - at));
        cn_page_value_write(page, open + 2, (size_t)(close - open - 2), out);
        at = close + 2;
    }
    cn_buf_add(out, at, (size_t)(end - at));
}

void cn_page_write(const cn_page *page, cn_buf *out)
{
    piece pieces[3];
    split(pieces);
    for (int i = 0; i < 3; i++) fill(page, pieces[i], out);
}

void cn_page_write_live(const cn_page *page, cn_buf *out)
{
    piece pieces[3];
    split(pieces);
    fill(page, pieces[1], out);
}

// 'sha256-...' of what stands between two tags of the file.
static void add_hash(const char *open, const char *close, char *out, size_t out_bytes)
{
    const char *begin = strstr(page_file, open);
    const char *end = begin ? strstr(begin, close) : NULL;
    unsigned char hash[crypto_hash_sha256_BYTES];
    char text[sodium_base64_ENCODED_LEN(sizeof hash, sodium_base64_VARIANT_ORIGINAL)];
    CN_ASSERT(end);
    begin += strlen(open);
    crypto_hash_sha256(hash, (const unsigned char *)begin, (unsigned long long)(end - begin));
    sodium_bin2base64(text, sizeof text, hash, sizeof hash, sodium_base64_VARIANT_ORIGINAL);
    snprintf(out, out_bytes, "'sha256-%s'", text);
}

void cn_page_csp(char out[CN_PAGE_CSP_BYTES])
{
    char style[64], script[64];
    add_hash("<style>", "</style>", style, sizeof style);
    add_hash("<script>", "</script>", script, sizeof script);
    snprintf(out, CN_PAGE_CSP_BYTES, "default-src 'none'; style-src %s; script-src %s; connect-src "
             "'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
             style, script);
}

void cn_page_time(uint64_t wall_ns, char *out, uint32_t out_bytes)
{
    const time_t seconds = (time_t)(wall_ns / 1000000000u);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    snprintf(out, out_bytes, "%02d:%02d:%02d UTC", tm.tm_hour, tm.tm_min, tm.tm_sec);
}
