/* Catches: a trace file that grows without end, loses lines where it turns, or fails silently. */
#include "appliance/otlp_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"

static char directory[] = "/tmp/cairn-otlp-XXXXXX";
static char path[64], old_path[64];

static int make_directory(void **state)
{
    (void)state;
    if (!mkdtemp(directory)) return -1;
    snprintf(path, sizeof path, "%s/traces", directory);
    snprintf(old_path, sizeof old_path, "%s/traces.1", directory);
    return 0;
}

static int remove_directory(void **state)
{
    (void)state;
    unlink(path);
    unlink(old_path);
    return rmdir(directory);
}

static cn_tracing_record record_of(const char *parent)
{
    static uint64_t seed = 1;
    const cn_random random = cn_random_seeded(&seed);
    cn_tracing_record record = {.request_id = "r", .route = "/", .method = "GET", .status = 200,
                                .end_wall_ns = 2000, .phase_ns = {1000}};
    cn_tracing_open(&record.trace, parent, &random);
    return record;
}

static uint32_t count_lines(const char *file)
{
    FILE *in = fopen(file, "re");
    uint32_t count = 0;
    if (!in) return 0;
    for (int c; (c = fgetc(in)) != EOF;) count += c == '\n';
    fclose(in);
    return count;
}

static cn_log log_to(int fd)
{
    return (cn_log){fd, CN_LOG_INFO, cn_clock_system()};
}

static void a_full_file_is_begun_anew(void **state)
{
    (void)state;
    const cn_log logger = log_to(STDERR_FILENO);
    cn_otlp_file *file;
    cn_err err;
    struct stat status;
    assert_int_equal(cn_otlp_file_open(path, 3000, &logger, &file, &err), CN_OK);
    for (uint32_t i = 1; i <= 20; i++) {
        const cn_tracing_record record = record_of(NULL);
        cn_otlp_file_add(file, &record);
        assert_int_equal(cn_otlp_file_flush(file), 0);
        assert_int_equal(stat(path, &status), 0);
        assert_true(status.st_size <= 3000);
        // Until it turns for the second time nothing is lost.
        if (stat(old_path, &status) != 0) assert_int_equal(count_lines(path), i);
    }
    assert_int_equal(stat(old_path, &status), 0);
    assert_true(status.st_size <= 3000);
    cn_otlp_file_close(file);
}

static void a_restart_goes_on_in_the_file(void **state)
{
    (void)state;
    const cn_log logger = log_to(STDERR_FILENO);
    cn_otlp_file *file;
    cn_err err;
    unlink(path);
    for (uint32_t i = 1; i <= 3; i++) {
        const cn_tracing_record record = record_of(NULL);
        assert_int_equal(cn_otlp_file_open(path, 1 << 20, &logger, &file, &err), CN_OK);
        cn_otlp_file_add(file, &record);
        cn_otlp_file_close(file);
        assert_int_equal(count_lines(path), i);
    }
}

// The client said that it does not want it.
static void a_trace_that_is_not_sampled_is_not_written(void **state)
{
    (void)state;
    const cn_log logger = log_to(STDERR_FILENO);
    const cn_tracing_record record =
        record_of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00");
    cn_otlp_file *file;
    cn_err err;
    unlink(path);
    assert_int_equal(cn_otlp_file_open(path, 1 << 20, &logger, &file, &err), CN_OK);
    cn_otlp_file_add(file, &record);
    cn_otlp_file_close(file);
    assert_int_equal(count_lines(path), 0);
}

static void errors_are_told(void **state)
{
    (void)state;
    cn_otlp_file *file;
    cn_err err;
    char text[4096] = "";
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const cn_log logger = log_to(ends[1]);
    assert_int_equal(cn_otlp_file_open("/tmp/none/such/file", 65536, &logger, &file, &err), CN_E_IO);
    assert_non_null(strstr(err.text, "/tmp/none/such/file: No such file or directory"));
    // A device that is full says so at each write; the log does once.
    assert_int_equal(cn_otlp_file_open("/dev/full", 1 << 20, &logger, &file, &err), CN_OK);
    for (int i = 0; i < 3; i++) {
        const cn_tracing_record record = record_of(NULL);
        cn_otlp_file_add(file, &record);
        cn_otlp_file_add(file, &record);
        assert_int_equal(cn_otlp_file_flush(file), 2);
    }
    assert_int_equal(cn_otlp_file_flush(file), 0);
    cn_otlp_file_close(file);
    assert_true(read(ends[0], text, sizeof text - 1) > 0);
    assert_non_null(strstr(text, "event=trace_file_failed path=/dev/full why=\"No space left"));
    assert_null(strstr(strchr(text, '\n') + 1, "trace_file_failed"));
    // "-" is the log.
    const cn_tracing_record record = record_of(NULL);
    assert_int_equal(cn_otlp_file_open("-", 65536, &logger, &file, &err), CN_OK);
    cn_otlp_file_add(file, &record);
    cn_otlp_file_close(file);
    memset(text, 0, sizeof text);
    assert_true(read(ends[0], text, sizeof text - 1) > 0);
    assert_memory_equal(text, "{\"resourceSpans\":", 17);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_file_is_begun_anew),
        cmocka_unit_test(a_restart_goes_on_in_the_file),
        cmocka_unit_test(a_trace_that_is_not_sampled_is_not_written),
        cmocka_unit_test(errors_are_told),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
