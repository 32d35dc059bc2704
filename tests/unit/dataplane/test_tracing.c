/* Catches: a trace id that a client could forge into a header or a log, phases that do not add up to the
 * whole, and lines that no OTLP reader takes. */
#include "dataplane/tracing.h"

#include <string.h>

#include <jansson.h>

#include "tests/unit/cmocka_all.h"

static const char valid[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

static cn_random seeded(void)
{
    static uint64_t state;
    state = 7;
    return cn_random_seeded(&state);
}

static void a_valid_parent_is_joined(void **state)
{
    (void)state;
    const cn_random random = seeded();
    cn_tracing trace;
    char out[CN_TRACING_PARENT_BYTES];
    cn_tracing_open(&trace, valid, &random);
    assert_string_equal(trace.id, "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_string_equal(trace.parent, "00f067aa0ba902b7");
    assert_true(trace.sampled);
    assert_string_not_equal(trace.span, trace.parent);
    cn_tracing_write(&trace, out);
    assert_int_equal(strlen(out), 55);
    cn_tracing next;
    cn_tracing_open(&next, out, &random);
    assert_string_equal(next.id, trace.id);
    assert_string_equal(next.parent, trace.span);
}

static void what_parents_are_taken(void **state)
{
    (void)state;
    static const struct { const char *text; bool taken, sampled; } cases[] = {
        {NULL, false, true},
        {"", false, true},
        {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", true, false},
        {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03", true, true},
        {"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", true, true},
        {"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true, true},
        {"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more", false, true},
        {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", false, true},
        {"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false, true},
        {"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false, true},
        {"00-00000000000000000000000000000000-00f067aa0ba902b7-01", false, true},
        {"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false, true},
        {"00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-011", false, true},
        {"00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01", false, true},
        {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0", false, true},
        {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x", false, true},
        {"00-4bf92f3577b34da6a3ce<script>0e4736-00f067aa0ba902b7-01", false, true},
    };
    const cn_random random = seeded();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cn_tracing trace;
        cn_tracing_open(&trace, cases[i].text, &random);
        assert_int_equal(trace.parent[0] != '\0', cases[i].taken);
        assert_int_equal(trace.sampled, cases[i].sampled);
        assert_int_equal(strspn(trace.id, "0123456789abcdef"), 32);
        assert_int_equal(strspn(trace.span, "0123456789abcdef"), 16);
    }
}

// Whatever has happened by now, the phases are the time since the first byte.
static void phases_add_up(void **state)
{
    (void)state;
    const cn_tracing_marks whole = {100, 110, 150, 400, 60, 900, 2000, 2010, 2310};
    static const uint64_t want[] = {40, 190, 60, 500, 1100, 300, 10 + 10 + 90};
    uint64_t got[CN_TRACING_PHASE_COUNT];
    cn_tracing_phases(&whole, 2400, got);
    for (int i = 0; i < CN_TRACING_PHASE_COUNT; i++) assert_int_equal(got[i], want[i]);
    // Cut after each mark in turn: a request may end anywhere.
    for (size_t known = 2; known <= 9; known++) {
        cn_tracing_marks cut = {0};
        memcpy(&cut, &whole, known * sizeof(uint64_t));
        if (!cut.started_ns) cut.restore_ns = 0;
        uint64_t sum = 0;
        cn_tracing_phases(&cut, 2400, got);
        for (int i = 0; i < CN_TRACING_PHASE_COUNT; i++) sum += got[i];
        assert_int_equal(sum, 2300);
    }
}

// A choice that was cancelled before its first token: what it did was to compute its prompt.
static void an_end_without_a_token_is_prefill(void **state)
{
    (void)state;
    const cn_tracing_marks marks = {.first_byte_ns = 1, .received_ns = 1, .submitted_ns = 1,
                                  .started_ns = 11, .last_token_ns = 21};
    uint64_t got[CN_TRACING_PHASE_COUNT];
    cn_tracing_phases(&marks, 31, got);
    assert_int_equal(got[CN_TRACING_QUEUE], 10);
    assert_int_equal(got[CN_TRACING_PREFILL], 10);
    assert_int_equal(got[CN_TRACING_DECODE], 0);
    assert_int_equal(got[CN_TRACING_NETWORK], 10);
}

static void phases_are_json(void **state)
{
    (void)state;
    const uint64_t ns[CN_TRACING_PHASE_COUNT] = {412345, 0, 1000000};
    cn_buf out;
    cn_buf_init(&out, 4096);
    cn_tracing_phases_write(ns, &out);
    cn_buf_add_char(&out, '\0');
    assert_string_equal(out.data, "{\"prepare\":0.412,\"queue\":0.000,\"restore\":1.000,"
                                  "\"prefill\":0.000,\"decode\":0.000,\"write\":0.000,"
                                  "\"network\":0.000}");
    cn_buf_close(&out);
}

static const char *text_of(const json_t *span, const char *key)
{
    return json_string_value(json_object_get(span, key));
}

static void a_line_is_otlp(void **state)
{
    (void)state;
    const cn_random random = seeded();
    cn_tracing_record record = {
        .request_id = "a\"b\n", .route = "/v1/responses", .method = "POST", .status = 503,
        .end_wall_ns = 1000000000000, .phase_ns = {10, 0, 20, 30, 0, 0, 40},
        .prompt_tokens = 5, .completion_tokens = 7};
    cn_tracing_open(&record.trace, valid, &random);
    cn_buf out;
    cn_buf_init(&out, 65536);
    cn_tracing_otlp_write(&record, &out);
    assert_ptr_equal(memchr(out.data, '\n', out.len), out.data + out.len - 1);
    json_t *root = json_loadb(out.data, out.len, 0, NULL);
    assert_non_null(root);
    const json_t *resource = json_array_get(json_object_get(root, "resourceSpans"), 0);
    const json_t *scope = json_array_get(json_object_get(resource, "scopeSpans"), 0);
    const json_t *spans = json_object_get(scope, "spans");
    assert_int_equal(json_array_size(spans), 1 + 4);     // a phase without time has no span
    const json_t *request = json_array_get(spans, 0);
    assert_string_equal(text_of(request, "traceId"), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_string_equal(text_of(request, "parentSpanId"), "00f067aa0ba902b7");
    assert_string_equal(text_of(request, "name"), "POST /v1/responses");
    assert_string_equal(text_of(request, "startTimeUnixNano"), "999999999900");
    assert_non_null(json_object_get(request, "status"));
    const json_t *last = json_array_get(spans, 4);
    assert_string_equal(text_of(last, "name"), "network");
    assert_string_equal(text_of(last, "parentSpanId"), record.trace.span);
    assert_string_equal(text_of(last, "startTimeUnixNano"), "999999999960");
    assert_string_equal(text_of(last, "endTimeUnixNano"), "1000000000000");
    assert_string_not_equal(text_of(last, "spanId"), record.trace.span);
    json_decref(root);
    cn_buf_close(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_valid_parent_is_joined),
        cmocka_unit_test(what_parents_are_taken),
        cmocka_unit_test(phases_add_up),
        cmocka_unit_test(an_end_without_a_token_is_prefill),
        cmocka_unit_test(phases_are_json),
        cmocka_unit_test(a_line_is_otlp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
