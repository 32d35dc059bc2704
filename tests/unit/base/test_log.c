#include "tests/unit/cmocka_all.h"

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

typedef struct world {
    int ends[2];
    uint64_t now_ns;
    cn_log log;
    char line[4096];
} world;

static void open_world(world *w)
{
    assert_int_equal(pipe(w->ends), 0);
    w->now_ns = UINT64_C(1764000000123456789);       // 2025-11-24T16:00:00.123Z
    w->log = (cn_log){w->ends[1], CN_LOG_INFO, cn_clock_simulated(&w->now_ns)};
}

// What was written so far; the writer is closed, so that nothing at all reads as "".
static const char *take(world *w)
{
    close(w->ends[1]);
    const ssize_t got = read(w->ends[0], w->line, sizeof w->line - 1);
    assert_true(got >= 0);
    w->line[got] = '\0';
    close(w->ends[0]);
    return w->line;
}

static void a_line_is_logfmt(void **state)
{
    (void)state;
    world w;
    open_world(&w);
    cn_log_event(&w.log, CN_LOG_WARN, "listening", cn_log_text("addr", "[::1]:80"), cn_log_number("n", -3),
                 cn_log_text("empty", ""), cn_log_text("none", NULL));
    assert_string_equal(take(&w), "2025-11-24T16:00:00.123Z level=warn event=listening addr=[::1]:80 n=-3 "
                                  "empty=\"\" none=\"\"\n");
}

// A value cannot end its line, open a field of its own, or send the terminal a command.
static void values_cannot_forge(void **state)
{
    (void)state;
    world w;
    open_world(&w);
    cn_log_event(&w.log, CN_LOG_INFO, "x", cn_log_text("a", "1\n2026 level=error event=fake"),
                 cn_log_text("b", "x y=z"), cn_log_text("c", "\x1b[2J\"\\\xFF"));
    assert_string_equal(strstr(take(&w), " a="),
                        " a=\"1\\n2026 level=error event=fake\" b=\"x y=z\" "
                        "c=\"\\u001b[2J\\\"\\\\\xEF\xBF\xBD\"\n");
}

static void a_long_line_is_cut_and_says_so(void **state)
{
    (void)state;
    static char text[3000];
    world w;
    memset(text, 'a', sizeof text - 1);
    for (size_t len = 1900; len < sizeof text; len += 7) {
        open_world(&w);
        text[len] = '\0';
        cn_log_event(&w.log, CN_LOG_INFO, "x", cn_log_text("a", text), cn_log_text("b", "tail"));
        text[len] = 'a';
        const char *line = take(&w);
        const size_t line_len = strlen(line);
        assert_true(line_len <= 2048 && line[line_len - 1] == '\n');
        assert_ptr_equal(strchr(line, '\n'), line + line_len - 1);
        const bool whole = strstr(line, " b=tail\n") != NULL;
        assert_true(whole || strcmp(line + line_len - 4, "...\n") == 0);
    }
}

static void levels_and_no_log_drop(void **state)
{
    (void)state;
    world w;
    open_world(&w);
    cn_log_event(&w.log, CN_LOG_DEBUG, "quiet", cn_log_number("n", 1));
    w.log.level = CN_LOG_OFF;
    cn_log_event(&w.log, CN_LOG_ERROR, "quiet", cn_log_number("n", 1));
    cn_log_event(NULL, CN_LOG_ERROR, "quiet", cn_log_number("n", 1));
    assert_string_equal(take(&w), "");
    for (int level = CN_LOG_DEBUG; level <= CN_LOG_OFF; level++) {
        assert_int_equal(cn_log_level_parse(cn_log_level_name((cn_log_level)level)), level);
    }
    assert_int_equal(cn_log_level_parse("loud"), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_logfmt),
        cmocka_unit_test(values_cannot_forge),
        cmocka_unit_test(a_long_line_is_cut_and_says_so),
        cmocka_unit_test(levels_and_no_log_drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
