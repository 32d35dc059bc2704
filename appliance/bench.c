#include "appliance/bench.h"

#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "appliance/bench_int.h"
#include "appliance/cli.h"
#include "appliance/nearest.h"
#include "bench/compare.h"
#include "bench/report.h"
#include "bench/sink.h"

enum { METRICS_BYTES_MAX = 4 << 20 };

volatile sig_atomic_t cn_bench_stop;

static void on_signal(int number)
{
    (void)number;
    cn_bench_stop = 1;
}

int cn_bench_fail(const cn_err *err, int exit_code)
{
    cn_cli_complain(err);
    return exit_code;
}

bool cn_bench_show_progress(void *self, const cn_drive_progress *p, const cn_tally *tally)
{
    (void)self;
    (void)tally;
    if (isatty(STDERR_FILENO)) {
        fprintf(stderr,
                "\r\033[K%.1f s   sessions %u of %u   sent %u   in flight %u   waiting %u   "
                "answered %u   failed %u   tokens %llu",
                (double)p->elapsed_ns / 1e9, p->sessions_ended, p->session_count, p->begun,
                p->in_flight, p->waiting, p->ended - p->failed, p->failed,
                (unsigned long long)p->events);
    }
    return cn_bench_stop == 0;
}

void cn_bench_clear_progress(void)
{
    if (isatty(STDERR_FILENO)) fputs("\r\033[K", stderr);
}

static void print(const cn_buf *text)
{
    if (text->len > 0) fwrite(text->data, 1, text->len, stdout);
}

// The files and the text that a finished run leaves.
static cn_code write_results(const cn_report_run *run, cn_err *err)
{
    const cn_settings *s = run->settings;
    cn_code code = CN_OK;
    cn_buf json, other;
    cn_buf_init(&json, CN_BENCH_FILE_BYTES_MAX);
    cn_buf_init(&other, CN_BENCH_FILE_BYTES_MAX);
    cn_report_write_json(run, &json);
    if (s->out[0]) code = cn_bench_write_file(s->out, &json, err);
    if (code == CN_OK && s->log[0]) {
        cn_report_write_log(run, &other);
        code = cn_bench_write_file(s->log, &other, err);
    }
    if (code == CN_OK && s->html[0]) {
        const cn_report_file file = {s->label[0] ? s->label : s->html, json.data, json.len};
        cn_buf_clear(&other);
        code = cn_report_write_html(&file, 1, &other, err);
        if (code == CN_OK) code = cn_bench_write_file(s->html, &other, err);
    }
    cn_buf_clear(&other);
    cn_report_write_text(run, &other);
    print(s->json ? &json : &other);
    cn_buf_close(&json);
    cn_buf_close(&other);
    return code;
}

// Model, warm-up, conversations: what comes before the clock starts.
static cn_code prepare(cn_attempt_spec *spec, char model[256], cn_err *err)
{
    const cn_settings *s = spec->settings;
    snprintf(model, 256, "%s", s->model);
    cn_code code = s->model[0] ? CN_OK : cn_bench_find_model(s, model, err);
    spec->body.model = model;
    spec->body.api_key = getenv("CAIRN_API_KEY");
    return code == CN_OK ? cn_attempt_warm_up(spec, err) : code;
}

static int run_load(const cn_settings *settings, unsigned command)
{
    cn_buf before, after, gain;
    cn_attempt_spec spec;
    cn_attempt attempt;
    cn_err err;
    char model[256], (*conversations)[80] = NULL;
    const cn_attempt_watch watch = {cn_bench_show_progress, NULL};
    cn_buf dataset;
    if (cn_attempt_read(settings, command, &spec, &err) != CN_OK)
        return cn_bench_fail(&err, CN_EXIT_USAGE);
    cn_buf_init(&dataset, CN_BENCH_FILE_BYTES_MAX);
    cn_code code =
        settings->dataset[0] ? cn_bench_read_file(settings->dataset, &dataset, &err) : CN_OK;
    if (code != CN_OK) {
        cn_buf_close(&dataset);
        return cn_bench_fail(&err, CN_EXIT_FAILED);
    }
    spec.dataset = dataset.data;
    spec.dataset_len = dataset.len;
    code = cn_attempt_plan(&spec, &attempt, &err);
    cn_buf_close(&dataset);
    if (code != CN_OK) {
        cn_attempt_close(&attempt);
        return cn_bench_fail(&err, code == CN_E_INVALID ? CN_EXIT_USAGE : CN_EXIT_FAILED);
    }
    code = prepare(&spec, model, &err);
    if (code == CN_OK && spec.body.history == CN_BODY_CONVERSATION)
        code = cn_bench_create_conversations(settings, attempt.plan.session_count, &conversations,
                                             &err);
    cn_buf_init(&before, METRICS_BYTES_MAX);
    cn_buf_init(&after, METRICS_BYTES_MAX);
    cn_buf_init(&gain, METRICS_BYTES_MAX);
    if (code == CN_OK) cn_bench_scrape(settings, &before);
    if (code == CN_OK)
        code = cn_attempt_run(&spec, (const char(*)[80])conversations, &watch, &attempt, &err);
    cn_bench_clear_progress();
    if (code == CN_OK && before.len > 0) cn_bench_scrape(settings, &after);
    cn_bench_metrics_gain(&before, &after, &gain);
    const cn_report_run run = {settings, command, &attempt.plan, &attempt.tally, &attempt.summary,
                               model, spec.has_slo, &gain};
    if (code == CN_OK) code = write_results(&run, &err);
    int exit_code = CN_EXIT_OK;
    if (code != CN_OK) exit_code = cn_bench_fail(&err, CN_EXIT_FAILED);
    else if (!attempt.summary.valid) exit_code = CN_BENCH_EXIT_INVALID;
    else if (attempt.summary.failed > 0 || attempt.summary.completed == 0)
        exit_code = CN_EXIT_FAILED;
    cn_attempt_close(&attempt);
    cn_buf_close(&before);
    cn_buf_close(&after);
    cn_buf_close(&gain);
    free(conversations);
    return exit_code;
}

static int run_run(cn_settings *settings)
{
    cn_err err;
    if (cn_attempt_apply_preset(settings, &err) != CN_OK) return cn_bench_fail(&err, CN_EXIT_USAGE);
    return run_load(settings, CN_SETTINGS_RUN);
}

static int run_replay(cn_settings *settings) { return run_load(settings, CN_SETTINGS_REPLAY); }

static int run_sink(cn_settings *settings)
{
    cn_err err;
    const cn_code code = cn_sink_serve(settings, &cn_bench_stop, &err);
    if (code == CN_OK) return CN_EXIT_OK;
    return cn_bench_fail(&err, code == CN_E_INVALID ? CN_EXIT_USAGE : CN_EXIT_FAILED);
}

// Reads the files of the command line; the caller closes `texts`, however many were read.
static cn_code read_files(const cn_settings *settings, cn_buf texts[8], cn_report_file files[8],
                          cn_err *err)
{
    cn_code code = CN_OK;
    for (uint32_t i = 0; i < 8; i++) cn_buf_init(&texts[i], CN_BENCH_FILE_BYTES_MAX);
    for (uint32_t i = 0; i < settings->file_count && code == CN_OK; i++) {
        code = cn_bench_read_file(settings->files[i], &texts[i], err);
        files[i] =
            (cn_report_file){settings->files[i], texts[i].data ? texts[i].data : "", texts[i].len};
    }
    return code;
}

static void close_files(cn_buf texts[8])
{
    for (uint32_t i = 0; i < 8; i++) cn_buf_close(&texts[i]);
}

static int run_report(cn_settings *settings)
{
    cn_err err;
    cn_buf texts[8], page;
    cn_report_file files[8];
    cn_buf_init(&page, CN_BENCH_FILE_BYTES_MAX);
    cn_code code = read_files(settings, texts, files, &err);
    if (code == CN_OK) code = cn_report_write_html(files, settings->file_count, &page, &err);
    if (code == CN_OK && settings->out[0]) code = cn_bench_write_file(settings->out, &page, &err);
    else if (code == CN_OK) print(&page);
    close_files(texts);
    cn_buf_close(&page);
    return code == CN_OK ? CN_EXIT_OK : cn_bench_fail(&err, CN_EXIT_FAILED);
}

static int run_compare(cn_settings *settings)
{
    cn_err err;
    cn_buf texts[8], text;
    cn_report_file files[8];
    cn_compare_result result;
    cn_buf_init(&text, CN_BENCH_FILE_BYTES_MAX);
    cn_code code = read_files(settings, texts, files, &err);
    if (code == CN_OK) code = cn_compare_runs(&files[0], &files[1], &result, &err);
    if (code == CN_OK) {
        if (settings->json) cn_compare_write_json(&result, &text);
        else cn_compare_write_text(&result, settings->files[0], settings->files[1], &text);
        print(&text);
    }
    close_files(texts);
    cn_buf_close(&text);
    if (code != CN_OK) return cn_bench_fail(&err, CN_EXIT_FAILED);
    return result.verdict == CN_COMPARE_NONE ? CN_BENCH_EXIT_INVALID : CN_EXIT_OK;
}

static const struct command {
    const char *name;
    unsigned flags;
    int (*run)(cn_settings *settings);
    uint32_t files_min, files_max;
    const char *arguments, *what;
} commands[] = {
    {"run", CN_SETTINGS_RUN, run_run, 0, 0, "", "load a server and say how it answered"},
    {"capacity", CN_SETTINGS_CAPACITY, cn_bench_run_capacity, 0, 0, "",
     "find the highest load at which a service level holds"},
    {"replay", CN_SETTINGS_REPLAY, run_replay, 0, 0, "",
     "ask what a recorded trace asked, when it asked"},
    {"sink", CN_SETTINGS_SINK, run_sink, 0, 0, "",
     "be a server without a model, to calibrate the generator"},
    {"report", CN_SETTINGS_REPORT, run_report, 1, 8, " FILE.json ...",
     "a page of HTML for runs whose JSON was kept"},
    {"compare", CN_SETTINGS_COMPARE, run_compare, 2, 2, " A.json B.json",
     "whether B was better than A, and how sure that is"},
};

enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static void print_help(FILE *to)
{
    fputs("usage: cairn bench COMMAND [--flag value ...]\n\n", to);
    for (int i = 0; i < COMMAND_COUNT; i++)
        fprintf(to, "  %-9s %s\n", commands[i].name, commands[i].what);
    fputs(
        "\n`cairn bench COMMAND --help` lists the flags. An API key is read from CAIRN_API_KEY.\n\n"
        "Exit codes: 0 done, 1 requests failed or the server could not be reached, 2 bad usage,\n"
        "3 INVALID: the generator was late or too busy, so that its figures mean nothing.\n",
        to);
}

static void print_command_help(const struct command *c)
{
    cn_buf out;
    cn_buf_init(&out, 1 << 20);
    printf("usage: cairn bench %s%s [--flag value ...]\n\n%s.\n\n", c->name, c->arguments, c->what);
    cn_settings_write_help(c->flags, &out);
    print(&out);
    cn_buf_close(&out);
}

static int run_command(const struct command *c, int argc, char **argv)
{
    static cn_settings settings;
    cn_err err;
    cn_settings_init(&settings);
    if (cn_settings_read(argc, argv, c->flags, &settings, cn_nearest_find, &err) != CN_OK)
        return cn_bench_fail(&err, CN_EXIT_USAGE);
    if (settings.help) {
        print_command_help(c);
        return CN_EXIT_OK;
    }
    if (settings.file_count < c->files_min || settings.file_count > c->files_max) {
        cn_err_set(&err, CN_E_INVALID, "%u files given; usage: cairn bench %s%s [--flag value ...]",
                   settings.file_count, c->name, c->arguments);
        return cn_bench_fail(&err, CN_EXIT_USAGE);
    }
    return c->run(&settings);
}

int cn_bench_run(int argc, char **argv)
{
    const struct sigaction action = {.sa_handler = on_signal};
    const char *name = argc > 0 ? argv[0] : "", *names[COMMAND_COUNT];
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    // Memory that was touched once stays: a page fault in the middle of a run is lateness.
    mallopt(M_MMAP_THRESHOLD, 32 << 20);         // the largest that glibc takes
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    for (int i = 0; i < COMMAND_COUNT; i++) {
        names[i] = commands[i].name;
        if (strcmp(name, names[i]) == 0) return run_command(&commands[i], argc - 1, argv + 1);
    }
    const bool help = strcmp(name, "--help") == 0 || strcmp(name, "help") == 0;
    if (name[0] && !help) {
        cn_nearest_refuse("unknown command bench ", "cairn bench", name, names, COMMAND_COUNT);
        return CN_EXIT_USAGE;
    }
    print_help(help ? stdout : stderr);
    return help ? CN_EXIT_OK : CN_EXIT_USAGE;
}
