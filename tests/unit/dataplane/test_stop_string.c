#include "dataplane/stop_string.h"

#include <string.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/test_rng.h"

enum { STRINGS_MAX = 4, TEXT_BYTES = 24 };

typedef struct setup {
    cn_arena arena;
    cn_stop_string_set set;
    const char *texts[STRINGS_MAX];
    uint32_t lens[STRINGS_MAX];
} setup;

static void open_setup(setup *s, const char *const *texts, uint32_t count)
{
    cn_arena_init(&s->arena, 1 << 24);
    for (uint32_t i = 0; i < count; i++) {
        s->texts[i] = texts[i];
        s->lens[i] = (uint32_t)strlen(texts[i]);
    }
    assert_int_equal(cn_stop_string_set_init(&s->set, s->texts, s->lens, count, &s->arena), CN_OK);
}

/* The model: looks at the whole text and tries every place. The stop string that ends first wins,
 * of those the longest. Returns the index, and in *end how much text there is. */
static int32_t find_slowly(const setup *s, uint32_t count, const char *text, size_t len,
                           bool include, size_t *end)
{
    for (size_t at = 1; at <= len; at++) {
        int32_t best = CN_STOP_STRING_NONE;
        for (uint32_t i = 0; i < count; i++) {
            if (s->lens[i] > at || memcmp(text + at - s->lens[i], s->texts[i], s->lens[i]))
                continue;
            if (best < 0 || s->lens[i] > s->lens[best]) best = (int32_t)i;
        }
        if (best < 0) continue;
        *end = include ? at : at - s->lens[best];
        return best;
    }
    *end = len;
    return CN_STOP_STRING_NONE;
}

// Pushes the text cut at the bits of `cuts`; compares with the model.
static void check_cut(setup *s, uint32_t count, const char *text, size_t len, uint64_t cuts,
                      bool include)
{
    cn_stop_string_scan scan;
    cn_buf out;
    size_t want_len, start = 0;
    int32_t found = CN_STOP_STRING_NONE;
    const int32_t want = find_slowly(s, count, text, len, include, &want_len);
    cn_buf_init(&out, 4096);
    assert_int_equal(cn_stop_string_scan_init(&scan, &s->set, &s->arena), CN_OK);
    for (size_t at = 1; at <= len && found < 0; at++) {
        if (at < len && !(cuts >> at & 1)) continue;
        found = cn_stop_string_push(&scan, text + start, at - start, include, &out);
        // Nothing is ever sent that the model would not send.
        assert_true(out.len <= want_len || found >= 0);
        start = at;
    }
    if (found < 0) cn_stop_string_finish(&scan, &out);
    assert_int_equal(found, want);
    assert_int_equal(out.len, want_len);
    assert_memory_equal(out.data ? out.data : "", text, want_len);
    cn_buf_close(&out);
}

// Every way of cutting a text gives the same, with strings that overlap and contain each other.
static void every_cut_finds_the_same(void **state)
{
    (void)state;
    static const struct {
        const char *strings[STRINGS_MAX];
        uint32_t count;
        const char *text;
    } rows[] = {
        {{"END"}, 1, "this is the END, yes"},
        {{"abab", "bac"}, 2, "xabaabaabacy"},
        {{"aab"}, 1, "aaaaaaaaab"},
        {{"ab", "aabc", "c"}, 3, "xaabc"},
        {{"\n\n", "\nUser:"}, 2, "so\nUse\n\nUser:"},
        {{"stop"}, 1, "sto"},
        {{"stop"}, 1, "stostostop"},
        {{"x"}, 1, "x"},
        {{"never"}, 1, "neve neve neve nev"},
        {{"\xF0\x9F\x98\x80"}, 1, "a\xF0\x9F\x98\x81\xF0\x9F\x98\x80"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        setup s;
        const size_t len = strlen(rows[i].text);
        open_setup(&s, rows[i].strings, rows[i].count);
        // All cuts of the first 13 places, and of the last 13.
        const size_t late = len > 13 ? len - 13 : 0;
        for (uint64_t cuts = 0; cuts < 1 << 13; cuts++) {
            check_cut(&s, rows[i].count, rows[i].text, len, cuts << 1, cuts & 1);
            check_cut(&s, rows[i].count, rows[i].text, len, cuts << late, false);
        }
        cn_arena_close(&s.arena);
    }
}

// Texts over two letters, so that prefixes of prefixes occur all the time.
static void random_texts_agree_with_model(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("stop_string");
    for (int round = 0; round < 20000; round++) {
        setup s;
        char memory[STRINGS_MAX][8], text[TEXT_BYTES + 1];
        const char *texts[STRINGS_MAX];
        const uint32_t count = 1 + test_rng_below(&rng, STRINGS_MAX);
        for (uint32_t i = 0; i < count; i++) {
            const uint32_t len = 1 + test_rng_below(&rng, 6);
            for (uint32_t j = 0; j < len; j++) memory[i][j] = "ab"[test_rng_below(&rng, 2)];
            memory[i][len] = '\0';
            texts[i] = memory[i];
        }
        const uint32_t len = test_rng_below(&rng, TEXT_BYTES);
        for (uint32_t j = 0; j < len; j++) text[j] = "abc"[test_rng_below(&rng, 3)];
        text[len] = '\0';
        open_setup(&s, texts, count);
        check_cut(&s, count, text, len, test_rng_u64(&rng), test_rng_below(&rng, 2));
        cn_arena_close(&s.arena);
    }
}

// Held back is what may become a stop string, and no byte more.
static void no_more_is_held_back_than_needed(void **state)
{
    (void)state;
    setup s;
    cn_stop_string_scan scan;
    cn_buf out;
    open_setup(&s, (const char *const[]){"END"}, 1);
    cn_buf_init(&out, 64);
    assert_int_equal(cn_stop_string_scan_init(&scan, &s.set, &s.arena), CN_OK);
    cn_stop_string_push(&scan, "a E", 3, false, &out);
    assert_int_equal(out.len, 2);
    cn_stop_string_push(&scan, "N", 1, false, &out);
    assert_int_equal(out.len, 2);
    cn_stop_string_push(&scan, "E", 1, false, &out);     // "ENE": only the last E may go on
    assert_int_equal(out.len, 4);
    assert_memory_equal(out.data, "a EN", 4);
    cn_stop_string_finish(&scan, &out);
    assert_memory_equal(out.data, "a ENE", 5);
    cn_buf_close(&out);
    cn_arena_close(&s.arena);
}

// A stop string with a NUL byte, after a text that ends with all of another string.
static void nul_bytes_are_bytes(void **state)
{
    (void)state;
    cn_arena arena;
    cn_stop_string_set set;
    cn_stop_string_scan scan;
    cn_buf out;
    cn_arena_init(&arena, 4096);
    cn_buf_init(&out, 64);
    assert_int_equal(cn_stop_string_set_init(&set, (const char *const[]){"a\0b"},
                                             (const uint32_t[]){3}, 1, &arena),
                     CN_OK);
    assert_int_equal(cn_stop_string_scan_init(&scan, &set, &arena), CN_OK);
    assert_int_equal(cn_stop_string_push(&scan, "xa", 2, false, &out), CN_STOP_STRING_NONE);
    assert_int_equal(cn_stop_string_push(&scan, "\0b", 2, false, &out), 0);
    assert_int_equal(out.len, 1);
    cn_buf_close(&out);
    cn_arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut_finds_the_same),
        cmocka_unit_test(random_texts_agree_with_model),
        cmocka_unit_test(no_more_is_held_back_than_needed),
        cmocka_unit_test(nul_bytes_are_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
