/* Traces become the plans that they describe; a damaged one is refused with its line. */
#include "tests/unit/cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "bench/trace.h"
#include "tests/unit/test_rng.h"

static cn_trace_options options_for(const char *format, bool keeps_times)
{
    return (cn_trace_options){.name = "f", .format = format, .keeps_times = keeps_times, .speed = 1,
                              .duration_ns = UINT64_MAX};
}

static cn_code read(const cn_trace_options *options, const char *text, cn_plan *plan, cn_err *err)
{
    cn_plan_init(plan);
    return cn_trace_read(options, text, strlen(text), plan, err);
}

static const char azure[] = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
                            "2023-11-16 18:15:50.6805900,374,44\r\n"
                            "2023-11-16 18:15:46.6805900,396,109\r\n"
                            "2023-11-17 00:00:00.0000000,879,55\r\n";

static void azure_times_count_from_the_first(void **state)
{
    (void)state;
    cn_plan plan;
    const cn_trace_options options = options_for("azure", true);
    assert_int_equal(read(&options, azure, &plan, NULL), CN_OK);
    assert_int_equal(plan.session_count, 3);
    assert_int_equal(plan.turn_count, 3);
    assert_int_equal(plan.sessions[0].due_ns, 0);
    assert_int_equal(plan.turns[0].input_tokens, 396);         // sorted by time
    assert_int_equal(plan.turns[0].output_tokens, 109);
    // Seconds are read as double: a few hundred nanoseconds of the second's 60 are lost at most.
    assert_in_range(plan.sessions[1].due_ns, 3999999000, 4000001000);
    assert_in_range(plan.sessions[2].due_ns / 1000000000, 20653, 20654);     // over midnight
    cn_plan_close(&plan);
}

static void speed_gaps_duration_and_count_change_the_times(void **state)
{
    (void)state;
    cn_plan plan;
    cn_trace_options options = options_for("azure", true);
    options.speed = 2;
    options.gap_ns_max = UINT64_C(10000000000);
    assert_int_equal(read(&options, azure, &plan, NULL), CN_OK);
    assert_in_range(plan.sessions[1].due_ns, 1999999000, 2000001000);
    assert_in_range(plan.sessions[2].due_ns, 6999999000, 7000001000);        // 4 and 10 seconds, halved
    cn_plan_close(&plan);
    options.duration_ns = 5000000000;
    assert_int_equal(read(&options, azure, &plan, NULL), CN_OK);
    assert_int_equal(plan.session_count, 2);
    assert_int_equal(plan.turn_count, 2);
    cn_plan_close(&plan);
    options.count_max = 1;
    assert_int_equal(read(&options, azure, &plan, NULL), CN_OK);
    assert_int_equal(plan.session_count, 1);
    cn_plan_close(&plan);
}

static const char burst[] = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
                            "5,a,2,ChatGPT,472,18,490,Conversation log\n"
                            "45,a,3,GPT-4,1087,230,1317,Conversation log\n"
                            "6,,1,ChatGPT,417,276,693,API log\n"
                            "9,b,1,ChatGPT,10,0,10,Conversation log\n";

static void burstgpt_sessions_become_turns(void **state)
{
    (void)state;
    cn_plan plan;
    const cn_trace_options options = options_for("burstgpt", true);
    assert_int_equal(read(&options, burst, &plan, NULL), CN_OK);
    assert_int_equal(plan.session_count, 3);
    assert_int_equal(plan.sessions[0].turn_count, 2);          // session a, from second 5 on
    assert_int_equal(plan.turns[1].input_tokens, 1087);
    assert_int_equal(plan.turns[1].think_ns, UINT64_C(38000000000));        // 45 - 5 - 2 of answering
    assert_int_equal(plan.sessions[1].due_ns, 1000000000);
    assert_int_equal(plan.turns[3].output_tokens, 1);          // an answer of nothing cannot be asked for
    cn_plan_close(&plan);
}

static const char mooncake[] =
    "{\"timestamp\": 1000, \"input_length\": 700, \"output_length\": 52, \"hash_ids\": [46, 47]}\n"
    "{\"timestamp\": 4500, \"input_length\": 600, \"output_length\": 26, \"hash_ids\": [46, 57]}\n";

static void mooncake_blocks_are_equal_where_their_ids_are(void **state)
{
    (void)state;
    cn_plan plan;
    const cn_trace_options options = options_for("mooncake", true);
    assert_int_equal(read(&options, mooncake, &plan, NULL), CN_OK);
    assert_int_equal(plan.session_count, 2);
    assert_int_equal(plan.sessions[1].due_ns, UINT64_C(3500000000));
    assert_int_equal(plan.turns[0].block_count, 2);
    assert_int_equal(plan.turns[0].block_tokens, 512);
    assert_true(plan.turns[0].blocks[0] == plan.turns[1].blocks[0]);
    assert_true(plan.turns[0].blocks[1] != plan.turns[1].blocks[1]);
    cn_plan_close(&plan);
}

static const char sharegpt[] =
    "[{\"id\":\"x\",\"conversations\":[{\"from\":\"gpt\",\"value\":\"early\"},{\"from\":\"human\",\"value\":\"q1\"},"
    "{\"from\":\"gpt\",\"value\":\"a1\"},{\"from\":\"human\",\"value\":\"q2\"}]},"
    "{\"messages\":[{\"role\":\"system\",\"content\":\"be brief\"},{\"role\":\"user\",\"content\":\"hi\"}]},"
    "{\"conversations\":[]}]";

static void sharegpt_keeps_texts_and_answers(void **state)
{
    (void)state;
    cn_plan plan;
    const cn_trace_options options = options_for("sharegpt", false);
    assert_int_equal(read(&options, sharegpt, &plan, NULL), CN_OK);
    assert_int_equal(plan.session_count, 2);                   // nobody asks in the third
    assert_int_equal(plan.sessions[0].turn_count, 2);
    assert_memory_equal(plan.turns[0].text, "q1", 2);
    assert_memory_equal(plan.turns[0].answer, "a1", 2);
    assert_null(plan.turns[1].answer);
    assert_memory_equal(plan.sessions[1].system, "be brief", 8);
    cn_plan_close(&plan);
}

static void json_lines_are_read_as_an_array_is(void **state)
{
    (void)state;
    cn_plan plan;
    const cn_trace_options options = options_for("sharegpt", false);
    assert_int_equal(read(&options, "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}\n\n"
                                    "{\"messages\":[{\"role\":\"user\",\"content\":\"b\"}]}", &plan, NULL),
                     CN_OK);
    assert_int_equal(plan.session_count, 2);
    cn_plan_close(&plan);
}

static void what_is_wrong_is_named(void **state)
{
    static const struct {
        const char *format, *text, *says;
        bool keeps_times;
    } rows[] = {
        {"azure", "TIMESTAMP,ContextTokens\n", "f line 1: has no column GeneratedTokens", true},
        {"azure", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,x,1\n",
         "f line 2: ContextTokens is \"x\"; must be a number that is not negative", true},
        {"azure", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-13-16 18:15:46,1,1\n",
         "f line 2: TIMESTAMP is \"2023-13-16 18:15:46\"; must be a time", true},
        {"azure", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46\n", "f line 2: ContextTokens is \"\"", true},
        {"azure", "", "f: has no requests in the format azure", true},
        {"burstgpt", "Timestamp,Request tokens,Response tokens\n-1,2,3\n", "f line 2: Timestamp is \"-1\"", true},
        {"mooncake", "{\"timestamp\":1}", "f record 1: must have the numbers timestamp", true},
        {"mooncake", "{\"timestamp\":1,\"input_length\":1,\"output_length\":1,\"hash_ids\":[\"a\"]}", "f record 1: hash_ids must be integers", true},
        {"mooncake", "{\"timestamp\":", "f record 1: ", true},
        {"sharegpt", "[{\"id\":1}]", "f record 1: must have an array `conversations` or `messages`", false},
        {"sharegpt", "[{\"messages\":[{\"role\":\"user\",\"content\":[]}]}]", "f record 1: each message must have", false},
        {"sharegpt", sharegpt, "--format: sharegpt; has no times to replay", true},
        {"parquet", "", "--format: parquet; must be sharegpt, mooncake, azure or burstgpt", true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cn_plan plan;
        cn_err err;
        const cn_trace_options options = options_for(rows[i].format, rows[i].keeps_times);
        assert_int_not_equal(read(&options, rows[i].text, &plan, &err), CN_OK);
        if (strncmp(err.text, rows[i].says, strlen(rows[i].says)) != 0) fail_msg("%s", err.text);
        cn_plan_close(&plan);
    }
}

static void damage_is_survived(void **state)
{
    static const char *const formats[] = {"azure", "burstgpt", "mooncake", "sharegpt"};
    static const char *const texts[] = {azure, burst, mooncake, sharegpt};
    test_rng rng = test_rng_open("trace");
    (void)state;
    for (int round = 0; round < 4000; round++) {
        const uint32_t kind = test_rng_below(&rng, 4);
        const size_t len = test_rng_below(&rng, (uint32_t)strlen(texts[kind])) + 1;
        const cn_trace_options options = options_for(formats[kind], false);
        char *copy = malloc(len);
        cn_plan plan;
        memcpy(copy, texts[kind], len);
        for (int k = 0; k < 2; k++) copy[test_rng_below(&rng, (uint32_t)len)] = (char)test_rng_u64(&rng);
        cn_plan_init(&plan);
        if (cn_trace_read(&options, copy, len, &plan, NULL) == CN_OK) assert_true(plan.turn_count > 0);
        cn_plan_close(&plan);
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(azure_times_count_from_the_first),
        cmocka_unit_test(speed_gaps_duration_and_count_change_the_times),
        cmocka_unit_test(burstgpt_sessions_become_turns),
        cmocka_unit_test(mooncake_blocks_are_equal_where_their_ids_are),
        cmocka_unit_test(sharegpt_keeps_texts_and_answers),
        cmocka_unit_test(json_lines_are_read_as_an_array_is),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(damage_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
