#include "dataplane/items.h"

#include <string.h>

#include "tests/unit/cmocka_all.h"

#define TURN "resp_0123456789abcdef0123456789abcdef0123456789abcdef"
#define HEX  "0123456789abcdef0123456789abcdef0123456789abcdef"

static json_t *parse(const char *text)
{
    json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(value);
    return value;
}

static cn_code read_text(const char *text, json_t **out, cn_err *err)
{
    json_t *input = parse(text);
    const cn_code code = cn_items_read(input, "input", TURN, 4, "messages", out, err);
    json_decref(input);
    return code;
}

static void assert_dumps(const json_t *value, const char *want)
{
    char *text = json_dumps(value, JSON_COMPACT);
    assert_string_equal(text, want);
    free(text);
}

// One form is stored, whatever the client wrote; a difference here is a difference in old records.
static void items_are_stored_in_one_form(void **state)
{
    (void)state;
#define MESSAGE(role, parts)                                                                       \
    "[{\"id\":\"msg_" HEX "0000\",\"type\":\"message\",\"status\":\"completed\",\"role\":\"" role  \
    "\",\"content\":[" parts "]}]"
    static const struct {
        const char *given, *stored;
    } table[] = {
        {"\"Hi\"", MESSAGE("user", "{\"type\":\"input_text\",\"text\":\"Hi\"}")},
        {"[{\"role\":\"user\",\"content\":\"Hi\"}]",
         MESSAGE("user", "{\"type\":\"input_text\",\"text\":\"Hi\"}")},
        {"[{\"type\":\"message\",\"id\":\"msg_mine\",\"role\":\"user\",\"status\":\"odd\","
         "\"content\":[{\"type\":\"input_text\",\"text\":\"a\",\"x\":1},"
         "{\"type\":\"text\",\"text\":\"b\"}]}]",
         MESSAGE("user", "{\"type\":\"input_text\",\"text\":\"a\"},"
                         "{\"type\":\"input_text\",\"text\":\"b\"}")},
        {"[{\"role\":\"developer\",\"content\":\"d\"}]",
         MESSAGE("developer", "{\"type\":\"input_text\",\"text\":\"d\"}")},
        {"[{\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"t\","
         "\"annotations\":[1],\"logprobs\":[2]},{\"type\":\"refusal\",\"refusal\":\"no\"}]}]",
         MESSAGE("assistant", "{\"type\":\"output_text\",\"text\":\"t\",\"annotations\":[],"
                              "\"logprobs\":[]},{\"type\":\"refusal\",\"refusal\":\"no\"}")},
        {"[{\"type\":\"function_call\",\"id\":\"fc_1\",\"call_id\":\"c\",\"name\":\"n\","
         "\"arguments\":\"{}\"}]",
         "[{\"id\":\"fc_" HEX "0000\",\"type\":\"function_call\",\"status\":\"completed\","
         "\"call_id\":\"c\",\"name\":\"n\",\"arguments\":\"{}\"}]"},
        {"[{\"type\":\"function_call_output\",\"call_id\":\"c\",\"output\":\"o\"}]",
         "[{\"id\":\"fco_" HEX "0000\",\"type\":\"function_call_output\",\"status\":\"completed\","
         "\"call_id\":\"c\",\"output\":\"o\"}]"},
        {"[{\"type\":\"function_call_output\",\"call_id\":\"c\","
         "\"output\":[{\"type\":\"input_text\",\"text\":\"o\"}]}]",
         "[{\"id\":\"fco_" HEX "0000\",\"type\":\"function_call_output\",\"status\":\"completed\","
         "\"call_id\":\"c\",\"output\":[{\"type\":\"input_text\",\"text\":\"o\"}]}]"},
        {"[{\"type\":\"reasoning\",\"id\":\"rs_x\",\"summary\":[],\"encrypted_content\":\"e\"}]",
         "[{\"id\":\"rs_" HEX "0000\",\"type\":\"reasoning\",\"summary\":[],"
         "\"encrypted_content\":\"e\"}]"},
        {"[]", "[]"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        json_t *stored;
        assert_int_equal(read_text(table[i].given, &stored, NULL), CN_OK);
        assert_dumps(stored, table[i].stored);
        json_decref(stored);
    }
}

static void what_is_wrong_is_named_by_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *given;
        cn_code code;
        const char *param;
    } table[] = {
        {"5", CN_E_INVALID, "input"},
        {"{}", CN_E_INVALID, "input"},
        {"[1]", CN_E_INVALID, "input[0]"},
        {"[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"cook\",\"content\":\"b\"}]",
         CN_E_INVALID, "input[1].role"},
        {"[{\"content\":\"a\"}]", CN_E_INVALID, "input[0].role"},
        {"[{\"role\":\"user\"}]", CN_E_INVALID, "input[0].content"},
        {"[{\"role\":\"user\",\"content\":[1]}]", CN_E_INVALID, "input[0].content[0]"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"input_text\"}]}]", CN_E_INVALID,
         "input[0].content[0]"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"refusal\",\"text\":\"x\"}]}]", CN_E_INVALID,
         "input[0].content[0]"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"input_file\"}]}]", CN_E_UNSUPPORTED,
         "input[0].content[0]"},
        {"[{\"type\":3}]", CN_E_INVALID, "input[0].type"},
        {"[{\"type\":\"file_search_call\"}]", CN_E_UNSUPPORTED, "input[0]"},
        {"[{\"type\":\"item_reference\"}]", CN_E_INVALID, "input[0].id"},
        {"[{\"type\":\"function_call\",\"name\":\"n\",\"arguments\":\"\"}]", CN_E_INVALID,
         "input[0].call_id"},
        {"[{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"n\",\"arguments\":{}}]",
         CN_E_INVALID, "input[0].arguments"},
        {"[{\"type\":\"function_call_output\",\"call_id\":\"c\"}]", CN_E_INVALID,
         "input[0].output"},
        {"[{},{},{},{},{}]", CN_E_LIMIT, "input"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        json_t *stored;
        cn_err err;
        assert_int_equal(read_text(table[i].given, &stored, &err), table[i].code);
        assert_string_equal(err.param, table[i].param);
        assert_null(stored);
    }
}

static json_t *stored_of(const char *text)
{
    json_t *stored;
    assert_int_equal(read_text(text, &stored, NULL), CN_OK);
    return stored;
}

#define CALL(id)                                                                                   \
    "{\"type\":\"function_call\",\"call_id\":\"" id "\",\"name\":\"f\",\"arguments\":\"{}\"}"
#define OUTPUT(id) "{\"type\":\"function_call_output\",\"call_id\":\"" id "\",\"output\":\"o\"}"

static void an_output_needs_its_call_before_it(void **state)
{
    (void)state;
    json_t *call = stored_of("[" CALL("a") "]"), *before = json_array();
    assert_int_equal(cn_items_add_messages(call, before, NULL), CN_OK);
    json_decref(call);
    static const struct {
        const char *items;
        bool with_before;
        cn_code code;
    } table[] = {
        {"[" OUTPUT("a") "]", true, CN_OK},
        {"[" OUTPUT("a") "]", false, CN_E_INVALID},
        {"[" OUTPUT("b") "]", true, CN_E_INVALID},
        {"[" CALL("b") "," OUTPUT("b") "]", false, CN_OK},
        {"[" OUTPUT("b") "," CALL("b") "]", false, CN_E_INVALID},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        json_t *items = stored_of(table[i].items);
        assert_int_equal(cn_items_check_calls(table[i].with_before ? before : NULL, items, NULL),
                         table[i].code);
        json_decref(items);
    }
    json_decref(before);
}

// What a template sees: calls of one turn are one message, thoughts are none.
static void messages_are_what_templates_take(void **state)
{
    (void)state;
    json_t *items = stored_of("[{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":"
                              "\"a\"},{\"type\":\"input_text\",\"text\":\"b\"}]}," CALL("1")
                              "," CALL("2") "," OUTPUT("1") "]");
    json_t *more = stored_of("[{\"type\":\"reasoning\",\"summary\":[]},{\"role\":\"assistant\","
                             "\"content\":\"t\"}," CALL("3") "]");
    json_t *messages = json_array();
    assert_int_equal(cn_items_add_messages(items, messages, NULL), CN_OK);
    assert_int_equal(cn_items_add_messages(more, messages, NULL), CN_OK);
#define TOOL(id)                                                                                   \
    "{\"id\":\"" id "\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}"
    assert_dumps(messages,
                 "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
                 "{\"type\":\"text\",\"text\":\"b\"}]},"
                 "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[" TOOL("1") ","
                 TOOL("2") "]},{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"o\"},"
                 "{\"role\":\"assistant\",\"content\":\"t\",\"tool_calls\":[" TOOL("3") "]}]");
    json_decref(items);
    json_decref(more);
    json_decref(messages);
}

static void references_are_replaced_under_new_ids(void **state)
{
    (void)state;
    static const char *const none[] = {"", "msg", "msg_", "msg_" HEX, "msg_" HEX "00001",
                                       "msg_" HEX "000", "msg_0123456789ABCDEF" HEX};
    cn_session_id turn;
    uint32_t index;
    const char *id;
    json_t *items = stored_of("[{\"role\":\"user\",\"content\":\"a\"},"
                              "{\"type\":\"item_reference\",\"id\":\"fc_" HEX "0003\"}]");
    assert_true(cn_items_find_reference(items, &index, &id));
    assert_int_equal(index, 1);
    assert_true(cn_items_turn_of(id, &turn));
    assert_string_equal(turn.text, TURN);
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        assert_false(cn_items_turn_of(none[i], &turn));
    }
    static const char call[] = "{\"id\":\"fc_x\",\"type\":\"function_call\",\"call_id\":\"c\"}";
    const cn_bytes item = {call, sizeof call - 1}, bad = {"{}", 2};
    assert_int_equal(cn_items_put(items, 1, bad, TURN, NULL), CN_E_CORRUPT);
    assert_int_equal(cn_items_put(items, 1, item, TURN, NULL), CN_OK);
    assert_false(cn_items_find_reference(items, &index, &id));
    assert_string_equal(json_string_value(json_object_get(json_array_get(items, 1), "id")),
                        "fc_" HEX "0001");
    json_decref(items);
}

/* The short way and the parser must agree on every item, or a history would depend on which one read
 * it. */
static void stored_items_are_the_same_messages(void **state)
{
    (void)state;
    static const char *const inputs[] = {
        "[{\"role\":\"user\",\"content\":\"plain\"}]",
        "[{\"role\":\"assistant\",\"content\":\"plain\"}]",
        "[{\"role\":\"user\",\"content\":\"\"}]",
        "[{\"role\":\"user\",\"content\":\"\xC3\xA9\"}]",
        "[{\"role\":\"user\",\"content\":\"a \\\"quoted\\\" \\n text\\\\\"}]",
        "[{\"role\":\"user\",\"content\":\"\\\"}]}\"}]",
        "[{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"a\"},"
        "{\"type\":\"input_text\",\"text\":\"b\"}]}]",
        "[{\"role\":\"user\",\"content\":[]}]",
        "[{\"role\":\"assistant\",\"content\":[{\"type\":\"refusal\",\"refusal\":\"no\"}]}]",
        "[" CALL("1") "," CALL("2") "," OUTPUT("1") "]",
        "[{\"role\":\"assistant\",\"content\":\"t\"}," CALL("1") "]",
        "[{\"type\":\"reasoning\",\"summary\":[]}]",
    };
    for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++) {
        cn_arena arena;
        cn_bytes *texts;
        uint32_t count;
        json_t *items = stored_of(inputs[i]), *want = json_array(), *got = json_array();
        cn_arena_init(&arena, 1 << 20);
        assert_int_equal(cn_items_add_messages(items, want, NULL), CN_OK);
        assert_int_equal(cn_items_dump(items, &arena, &texts, &count, NULL), CN_OK);
        for (uint32_t at = 0; at < count; at++) {
            assert_int_equal(cn_items_add_stored(texts[at], got, NULL), CN_OK);
        }
        assert_true(json_equal(got, want));
        json_decref(items);
        json_decref(want);
        json_decref(got);
        cn_arena_close(&arena);
    }
}

static void items_know_their_ids(void **state)
{
    (void)state;
    cn_err err;
    json_t *messages = json_array();
    const cn_bytes item = {"{\"id\":\"fc_1\",\"type\":\"x\"}", 24};
    const cn_bytes id = cn_items_id_of(item);
    assert_int_equal(id.len, 4);
    assert_memory_equal(id.data, "fc_1", 4);
    static const cn_bytes bad[] = {{"{", 1}, {"[]", 2}, {"", 0}, {"{\"id\":\"x", 8}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(cn_items_add_stored(bad[i], messages, &err), CN_E_CORRUPT);
        assert_null(cn_items_id_of(bad[i]).data);
    }
    json_decref(messages);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_are_stored_in_one_form),
        cmocka_unit_test(what_is_wrong_is_named_by_its_place),
        cmocka_unit_test(an_output_needs_its_call_before_it),
        cmocka_unit_test(messages_are_what_templates_take),
        cmocka_unit_test(references_are_replaced_under_new_ids),
        cmocka_unit_test(stored_items_are_the_same_messages),
        cmocka_unit_test(items_know_their_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
