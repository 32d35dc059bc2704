/* Small tokenizers whose ids can be worked out by hand, files that are refused and what the person
 * at fault gets to read, limits, and files broken at random. The comparison with the library on
 * thousands of texts is tests/tokenizer. */
#include "test_files.h"

#include "model/tokenizer.h"
#include "tests/unit/test_rng.h"

/* tokenizer.json by its fields; NULL: the default below. */
typedef struct fields {
    const char *added, *normalizer, *pre, *post, *decoder;
    const char *options;             // of the model, with a comma at the end
    const char *vocab, *merges;
    const char *extra;               // further fields of the file, with a comma at the end
} fields;

static const char *or(const char *text, const char *other) { return text ? text : other; }

static void write_file(const test_files *files, const fields *f)
{
    cn_buf buf;
    cn_buf_init(&buf, 1 << 20);
    cn_buf_add_format(&buf, "{\"version\":\"1.0\",%s\"added_tokens\":%s,\"normalizer\":%s,\"pre_tokenizer\":%s,"
                      "\"post_processor\":%s,\"decoder\":%s,\"model\":{\"type\":\"BPE\",%s\"vocab\":%s,"
                      "\"merges\":%s}}", or(f->extra, ""), or(f->added, "[]"), or(f->normalizer, "null"),
                      or(f->pre, "null"), or(f->post, "null"), or(f->decoder, "null"),
                      or(f->options, ""), or(f->vocab, "{\"a\":0,\"b\":1,\"ab\":2,\"c\":3}"),
                      or(f->merges, "[\"a b\"]"));
    test_files_write(files, "tokenizer.json", buf.data, buf.len);
    cn_buf_close(&buf);
}

static cn_code open_fields(const fields *f, cn_tokenizer **out, cn_err *err)
{
    const test_files files = test_files_open();
    write_file(&files, f);
    const cn_code code = cn_tokenizer_open(files.directory, out, err);
    test_files_close(&files);
    return code;
}

static cn_tokenizer *open_good(const fields *f)
{
    cn_tokenizer *tokenizer;
    cn_err err = {0};
    if (open_fields(f, &tokenizer, &err) != CN_OK) fail_msg("%s", err.text);
    return tokenizer;
}

// The ids as "1 2 3".
static const char *encode(const cn_tokenizer *t, const char *text, cn_encode_options options)
{
    static char shown[512];
    cn_arena arena;
    cn_token_list list;
    cn_err err = {0};
    size_t at = 0;
    cn_arena_init(&arena, 1 << 20);
    shown[0] = '\0';
    if (cn_tokenizer_encode(t, text, strlen(text), &options, &arena, &list, &err) != CN_OK) {
        snprintf(shown, sizeof shown, "%s", err.text);
    } else {
        for (uint32_t i = 0; i < list.count; i++) {
            at += (size_t)snprintf(shown + at, sizeof shown - at, i ? " %d" : "%d", list.ids[i]);
        }
    }
    cn_arena_close(&arena);
    return shown;
}

#define ADDED(id, content, flags)                                                                  \
    "{\"id\":" #id ",\"content\":\"" content "\"," flags "}"
#define FLAGS(special, single, left, right, normal)                                                \
    "\"special\":" #special ",\"single_word\":" #single ",\"lstrip\":" #left ",\"rstrip\":" #right \
    ",\"normalized\":" #normal
#define PLAIN FLAGS(false, false, false, false, false)
#define SPECIAL FLAGS(true, false, false, false, false)

static const char CHAIN_VOCAB[] = "{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"bc\":4,\"abc\":5}";

/* Would catch merges out of order, forms of merges read wrongly, and words taken whole that merging
 * does not reach. */
static void merges_by_rank(void **state)
{
    (void)state;
    static const struct {
        const char *merges, *options, *text, *ids;
    } cases[] = {
        {"[\"a b\",\"b c\",\"ab c\"]", NULL, "abc", "5"},
        {"[\"b c\",\"a b\",\"a bc\"]", NULL, "abc", "5"},
        {"[\"b c\",\"a b\",\"ab c\"]", NULL, "abc", "0 4"},     // bc first, and a bc is no merge
        {"[\"b c\",\"a b\",\"ab c\"]", "\"ignore_merges\":true,", "abc", "5"},
        {"[[\"a\",\"b\"],[\"ab\",\"c\"]]", NULL, "abcab", "5 3"},
        {"[]", NULL, "abc", "0 1 2"},
        {"[\"a b\"]", NULL, "xaxbx", "3"},                      // unknown and no unk_token: gone
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const fields f = {.vocab = CHAIN_VOCAB, .merges = cases[i].merges, .options = cases[i].options};
        cn_tokenizer *t = open_good(&f);
        assert_string_equal(encode(t, cases[i].text, (cn_encode_options){0}), cases[i].ids);
        cn_tokenizer_close(t);
    }
}

/* Long words take the heap, short ones the scan: both must give the same as one rule. */
static void long_and_short_words_agree(void **state)
{
    (void)state;
    const fields f = {.vocab = "{\"a\":0,\"b\":1,\"aa\":2,\"ab\":3,\"aab\":4,\"aaaa\":5,\"ba\":6,\" \":7}",
                      .merges = "[\"a a\",\"aa b\",\"aa aa\",\"b a\",\"a b\"]",
                      .pre = "{\"type\":\"WhitespaceSplit\"}"};
    cn_tokenizer *t = open_good(&f);
    test_rng rng = test_rng_open("long_and_short_words_agree");
    for (int round = 0; round < 300; round++) {
        char text[2 * 30 + 2] = "", twice[400];
        const uint32_t len = 20 + test_rng_below(&rng, 12);
        for (uint32_t i = 0; i < len; i++) text[i] = test_rng_below(&rng, 3) ? 'a' : 'b';
        // "bb" merges with nothing, so words joined by it split there and have the ids of both.
        text[0] = text[len - 1] = 'b';
        snprintf(twice, sizeof twice, "%s %s", text, text);
        char apart[512];
        snprintf(apart, sizeof apart, "%s", encode(t, twice, (cn_encode_options){0}));
        snprintf(twice, sizeof twice, "%s%s", text, text);
        assert_string_equal(encode(t, twice, (cn_encode_options){0}), apart);
    }
    cn_tokenizer_close(t);
}

static void unknown_characters(void **state)
{
    (void)state;
    static const struct {
        const char *options, *text, *ids;
    } cases[] = {
        {"\"unk_token\":\"<unk>\",\"fuse_unk\":true,", "axyb", "1 0 2"},
        {"\"unk_token\":\"<unk>\",", "axyb", "1 0 0 2"},
        {"\"unk_token\":\"<unk>\",\"byte_fallback\":true,", "a\u00E9b", "1 3 4 2"},
        {"\"unk_token\":\"<unk>\",\"byte_fallback\":true,", "a\u00E8b", "1 0 2"},
        // Bytes overtake an unknown character, as in the library.
        {"\"unk_token\":\"<unk>\",\"byte_fallback\":true,", "x\u00E9", "3 4 0"},
        {"\"byte_fallback\":true,", "x\u00E9\xE9", "3 4"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const fields f = {.vocab = "{\"<unk>\":0,\"a\":1,\"b\":2,\"<0xC3>\":3,\"<0xA9>\":4}",
                          .merges = "[]", .options = cases[i].options};
        cn_tokenizer *t = open_good(&f);
        assert_string_equal(encode(t, cases[i].text, (cn_encode_options){0}), cases[i].ids);
        cn_tokenizer_close(t);
    }
}

/* Would catch control tokens made from user text with split_special, and each flag. */
static void added_tokens(void **state)
{
    (void)state;
    const fields f = {
        .vocab = "{\"a\":0,\"b\":1,\" \":2,\"<\":3,\"s\":4,\">\":5}",
        .merges = "[]",
        .added = "[" ADDED(10, "<s>", SPECIAL) "," ADDED(11, "<sa>", PLAIN) ","
                 ADDED(12, "ww", FLAGS(false, true, false, false, false)) ","
                 ADDED(13, "LL", FLAGS(false, false, true, false, false)) ","
                 ADDED(14, "RR", FLAGS(false, false, false, true, false)) "]",
        .post = "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
                "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"SpecialToken\":{\"id\":\"e\",\"type_id\":0}}],"
                "\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[10],\"tokens\":[\"<s>\"]},"
                "\"e\":{\"id\":\"e\",\"ids\":[11,10],\"tokens\":[\"<sa>\",\"<s>\"]}}}"};
    static const struct {
        const char *text;
        cn_encode_options options;
        const char *ids;
    } cases[] = {
        {"", {0}, ""},
        {"", {.add_special_tokens = true}, "10 11 10"},
        {"a", {.add_special_tokens = true}, "10 0 11 10"},
        {"a<s>b", {0}, "0 10 1"},
        {"a<s>b<sa>", {.split_special = true}, "0 3 4 5 1 11"},
        {"<s><sa<s", {0}, "10 3 4 0 3 4"},
        {"a ww b", {0}, "0 2 12 2 1"},
        {"aww ww_", {0}, "0 2"},
        {"ww", {0}, "12"},
        {"a \t LL b", {0}, "0 13 2 1"},
        {"a RR \n b", {0}, "0 2 14 1"},
        {"aaaa", {.tokens_max = 3}, "the text has more than 3 tokens"},
        {"aaaa", {.tokens_max = 4}, "0 0 0 0"},
        {"aa", {.tokens_max = 4, .add_special_tokens = true}, "the text has more than 4 tokens"},
    };
    cn_tokenizer *t = open_good(&f);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_string_equal(encode(t, cases[i].text, cases[i].options), cases[i].ids);
    }
    assert_int_equal(cn_tokenizer_vocab_count(t), 15);
    assert_int_equal(cn_tokenizer_find(t, "<sa>", 4), 11);
    assert_int_equal(cn_tokenizer_find(t, "<sa", 3), -1);
    assert_string_equal(cn_tokenizer_token(t, 10), "<s>");
    assert_null(cn_tokenizer_token(t, 9));
    assert_null(cn_tokenizer_token(t, -1));
    assert_null(cn_tokenizer_token(t, 15));
    assert_true(cn_tokenizer_is_special(t, 10));
    assert_false(cn_tokenizer_is_special(t, 11));
    assert_false(cn_tokenizer_is_special(t, -5));
    cn_tokenizer_close(t);
}

static void files_that_are_refused(void **state)
{
    (void)state;
    static const struct {
        fields f;
        cn_code code;
        const char *text;
    } cases[] = {
        {{.extra = "\"version\":\"1.0\","}, CN_E_FORMAT, "line 1: duplicate object key near '\"version\"'"},
        {{.vocab = "{\"a\":0,\"a\":1}"}, CN_E_FORMAT, "line 1: duplicate object key near '\"a\"'"},
        {{.vocab = "{\"a\":"}, CN_E_FORMAT, "line 1: unexpected token near ','"},
        // The model.
        {{.vocab = "[]"}, CN_E_FORMAT, "model.vocab: an array; must be an object"},
        {{.vocab = "null"}, CN_E_FORMAT, "model.vocab: missing; must be an object of ids"},
        {{.vocab = "{\"a\":0,\"b\":\"1\"}"}, CN_E_FORMAT, "model.vocab.b: \"1\"; must be an integer from 0 to 16777215"},
        {{.vocab = "{\"a\":0,\"b\":-1}"}, CN_E_FORMAT, "model.vocab.b: -1; must be an integer from 0 to 16777215"},
        {{.vocab = "{\"a\":99999999}"}, CN_E_FORMAT, "model.vocab.a: 99999999; must be an integer from 0 to 16777215"},
        {{.vocab = "{\"a\":7,\"b\":7}"}, CN_E_FORMAT, "model.vocab.b: 7; must be an id that no other token has"},
        {{.merges = "{}"}, CN_E_FORMAT, "model.merges: an object; must be an array of at most 16777215 merges"},
        {{.merges = "null"}, CN_E_FORMAT, "model.merges: missing; must be an array of at most 16777215 merges"},
        {{.merges = "[\"ab\"]"}, CN_E_FORMAT, "model.merges[0]: \"ab\"; must be \"a b\" or [\"a\", \"b\"]"},
        {{.merges = "[\"a b\",\"a b c\"]"}, CN_E_FORMAT, "model.merges[1]: \"a b c\"; must be \"a b\" or [\"a\", \"b\"]"},
        {{.merges = "[[\"a\"]]"}, CN_E_FORMAT, "model.merges[0]: [\"a\"]; must be \"a b\" or [\"a\", \"b\"]"},
        {{.merges = "[7]"}, CN_E_FORMAT, "model.merges[0]: 7; must be \"a b\" or [\"a\", \"b\"]"},
        {{.merges = "[\"a b\",\"a z\"]"}, CN_E_FORMAT, "model.merges[1]: \"a z\"; both sides and what they make must be in model.vocab"},
        {{.merges = "[\"b c\"]"}, CN_E_FORMAT, "model.merges[0]: \"b c\"; both sides and what they make must be in model.vocab"},
        {{.options = "\"dropout\":0.1,"}, CN_E_UNSUPPORTED, "model.dropout: 0.1; Cairn reads null or 0"},
        {{.options = "\"dropout\":2,"}, CN_E_FORMAT, "model.dropout: 2; must be a number from 0 to 1"},
        {{.options = "\"continuing_subword_prefix\":\"##\","}, CN_E_UNSUPPORTED, "model.continuing_subword_prefix: \"##\"; Cairn reads null or \"\""},
        {{.options = "\"end_of_word_suffix\":\"</w>\","}, CN_E_UNSUPPORTED, "model.end_of_word_suffix: \"</w>\"; Cairn reads null or \"\""},
        {{.options = "\"unk_token\":\"zz\","}, CN_E_FORMAT, "model.unk_token: \"zz\"; must be in model.vocab"},
        {{.options = "\"fuse_unk\":1,"}, CN_E_FORMAT, "model.fuse_unk: 1; must be true or false"},
        {{.options = "\"byte_fallback\":true,", .pre = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"}, CN_E_UNSUPPORTED,
         "model.byte_fallback: true; Cairn reads it under ByteLevel only if model.vocab has all 256 bytes, and 0x00 is missing"},
        // Added tokens.
        {{.added = "{}"}, CN_E_FORMAT, "added_tokens: an object; must be an array"},
        {{.added = "[7]"}, CN_E_FORMAT, "added_tokens[0].content: missing; must be a string"},
        {{.added = "[{\"content\":\"x\"}]"}, CN_E_FORMAT, "added_tokens[0].id: missing; must be an integer from 0 to 16777215"},
        {{.added = "[" ADDED(-1, "x", PLAIN) "]"}, CN_E_FORMAT, "added_tokens[0].id: -1; must be an integer from 0 to 16777215"},
        {{.added = "[" ADDED(4294967296, "x", PLAIN) "]"}, CN_E_FORMAT, "added_tokens[0].id: 4294967296; must be an integer from 0 to 16777215"},
        {{.added = "[{\"content\":\"x\",\"id\":9}]"}, CN_E_FORMAT, "added_tokens[0].special: missing; must be true or false"},
        {{.added = "[" ADDED(2, "x", PLAIN) "]"}, CN_E_FORMAT, "added_tokens[0].id: 2; must be an id of its own, and \"ab\" has it"},
        {{.added = "[" ADDED(9, "x", PLAIN) "," ADDED(9, "y", PLAIN) "]"}, CN_E_FORMAT, "added_tokens[1].id: 9; must be an id of its own, and \"x\" has it"},
        {{.added = "[" ADDED(9, "ab", PLAIN) "]"}, CN_E_FORMAT, "added_tokens[0].id: 9; must be 2, the id of \"ab\" in model.vocab"},
        // Normalizer.
        {{.normalizer = "[]"}, CN_E_FORMAT, "normalizer: an array; must be an object"},
        {{.normalizer = "{}"}, CN_E_FORMAT, "normalizer.type: missing; must be a string"},
        {{.normalizer = "{\"type\":\"Nmt\"}"}, CN_E_UNSUPPORTED, "normalizer.type: \"Nmt\"; Cairn reads Sequence, NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, Strip"},
        {{.normalizer = "{\"type\":\"Sequence\"}"}, CN_E_FORMAT, "normalizer.normalizers: missing; must be an array"},
        {{.normalizer = "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Precompiled\"}]}"}, CN_E_UNSUPPORTED,
         "normalizer.normalizers[1].type: \"Precompiled\"; Cairn reads Sequence, NFC"},
        {{.normalizer = "{\"type\":\"Prepend\"}"}, CN_E_FORMAT, "normalizer.prepend: missing; must be a string"},
        {{.normalizer = "{\"type\":\"Strip\",\"strip_left\":true}"}, CN_E_FORMAT, "normalizer.strip_right: missing; must be true or false"},
        {{.normalizer = "{\"type\":\"Replace\",\"content\":\"x\"}"}, CN_E_FORMAT, "normalizer.pattern: missing; must be {\"String\": text} or {\"Regex\": expression}"},
        {{.normalizer = "{\"type\":\"Replace\",\"content\":\"x\",\"pattern\":{\"String\":\"\"}}"}, CN_E_UNSUPPORTED, "normalizer.pattern.String: \"\"; Cairn reads patterns that are not empty"},
        {{.normalizer = "{\"type\":\"Replace\",\"content\":\"x\",\"pattern\":{\"Regex\":\"(a\"}}"}, CN_E_FORMAT, "normalizer.pattern.Regex: \"(a\"; must be a regular expression: missing closing parenthesis"},
        {{.normalizer = "{\"type\":\"Replace\",\"content\":\"x\",\"pattern\":{\"Regex\":\"(a)\\\\1\"}}"}, CN_E_UNSUPPORTED, "Cairn reads expressions without a back reference"},
        {{.normalizer = "{\"type\":\"Replace\",\"content\":\"x\",\"pattern\":{\"Regex\":\"[a&&b]\"}}"}, CN_E_UNSUPPORTED, "Cairn reads expressions without && in a class"},
        {{.normalizer = "{\"type\":\"Replace\",\"content\":\"x\",\"pattern\":{\"Regex\":\"[a[b]]\"}}"}, CN_E_UNSUPPORTED, "Cairn reads expressions without a class within a class"},
        {{.normalizer = "{\"type\":\"Replace\",\"content\":\"x\",\"pattern\":{\"Regex\":\"a{2}+\"}}"}, CN_E_UNSUPPORTED, "Cairn reads expressions without a + or ? behind {n}"},
        {{.normalizer = "{\"type\":\"Replace\",\"content\":\"x\",\"pattern\":{\"Regex\":\"(?<n>a)\"}}"}, CN_E_UNSUPPORTED, "Cairn reads expressions without groups other than"},
        {{.normalizer = "{\"type\":\"Replace\",\"content\":\"x\",\"pattern\":{\"Regex\":\"a\\\\\"}}"}, CN_E_UNSUPPORTED, "Cairn reads expressions without a back reference or an escape"},
        {{.normalizer = "{\"type\":\"Replace\",\"content\":\"x\",\"pattern\":{\"Regex\":\"\\\\p{Foo}\"}}"}, CN_E_FORMAT, "must be a regular expression: "},
        // Pre-tokenizer.
        {{.pre = "{\"type\":\"BertPreTokenizer\"}"}, CN_E_UNSUPPORTED, "pre_tokenizer.type: \"BertPreTokenizer\"; Cairn reads Sequence, ByteLevel, Split, Metaspace, Digits"},
        {{.pre = "{\"type\":\"Split\",\"behavior\":\"Merged\"}"}, CN_E_UNSUPPORTED, "pre_tokenizer.behavior: \"Merged\"; Cairn reads Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous"},
        {{.pre = "{\"type\":\"Split\"}"}, CN_E_FORMAT, "pre_tokenizer.behavior: missing; must be a string"},
        {{.pre = "{\"type\":\"ByteLevel\"}"}, CN_E_FORMAT, "pre_tokenizer.add_prefix_space: missing; must be true or false"},
        {{.pre = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\",\"add_prefix_space\":false},{\"type\":\"Digits\"}]}"}, CN_E_UNSUPPORTED,
         "pre_tokenizer.pretokenizers[1].type: \"Digits\"; Cairn reads ByteLevel only as the last pre-tokenizer"},
        {{.pre = "{\"type\":\"Metaspace\",\"replacement\":\"__\"}"}, CN_E_FORMAT, "pre_tokenizer.replacement: \"__\"; must be one character"},
        {{.pre = "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"last\"}"}, CN_E_UNSUPPORTED, "pre_tokenizer.prepend_scheme: \"last\"; Cairn reads never, first, always"},
        {{.pre = "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"add_prefix_space\":false,\"prepend_scheme\":\"first\"}"}, CN_E_FORMAT,
         "pre_tokenizer.prepend_scheme: \"first\"; must be never where add_prefix_space is false"},
        // Post-processor.
        {{.post = "{\"type\":\"RobertaProcessing\"}"}, CN_E_UNSUPPORTED, "post_processor.type: \"RobertaProcessing\"; Cairn reads Sequence, TemplateProcessing, ByteLevel"},
        {{.post = "{\"type\":\"TemplateProcessing\"}"}, CN_E_UNSUPPORTED, "post_processor.single: missing; Cairn reads an array of SpecialToken and one Sequence A"},
        {{.post = "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"q\"}}]}"}, CN_E_FORMAT, "post_processor.special_tokens.q: missing; must be an object with the array ids"},
        {{.post = "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"q\"}}],\"special_tokens\":{\"q\":{\"ids\":[44]}}}"}, CN_E_FORMAT,
         "post_processor.special_tokens.q: an object; must have ids of the vocabulary, and ids[0] is none"},
        // Decoder.
        {{.decoder = "{\"type\":\"WordPiece\"}"}, CN_E_UNSUPPORTED, "decoder.type: \"WordPiece\"; Cairn reads Sequence, ByteLevel, ByteFallback, Metaspace, Replace, Strip, Fuse"},
        {{.decoder = "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"ByteFallback\"}]}"}, CN_E_UNSUPPORTED,
         "decoder.decoders[1].type: \"ByteFallback\"; Cairn reads it only once, before Fuse"},
        {{.decoder = "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":0,\"stop\":1}]}"}, CN_E_UNSUPPORTED,
         "decoder.decoders[1].stop: 1; Cairn reads 0 behind Fuse"},
        {{.decoder = "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteLevel\"},{\"type\":\"Metaspace\",\"replacement\":\"_\"}]}"}, CN_E_UNSUPPORTED,
         "Cairn reads it only before ByteLevel, ByteFallback and Fuse"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cn_tokenizer *t = (cn_tokenizer *)1;
        cn_err err = {0};
        const cn_code code = open_fields(&cases[i].f, &t, &err);
        if (code != cases[i].code || !strstr(err.text, cases[i].text) ||
            strncmp(err.text, "tokenizer.json: ", 16) != 0) {
            fail_msg("case %zu: %s, \"%s\"; wanted %s", i, cn_err_info(code)->name, err.text,
                     cases[i].text);
        }
        assert_null(t);
    }
}

static void missing_and_truncated_files(void **state)
{
    (void)state;
    const test_files files = test_files_open();
    cn_tokenizer *t;
    cn_err err = {0};
    assert_int_equal(cn_tokenizer_open(files.directory, &t, &err), CN_E_NOT_FOUND);
    assert_non_null(strstr(err.text, "tokenizer.json"));
    test_files_write_text(&files, "tokenizer.json", "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a");
    assert_int_equal(cn_tokenizer_open(files.directory, &t, &err), CN_E_FORMAT);
    assert_non_null(strstr(err.text, "tokenizer.json: line 1: "));
    test_files_write_text(&files, "tokenizer.json", "{\"model\": {\"type\": \"Unigram\"}}");
    assert_int_equal(cn_tokenizer_open(files.directory, &t, &err), CN_E_UNSUPPORTED);
    assert_string_equal(err.text, "tokenizer.json: model.type: \"Unigram\"; Cairn reads BPE");
    test_files_write_text(&files, "tokenizer.json", "{\"version\": \"2.0\"}");
    assert_int_equal(cn_tokenizer_open(files.directory, &t, &err), CN_E_UNSUPPORTED);
    assert_string_equal(err.text, "tokenizer.json: version: \"2.0\"; Cairn reads 1.0");
    test_files_write_text(&files, "tokenizer.json", "{}");
    assert_int_equal(cn_tokenizer_open(files.directory, &t, &err), CN_E_FORMAT);
    assert_string_equal(err.text, "tokenizer.json: model: missing; must be an object");
    test_files_close(&files);
}

static void a_full_arena_is_an_error(void **state)
{
    (void)state;
    cn_tokenizer *t = open_good(&(fields){.normalizer = "{\"type\":\"Lowercase\"}"});
    const cn_encode_options options = {0};
    char text[5000];
    memset(text, 'a', sizeof text);
    for (uint64_t bytes = 0; bytes < 400000; bytes += 3000) {
        cn_arena arena;
        cn_token_list list;
        cn_err err = {0};
        cn_arena_init(&arena, bytes);
        const cn_code code = cn_tokenizer_encode(t, text, sizeof text, &options, &arena, &list, &err);
        if (bytes < 20000) assert_int_equal(code, CN_E_MEMORY);
        if (code == CN_OK) assert_int_equal(list.count, sizeof text);
        else assert_non_null(strstr(err.text, "no memory left to encode the text"));
        cn_arena_close(&arena);
    }
    cn_tokenizer_close(t);
}

/* An expression that backtracks without end stops at its limit; the text is refused, not the process. */
static void costly_expressions_stop(void **state)
{
    (void)state;
    cn_tokenizer *t = open_good(&(fields){
        .pre = "{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":\"(?:a|aa|aaa)+[cd]\"}}"});
    char text[201];
    memset(text, 'a', 200);
    text[200] = '\0';
    assert_non_null(strstr(encode(t, text, (cn_encode_options){0}), "needs more steps"));
    cn_tokenizer_close(t);
}

static void use(const cn_tokenizer *t, test_rng *rng)
{
    cn_arena arena;
    cn_token_list list;
    cn_buf out;
    char text[64];
    const cn_encode_options options = {.add_special_tokens = true};
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)(test_rng_below(rng, 3) ? "ab <s>c\n"[i % 8] : (int)test_rng_below(rng, 256));
    cn_arena_init(&arena, 1 << 20);
    cn_buf_init(&out, 1 << 20);
    if (cn_tokenizer_encode(t, text, sizeof text, &options, &arena, &list, NULL) == CN_OK) {
        cn_tokenizer_decode(t, list.ids, list.count, false, &out);
    }
    cn_buf_close(&out);
    cn_arena_close(&arena);
}

// One change: another byte, a piece cut out, or a piece copied elsewhere.
static size_t mutate(test_rng *rng, char *text, size_t len, size_t capacity)
{
    const uint32_t at = test_rng_below(rng, (uint32_t)len), n = 1 + test_rng_below(rng, 12);
    switch (test_rng_below(rng, 4)) {
    case 0: text[at] = "{}[]\",:019ae\\tfn-"[test_rng_below(rng, 17)]; return len;
    case 1: text[at] = (char)test_rng_below(rng, 256); return len;
    case 2:
        if (at + n >= len) return len;
        memmove(text + at, text + at + n, len - at - n);
        return len - n;
    default: break;
    }
    const uint32_t from = test_rng_below(rng, (uint32_t)len);
    if (len + n > capacity || from + n > len) return len;
    char piece[16];
    memcpy(piece, text + from, n);
    memmove(text + at + n, text + at, len - at);
    memcpy(text + at, piece, n);
    return len + n;
}

/* Files broken at random: opened or refused with a text, never worse (the sanitizer build looks). */
static void broken_files(void **state)
{
    (void)state;
    static const fields bases[] = {
        {.vocab = CHAIN_VOCAB, .merges = "[\"a b\",[\"b\",\"c\"],\"ab c\"]",
         .added = "[" ADDED(10, "<s>", SPECIAL) "," ADDED(11, "B", FLAGS(false, true, true, true, true)) "]",
         .normalizer = "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},{\"type\":\"Lowercase\"},"
                       "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\"_\"},"
                       "{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":false}]}",
         .pre = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{L}+|\\\\s\"},"
                "\"behavior\":\"MergedWithNext\",\"invert\":true},{\"type\":\"ByteLevel\",\"add_prefix_space\":true}]}",
         .decoder = "{\"type\":\"ByteLevel\"}"},
        {.vocab = "{\"<unk>\":0,\"a\":1,\"b\":2,\"<0xC3>\":3,\"<0xA9>\":4,\"\xE2\x96\x81\":5,\"ab\":6}",
         .options = "\"unk_token\":\"<unk>\",\"fuse_unk\":true,\"byte_fallback\":true,\"ignore_merges\":false,",
         .added = "[" ADDED(0, "<unk>", SPECIAL) "]",
         .pre = "{\"type\":\"Metaspace\",\"replacement\":\"\xE2\x96\x81\",\"prepend_scheme\":\"first\",\"split\":true}",
         .post = "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"u\",\"type_id\":0}},"
                 "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"special_tokens\":{\"u\":{\"id\":\"u\",\"ids\":[0]}}}",
         .decoder = "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"\xE2\x96\x81\"},"
                    "\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"
                    "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}"}};
    enum { ROUNDS = 1500, CAPACITY = 8192 };
    test_rng rng = test_rng_open("broken_files");
    const test_files files = test_files_open();
    static char good[CAPACITY], text[CAPACITY];
    uint32_t opened = 0;
    for (int base = 0; base < 2; base++) {
        char path[512];
        write_file(&files, &bases[base]);
        test_files_path(&files, "tokenizer.json", path);
        FILE *in = fopen(path, "rb");
        assert_non_null(in);
        const size_t good_len = fread(good, 1, sizeof good, in);
        fclose(in);
        for (int round = 0; round < ROUNDS; round++) {
            cn_tokenizer *t;
            cn_err err = {0};
            size_t len = good_len;
            memcpy(text, good, len);
            for (uint32_t n = test_rng_below(&rng, 4); n > 0; n--) len = mutate(&rng, text, len, CAPACITY);
            test_files_write(&files, "tokenizer.json", text, len);
            if (cn_tokenizer_open(files.directory, &t, &err) == CN_OK) {
                use(t, &rng);
                opened++;
            } else {
                assert_int_equal(strncmp(err.text, "tokenizer.json", 14), 0);
            }
            cn_tokenizer_close(t);
        }
    }
    assert_in_range(opened, ROUNDS / 4, 2 * ROUNDS);     // or the good files are none
    test_files_close(&files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_by_rank),
        cmocka_unit_test(long_and_short_words_agree),
        cmocka_unit_test(unknown_characters),
        cmocka_unit_test(added_tokens),
        cmocka_unit_test(files_that_are_refused),
        cmocka_unit_test(missing_and_truncated_files),
        cmocka_unit_test(a_full_arena_is_an_error),
        cmocka_unit_test(costly_expressions_stop),
        cmocka_unit_test(broken_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
