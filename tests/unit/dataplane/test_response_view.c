#include "dataplane/response_view.h"

#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/test_rng.h"

enum { BUF_BYTES = 1 << 20, CUTS_MAX = 12 };

typedef struct live {
    cn_response_view view;
    cn_response_cut cuts[CUTS_MAX];
    cn_buf head, tail, text, logprobs;
} live;

static cn_bytes bytes_of(const cn_buf *buf)
{
    return (cn_bytes){buf->len ? buf->data : "", (uint32_t)buf->len};
}

static void open_live(live *l)
{
    *l = (live){.view = {.item_id = "msg_1", .text = "", .cuts = l->cuts}};
    cn_buf_init(&l->head, BUF_BYTES);
    cn_buf_init(&l->tail, BUF_BYTES);
    cn_buf_init(&l->text, BUF_BYTES);
    cn_buf_init(&l->logprobs, BUF_BYTES);
}

static void close_live(live *l)
{
    cn_buf_close(&l->head);
    cn_buf_close(&l->tail);
    cn_buf_close(&l->text);
    cn_buf_close(&l->logprobs);
}

static void push(live *l, const char *text, const char *logprobs)
{
    cn_buf_add_text(&l->text, text);
    cn_buf_add_text(&l->logprobs, logprobs);
    l->view.text = bytes_of(&l->text).data;
    l->view.text_len = (uint32_t)l->text.len;
    l->view.logprobs = bytes_of(&l->logprobs).data;
    l->view.logprobs_len = (uint32_t)l->logprobs.len;
    l->cuts[l->view.cut_count++] = (cn_response_cut){l->view.text_len, l->view.logprobs_len};
}

static void write_head(live *l, bool background)
{
    cn_buf_add_format(&l->head, "{\"id\":\"resp_1\",\"background\":%s,\"temperature\":0.7,"
                      "\"metadata\":{\"status\":\"x\",\"usage\":\"y\"}",
                      background ? "true" : "false");
    l->view.background = background;
    l->view.head = bytes_of(&l->head);
}

static void close_view(live *l, cn_response_status status)
{
    const cn_response_usage usage = {.input_tokens = 11, .cached_tokens = 3, .output_tokens = 5};
    const cn_err failure = {CN_E_NUMERIC, "", "it \"broke\""};
    l->view.status = status;
    l->view.closed = status != CN_RESPONSE_FAILED;
    cn_response_view_tail(status, &failure, 77, &usage, &l->tail);
    l->view.tail = bytes_of(&l->tail);
}

static void write_events(const cn_response_view *view, uint32_t from, uint32_t count, cn_buf *out)
{
    for (uint32_t n = from; n < count; n++) cn_response_view_event(view, n, out);
}

static const char *text_of(cn_buf *buf)
{
    cn_buf_add_char(buf, '\0');
    buf->len--;
    return buf->data;
}

static void events_are_openais(void **state)
{
    (void)state;
    live l;
    cn_buf out;
    open_live(&l);
    cn_buf_init(&out, BUF_BYTES);
    write_head(&l, false);
    l.view.status = CN_RESPONSE_IN_PROGRESS;
    assert_int_equal(cn_response_view_event_count(&l.view), 1);
    l.view.started = true;
    push(&l, "a\"", "");
    push(&l, "b", "");
    assert_int_equal(cn_response_view_event_count(&l.view), 6);
    close_view(&l, CN_RESPONSE_COMPLETED);
    assert_int_equal(cn_response_view_event_count(&l.view), 9);
    l.view.settled = true;
    assert_int_equal(cn_response_view_event_count(&l.view), 10);
    write_events(&l.view, 0, 10, &out);
#define EVENT(n, type, rest)                                                                       \
    "event: response." type "\ndata: {\"type\":\"response." type "\",\"sequence_number\":" #n rest \
    "}\n\n"
#define HEAD                                                                                       \
    "{\"id\":\"resp_1\",\"background\":false,\"temperature\":0.7,\"metadata\":{\"status\":\"x\","  \
    "\"usage\":\"y\"}"
#define EARLY                                                                                      \
    ",\"response\":" HEAD ",\"status\":\"in_progress\",\"error\":null,"                            \
    "\"incomplete_details\":null,\"completed_at\":null,\"usage\":null,\"output\":[]}"
#define PLACE ",\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0"
#define ITEM(status, parts)                                                                        \
    "{\"id\":\"msg_1\",\"type\":\"message\",\"status\":\"" status                                  \
    "\",\"role\":\"assistant\",\"content\":[" parts "]}"
#define PART(text)                                                                                 \
    "{\"type\":\"output_text\",\"text\":\"" text "\",\"annotations\":[],\"logprobs\":[]}"
    assert_string_equal(
        text_of(&out),
        EVENT(0, "created", EARLY) EVENT(1, "in_progress", EARLY)
        EVENT(2, "output_item.added", ",\"output_index\":0,\"item\":" ITEM("in_progress", ""))
        EVENT(3, "content_part.added", PLACE ",\"part\":" PART(""))
        EVENT(4, "output_text.delta", PLACE ",\"delta\":\"a\\\"\",\"logprobs\":[]")
        EVENT(5, "output_text.delta", PLACE ",\"delta\":\"b\",\"logprobs\":[]")
        EVENT(6, "output_text.done", PLACE ",\"text\":\"a\\\"b\",\"logprobs\":[]")
        EVENT(7, "content_part.done", PLACE ",\"part\":" PART("a\\\"b"))
        EVENT(8, "output_item.done",
              ",\"output_index\":0,\"item\":" ITEM("completed", PART("a\\\"b")))
        EVENT(9, "completed",
              ",\"response\":" HEAD ",\"status\":\"completed\",\"error\":null,"
              "\"incomplete_details\":null,\"completed_at\":77,\"usage\":{\"input_tokens\":11,"
              "\"input_tokens_details\":{\"cached_tokens\":3,\"cache_write_tokens\":0},"
              "\"output_tokens\":5,\"output_tokens_details\":{\"reasoning_tokens\":0},"
              "\"total_tokens\":16},\"output\":[" ITEM("completed", PART("a\\\"b")) "]}"));
    cn_buf_close(&out);
    close_live(&l);
}

// A stream that was told a part of may not find other numbers behind it, however the turn ends.
static void what_was_told_stays_told(void **state)
{
    (void)state;
    static const cn_response_status ends[] = {CN_RESPONSE_COMPLETED, CN_RESPONSE_INCOMPLETE,
                                              CN_RESPONSE_FAILED, CN_RESPONSE_CANCELLED};
    for (int background = 0; background < 2; background++) {
        for (size_t i = 0; i < 4; i++) {
            live l;
            cn_buf before, after;
            open_live(&l);
            cn_buf_init(&before, BUF_BYTES);
            cn_buf_init(&after, BUF_BYTES);
            write_head(&l, background);
            uint32_t told = 0;
            for (int step = 0; step < 5; step++) {
                if (step == 1) l.view.started = true;
                if (step == 2 || step == 3) push(&l, "x", step == 2 ? "1" : ",2");
                if (step == 4) close_view(&l, ends[i]);
                const uint32_t count = cn_response_view_event_count(&l.view);
                assert_true(count >= told);
                write_events(&l.view, told, count, &before);
                told = count;
            }
            l.view.settled = true;
            write_events(&l.view, 0, told, &after);
            assert_string_equal(text_of(&after), text_of(&before));
            const uint32_t last = cn_response_view_event_count(&l.view);
            assert_int_equal(last - told, ends[i] != CN_RESPONSE_CANCELLED);
            cn_buf_close(&before);
            cn_buf_close(&after);
            close_live(&l);
        }
    }
}

static void store(live *l, cn_buf *response, cn_buf *item, cn_buf *settings, cn_bytes *output,
                  cn_turn *turn)
{
    cn_buf_add(response, l->view.head.data, l->view.head.len);
    cn_buf_add(response, l->view.tail.data, l->view.tail.len);
    cn_buf_add_char(response, '}');
    cn_response_view_item(&l->view, item);
    cn_buf_add_text(settings, "{\"vocabulary\":\"x\",");
    cn_response_view_settings(&l->view, settings);
    cn_buf_add_char(settings, '}');
    *output = bytes_of(item);
    *turn = (cn_turn){.id = {"resp_1"}, .response = bytes_of(response), .output = output,
                      .output_count = l->view.started, .settings = bytes_of(settings)};
}

// The property that resuming rests on: the record tells what the live answer told, byte for byte.
static void a_stored_turn_tells_the_same_bytes(void **state)
{
    (void)state;
    static const char *const texts[] = {"a", "\"logprobs\":[", "]}]}", "\n", "\xC3\xA9", "\\", " b "};
    static const char *const entries[] = {"", "{\"token\":\"]}]}\",\"logprob\":-1e-07}",
                                          "{\"token\":\"x\",\"logprob\":-1}"};
    test_rng rng = test_rng_open("response_view");
    for (int round = 0; round < 500; round++) {
        live l;
        cn_buf response, item, settings, want, got;
        cn_bytes output;
        cn_turn turn;
        cn_arena arena;
        cn_response_view loaded;
        cn_buf *const bufs[] = {&response, &item, &settings, &want, &got};
        for (int i = 0; i < 5; i++) cn_buf_init(bufs[i], BUF_BYTES);
        cn_arena_init(&arena, 1 << 22);
        open_live(&l);
        write_head(&l, test_rng_below(&rng, 2));
        l.view.started = test_rng_below(&rng, 8) > 0;
        const bool logs = test_rng_below(&rng, 2);
        for (uint32_t n = test_rng_below(&rng, CUTS_MAX); l.view.started && n-- > 0;) {
            char entry[64] = "";
            if (logs) {
                snprintf(entry, sizeof entry, "%s%s", l.logprobs.len ? "," : "",
                         entries[1 + test_rng_below(&rng, 2)]);
            }
            push(&l, texts[test_rng_below(&rng, 7)], entry);
        }
        close_view(&l, CN_RESPONSE_COMPLETED + test_rng_below(&rng, 4));
        l.view.settled = true;
        store(&l, &response, &item, &settings, &output, &turn);
        assert_int_equal(cn_response_view_load(&turn, &arena, &loaded, NULL), CN_OK);
        const uint32_t count = cn_response_view_event_count(&l.view);
        assert_int_equal(cn_response_view_event_count(&loaded), count);
        write_events(&l.view, 0, count, &want);
        write_events(&loaded, 0, count, &got);
        cn_response_view_object(&l.view, &want);
        cn_response_view_object(&loaded, &got);
        assert_string_equal(text_of(&got), text_of(&want));
        for (int i = 0; i < 5; i++) cn_buf_close(bufs[i]);
        cn_arena_close(&arena);
        close_live(&l);
    }
}

static void damaged_turns_are_named(void **state)
{
    (void)state;
#define RESPONSE "{\"id\":\"resp_1\",\"status\":\"completed\"}"
#define STORED ITEM("completed", PART("ab"))
    static const struct {
        const char *response, *item, *settings;
        cn_code code;
    } table[] = {
        {RESPONSE, STORED, "{\"deltas\":[1,1]}", CN_OK},
        {RESPONSE, STORED, "{}", CN_OK},
        {"", STORED, "{}", CN_E_CORRUPT},
        {"{", STORED, "{}", CN_E_CORRUPT},
        {"{\"status\":\"queued\"}", STORED, "{}", CN_E_CORRUPT},
        {"{\"status\":5}", STORED, "{}", CN_E_CORRUPT},
        {RESPONSE, "{}", "{}", CN_E_CORRUPT},
        {RESPONSE, "{\"id\":\"a\",\"content\":[{\"text\":\"ab\"}]}", "{}", CN_E_CORRUPT},
        {RESPONSE, STORED, "{\"deltas\":[3]}", CN_E_CORRUPT},
        {RESPONSE, STORED, "{\"deltas\":[1,2]}", CN_E_CORRUPT},
        {RESPONSE, STORED, "{\"deltas\":[-1]}", CN_E_CORRUPT},
        {RESPONSE, STORED, "{\"deltas\":[1],\"delta_logprobs\":[1]}", CN_E_CORRUPT},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        cn_bytes output = {table[i].item, (uint32_t)strlen(table[i].item)};
        const cn_turn turn = {.id = {"resp_7"},
                              .response = {table[i].response, (uint32_t)strlen(table[i].response)},
                              .output = &output, .output_count = 1,
                              .settings = {table[i].settings, (uint32_t)strlen(table[i].settings)}};
        cn_response_view view;
        cn_arena arena;
        cn_err err;
        cn_arena_init(&arena, 1 << 20);
        assert_int_equal(cn_response_view_load(&turn, &arena, &view, &err), table[i].code);
        if (table[i].code != CN_OK) assert_non_null(strstr(err.text, "resp_7"));
        cn_arena_close(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_are_openais),
        cmocka_unit_test(what_was_told_stays_told),
        cmocka_unit_test(a_stored_turn_tells_the_same_bytes),
        cmocka_unit_test(damaged_turns_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
