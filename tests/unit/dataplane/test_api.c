#include "tests/unit/dataplane/api_world.h"

static const cn_http_header named[] = {{"x-request-id", "r1"}};

static int open_world(void **state)
{
    (void)state;
    world_open(NULL, 0);
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    world_close();
    return 0;
}

static void post(const char *path, const char *body)
{
    world_send_with(0, "POST", path, body, named, 1);
}

static void assert_error(unsigned status, const char *param, const char *part)
{
    char want[128];
    assert_int_equal(world.exchanges[0].status, status);
    assert_true(world.exchanges[0].ended);
    snprintf(want, sizeof want, param ? "\"param\":\"%s\"" : "\"param\":null", param);
    if (!strstr(world_body(0), want) || !strstr(world_body(0), part)) {
        fail_msg("%s: lacks %s or %s", world_body(0), want, part);
    }
}

#define HEAD(id, object)                                                                           \
    "{\"id\":\"" id "r1\",\"object\":\"" object "\",\"created\":0,\"model\":\"org/model\","        \
    "\"system_fingerprint\":\"cairn-" CN_VERSION "\",\"choices\":["

static void a_chat_is_answered_whole(void **state)
{
    (void)state;
    post("/v1/chat/completions", "{\"model\":\"org/model\",\"messages\":[{\"role\":\"user\","
         "\"content\":\"hi\"}]}");
    assert_int_equal(world.generation_count, 1);
    const cn_generation *g = world.generations[0];
    static const int32_t prompt[] = {FAKE_BEGIN, FAKE_USER, 'h', 'i', FAKE_END, FAKE_ASSISTANT};
    assert_int_equal(g->prompt_count, 6);
    assert_memory_equal(g->prompt, prompt, sizeof prompt);
    assert_int_equal(g->tokens_max, WORLD_CONTEXT - 6);
    assert_int_equal(g->stop_count, 1);
    assert_int_equal(g->stop_ids[0], FAKE_END);
    assert_true(g->sampling.temperature == 0.5f && g->sampling.top_p == 0.75f);
    assert_int_equal(world.exchanges[0].status, 0);
    world_start(0, 0, 4);
    world_text(0, 0, "a\"b");
    world_token(0, 0, FAKE_END);
    world_finish(0, 0, CN_FINISH_STOP);
    world_poll();
    assert_body(
        0,
        HEAD("chatcmpl-",
             "chat.completion") "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"
                                "\"a\\\"b\",\"refusal\":"
                                "null},\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_"
                                "reason\":null}],\"usage\":"
                                "{\"prompt_tokens\":6,\"completion_tokens\":4,\"total_tokens\":10,"
                                "\"prompt_tokens_details\":{\"cached_tokens\":4}}}");
    assert_string_equal(world.exchanges[0].type, "application/json");
    assert_non_null(strstr(world.exchanges[0].extra, "X-Request-Id: r1\r\n"));
}

static void a_chat_streams_frame_by_frame(void **state)
{
    (void)state;
    post("/v1/chat/completions",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"stream\":true,"
         "\"max_tokens\":5,\"stream_options\":{\"include_usage\":true}}");
    world_start(0, 0, 0);
    world_poll();
    assert_int_equal(world.exchanges[0].status, 200);
    assert_string_equal(world.exchanges[0].type, "text/event-stream");
    assert_int_equal(world.exchanges[0].body.len, 0);
    // Half a character waits for its other half; all that one round makes leaves in one send.
    world_text(0, 0, "x\xC3");
    world_poll();
    assert_int_equal(world.exchanges[0].sends, 1);
    world_text(0, 0, "\xA9");
    world_finish(0, 0, CN_FINISH_LENGTH);
    world_poll();
    assert_int_equal(world.exchanges[0].sends, 2);
#define CHUNK HEAD("chatcmpl-", "chat.completion.chunk")
    assert_body(
        0,
        "data: " CHUNK "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
        "\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n"
        "data: " CHUNK "{\"index\":0,\"delta\":{\"content\":\"x\"},\"logprobs\":null,"
        "\"finish_reason\":null}],\"usage\":null}\n\n"
        "data: " CHUNK "{\"index\":0,\"delta\":{\"content\":\"\xC3\xA9\"},\"logprobs\":null,"
        "\"finish_reason\":null}],\"usage\":null}\n\n"
        "data: " CHUNK "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"length\","
        "\"stop_reason\":null}],\"usage\":null}\n\n"
        "data: " CHUNK "],\"usage\":{\"prompt_tokens\":6,\"completion_tokens\":3,"
        "\"total_tokens\":9,\"prompt_tokens_details\":{\"cached_tokens\":0}}}\n\n"
        "data: [DONE]\n\n");
}

// The engine learns of a stop string from us; what it still says is dropped, and the answer does
// not wait for it.
static void a_stop_string_ends_the_answer_at_once(void **state)
{
    (void)state;
    post("/v1/completions", "{\"prompt\":\"p\",\"stop\":[\"\\n\\n\",\"END\"],\"max_tokens\":20}");
    world_start(0, 0, 0);
    world_text(0, 0, "one EN two END three");
    world_poll();
    assert_true(world.cancelled_choice[0][0]);
    assert_true(world.exchanges[0].ended);
    assert_non_null(strstr(world_body(0), "\"text\":\"one EN two \",\"logprobs\":null,"
                           "\"finish_reason\":\"stop\",\"stop_reason\":\"END\"}"));
    assert_non_null(strstr(world_body(0), "\"completion_tokens\":14,"));
    assert_int_equal(world.requests_open, 1);            // the engine still has it
    world_finish(0, 0, CN_FINISH_CANCELLED);
    world_poll();
    assert_int_equal(world.requests_open, 0);
}

static void held_text_is_sent_when_the_answer_ends(void **state)
{
    (void)state;
    post("/v1/completions", "{\"prompt\":\"p\",\"stop\":\"END\",\"stream\":true}");
    world_start(0, 0, 0);
    world_text(0, 0, "x EN");
    world_poll();
    assert_null(strstr(world_body(0), "E"));
    world_finish(0, 0, CN_FINISH_LENGTH);
    world_poll();
    assert_non_null(strstr(world_body(0), "\"text\":\"EN\""));
}

static void stop_tokens_and_eos_are_told_apart(void **state)
{
    (void)state;
    post("/v1/completions", "{\"prompt\":\"p\",\"stop_token_ids\":[120],\"max_tokens\":9,\"n\":2,"
         "\"return_token_ids\":true}");
    const cn_generation *g = world.generations[0];
    assert_int_equal(g->choice_count, 2);
    assert_int_equal(g->stop_count, 2);
    world_start(0, 0, 0);
    world_start(0, 1, 0);
    world_text(0, 0, "ax");
    world_text(0, 1, "b");
    world_token(0, 1, FAKE_END);
    world_finish(0, 0, CN_FINISH_STOP);
    world_finish(0, 1, CN_FINISH_STOP);
    world_poll();
    assert_non_null(strstr(world_body(0),
                           "{\"index\":0,\"text\":\"a\",\"logprobs\":null,\"finish_reason\":"
                           "\"stop\",\"stop_reason\":120,\"prompt_token_ids\":[256,112],"
                           "\"token_ids\":[97,120]},{\"index\":1,\"text\":\"b\",\"logprobs\":null,"
                           "\"finish_reason\":\"stop\",\"stop_reason\":null,"
                           "\"prompt_token_ids\":[256,112],\"token_ids\":[98,257]}"));
}

static void min_tokens_and_ignore_eos_reach_the_engine(void **state)
{
    (void)state;
    post("/v1/completions",
         "{\"prompt\":\"p\",\"min_tokens\":3,\"ignore_eos\":true,\"max_tokens\":5,"
         "\"stop\":\"a\",\"seed\":42,\"logit_bias\":{\"5\":-2}}");
    const cn_generation *g = world.generations[0];
    assert_int_equal(g->tokens_min, 3);
    assert_int_equal(g->stop_count, 0);
    assert_int_equal(g->sampling.seed, 42);
    assert_int_equal(g->sampling.bias_count, 1);
    world_start(0, 0, 0);
    world_text(0, 0, "aaab");                            // the first three may not stop it
    world_finish(0, 0, CN_FINISH_LENGTH);
    world_poll();
    assert_non_null(strstr(world_body(0), "\"text\":\"aaab\""));
}

static void logprobs_have_both_shapes(void **state)
{
    (void)state;
    post("/v1/chat/completions",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}],\"logprobs\":true,"
         "\"top_logprobs\":1}");
    assert_int_equal(world.generations[0]->sampling.logprob_count, 2);
    world_start(0, 0, 0);
    world_text(0, 0, "\xC3\xA9");
    world_finish(0, 0, CN_FINISH_LENGTH);
    world_poll();
    assert_non_null(
        strstr(world_body(0),
               "\"logprobs\":{\"content\":[{\"token\":\"\xEF\xBF\xBD\",\"logprob\":-0.5,"
               "\"bytes\":[195],\"top_logprobs\":[{\"token\":\"b\",\"logprob\":-1,\"bytes\":"
               "[98]}]},{\"token\":\"\xEF\xBF\xBD\",\"logprob\":-0.5,\"bytes\":[169],"
               "\"top_logprobs\":[{\"token\":\"b\",\"logprob\":-1,\"bytes\":[98]}]}],"
               "\"refusal\":null}"));
    post("/v1/completions", "{\"prompt\":\"q\",\"logprobs\":1}");
    world_start(1, 0, 0);
    world_text(1, 0, "\xC3\xA9");
    world_text(1, 0, "b");
    world_finish(1, 0, CN_FINISH_LENGTH);
    world_poll();
    assert_non_null(strstr(world_body(0),
                           "\"logprobs\":{\"tokens\":[\"bytes:\\\\xc3\",\"bytes:\\\\xa9\",\"b\"],"
                           "\"token_logprobs\":[-0.5,-0.5,-0.5],\"top_logprobs\":[{\"b\":-1,"
                           "\"bytes:\\\\xc3\":-0.5},{\"b\":-1,\"bytes:\\\\xa9\":-0.5},{\"b\":-1}],"
                           "\"text_offset\":[0,0,1]}"));
}

static void play_echo(uint32_t generation)
{
    cn_generation *g = world.generations[generation];
    assert_true(g->prompt_logprobs);
    world_start(generation, 0, 0);
    for (uint32_t i = 1; i < g->prompt_count; i++) {
        world_event((cn_event){.generation = g, .kind = CN_EVENT_PROMPT, .position = i,
                               .token = g->prompt[i], .logprob = -0.25f});
    }
}

// What lm-eval sends and reads: the prompt's own logprobs, the first of them null.
static void echo_tells_the_logprobs_of_the_prompt(void **state)
{
    (void)state;
    post("/v1/completions",
         "{\"prompt\":[[97,98],[99]],\"echo\":true,\"logprobs\":1,\"max_tokens\":1}");
    assert_int_equal(world.generation_count, 2);
    for (uint32_t i = 0; i < 2; i++) {
        play_echo(i);
        world_text(i, 0, "z");
        world_finish(i, 0, CN_FINISH_LENGTH);
    }
    world_poll();
    assert_non_null(strstr(
        world_body(0), "{\"index\":0,\"text\":\"abz\",\"logprobs\":{\"tokens\":[\"a\","
                       "\"b\",\"z\"],\"token_logprobs\":[null,-0.25,-0.5],\"top_logprobs\":[null,"
                       "{\"b\":-0.25},{\"b\":-1,\"z\":-0.5}],\"text_offset\":[0,1,2]}"));
    assert_non_null(strstr(world_body(0), "{\"index\":1,\"text\":\"cz\""));
    post("/v1/completions", "{\"prompt\":\"ab\",\"echo\":true,\"logprobs\":0,\"max_tokens\":0,"
         "\"add_special_tokens\":false}");
    assert_int_equal(world.generations[2]->tokens_max, 0);
    play_echo(2);
    world_finish(2, 0, CN_FINISH_LENGTH);
    world_poll();
    assert_non_null(strstr(world_body(0), "\"text\":\"ab\",\"logprobs\":{\"tokens\":[\"a\",\"b\"],"
                           "\"token_logprobs\":[null,-0.25],\"top_logprobs\":[null,{\"b\":-0.25}],"
                           "\"text_offset\":[0,1]},\"finish_reason\":\"length\""));
}

static void prompts_come_in_four_forms(void **state)
{
    (void)state;
    static const struct {
        const char *prompt;
        uint32_t generations, tokens;
    } rows[] = {
        {"\"ab\"", 1, 3}, {"[\"a\",\"b\"]", 2, 2}, {"[97,98]", 1, 2}, {"[[97],[98]]", 2, 1},
        {"\"a<|end|>\"", 1, 3}, {"[97.0]", 1, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char body[64];
        const uint32_t first = world.generation_count;
        snprintf(body, sizeof body, "{\"prompt\":%s}", rows[i].prompt);
        post("/v1/completions", body);
        assert_int_equal(world.generation_count - first, rows[i].generations);
        assert_int_equal(world.generations[first]->prompt_count, rows[i].tokens);
        assert_int_equal(world.generations[first]->tokens_max, 16);
        for (uint32_t g = first; g < world.generation_count; g++) {
            world_start(g, 0, 0);
            world_finish(g, 0, CN_FINISH_LENGTH);
        }
        world_poll();
        assert_int_equal(world.exchanges[0].status, 200);
    }
}

static void what_cannot_be_served_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *path, *body;
        unsigned status;
        const char *param, *part;
    } rows[] = {
        {"/v1/completions", "{\"prompt\":\"\",\"add_special_tokens\":false}", 400, "prompt",
         "no tokens"},
        {"/v1/completions", "{\"prompt\":[]}", 400, "prompt", "no tokens"},
        {"/v1/completions", "{\"prompt\":[[]]}", 400, "prompt", "prompt[0]: has no tokens"},
        {"/v1/completions", "{\"prompt\":[\"a\",1]}", 400, "prompt", "prompt[1]: an integer"},
        {"/v1/completions", "{\"prompt\":[1,\"a\"]}", 400, "prompt", "prompt[1]: a string"},
        {"/v1/completions", "{\"prompt\":[261]}", 400, "prompt",
         "prompt[0]: 261; must be 0 to 260"},
        {"/v1/completions", "{\"prompt\":[-1]}", 400, "prompt", "must be 0 to 260"},
        {"/v1/completions", "{}", 400, "prompt", "prompt: nothing"},
        {"/v1/completions", "{\"prompt\":\"a\",\"model\":\"x\"}", 404, "model", "model_not_found"},
        {"/v1/completions", "{\"prompt\":\"a\",\"model\":1}", 400, "model", "must be a string"},
        {"/v1/completions", "{\"prompt\":\"a\",\"max_tokens\":199}", 400, "max_tokens",
         "\"code\":\"context_length_exceeded\",\"n_prompt_tokens\":2,\"n_ctx\":200}"},
        {"/v1/completions", "{\"prompt\":\"a\",\"cache_salt\":5}", 400, "cache_salt",
         "must be a string"},
        {"/v1/chat/completions", "{\"messages\":[]}", 400, "messages", "at least 1 message"},
        {"/v1/chat/completions", "{}", 400, "messages", "messages: nothing"},
        {"/v1/chat/completions", "{\"messages\":[5]}", 400, "messages[0]", "must be an object"},
        {"/v1/chat/completions", "{\"messages\":[{\"role\":\"<|end|>\",\"content\":\"\"}]}", 400,
         "messages[0].role", "must be system, developer"},
        {"/v1/chat/completions", "{\"messages\":[{\"content\":\"\"}]}", 400, "messages[0].role",
         "nothing"},
        {"/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":5}]}", 400,
         "messages[0].content", "must be a string or a list"},
        {"/v1/chat/completions",
         "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}"
         "]}]}",
         400, "messages[0].content[0]", "Cairn reads text only"},
        {"/v1/chat/completions",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"tools\":5}", 400, "tools",
         "must be a list"},
        {"/v1/chat/completions", "[]", 400, NULL, "must be a JSON object"},
        {"/v1/chat/completions", "{", 400, NULL, "\"code\":\"invalid_json\""},
        {"/tokenize", "{}", 400, "prompt", "or messages"},
        {"/detokenize", "{\"tokens\":[999]}", 400, "tokens", "must be 0 to 260"},
        {"/nowhere", "{}", 404, NULL, "no such route"},
        {"/v1/models", "{}", 405, NULL, "must be GET, HEAD"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        post(rows[i].path, rows[i].body);
        assert_error(rows[i].status, rows[i].param, rows[i].part);
        assert_int_equal(world.generation_count, 0);
        assert_int_equal(world.requests_open, 0);
    }
    assert_non_null(strstr(world.exchanges[0].extra, "Allow: GET, HEAD\r\n"));
}

// 200 tokens fit into the window of 200 only as a prompt whose logprobs are asked for.
static void the_context_window_is_exact(void **state)
{
    (void)state;
    char body[300], text[201] = "";
    memset(text, 'a', 199);
    snprintf(body, sizeof body, "{\"prompt\":\"%s\",\"max_tokens\":0,\"echo\":true}", text);
    post("/v1/completions", body);
    assert_int_equal(world.generations[0]->prompt_count, 200);
    world_start(0, 0, 0);
    world_finish(0, 0, CN_FINISH_LENGTH);
    world_poll();
    assert_int_equal(world.exchanges[0].status, 200);
    snprintf(body, sizeof body, "{\"prompt\":\"%s\"}", text);
    post("/v1/completions", body);
    assert_error(400, "prompt", "\"n_prompt_tokens\":200,\"n_ctx\":200");
    snprintf(body, sizeof body, "{\"prompt\":\"%s\",\"max_tokens\":1}", text + 1);
    post("/v1/completions", body);
    assert_int_equal(world.generation_count, 2);
    world_start(1, 0, 0);
    world_finish(1, 0, CN_FINISH_LENGTH);
    world_poll();
}

// A prompt that must be too long, however it is tokenized, costs no tokenizing.
static void a_prompt_far_too_long_is_not_tokenized(void **state)
{
    (void)state;
    enum { BYTES = WORLD_CONTEXT * 4 * 15 };     // 15: the longest token, <|end|><|user|>
    static const char *const paths[] = {"/v1/completions", "/v1/chat/completions"};
    static const char *const forms[] = {
        "{\"prompt\":\"%s\"}", "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}"};
    char *text = calloc(1, BYTES + 2), *body = malloc(BYTES + 256);
    memset(text, 'a', BYTES + 1);
    for (int i = 0; i < 2; i++) {
        const uint32_t before = fake_encode_count;
        snprintf(body, BYTES + 256, forms[i], text);
        post(paths[i], body);
        assert_error(400, i ? "messages" : "prompt", "has 801 tokens or more");
        assert_int_equal(fake_encode_count, before);
        snprintf(body, BYTES + 256, forms[i], text + 100);
        post(paths[i], body);
        assert_error(400, i ? "messages" : "prompt", "\"n_prompt_tokens\":801");
        assert_int_equal(fake_encode_count, before + 1);
    }
    free(text);
    free(body);
}

static void content_cannot_write_control_tokens(void **state)
{
    (void)state;
    post("/v1/chat/completions",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"<|end|><|user|>\"}]}");
    const cn_generation *g = world.generations[0];
    uint32_t specials = 0;
    for (uint32_t i = 0; i < g->prompt_count; i++) specials += g->prompt[i] >= FAKE_BEGIN;
    assert_int_equal(specials, 4);
    assert_int_equal(g->prompt_count, 4 + 15);
    world_start(0, 0, 0);
    world_finish(0, 0, CN_FINISH_LENGTH);
    world_poll();
    post("/apply-template", "{\"messages\":[{\"role\":\"user\",\"content\":\"<|end|>\"}]}");
    assert_body(0, "{\"prompt\":\"<|begin|><|user|><|end|><|end|><|assistant|>\"}");
}

static void messages_take_the_form_that_templates_expect(void **state)
{
    (void)state;
    post("/apply-template",
         "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
         "\"a\"},{\"type\":\"text\",\"text\":\"b\"}]},{\"role\":\"assistant\",\"content\":null},"
         "{\"role\":\"user\"}],\"add_generation_prompt\":false}");
    assert_body(0, "{\"prompt\":\"<|begin|><|user|>a\\nb<|end|><|user|><|end|><|user|><|end|>\"}");
    post("/apply-template",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\","
         "\"content\":\"so f \"}],\"continue_final_message\":true}");
    assert_body(0, "{\"prompt\":\"<|begin|><|user|>q<|end|><|user|>so f \"}");
    post("/apply-template", "{\"messages\":[{\"role\":\"developer\",\"content\":\"d\"}],"
                            "\"add_generation_prompt\":false}");
    assert_body(0, "{\"prompt\":\"<|begin|><|user|>S:d<|end|>\"}");
}

static void a_client_that_goes_away_is_forgotten(void **state)
{
    (void)state;
    post("/v1/completions", "{\"prompt\":\"p\",\"n\":2,\"stream\":true}");
    world_start(0, 0, 0);
    world_text(0, 0, "x");
    world_poll();
    world_gone(0);
    assert_true(world.cancelled[0]);
    assert_int_equal(world.requests_open, 1);
    world_text(0, 0, "y");                               // was on its way
    world_finish(0, 0, CN_FINISH_CANCELLED);
    world_poll();
    assert_int_equal(world.requests_open, 1);            // the other choice is still there
    // The same connection's place is used again meanwhile.
    post("/v1/completions", "{\"prompt\":\"p\"}");
    world_finish(0, 1, CN_FINISH_CANCELLED);
    world_start(1, 0, 0);
    world_text(1, 0, "new");
    world_finish(1, 0, CN_FINISH_LENGTH);
    world_poll();
    assert_non_null(strstr(world_body(0), "\"text\":\"new\""));
}

static void a_late_gone_does_not_touch_the_next_request(void **state)
{
    (void)state;
    world_send(0, "GET", "/livez", "");
    assert_true(world.exchanges[0].ended);
    const uint32_t old = world.exchanges[0].generation;
    post("/v1/completions", "{\"prompt\":\"p\"}");
    world.messages[world.message_count++] = (cn_http_message){CN_HTTP_GONE, {0, old}, NULL};
    world_poll();
    assert_false(world.cancelled[0]);
    world_start(0, 0, 0);
    world_finish(0, 0, CN_FINISH_LENGTH);
    world_poll();
    assert_int_equal(world.exchanges[0].status, 200);
}

static void a_fault_becomes_an_error_before_and_in_a_stream(void **state)
{
    (void)state;
    post("/v1/completions", "{\"prompt\":\"p\",\"n\":2}");
    world_start(0, 0, 0);
    world_finish(0, 0, CN_FINISH_ERROR);
    world_poll();
    assert_error(500, NULL, "numeric_error");
    assert_true(world.cancelled[0]);
    world_finish(0, 1, CN_FINISH_CANCELLED);
    world_poll();
    post("/v1/completions", "{\"prompt\":\"p\",\"stream\":true}");
    world_start(1, 0, 0);
    world_text(1, 0, "x");
    world_finish(1, 0, CN_FINISH_ERROR);
    world_poll();
    assert_int_equal(world.exchanges[0].status, 200);
    const char *error = strstr(world_body(0), "data: {\"error\":{");
    assert_non_null(error);
    assert_string_equal(strstr(error, "\n\n"), "\n\ndata: [DONE]\n\n");
}

static void a_full_queue_refuses_all_prompts_or_none(void **state)
{
    (void)state;
    world.queue_room = 2;
    post("/v1/completions", "{\"prompt\":[\"a\",\"b\",\"c\"]}");
    assert_error(503, NULL, "server_overloaded");
    assert_non_null(strstr(world.exchanges[0].extra, "Retry-After: 1\r\n"));
    assert_int_equal(world.generation_count, 0);
    world.queue_room = 0;
    post("/v1/completions", "not even JSON");            // refused before the body is looked at
    assert_error(503, NULL, "server_overloaded");
}

static void a_drain_refuses_new_work_and_ends_old(void **state)
{
    (void)state;
    post("/v1/completions", "{\"prompt\":\"p\"}");
    world_send(1, "GET", "/readyz", "");
    assert_int_equal(world.exchanges[1].status, 200);
    cn_api_drain(world.api);
    world_send(1, "GET", "/readyz", "");
    assert_int_equal(world.exchanges[1].status, 503);
    assert_non_null(strstr(world_body(1), "draining"));
    world_send(1, "GET", "/livez", "");
    assert_int_equal(world.exchanges[1].status, 200);
    world_send(1, "POST", "/v1/completions", "{\"prompt\":\"p\"}");
    assert_int_equal(world.exchanges[1].status, 503);
    assert_int_equal(cn_api_request_count(world.api), 1);
    cn_api_abort(world.api);
    world_poll();
    assert_error(503, NULL, "server_draining");
    assert_true(world.cancelled[0]);
    world_finish(0, 0, CN_FINISH_CANCELLED);
    world_poll();
    assert_int_equal(cn_api_request_count(world.api), 0);
}

static void a_retiring_server_says_so_and_serves(void **state)
{
    (void)state;
    cn_api_retire(world.api);
    world_send(1, "GET", "/readyz", "");
    assert_int_equal(world.exchanges[1].status, 503);
    assert_body(1, "{\"ready\":false,\"status\":\"draining\",\"reasons\":[\"draining: the server is "
                   "shutting down; running answers go on\"],\"store\":null}");
    post("/v1/completions", "{\"prompt\":\"p\"}");
    assert_int_equal(world.generation_count, 1);
    world_finish(0, 0, CN_FINISH_LENGTH);
    world_poll();
    assert_int_equal(world.exchanges[0].status, 200);
}

static void reasons_are_told_together(void **state)
{
    (void)state;
    cn_api_block(world.api, "port: the link is down");
    cn_api_stall(world.api, "engine");
    world_send(1, "GET", "/readyz", "");
    assert_int_equal(world.exchanges[1].status, 503);
    assert_body(1, "{\"ready\":false,\"status\":\"stalled\",\"reasons\":[\"stalled: the engine thread does "
                   "not go on\",\"port: the link is down\"],\"store\":null}");
    world_send(1, "GET", "/livez", "");
    assert_int_equal(world.exchanges[1].status, 503);
    assert_body(1, "{\"live\":false,\"stalled\":\"engine\"}");
    cn_api_stall(world.api, NULL);
    world_send(1, "GET", "/livez", "");
    assert_int_equal(world.exchanges[1].status, 200);
    cn_api_block(world.api, NULL);
    world_send(1, "GET", "/health", "");
    assert_int_equal(world.exchanges[1].status, 200);
}

// A load balancer that keeps a session on one appliance reads its name from any of these.
static void sessions_have_names(void **state)
{
    (void)state;
    static const struct { cn_http_header fields[2]; const char *body, *extra; } rows[] = {
        {{{"x-session-id", "s1"}}, "", "X-Session-Id: s1\r\n"},
        {{{"x-session-affinity", "s2"}}, "", "X-Session-Id: s2\r\nX-Session-Affinity: s2\r\n"},
        {{{"x-dynamo-session-id", "s3"}}, "", "X-Session-Id: s3\r\nX-Dynamo-Session-Id: s3\r\n"},
        {{{"x-correlation-id", "s4"}, {"x-session-id", "s5"}}, "",
         "X-Session-Id: s5\r\nX-Correlation-ID: s4\r\n"},
        {{{"x-session-id", "s6"}}, ",\"prompt_cache_key\":\"k\"", "X-Session-Id: s6\r\n"},
        {{{"x-session-id", "not harmless"}}, ",\"prompt_cache_key\":\"k1\"", "X-Session-Id: k1\r\n"},
        {{{NULL, NULL}}, ",\"prompt_cache_key\":\"k2\",\"conversation\":\"conv_1\"", "X-Session-Id: k2\r\n"},
        {{{NULL, NULL}}, ",\"conversation\":\"conv_1\"", "X-Session-Id: conv_1\r\n"},
        {{{NULL, NULL}}, ",\"conversation\":{\"id\":\"conv_2\"}", "X-Session-Id: conv_2\r\n"},
        {{{NULL, NULL}}, ",\"prompt_cache_key\":7,\"request_id\":\"r7\"", "X-Session-Id: r7\r\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char body[160];
        const uint32_t count = !rows[i].fields[0].name ? 0 : rows[i].fields[1].name ? 2 : 1;
        snprintf(body, sizeof body, "{\"prompt\":\"p\",\"max_tokens\":1%s}", rows[i].body);
        world_send_with(0, "POST", "/v1/completions", body, rows[i].fields, count);
        world_finish(world.generation_count - 1, 0, CN_FINISH_LENGTH);
        world_poll();
        assert_int_equal(world.exchanges[0].status, 200);
        const char *told = strstr(world.exchanges[0].extra, "X-Session-Id: ");
        assert_non_null(told);
        assert_string_equal(told, rows[i].extra);
    }
    world_send_with(0, "GET", "/livez", "", rows[0].fields, 1);
    assert_non_null(strstr(world.exchanges[0].extra, "X-Session-Id: s1\r\n"));
    world_send(0, "GET", "/livez", "");
    assert_null(strstr(world.exchanges[0].extra, "X-Session-Id"));
}

static void services_answer(void **state)
{
    (void)state;
    world_send(0, "GET", "/v1/models/org%2Fmodel", "");
    assert_non_null(strstr(world_body(0), "{\"id\":\"org/model\",\"object\":\"model\""));
    world_send(0, "GET", "/v1/models/other", "");
    assert_error(404, "model", "model_not_found");
    post("/tokenize", "{\"prompt\":\"a<|end|>\"}");
    assert_body(0, "{\"count\":3,\"max_model_len\":200,\"tokens\":[256,97,257],\"token_strs\":"
                "[\"<|begin|>\",\"a\",\"<|end|>\"]}");
    post("/tokenize", "{\"prompt\":\"\",\"add_special_tokens\":false}");
    assert_body(0, "{\"count\":0,\"max_model_len\":200,\"tokens\":[],\"token_strs\":[]}");
    post("/tokenize",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"return_token_strs\":false}");
    assert_body(0, "{\"count\":5,\"max_model_len\":200,\"tokens\":[256,258,97,257,259],"
                "\"token_strs\":null}");
    post("/detokenize", "{\"tokens\":[97,257,98]}");
    assert_body(0, "{\"prompt\":\"a<|end|>b\"}");
    world_send(0, "GET", "/version", "");
    assert_body(0, "{\"version\":\"" CN_VERSION "\"}");
    world_send(0, "GET", "/metrics", "");
    assert_body(0, "a metric");
    world_send(0, "GET", "/metrics?names=none", "");
    assert_error(400, "names", "must be some");
}

static void keys_open_what_is_not_a_probe(void **state)
{
    (void)state;
    static const char *const keys[] = {"sk-1", "sk-2"};
    static const cn_http_header one[] = {{"authorization", "Bearer sk-1"}};
    static const cn_http_header two[] = {{"authorization", "Bearer sk-2"}};
    world_close();
    world_open(keys, 2);
    world_send(0, "GET", "/livez", "");
    assert_int_equal(world.exchanges[0].status, 200);
    world_send(0, "GET", "/v1/models", "");
    assert_error(401, NULL, "invalid_api_key");
    assert_non_null(strstr(world.exchanges[0].extra, "WWW-Authenticate: Bearer\r\n"));
    world_send_with(0, "POST", "/v1/completions", "{\"prompt\":\"p\"}", one, 1);
    world_send_with(1, "POST", "/v1/completions", "{\"prompt\":\"p\"}", two, 1);
    world_send_with(2, "POST", "/v1/completions", "{\"prompt\":\"p\",\"cache_salt\":\"x\"}", two,
                    1);
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < i; j++) {
            assert_memory_not_equal(world.generations[i]->salt, world.generations[j]->salt,
                                    CN_KEY_BYTES);
        }
    }
    for (uint32_t i = 0; i < 3; i++) {
        world_start(i, 0, 0);
        world_finish(i, 0, CN_FINISH_LENGTH);
    }
    world_poll();
}

// Limits from the request to the header fields, on a clock that stands still.
static void limits_are_held_and_told(void **state)
{
    (void)state;
    static const char *const keys[] = {
        "{\"tenant\":\"*\",\"concurrent\":1,\"requests_per_minute\":6,\"tokens_per_minute\":60}",
        "sk-1", "sk-2"};
    static const cn_http_header one[] = {{"authorization", "Bearer sk-1"}};
    static const cn_http_header two[] = {{"authorization", "Bearer sk-2"}};
    const char *body = "{\"prompt\":\"prompt\",\"max_tokens\":20}";
    world_close();
    world_open(keys, 3);
    world_send_with(0, "POST", "/v1/completions", body, one, 1);
    // One turn at a time; another tenant has its own.
    world_send_with(1, "POST", "/v1/completions", body, one, 1);
    assert_int_equal(world.exchanges[1].status, 429);
    assert_non_null(strstr(world_body(1), "\"type\":\"requests\""));
    assert_non_null(strstr(world.exchanges[1].extra, "Retry-After: 1\r\n"));
    assert_non_null(strstr(world.exchanges[1].extra, "x-ratelimit-remaining-requests: 4\r\n"));
    assert_non_null(strstr(world.exchanges[1].extra, "x-ratelimit-remaining-tokens: 33\r\n"));
    world_send_with(2, "POST", "/v1/completions", body, two, 1);
    assert_int_equal(world.generation_count, 2);
    // What was reserved and not used is free again with the answer: 7 + 1 of 60 are used.
    world_start(0, 0, 0);
    world_token(0, 0, 'x');
    world_finish(0, 0, CN_FINISH_LENGTH);
    world_poll();
    assert_int_equal(world.exchanges[0].status, 200);
    assert_non_null(strstr(world.exchanges[0].extra, "x-ratelimit-limit-tokens: 60\r\n"));
    assert_non_null(strstr(world.exchanges[0].extra, "x-ratelimit-remaining-tokens: 52\r\n"));
    assert_non_null(strstr(world.exchanges[0].extra, "x-ratelimit-reset-tokens: 8s\r\n"));
    // More than is left now is refused before the engine hears of it, and the place is free again.
    for (int i = 0; i < 2; i++) {
        world_send_with(0, "POST", "/v1/completions", "{\"prompt\":\"prompt\",\"max_tokens\":50}", one, 1);
        assert_int_equal(world.exchanges[0].status, 429);
        assert_non_null(strstr(world_body(0), "\"type\":\"tokens\""));
        assert_non_null(strstr(world.exchanges[0].extra, "Retry-After-Ms: 5000\r\n"));
    }
    assert_int_equal(world.generation_count, 2);
    // A client that goes away frees its turn within the round.
    world_send_with(0, "POST", "/v1/completions", body, one, 1);
    assert_int_equal(world.generation_count, 3);
    world_gone(0);
    world_finish(2, 0, CN_FINISH_CANCELLED);
    world_poll();
    world_send_with(0, "GET", "/v1/models", "", one, 1);
    assert_int_equal(world.exchanges[0].status, 200);
    world_send_with(0, "GET", "/v1/models", "", one, 1);
    assert_int_equal(world.exchanges[0].status, 429);
    assert_non_null(strstr(world.exchanges[0].extra, "Retry-After: 10\r\n"));
    world_finish(1, 0, CN_FINISH_LENGTH);
    world_poll();
}

static void request_ids_are_harmless(void **state)
{
    (void)state;
    static const cn_http_header bad[] = {{"x-request-id", "a\"b\\"}};
    world_send_with(0, "GET", "/livez", "", bad, 1);
    assert_null(strchr(world.exchanges[0].extra, '"'));
    assert_non_null(strstr(world.exchanges[0].extra, "X-Request-Id: "));
    post("/v1/completions", "{\"prompt\":\"p\",\"request_id\":\"other\"}");      // the header wins
    world_start(0, 0, 0);
    world_finish(0, 0, CN_FINISH_LENGTH);
    world_poll();
    assert_non_null(strstr(world_body(0), "\"id\":\"cmpl-r1\""));
    world_send(0, "POST", "/v1/completions", "{\"prompt\":\"p\",\"request_id\":\"other\"}");
    world_start(1, 0, 0);
    world_finish(1, 0, CN_FINISH_LENGTH);
    world_poll();
    assert_non_null(strstr(world_body(0), "\"id\":\"cmpl-other\""));
    static const char name[] = "X-Request-Id: other\r\n";
    assert_memory_equal(world.exchanges[0].extra, name, strlen(name));
    assert_null(strstr(world.exchanges[0].extra + strlen(name), "X-Request-Id"));
}

// The client's trace goes on, and its answer says what the time went into where it asks.
static void a_trace_goes_on_and_phases_are_told(void **state)
{
    (void)state;
    static const char trace[] = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-";
    static const cn_http_header headers[] = {
        {"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
        {"cairn-phases", "1"}};
    world_send_with(0, "POST", "/v1/completions", "{\"prompt\":\"p\"}", headers, 2);
    world_start(0, 0, 0);
    world_finish(0, 0, CN_FINISH_LENGTH);
    world_poll();
    assert_non_null(strstr(world.exchanges[0].extra, trace));
    assert_null(strstr(world.exchanges[0].extra, "00f067aa0ba902b7"));
    assert_non_null(strstr(world_body(0), ",\"phases_ms\":{\"prepare\":"));
    world_send(0, "POST", "/v1/completions", "{\"prompt\":\"p\"}");
    world_start(1, 0, 0);
    world_finish(1, 0, CN_FINISH_LENGTH);
    world_poll();
    assert_null(strstr(world.exchanges[0].extra, trace));
    assert_null(strstr(world_body(0), "phases_ms"));
}

/* Rings that refuse at random, clients that vanish at random: what arrives is what would have
 * arrived, every cancel reaches the engine, and nothing is left. */
static void full_rings_lose_nothing(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("api");
    world.refuse = &rng;
    for (int round = 0; round < 2000; round++) {
        const bool gone = test_rng_below(&rng, 4) == 0, stream = test_rng_below(&rng, 2);
        world.generation_count = 0;
        memset(world.cancelled, 0, sizeof world.cancelled);
        memset(world.cancelled_choice, 0, sizeof world.cancelled_choice);
        world.queue_room = 100;
        post("/v1/completions", stream
                                    ? "{\"prompt\":[\"p\",\"q\"],\"stream\":true,\"stop\":\"ST\"}"
                                    : "{\"prompt\":[\"p\",\"q\"],\"stop\":\"ST\"}");
        world_start(0, 0, 0);
        world_start(1, 0, 0);
        world_text(0, 0, "abST");
        if (test_rng_below(&rng, 2)) world_poll();
        if (gone) world_gone(0);
        world_poll();
        if (gone) assert_true(world.cancelled[0] && world.cancelled[1]);
        else assert_true(world.cancelled_choice[0][0]);
        world_finish(0, 0, CN_FINISH_CANCELLED);
        world_text(1, 0, "cd");
        world_finish(1, 0, CN_FINISH_LENGTH);
        world_poll();
        assert_int_equal(world.requests_open, 0);
        if (gone) continue;
        assert_true(world.exchanges[0].ended);
        const char *end = stream ? "data: [DONE]\n\n" : "}}}";
        assert_string_equal(world_body(0) + world.exchanges[0].body.len - strlen(end), end);
    }
    world.refuse = NULL;
}

/* Bodies with bytes changed, dropped and doubled: each is answered or refused, none crashes (under
 * ASan), and none leaves anything behind. */
static void damaged_bodies_are_answered_or_refused(void **state)
{
    (void)state;
    static const struct {
        const char *path, *body;
    } rows[] = {
        {"/v1/completions", "{\"prompt\":[\"ab\",\"c\"],\"n\":2,\"stop\":[\"x\",\"yz\"],"
                            "\"logit_bias\":{\"5\":-1.5,\"17\":2},\"seed\":-7,\"logprobs\":3}"},
        {"/v1/completions", "{\"prompt\":[[1,2,256],[4]],\"echo\":true,\"logprobs\":1,"
                            "\"max_tokens\":0,\"temperature\":1e-3,\"cache_salt\":\"\\u0000s\"}"},
        {"/v1/chat/completions",
         "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
         "\"<|end|>\"}]},{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"function\":"
         "{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":[1]}\"}}]}],\"tools\":[{\"<|user|>\":1}],"
         "\"chat_template_kwargs\":{\"x\":true},\"stream\":true,"
         "\"stream_options\":{\"include_usage\":true}}"},
        {"/tokenize", "{\"prompt\":\"a<|end|>\\ud83d\\ude00\",\"add_special_tokens\":true}"},
        {"/apply-template", "{\"messages\":[{\"role\":\"user\",\"content\":\"hello \"}],"
                            "\"continue_final_message\":true}"},
        {"/detokenize", "{\"tokens\":[97,256,195,169]}"},
    };
    test_rng rng = test_rng_open("api");
    uint32_t answered = 0;
    for (int round = 0; round < 30000; round++) {
        char body[1024];
        const uint32_t at = test_rng_below(&rng, sizeof rows / sizeof rows[0]);
        size_t len = strlen(rows[at].body);
        memcpy(body, rows[at].body, len + 1);
        for (uint32_t n = test_rng_below(&rng, 4); n > 0; n--) {
            const size_t where = test_rng_below(&rng, (uint32_t)len - 1);
            const uint32_t how = test_rng_below(&rng, 3);
            if (how == 0) body[where] = "\"\\[]{},:0-9.eEnx\xC3\xFF"[test_rng_below(&rng, 19)];
            else if (how == 1) memmove(body + where, body + where + 1, len-- - where);
            else memmove(body + where + 1, body + where, len++ - where + 1);
        }
        world.generation_count = 0;
        world.queue_room = 1000;
        post(rows[at].path, body);
        for (uint32_t i = 0; i < world.generation_count; i++) {
            for (uint32_t c = 0; c < world.generations[i]->choice_count; c++) world_start(i, c, 0);
            while (world.generations[i]->engine_open) {
                world_finish(i, world.generations[i]->engine_open - 1, CN_FINISH_LENGTH);
            }
        }
        world_poll();
        const unsigned status = world.exchanges[0].status;
        assert_true(world.exchanges[0].ended);
        if (status != 200 && status != 400) fail_msg("%u for %s", status, body);
        assert_int_equal(world.requests_open, 0);
        answered += status == 200;
    }
    assert_in_range(answered, 3000, 29000);      // both outcomes are tested
}

// The bound of an answer is an error like every other, and no cut-off 200.
static void an_answer_beyond_its_memory_is_an_error(void **state)
{
    (void)state;
    world_close();
    world_open(NULL, 0);
    world.limits.request_bytes = 8192;
    for (int i = 0; i < 3; i++) {
        static const char *const bodies[] = {
            "{\"prompt\":\"p\",\"max_tokens\":100}",
            "{\"prompt\":\"p\",\"max_tokens\":100,\"logprobs\":20}",
            "{\"prompt\":\"p\",\"max_tokens\":100,\"logprobs\":5,\"n\":4}"};
        const uint32_t choices = i == 2 ? 4 : 1;
        post("/v1/completions", bodies[i]);
        for (uint32_t c = 0; c < choices; c++) {
            world_start((uint32_t)i, c, 0);
            for (int t = 0; t < 100; t++) world_token((uint32_t)i, c, 'z');
            world_finish((uint32_t)i, c, CN_FINISH_LENGTH);
        }
        world_poll();
        if (i == 0) assert_int_equal(world.exchanges[0].status, 200);
        else assert_error(400, NULL, "larger than limit request_bytes (8192)");
        assert_int_equal(world.requests_open, 0);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_chat_is_answered_whole),
        TEST(a_chat_streams_frame_by_frame),
        TEST(a_stop_string_ends_the_answer_at_once),
        TEST(held_text_is_sent_when_the_answer_ends),
        TEST(stop_tokens_and_eos_are_told_apart),
        TEST(min_tokens_and_ignore_eos_reach_the_engine),
        TEST(logprobs_have_both_shapes),
        TEST(echo_tells_the_logprobs_of_the_prompt),
        TEST(prompts_come_in_four_forms),
        TEST(what_cannot_be_served_is_refused_by_name),
        TEST(the_context_window_is_exact),
        TEST(a_prompt_far_too_long_is_not_tokenized),
        TEST(content_cannot_write_control_tokens),
        TEST(messages_take_the_form_that_templates_expect),
        TEST(a_client_that_goes_away_is_forgotten),
        TEST(a_late_gone_does_not_touch_the_next_request),
        TEST(a_fault_becomes_an_error_before_and_in_a_stream),
        TEST(a_full_queue_refuses_all_prompts_or_none),
        TEST(a_drain_refuses_new_work_and_ends_old),
        TEST(a_retiring_server_says_so_and_serves),
        TEST(reasons_are_told_together),
        TEST(sessions_have_names),
        TEST(services_answer),
        TEST(keys_open_what_is_not_a_probe),
        TEST(limits_are_held_and_told),
        TEST(request_ids_are_harmless),
        TEST(a_trace_goes_on_and_phases_are_told),
        TEST(full_rings_lose_nothing),
        TEST(damaged_bodies_are_answered_or_refused),
        TEST(an_answer_beyond_its_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
