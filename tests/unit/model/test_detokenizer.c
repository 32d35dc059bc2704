/* Tokens to text, one at a time: what each token makes certain, what is held back, and that the
 * pieces are the whole and end between characters. */
#include "test_files.h"

#include "base/utf8.h"
#include "model/detokenizer.h"
#include "model/tokenizer.h"
#include "tests/unit/test_rng.h"

// Ids 0 to 255 are bytes in both: of the byte-level alphabet, or "<0x..>".
enum { BYTE_COUNT = 256, SPECIAL = 256, WORD = 257, SPACED = 258, OUTSIDE = 259, ID_COUNT = 260 };

static void add_byte_token(cn_buf *out, int byte, bool byte_level)
{
    // The alphabet again, written from its definition, so that a slip in ours shows.
    int c = byte, next = 256;
    if (!byte_level) {
        cn_buf_add_format(out, "\"<0x%02X>\":%d,", (unsigned)byte, byte);
        return;
    }
    for (int b = 0; b <= byte; b++) {
        const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        c = printable ? b : next++;
    }
    cn_buf_add_format(out, "\"\\u%04x\":%d,", (unsigned)c, byte);
}

static cn_tokenizer *open_style(bool byte_level, const char *decoder)
{
    const test_files files = test_files_open();
    cn_buf buf;
    cn_tokenizer *tokenizer;
    cn_err err = {0};
    cn_buf_init(&buf, 1 << 16);
    cn_buf_add_text(&buf, "{\"added_tokens\":[{\"id\":256,\"content\":\"<s>\",\"special\":true,\"single_word\":false,"
                    "\"lstrip\":false,\"rstrip\":false,\"normalized\":false}],\"model\":{\"vocab\":{");
    for (int byte = 0; byte < BYTE_COUNT; byte++) add_byte_token(&buf, byte, byte_level);
    cn_buf_add_text(&buf, byte_level ? "\"word\":257,\"\\u0120w\":258,\"\\u4f60\":259},"
                                     : "\"word\":257,\"\\u2581w\":258,\"\\u4f60\":259},");
    cn_buf_add_format(&buf, "\"merges\":[]},\"decoder\":%s}", decoder);
    test_files_write(&files, "tokenizer.json", buf.data, buf.len);
    cn_buf_close(&buf);
    if (cn_tokenizer_open(files.directory, &tokenizer, &err) != CN_OK) fail_msg("%s", err.text);
    test_files_close(&files);
    return tokenizer;
}

static const char LLAMA[] =
    "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"\\u2581\"},\"content\":\" \"},"
    "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}";
static const char BYTE_LEVEL[] = "{\"type\":\"ByteLevel\"}";
static const char METASPACE[] =
    "{\"type\":\"Metaspace\",\"replacement\":\"\\u2581\",\"prepend_scheme\":\"always\",\"split\":true}";

static const struct style {
    bool byte_level;
    const char *decoder;
} styles[] = {{true, BYTE_LEVEL}, {false, LLAMA}, {false, METASPACE}, {false, "null"}};

// The pieces, each followed by '|', with U+FFFD written as '?'.
static void stream(const cn_tokenizer *t, const int32_t *ids, size_t count, char out[512])
{
    cn_detokenizer detokenizer;
    cn_buf buf;
    size_t len = 0;
    cn_buf_init(&buf, 1 << 16);
    cn_detokenizer_init(&detokenizer, t, true);
    for (size_t i = 0; i <= count; i++) {
        if (i < count) cn_detokenizer_push(&detokenizer, ids[i], &buf);
        else cn_detokenizer_finish(&detokenizer, &buf);
        cn_buf_add_char(&buf, '|');
    }
    for (size_t i = 0; i < buf.len; i++) {
        const bool mark = i + 3 <= buf.len && memcmp(buf.data + i, "\xEF\xBF\xBD", 3) == 0;
        out[len++] = mark ? '?' : buf.data[i];
        if (mark) i += 2;
    }
    out[len] = '\0';
    cn_buf_close(&buf);
}

static void pieces(void **state)
{
    (void)state;
    static const struct {
        int style;                   // 0 byte level, 1 Llama 2, 2 Metaspace, 3 no decoder
        int32_t ids[12];
        size_t count;
        const char *want;
    } cases[] = {
        {0, {WORD, SPACED, WORD}, 3, "word| w|word||"},
        {0, {0xE4, 0xBD, 0xA0, WORD}, 4, "||\u4F60|word||"},
        {0, {0xF0, 0x9F, 0x98, 0x80}, 4, "|||\U0001F600||"},
        {0, {0xE4, 0xBD, WORD, 0xE4}, 4, "||?word||?|"},
        {0, {0xE4, 0xE4, 0xBD, 0xA0}, 4, "|?||\u4F60||"},
        {0, {0xFF, 0x80, 0x41}, 3, "?|?|A||"},
        {0, {0xE4, SPECIAL, 0xBD, 0xA0}, 4, "|||\u4F60||"},   // skipped tokens part nothing
        {0, {-1, 100000, ID_COUNT, WORD}, 4, "|||word||"},
        {0, {OUTSIDE, WORD}, 2, "\u4F60|word||"},             // no byte-level token: as it stands
        {1, {SPACED, SPACED, WORD}, 3, "w| w|word||"},
        {1, {WORD, SPACED}, 2, "word| w||"},
        {1, {0xE4, 0xBD, 0xA0, WORD}, 4, "|||\u4F60word||"},
        {1, {0xE4, 0xBD, 0xA0}, 3, "|||\u4F60|"},
        {1, {0xE4, 0xBD, WORD}, 3, "||??word||"},
        {1, {0x41, 0xE4, 0xFF, 0x42, WORD, 0x42}, 6, "||???|?|word||B|"},   // one bad, all bad
        {1, {0x20, WORD}, 2, "|word||"},
        {1, {SPECIAL, SPACED}, 2, "|w||"},
        {2, {SPACED, SPACED, SPECIAL, WORD}, 4, "w| w||word||"},
        {2, {SPECIAL, SPACED}, 2, "|w||"},
        {3, {WORD, WORD, 0x41}, 3, "word| word| <0x41>||"},
        {3, {0}, 0, "|"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct style *style = &styles[cases[i].style];
        char got[512];
        cn_tokenizer *t = open_style(style->byte_level, style->decoder);
        stream(t, cases[i].ids, cases[i].count, got);
        if (strcmp(got, cases[i].want) != 0) fail_msg("case %zu: %s, wanted %s", i, got, cases[i].want);
        cn_tokenizer_close(t);
    }
}

/* A run of byte tokens that is longer than what can be held goes out as whole characters; held are
 * 64 bytes at most. */
static void long_runs_go_out(void **state)
{
    (void)state;
    cn_tokenizer *t = open_style(false, LLAMA);
    cn_detokenizer detokenizer;
    cn_buf out;
    cn_buf_init(&out, 1 << 16);
    cn_detokenizer_init(&detokenizer, t, false);
    for (int i = 0; i < 300; i++) {
        cn_detokenizer_push(&detokenizer, (int32_t[]){0xE4, 0xBD, 0xA0}[i % 3], &out);
        assert_true(out.len % 3 == 0 && out.len + 64 >= (size_t)i);
    }
    cn_detokenizer_finish(&detokenizer, &out);
    assert_int_equal(out.len, 300);
    assert_memory_equal(out.data + 297, "\u4F60", 3);
    cn_buf_close(&out);
    cn_tokenizer_close(t);
}

static bool is_utf8(const char *text, size_t len)
{
    for (size_t at = 0, step; at < len; at += step) {
        step = cn_utf8_len(text + at, len - at);
        if (step == 0) return false;
    }
    return true;
}

static int32_t random_id(test_rng *rng)
{
    static const int32_t likely[] = {0xE4, 0xBD, 0xA0, 0xF0, 0x9F, 0x98, 0x80, 0xC3, 0xA9, 0x41};
    switch (test_rng_below(rng, 4)) {
    case 0: return (int32_t)test_rng_below(rng, ID_COUNT + 3);
    case 1: return WORD + (int32_t)test_rng_below(rng, 3);
    default: return likely[test_rng_below(rng, 10)];
    }
}

static void pieces_are_the_whole(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("pieces_are_the_whole");
    for (size_t style = 0; style < 4; style++) {
        cn_tokenizer *t = open_style(styles[style].byte_level, styles[style].decoder);
        for (int round = 0; round < 3000; round++) {
            int32_t ids[200];
            cn_buf whole, joined, piece;
            cn_detokenizer detokenizer;
            const uint32_t count = test_rng_below(&rng, 200);
            const bool skip = test_rng_below(&rng, 2);
            cn_buf_init(&whole, 1 << 16);
            cn_buf_init(&joined, 1 << 16);
            cn_buf_init(&piece, 1 << 16);
            for (uint32_t i = 0; i < count; i++) ids[i] = random_id(&rng);
            cn_tokenizer_decode(t, ids, count, skip, &whole);
            cn_detokenizer_init(&detokenizer, t, skip);
            for (uint32_t i = 0; i <= count; i++) {
                cn_buf_clear(&piece);
                if (i < count) cn_detokenizer_push(&detokenizer, ids[i], &piece);
                else cn_detokenizer_finish(&detokenizer, &piece);
                assert_true(is_utf8(piece.data, piece.len));
                cn_buf_add(&joined, piece.data, piece.len);
            }
            assert_int_equal(joined.len, whole.len);
            if (whole.len) assert_memory_equal(joined.data, whole.data, whole.len);
            cn_buf_close(&whole);
            cn_buf_close(&joined);
            cn_buf_close(&piece);
        }
        cn_tokenizer_close(t);
    }
}

static void bytes_of_one_token(void **state)
{
    (void)state;
    static const struct {
        int style;
        int32_t id;
        const char *bytes;
    } cases[] = {
        {0, 0xE4, "\xE4"}, {0, 0x20, " "}, {0, SPACED, " w"}, {0, SPECIAL, "<s>"}, {0, -1, ""},
        {0, 0xAD, "\xAD"}, {0, 0x7F, "\x7F"}, {1, 0xE4, "\xE4"}, {1, SPACED, " w"},
        {1, OUTSIDE, "\u4F60"}, {1, ID_COUNT, ""}, {2, SPACED, " w"}, {3, WORD, "word"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cn_buf out;
        cn_tokenizer *t = open_style(styles[cases[i].style].byte_level, styles[cases[i].style].decoder);
        cn_buf_init(&out, 64);
        cn_detokenizer_bytes(t, cases[i].id, &out);
        assert_int_equal(out.len, strlen(cases[i].bytes));
        if (out.len) assert_memory_equal(out.data, cases[i].bytes, out.len);
        cn_buf_close(&out);
        cn_tokenizer_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces),
        cmocka_unit_test(long_runs_go_out),
        cmocka_unit_test(pieces_are_the_whole),
        cmocka_unit_test(bytes_of_one_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
