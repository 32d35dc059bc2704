/* Catches: names of the page that nothing stands for, text that escapes from its place, drawings of
 * figures that cannot be, and units that mislead. */
#include "appliance/page.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "appliance/page_int.h"
#include "tests/unit/cmocka_all.h"

static const char hostile[] = "\"><script>alert('x')</script>&\n";

static cn_page *page_of(const char *text)
{
    cn_page *p = calloc(1, sizeof *p);
    assert_non_null(p);
    p->model = p->address = p->backend = p->hardware = p->state = p->durability = text;
    return p;
}

static char *write_page(const cn_page *page)
{
    cn_buf out;
    cn_buf_init(&out, 1 << 22);
    cn_page_write(page, &out);
    cn_buf_add_char(&out, '\0');
    assert_false(out.overflowed);
    return out.data;
}

static uint32_t count(const char *text, const char *what)
{
    uint32_t found = 0;
    for (const char *at = text; (at = strstr(at, what)); at += strlen(what)) found++;
    return found;
}

// Nothing has happened yet: dashes, and no division by what is 0.
static void an_empty_page_is_whole(void **state)
{
    (void)state;
    cn_page *page = page_of("");
    char *text = write_page(page);
    assert_null(strstr(text, "{{"));
    assert_null(strstr(text, "nan"));
    assert_null(strstr(text, "inf"));
    assert_non_null(strstr(text, "Everything is at its default."));
    assert_non_null(strstr(text, "No request has been in the queue"));
    assert_non_null(strstr(text, "none: turns are not kept"));
    assert_non_null(strstr(text, "<td class=\"n\">–</td>"));
    free(text);
    free(page);
}

static void no_text_leaves_its_place(void **state)
{
    (void)state;
    cn_page *page = page_of("");
    char *plain = write_page(page);
    free(page);
    page = page_of(hostile);
    page->has_store = true;
    page->slow_count = page->setting_count = 1;
    page->slow[0].phase_ns[CN_TRACING_DECODE] = 5;
    page->settings[0] = (cn_page_setting){.key = "model", .source = "flag"};
    memcpy(page->settings[0].value, hostile, sizeof hostile);
    memcpy(page->reason, hostile, sizeof hostile);
    memcpy(page->store_text, hostile, sizeof hostile);
    memcpy(page->slow[0].request_id, hostile, sizeof hostile);
    memcpy(page->slow[0].route, "\"><script>\n", 12);
    char *text = write_page(page);
    assert_int_equal(count(text, "<script"), count(plain, "<script"));
    assert_null(strstr(text, "alert('"));
    assert_true(count(text, "&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp; ") >= 9);
    free(text);
    free(plain);
    free(page);
}

// The cells are all there, whatever the counts, and something is never nothing.
static void the_map_has_all_cells(void **state)
{
    (void)state;
    static const struct { uint64_t pages, held, idle; } cases[] = {
        {1, 0, 0}, {1, 1, 0}, {2048, 1, 1}, {2048, 2048, 0}, {2048, 0, 2048}, {1000000, 1, 999999},
        {7, 3, 2}, {384, 100, 200}, {1u << 31, 1u << 30, 1u << 30}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cn_page *page = page_of("");
        cn_buf out;
        cn_buf_init(&out, 1 << 20);
        page->pages = cases[i].pages;
        page->pages_held = cases[i].held;
        page->pages_idle = cases[i].idle;
        cn_page_block_map(page, &out);
        cn_buf_add_char(&out, '\0');
        assert_int_equal(count(out.data, "M"), 48 * 8);
        assert_int_equal(strstr(out.data, "\"held\"") != NULL, cases[i].held > 0);
        assert_int_equal(strstr(out.data, "\"idle\"") != NULL, cases[i].idle > 0);
        cn_buf_close(&out);
        free(page);
    }
}

static void units_are_what_people_read(void **state)
{
    (void)state;
    static const struct { void (*write)(uint64_t, cn_buf *); uint64_t value; const char *text; } cases[] = {
        {cn_page_unit_count, 0, "0"},
        {cn_page_unit_count, 999, "999"},
        {cn_page_unit_count, 1000, "1,000"},
        {cn_page_unit_count, 12000345, "12,000,345"},
        {cn_page_unit_time, 0, "0.00 µs"},
        {cn_page_unit_time, 999499, "999 µs"},
        {cn_page_unit_time, 999500, "1.00 ms"},
        {cn_page_unit_time, 12345678, "12.3 ms"},
        {cn_page_unit_time, 999500000, "1.00 s"},
        {cn_page_unit_time, 59940000000, "59.9 s"},
        {cn_page_unit_time, 125000000000, "2 min 5 s"},
        {cn_page_unit_span, 59, "59 s"},
        {cn_page_unit_span, 7325, "2 h 2 min"},
        {cn_page_unit_span, 100 * 3600, "4 d 4 h"},
    };
    static const struct { void (*write)(double, cn_buf *); double value; const char *text; } reals[] = {
        {cn_page_unit_rate, 0, "0"},       {cn_page_unit_rate, 0.42, "0.42"},
        {cn_page_unit_rate, 3.66, "3.7"},  {cn_page_unit_rate, 9.96, "10"},
        {cn_page_unit_rate, 4096, "4,096"}, {cn_page_unit_bytes, 512, "512 B"},
        {cn_page_unit_bytes, 1023, "1.00 KiB"}, {cn_page_unit_bytes, 1610612736, "1.50 GiB"}};
    cn_buf out;
    cn_buf_init(&out, 4096);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cn_buf_clear(&out);
        cases[i].write(cases[i].value, &out);
        cn_buf_add_char(&out, '\0');
        assert_string_equal(out.data, cases[i].text);
    }
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        cn_buf_clear(&out);
        reals[i].write(reals[i].value, &out);
        cn_buf_add_char(&out, '\0');
        assert_string_equal(out.data, reals[i].text);
    }
    cn_buf_close(&out);
}

// The phases of the slowest request fill its row; those of another one its share of that.
static void bars_have_one_scale(void **state)
{
    (void)state;
    cn_page *page = page_of("");
    page->slow_count = 2;
    page->slow[0].phase_ns[CN_TRACING_PREFILL] = 3000;
    page->slow[0].phase_ns[CN_TRACING_DECODE] = 1000;
    page->slow[1].phase_ns[CN_TRACING_WRITE] = 1000;
    char *text = write_page(page);
    assert_non_null(strstr(text, "<rect class=\"prefill\" x=\"0.00%\" width=\"75.00%\""));
    assert_non_null(strstr(text, "<rect class=\"decode\" x=\"75.00%\" width=\"25.00%\""));
    assert_non_null(strstr(text, "<rect class=\"write\" x=\"0.00%\" width=\"25.00%\""));
    assert_non_null(strstr(text, "aria-label=\"prefill 3.00 µs, decode 1.00 µs\""));
    free(text);
    free(page);
}

static void the_policy_names_script_and_style(void **state)
{
    (void)state;
    char csp[CN_PAGE_CSP_BYTES];
    cn_page_csp(csp);
    assert_int_equal(count(csp, "'sha256-"), 2);
    assert_null(strstr(csp, "unsafe"));
    assert_true(strlen(csp) < CN_PAGE_CSP_BYTES - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_page_is_whole),
        cmocka_unit_test(no_text_leaves_its_place),
        cmocka_unit_test(the_map_has_all_cells),
        cmocka_unit_test(units_are_what_people_read),
        cmocka_unit_test(bars_have_one_scale),
        cmocka_unit_test(the_policy_names_script_and_style),
    };
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
