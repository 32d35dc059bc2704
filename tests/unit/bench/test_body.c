/* The bytes of requests: one turn of a plan in three APIs, with its history in three ways. The JSON is
 * read with jansson, which the writer does not use. */
#include "tests/unit/cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "bench/body.h"

typedef struct world {
    cn_plan plan;
    cn_body_options options;
    cn_body_history history;
    cn_buf out;
} world;

// One session: a system prompt of 4 tokens, two turns of 3 tokens each.
static void open_world(world *w, cn_body_api api)
{
    memset(w, 0, sizeof *w);
    cn_plan_init(&w->plan);
    cn_plan_session *session = cn_plan_add_session(&w->plan);
    session->prefix_tokens = 4;
    session->prefix_seed = 1;
    for (uint64_t i = 0; i < 2; i++) {
        cn_plan_turn *turn = cn_plan_add_turn(&w->plan);
        turn->input_tokens = 3;
        turn->output_tokens = 7;
        turn->seed = 10 + i;
    }
    w->options = (cn_body_options){.api = api, .model = "m\"1", .extra = "", .words_per_token = 1,
                                   .stream = true, .vocab = 100};
    snprintf(w->options.url.authority, sizeof w->options.url.authority, "host:1");
    cn_body_history_init(&w->history);
    cn_buf_init(&w->out, 1 << 20);
}

static void close_world(world *w)
{
    cn_body_history_close(&w->history);
    cn_buf_close(&w->out);
    cn_plan_close(&w->plan);
}

// The body of the request, whose head must say its length.
static json_t *body_of(world *w, uint32_t turn)
{
    cn_body_write(&w->options, &w->plan, 0, turn, &w->history, &w->out);
    assert_false(w->out.overflowed);
    cn_buf_add_char(&w->out, '\0');
    const char *split = strstr(w->out.data, "\r\n\r\n");
    assert_non_null(split);
    const char *length = strstr(w->out.data, "Content-Length: ");
    assert_true(length && length < split);
    assert_int_equal(strtoul(length + 16, NULL, 10), strlen(split + 4));
    json_t *body = json_loads(split + 4, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(body);
    return body;
}

static const char *text_at(const json_t *list, size_t index, const char *role)
{
    const json_t *item = json_array_get(list, index);
    assert_string_equal(json_string_value(json_object_get(item, "role")), role);
    return json_string_value(json_object_get(item, "content"));
}

static size_t words(const char *text)
{
    size_t count = *text != '\0';
    for (; *text; text++) count += *text == ' ';
    return count;
}

static void chat_resends_everything(void **state)
{
    (void)state;
    world w;
    open_world(&w, CN_BODY_CHAT);
    json_t *first = body_of(&w, 0);
    assert_non_null(strstr(w.out.data, "POST /v1/chat/completions HTTP/1.1\r\nHost: host:1\r\n"));
    const json_t *messages = json_object_get(first, "messages");
    assert_int_equal(json_array_size(messages), 2);
    assert_int_equal(words(text_at(messages, 0, "system")), 4);
    assert_int_equal(words(text_at(messages, 1, "user")), 3);
    assert_string_equal(json_string_value(json_object_get(first, "model")), "m\"1");
    assert_int_equal(json_integer_value(json_object_get(first, "max_tokens")), 7);
    assert_true(json_is_true(json_object_get(json_object_get(first, "stream_options"), "include_usage")));

    cn_body_answered(&w.options, &w.plan, 0, 0, "an \"answer\"\n", "id", &w.history);
    json_t *second = body_of(&w, 1);
    messages = json_object_get(second, "messages");
    assert_int_equal(json_array_size(messages), 4);
    for (size_t i = 0; i < 2; i++) {               // the beginning is the same, so that a cache finds it
        assert_true(json_equal(json_array_get(messages, i), json_array_get(json_object_get(first, "messages"), i)));
    }
    assert_string_equal(text_at(messages, 2, "assistant"), "an \"answer\"\n");
    assert_string_not_equal(text_at(messages, 3, "user"), text_at(messages, 1, "user"));
    json_decref(first);
    json_decref(second);
    close_world(&w);
}

static void recorded_answers_go_into_the_history(void **state)
{
    (void)state;
    world w;
    open_world(&w, CN_BODY_CHAT);
    w.plan.turns[0].text = "asked";
    w.plan.turns[0].text_len = 5;
    w.plan.turns[0].answer = "recorded";
    w.plan.turns[0].answer_len = 8;
    cn_body_answered(&w.options, &w.plan, 0, 0, "live", "id", &w.history);
    json_t *second = body_of(&w, 1);
    const json_t *messages = json_object_get(second, "messages");
    assert_string_equal(text_at(messages, 1, "user"), "asked");
    assert_string_equal(text_at(messages, 2, "assistant"), "recorded");
    json_decref(second);
    close_world(&w);
}

static void completions_are_one_text_or_ids(void **state)
{
    (void)state;
    world w;
    open_world(&w, CN_BODY_COMPLETIONS);
    json_t *first = body_of(&w, 0);
    const char *prompt = json_string_value(json_object_get(first, "prompt"));
    assert_int_equal(words(prompt), 7);
    cn_body_answered(&w.options, &w.plan, 0, 0, " and so", "", &w.history);
    json_t *second = body_of(&w, 1);
    const char *longer = json_string_value(json_object_get(second, "prompt"));
    assert_memory_equal(longer + 1, prompt + 1, strlen(prompt) - 1);
    assert_non_null(strstr(longer, " and so"));
    json_decref(first);
    json_decref(second);
    close_world(&w);

    open_world(&w, CN_BODY_COMPLETIONS);
    w.options.prompt_ids = true;
    first = body_of(&w, 0);
    const json_t *ids = json_object_get(first, "prompt");
    assert_int_equal(json_array_size(ids), 7);
    for (size_t i = 0; i < 7; i++) assert_in_range(json_integer_value(json_array_get(ids, i)), 16, 99);
    json_decref(first);
    close_world(&w);
}

static void responses_name_what_came_before(void **state)
{
    (void)state;
    world w;
    open_world(&w, CN_BODY_RESPONSES);
    w.options.history = CN_BODY_PREVIOUS;
    json_t *first = body_of(&w, 0);
    assert_null(json_object_get(first, "previous_response_id"));
    assert_int_equal(json_array_size(json_object_get(first, "input")), 2);
    assert_true(json_is_true(json_object_get(first, "store")));
    assert_null(json_object_get(first, "max_tokens"));
    cn_body_answered(&w.options, &w.plan, 0, 0, NULL, "resp_7", &w.history);
    json_t *second = body_of(&w, 1);
    assert_string_equal(json_string_value(json_object_get(second, "previous_response_id")), "resp_7");
    assert_int_equal(json_array_size(json_object_get(second, "input")), 1);
    json_decref(first);
    json_decref(second);
    close_world(&w);

    open_world(&w, CN_BODY_RESPONSES);
    w.options.history = CN_BODY_CONVERSATION;
    snprintf(w.history.conversation, sizeof w.history.conversation, "conv_1");
    first = body_of(&w, 0);
    assert_string_equal(json_string_value(json_object_get(first, "conversation")), "conv_1");
    json_decref(first);
    close_world(&w);
}

static void blocks_with_equal_numbers_are_equal_text(void **state)
{
    (void)state;
    static const uint64_t blocks[2][2] = {{5, 6}, {5, 7}};
    world w;
    const char *texts[2];
    json_t *bodies[2];
    open_world(&w, CN_BODY_COMPLETIONS);
    w.plan.sessions[0].prefix_tokens = 0;
    for (uint32_t i = 0; i < 2; i++) {
        cn_plan_turn *turn = &w.plan.turns[0];
        turn->blocks = blocks[i];
        turn->block_count = 2;
        turn->block_tokens = 8;
        turn->input_tokens = 12;                   // the last block is not whole
        bodies[i] = body_of(&w, 0);
        texts[i] = json_string_value(json_object_get(bodies[i], "prompt"));
        assert_int_equal(words(texts[i]), 12);
    }
    size_t same = 0, spaces = 0;
    for (; texts[0][same] == texts[1][same]; same++) spaces += texts[0][same] == ' ';
    assert_true(spaces == 8);                      // eight words, and not the ninth
    json_decref(bodies[0]);
    json_decref(bodies[1]);
    close_world(&w);
}

static void extras_and_the_key_are_added(void **state)
{
    (void)state;
    world w;
    open_world(&w, CN_BODY_CHAT);
    w.options.extra = "{\"top_k\":1,\"tag\":{\"a\":[]}}";
    w.options.api_key = "secret";
    w.options.ignore_eos = w.options.return_token_ids = true;
    json_t *body = body_of(&w, 0);
    assert_non_null(strstr(w.out.data, "\r\nAuthorization: Bearer secret\r\n"));
    assert_int_equal(json_integer_value(json_object_get(body, "top_k")), 1);
    assert_true(json_is_object(json_object_get(body, "tag")));
    assert_true(json_is_true(json_object_get(body, "ignore_eos")));
    assert_true(json_is_true(json_object_get(body, "return_token_ids")));
    json_decref(body);
    close_world(&w);
}

static void urls(void **state)
{
    static const struct {
        const char *url, *host, *port, *prefix, *authority;
    } rows[] = {
        {"http://127.0.0.1:8000", "127.0.0.1", "8000", "", "127.0.0.1:8000"},
        {"http://example/", "example", "80", "", "example:80"},
        {"http://example:81/gateway/", "example", "81", "/gateway", "example:81"},
        {"http://[::1]:9", "::1", "9", "", "[::1]:9"},
    };
    cn_client_url url;
    cn_err err;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(cn_client_parse_url(rows[i].url, &url, NULL), CN_OK);
        assert_string_equal(url.host, rows[i].host);
        assert_string_equal(url.port, rows[i].port);
        assert_string_equal(url.prefix, rows[i].prefix);
        assert_string_equal(url.authority, rows[i].authority);
    }
    assert_int_equal(cn_client_parse_url("https://x", &url, &err), CN_E_UNSUPPORTED);
    assert_int_equal(cn_client_parse_url("x:80", &url, &err), CN_E_INVALID);
    assert_int_equal(cn_client_parse_url("http://", &url, &err), CN_E_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chat_resends_everything),
        cmocka_unit_test(recorded_answers_go_into_the_history),
        cmocka_unit_test(completions_are_one_text_or_ids),
        cmocka_unit_test(responses_name_what_came_before),
        cmocka_unit_test(blocks_with_equal_numbers_are_equal_text),
        cmocka_unit_test(extras_and_the_key_are_added),
        cmocka_unit_test(urls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
