#include "tests/unit/cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>
#include <xxhash.h>

#include "state/record.h"
#include "tests/unit/test_rng.h"

enum { RECORD_MAX = 1 << 20, TURN_DEPTH = 40, TOKENS = 300 };

typedef struct fixture {
    cn_arena arena;
    cn_buf record;
    cn_turn turn;
    cn_conversation conversation;
} fixture;

static cn_session_id id_of(const char *prefix, uint8_t n)
{
    uint8_t raw[CN_SESSION_ID_RAW_BYTES];
    cn_session_id id;
    memset(raw, n, sizeof raw);
    cn_record_id_text(raw, &id);
    memcpy(id.text, prefix, strlen(prefix));
    return id;
}

static cn_bytes bytes_of(const char *text)
{
    return (cn_bytes){text, (uint32_t)strlen(text)};
}

// A turn that uses every field.
static void make_turn(cn_turn *turn)
{
    static cn_bytes input[2], output[1];
    static int32_t tokens[TOKENS];
    static uint8_t ancestors[CN_SESSION_ANCESTORS_MAX * CN_SESSION_ID_RAW_BYTES];
    input[0] = bytes_of("{\"type\":\"message\",\"content\":\"hello\"}");
    input[1] = (cn_bytes){"a\0b", 3};
    output[0] = bytes_of("{\"type\":\"message\",\"content\":\"\xC3\xA4\"}");
    for (int i = 0; i < TOKENS; i++) tokens[i] = i * 7919;
    tokens[0] = INT32_MAX;
    for (size_t i = 0; i < sizeof ancestors; i++) ancestors[i] = (uint8_t)(i / 24 + 1);
    *turn = (cn_turn){
        .id = id_of("resp_", 0xAB),
        .conversation = id_of("conv_", 0xCD),
        .created_s = 1700000000,
        .completed_s = 1700000002,
        .response = bytes_of("{\"model\":\"m\"}"),
        .input = input,
        .input_count = 2,
        .output = output,
        .output_count = 1,
        .text = bytes_of("<user>hello"),
        .tokens = tokens,
        .token_count = TOKENS,
        .output_token_count = 17,
        .resets_text = true,
        .seam = {.messages = 9, .bytes = 5},
        .settings = bytes_of("{\"seed\":1}"),
        .depth = TURN_DEPTH,
        .kept_s = 1690000000,
        .ancestors = ancestors,
        .ancestor_count = CN_SESSION_ANCESTORS_MAX,
    };
    memset(turn->request_digest, 0x5A, sizeof turn->request_digest);
    memset(turn->seam.digest, 0x3C, sizeof turn->seam.digest);
    cn_record_id_text(ancestors, &turn->parent);
}

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    if (!f) return -1;
    cn_arena_init(&f->arena, 64 << 20);
    cn_buf_init(&f->record, RECORD_MAX);
    make_turn(&f->turn);
    f->conversation = (cn_conversation){
        .request_digest = {1, 2, 3, [CN_KEY_BYTES - 1] = 4},
        .id = id_of("conv_", 1),
        .head = id_of("resp_", 2),
        .root = id_of("resp_", 4),
        .revision = UINT64_MAX,
        .created_s = 5,
        .kept_s = 6,
        .metadata = bytes_of("{\"a\":\"b\"}"),
        .deleted_items = bytes_of("[\"msg_1\"]"),
        .deleted = true,
        .forked_from = id_of("conv_", 7),
        .forked_at = id_of("resp_", 8),
    };
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    cn_arena_close(&f->arena);
    cn_buf_close(&f->record);
    free(f);
    return 0;
}

static void assert_bytes(cn_bytes a, cn_bytes b)
{
    assert_int_equal(a.len, b.len);
    if (a.len) assert_memory_equal(a.data, b.data, a.len);
}

static cn_code read_turn(fixture *f, cn_turn *out, cn_err *err)
{
    cn_arena_reset(&f->arena);
    return cn_record_read_turn(f->record.data, f->record.len, &f->turn.id, &f->arena, out, err);
}

static void write_turn(fixture *f)
{
    cn_buf_clear(&f->record);
    assert_int_equal(cn_record_write_turn(&f->turn, &f->arena, &f->record, NULL), CN_OK);
}

// Catches a field that is written and not read, or read into another one.
static void a_turn_comes_back_whole(void **state)
{
    fixture *f = *state;
    cn_turn back;
    write_turn(f);
    assert_int_equal(read_turn(f, &back, NULL), CN_OK);
    const cn_turn *t = &f->turn;
    assert_string_equal(back.id.text, t->id.text);
    assert_string_equal(back.parent.text, t->parent.text);
    assert_string_equal(back.conversation.text, t->conversation.text);
    assert_int_equal(back.created_s, t->created_s);
    assert_int_equal(back.completed_s, t->completed_s);
    assert_int_equal(back.kept_s, t->kept_s);
    assert_bytes(back.response, t->response);
    assert_int_equal(back.input_count, 2);
    for (int i = 0; i < 2; i++) assert_bytes(back.input[i], t->input[i]);
    assert_int_equal(back.output_count, 1);
    assert_bytes(back.output[0], t->output[0]);
    assert_bytes(back.text, t->text);
    assert_int_equal(back.token_count, TOKENS);
    assert_memory_equal(back.tokens, t->tokens, TOKENS * sizeof *t->tokens);
    assert_int_equal(back.output_token_count, 17);
    assert_true(back.resets_text && !back.deleted && !back.withdrawn);
    assert_memory_equal(&back.seam, &t->seam, sizeof back.seam);
    assert_bytes(back.settings, t->settings);
    assert_memory_equal(back.request_digest, t->request_digest, sizeof t->request_digest);
    assert_int_equal(back.depth, TURN_DEPTH);
    assert_int_equal(back.ancestor_count, CN_SESSION_ANCESTORS_MAX);
    assert_memory_equal(back.ancestors, t->ancestors,
                        CN_SESSION_ANCESTORS_MAX * CN_SESSION_ID_RAW_BYTES);
}

static void a_root_and_its_states_come_back(void **state)
{
    fixture *f = *state;
    cn_turn back;
    f->turn = (cn_turn){.id = f->turn.id, .depth = 1};
    write_turn(f);
    assert_int_equal(read_turn(f, &back, NULL), CN_OK);
    assert_string_equal(back.parent.text, "");
    assert_string_equal(back.conversation.text, "");
    assert_int_equal(back.input_count + back.output_count + back.token_count + back.text.len, 0);
    f->turn.deleted = true;
    write_turn(f);
    assert_int_equal(read_turn(f, &back, NULL), CN_OK);
    assert_true(back.deleted && !back.withdrawn);
    make_turn(&f->turn);
    f->turn.withdrawn = true;
    write_turn(f);
    assert_true(f->record.len < 100); // nothing of it is left
    assert_int_equal(read_turn(f, &back, NULL), CN_OK);
    assert_true(back.withdrawn);
    assert_int_equal(back.token_count, 0);
}

static void a_conversation_comes_back_whole(void **state)
{
    fixture *f = *state;
    const cn_conversation *c = &f->conversation;
    cn_conversation back;
    assert_int_equal(cn_record_write_conversation(c, &f->record, NULL), CN_OK);
    assert_int_equal(
        cn_record_read_conversation(f->record.data, f->record.len, &c->id, &f->arena, &back, NULL),
        CN_OK);
    assert_string_equal(back.id.text, c->id.text);
    assert_string_equal(back.head.text, c->head.text);
    assert_string_equal(back.root.text, c->root.text);
    assert_string_equal(back.forked_from.text, c->forked_from.text);
    assert_string_equal(back.forked_at.text, c->forked_at.text);
    assert_memory_equal(back.request_digest, c->request_digest, sizeof back.request_digest);
    assert_true(back.revision == c->revision && back.deleted);
    assert_true(back.created_s == c->created_s && back.kept_s == c->kept_s);
    assert_bytes(back.metadata, c->metadata);
    assert_bytes(back.deleted_items, c->deleted_items);
    assert_bytes(back.stored, (cn_bytes){f->record.data, (uint32_t)f->record.len});
}

// Whatever is cut off or flipped, nothing of the record is used, and the error says whose it was.
static void damage_is_found(void **state)
{
    fixture *f = *state;
    cn_turn back;
    cn_err err;
    write_turn(f);
    const size_t len = f->record.len;
    for (f->record.len = 0; f->record.len < len; f->record.len++) {
        assert_int_equal(read_turn(f, &back, &err), CN_E_CORRUPT);
        assert_non_null(strstr(err.text, f->turn.id.text));
    }
    cn_buf_add_char(&f->record, 'x');
    assert_int_equal(read_turn(f, &back, &err), CN_E_CORRUPT);
    f->record.len = len;
    for (size_t bit = 0; bit < len * 8; bit++) {
        f->record.data[bit / 8] ^= (char)(1 << bit % 8);
        assert_int_equal(read_turn(f, &back, &err), CN_E_CORRUPT);
        assert_non_null(strstr(err.text, f->turn.id.text));
        f->record.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    assert_int_equal(read_turn(f, &back, &err), CN_OK);
}

static void a_record_belongs_to_its_id_and_kind(void **state)
{
    fixture *f = *state;
    cn_turn turn;
    cn_conversation conversation;
    cn_session_id other = id_of("resp_", 0x11);
    write_turn(f);
    assert_int_equal(
        cn_record_read_turn(f->record.data, f->record.len, &other, &f->arena, &turn, NULL),
        CN_E_CORRUPT);
    assert_int_equal(cn_record_read_conversation(f->record.data, f->record.len, &f->turn.id,
                                                 &f->arena, &conversation, NULL),
                     CN_E_CORRUPT);
}

// The form of a record, written a second time: bytes 0 to 23 as the header of state/record.h says.
static void seal(cn_buf *record, const cn_session_id *id)
{
    char outside[sizeof id->text + 16];
    const uint32_t body = (uint32_t)(record->len - CN_RECORD_HEADER_BYTES);
    memcpy(record->data + 8, &body, sizeof body);
    memcpy(outside, id->text, sizeof id->text);
    memcpy(outside + sizeof id->text, record->data, 16);
    const uint64_t sum = XXH3_64bits_withSeed(record->data + CN_RECORD_HEADER_BYTES, body,
                                              XXH3_64bits(outside, sizeof outside));
    memcpy(record->data + 16, &sum, sizeof sum);
}

static void versions_are_told_apart(void **state)
{
    fixture *f = *state;
    cn_turn back;
    cn_err err;
    write_turn(f);
    f->record.data[4] = 9; // a newer writer, which this reader may read
    seal(&f->record, &f->turn.id);
    assert_int_equal(read_turn(f, &back, &err), CN_OK);
    f->record.data[6] = 2; // and may not
    seal(&f->record, &f->turn.id);
    assert_int_equal(read_turn(f, &back, &err), CN_E_CORRUPT);
    assert_non_null(strstr(err.text, "is of version 9, for readers from version 2 on"));
    assert_non_null(strstr(err.text, f->turn.id.text));
}

// Records that a broken writer sealed: nothing is read out of bounds (run under ASan), and what is
// taken for good obeys the bounds.
static void a_sealed_record_may_still_be_wrong(void **state)
{
    fixture *f = *state;
    test_rng rng = test_rng_open("record");
    cn_buf whole;
    cn_buf_init(&whole, RECORD_MAX);
    f->turn.token_count = 20;
    f->turn.output_token_count = 5;
    write_turn(f);
    cn_buf_add(&whole, f->record.data, f->record.len);
    uint32_t good = 0, bad = 0;
    for (int run = 0; run < 20000; run++) {
        cn_turn back;
        cn_buf_clear(&f->record);
        cn_buf_add(&f->record, whole.data, whole.len);
        for (uint32_t n = 1 + test_rng_below(&rng, 4); n > 0; n--) {
            const size_t body = f->record.len - CN_RECORD_HEADER_BYTES;
            const size_t at = CN_RECORD_HEADER_BYTES + test_rng_below(&rng, (uint32_t)body);
            f->record.data[at] = (char)test_rng_u64(&rng);
        }
        if (test_rng_below(&rng, 4) == 0) f->record.len -= test_rng_below(&rng, 30);
        seal(&f->record, &f->turn.id);
        const cn_code code = read_turn(f, &back, NULL);
        code == CN_OK ? good++ : bad++;
        if (code != CN_OK) {
            assert_true(code == CN_E_CORRUPT || code == CN_E_LIMIT);
            continue;
        }
        if (back.withdrawn) continue;
        assert_string_equal(back.id.text, f->turn.id.text);
        assert_true(back.depth > 0 && back.ancestor_count <= CN_SESSION_ANCESTORS_MAX);
        assert_true((back.depth == 1) == (back.parent.text[0] == '\0'));
        assert_true(back.output_token_count <= back.token_count);
        assert_true(back.seam.bytes <= back.text.len);
        for (uint32_t i = 0; i < back.token_count; i++) assert_true(back.tokens[i] >= 0);
    }
    assert_true(good > 100 && bad > 100); // the test sees both
    cn_buf_close(&whole);
}

static void bounds_are_kept(void **state)
{
    fixture *f = *state;
    cn_err err;
    cn_turn back;
    write_turn(f);
    cn_buf small;
    cn_buf_init(&small, f->record.len - 1);
    assert_int_equal(cn_record_write_turn(&f->turn, &f->arena, &small, &err), CN_E_LIMIT);
    assert_non_null(strstr(err.text, f->turn.id.text));
    cn_buf_close(&small);
    cn_buf_init(&small, f->record.len);
    assert_int_equal(cn_record_write_turn(&f->turn, &f->arena, &small, &err), CN_OK);
    cn_buf_close(&small);
    f->turn.seam.bytes = f->turn.text.len + 1;
    write_turn(f);
    assert_int_equal(read_turn(f, &back, &err), CN_E_CORRUPT);
    f->turn.seam.bytes = f->turn.text.len;
    write_turn(f);
    assert_int_equal(read_turn(f, &back, &err), CN_OK);
    cn_arena tight;
    for (uint64_t bytes = 0; bytes < 8192; bytes += 256) {
        cn_arena_init(&tight, bytes);
        const cn_code code =
            cn_record_read_turn(f->record.data, f->record.len, &f->turn.id, &tight, &back, &err);
        assert_true(code == CN_E_LIMIT || (code == CN_OK && bytes > f->record.len));
        cn_arena_close(&tight);
    }
}

// A record of version 1, as it lies in stores: it must be read for ever.
static void version_1_is_read(void **state)
{
    static const char hex[] =
        "434e7254010001009500000000000000ee3bf83e39ac3cb50a35726573705f616261626162616261"
        "62616261626162616261626162616261626162616261626162616261626162616261626162616212"
        "18cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd18023080e2cfaa0652027b7d620361"
        "62636a0c01000000020000002c01000070018a012000000000000000000000000000000000000000"
        "00000000000000000000000000";
    fixture *f = *state;
    uint8_t stored[sizeof hex / 2];
    const cn_session_id id = id_of("resp_", 0xAB), parent = id_of("resp_", 0xCD);
    cn_turn turn;
    assert_int_equal(sodium_hex2bin(stored, sizeof stored, hex, strlen(hex), NULL, NULL, NULL), 0);
    assert_int_equal(cn_record_read_turn(stored, sizeof stored, &id, &f->arena, &turn, NULL),
                     CN_OK);
    assert_string_equal(turn.parent.text, parent.text);
    assert_int_equal(turn.created_s, 1700000000);
    assert_int_equal(turn.depth, 2);
    assert_int_equal(turn.input_count, 1);
    assert_bytes(turn.input[0], bytes_of("{}"));
    assert_bytes(turn.text, bytes_of("abc"));
    assert_int_equal(turn.token_count, 3);
    assert_int_equal(turn.tokens[2], 300);
    assert_int_equal(turn.output_token_count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_turn_comes_back_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_root_and_its_states_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_conversation_comes_back_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damage_is_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_record_belongs_to_its_id_and_kind, set_up, tear_down),
        cmocka_unit_test_setup_teardown(versions_are_told_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_sealed_record_may_still_be_wrong, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bounds_are_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(version_1_is_read, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
