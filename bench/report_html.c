#include "bench/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "bench/chart.h"

static const char head[] =
    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
    "'unsafe-inline'; img-src data:\">\n<link rel=\"icon\" href=\"data:,\">\n"
    "<title>cairn bench</title>\n<style>\n"
    ":root{color-scheme:light "
    "dark;--bg:#fff;--fg:#1b1f23;--soft:#57606a;--rule:#8c959f;--a:#0b5cad;"
    "--b:#a04000;--c:#1a7f37;--bad:#b3261e}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#14171a;--fg:#e6e8ea;--soft:#aab2ba;--rule:#"
    "6e7781;"
    "--a:#7db8ff;--b:#ffb366;--c:#6bd68a;--bad:#ff9a92}}\n"
    "body{margin:0 auto;max-width:60rem;padding:1rem;background:var(--bg);color:var(--fg);"
    "font:16px/1.5 system-ui,sans-serif}\n"
    "h1,h2,h3{line-height:1.2}h2{margin-top:2.5rem}\n"
    ".verdict{font-size:1.15rem;border-left:.4rem solid var(--c);padding:.4rem .8rem}\n"
    ".verdict.invalid{border-color:var(--bad)}\n"
    "table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}\n"
    "caption{text-align:left;font-weight:600;padding:.3rem 0;white-space:nowrap}\n"
    "th,td{padding:.25rem .8rem .25rem 0;border-bottom:1px solid var(--rule);text-align:right}\n"
    "th:first-child{text-align:left}thead th{color:var(--soft)}\n"
    ".scroll{overflow-x:auto}figure{margin:1.5rem 0}figcaption{color:var(--soft)}\n"
    "figure>svg{width:100%;height:auto;display:block}svg text{fill:var(--fg);font:12px system-ui,"
    "sans-serif}\n"
    "svg .x{text-anchor:middle}svg .y{text-anchor:end}.grid{stroke:var(--rule);stroke-width:.5;"
    "opacity:.6}\n"
    ".line{fill:none;stroke-width:2}.l0{stroke:var(--a)}.l1{stroke:var(--b);stroke-dasharray:7 4}\n"
    ".l2{stroke:var(--c);stroke-dasharray:2 3}.bar{fill:var(--a)}\n"
    ".key{white-space:nowrap;margin-left:1rem}.key "
    "svg{width:2rem;height:.5rem;vertical-align:middle;"
    "margin-right:.3rem}\n"
    "summary{cursor:pointer;min-height:24px}:focus-visible{outline:2px solid var(--a)}\n"
    "code{overflow-wrap:anywhere}\n</style>\n</head>\n<body>\n<main>\n<h1>cairn bench</h1>\n";

typedef struct page {
    cn_buf *out;
    const json_t *root, *cairn;
    uint32_t index;              // of the run on the page, for ids
} page;

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void add_verdict(const page *p)
{
    const bool valid = json_is_true(json_object_get(p->cairn, "valid"));
    cn_buf_add_format(p->out, "<p class=\"verdict%s\">", valid ? "" : " invalid");
    if (valid) {
        cn_buf_add_format(p->out, "<strong>%.2f requests/s, %.1f output tokens/s</strong>",
                          number(p->root, "request_throughput"),
                          number(p->root, "output_throughput"));
        if (json_is_number(json_object_get(p->root, "request_goodput"))) {
            cn_buf_add_format(p->out, ", goodput %.2f requests/s",
                              number(p->root, "request_goodput"));
        }
    } else {
        cn_buf_add_text(p->out, "<strong>INVALID:</strong> ");
        cn_chart_add_text(text_of(p->cairn, "invalid_why"), p->out);
        cn_buf_add_text(p->out,
                        " These figures say more about the generator than about the server.");
    }
    cn_buf_add_format(p->out,
                      "<br>%.0f answered, %.0f failed in %.1f s; at most %.0f at once.</p>\n",
                      number(p->root, "completed"), number(p->root, "failed"),
                      number(p->root, "duration"), number(p->root, "max_concurrent_requests"));
}

static void add_figures_row(const page *p, const char *name, const json_t *f)
{
    static const char *const keys[] = {"mean", "p50", "p90", "p99", "p99.9", "max"};
    cn_buf_add_format(p->out, "<tr><th scope=\"row\">%s</th>", name);
    for (int i = 0; i < 6; i++) cn_buf_add_format(p->out, "<td>%.2f</td>", number(f, keys[i]));
    cn_buf_add_text(p->out, "</tr>\n");
}

static void begin_table(const page *p, const char *caption, const char *columns)
{
    cn_buf_add_format(p->out,
                      "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"%s\">"
                      "<table><caption>%s</caption><thead><tr>",
                      caption, caption);
    for (const char *at = columns; *at;) {
        const size_t len = strcspn(at, "|");
        cn_buf_add_format(p->out, "<th scope=\"col\">%.*s</th>", (int)len, at);
        at += len + (at[len] == '|');
    }
    cn_buf_add_text(p->out, "</tr></thead><tbody>\n");
}

static void end_table(const page *p) { cn_buf_add_text(p->out, "</tbody></table></div>\n"); }

static void add_latencies(const page *p)
{
    const json_t *due = json_object_get(p->cairn, "from_due");
    const json_t *sent = json_object_get(p->cairn, "from_sent");
    begin_table(p, "Latency in milliseconds", "|mean|p50|p90|p99|p99.9|max");
    add_figures_row(p, "first token, from due", json_object_get(due, "ttft_ms"));
    add_figures_row(p, "first token, from sent", json_object_get(sent, "ttft_ms"));
    add_figures_row(p, "whole answer, from due", json_object_get(due, "e2el_ms"));
    add_figures_row(p, "whole answer, from sent", json_object_get(sent, "e2el_ms"));
    add_figures_row(p, "per output token", json_object_get(p->cairn, "tpot_ms"));
    add_figures_row(p, "between tokens", json_object_get(p->cairn, "itl_ms"));
    end_table(p);
}

static void add_turns(const page *p)
{
    const json_t *turns = json_object_get(p->cairn, "turns");
    if (json_array_size(turns) < 2) return;
    begin_table(p, "Turns of a session",
                "turn|requests|first token p50 ms|p99 ms|input tokens|cached");
    for (size_t i = 0; i < json_array_size(turns); i++) {
        const json_t *t = json_array_get(turns, i), *ttft = json_object_get(t, "ttft_ms");
        const double input = number(t, "input_tokens");
        cn_buf_add_format(p->out,
                          "<tr><th scope=\"row\">%.0f</th><td>%.0f</td><td>%.2f</td><td>%.2f</td>"
                          "<td>%.0f</td><td>%.1f %%</td></tr>\n",
                          number(t, "turn"), number(t, "count"), number(ttft, "p50"),
                          number(ttft, "p99"), input,
                          input > 0 ? 100 * number(t, "cached_tokens") / input : 0);
    }
    end_table(p);
}

// Numbers of an array; the caller frees them. NULL: no memory, or no numbers.
static double *copy_numbers(const json_t *array, size_t count)
{
    double *values =
        count && json_array_size(array) == count ? calloc(count, sizeof *values) : NULL;
    for (size_t i = 0; values && i < count; i++) {
        values[i] = json_number_value(json_array_get(array, i));
    }
    return values;
}

static void write_chart(const page *p, const char *id, const char *title, const char *x_name,
                        const char *y_name, double *x, size_t count, const char *const *names,
                        double *const *ys, uint32_t line_count, bool nines)
{
    char unique[32];
    cn_chart_line lines[3];
    snprintf(unique, sizeof unique, "%s%u", id, p->index);
    for (uint32_t i = 0; i < line_count; i++) {
        if (!ys[i]) return;
        lines[i] = (cn_chart_line){names[i], ys[i]};
    }
    const cn_chart chart = {unique,          title, x_name,     y_name, x,
                            (uint32_t)count, lines, line_count, nines};
    if (x) cn_chart_write_lines(&chart, p->out);
}

// Percentiles of one metric from both clocks, out to 99.9 %.
static void add_curve(const page *p, const char *id, const char *title, const char *key)
{
    static const char *const names[] = {"from due", "from sent"};
    const json_t *due = json_object_get(json_object_get(p->cairn, "from_due"), key);
    const json_t *sent = json_object_get(json_object_get(p->cairn, "from_sent"), key);
    const size_t count = json_array_size(due);
    double *ys[] = {copy_numbers(due, count), copy_numbers(sent, count)};
    double *x = count > 1 ? calloc(count, sizeof *x) : NULL;
    for (size_t i = 0; x && i < count; i++) {
        x[i] = 100 * (1 - pow(10, -3.0 * (double)i / (double)(count - 1)));
    }
    write_chart(p, id, title, "percentile", "ms", x, count, names, ys, 2, true);
    free(x);
    free(ys[0]);
    free(ys[1]);
}

// Series over time: `per_s` divides counts by the width of a bin.
static void add_series(const page *p, const char *id, const char *title, const char *y_name,
                       const char *const *keys, const char *const *names, uint32_t line_count,
                       bool per_s)
{
    const json_t *series = json_object_get(p->cairn, "series");
    const double bin_s = number(series, "bin_s");
    const size_t count = json_array_size(json_object_get(series, keys[0]));
    double *ys[3] = {NULL}, *x = count ? calloc(count, sizeof *x) : NULL;
    for (size_t i = 0; x && i < count; i++) x[i] = (double)i * bin_s;
    for (uint32_t k = 0; k < line_count; k++) {
        ys[k] = copy_numbers(json_object_get(series, keys[k]), count);
        for (size_t i = 0; ys[k] && per_s && i < count; i++) ys[k][i] /= bin_s > 0 ? bin_s : 1;
    }
    write_chart(p, id, title, "seconds since the start", y_name, x, count, names, ys, line_count,
                false);
    free(x);
    for (uint32_t k = 0; k < line_count; k++) free(ys[k]);
}

static void add_lateness(const page *p)
{
    enum { BARS_MAX = 24 };
    static char texts[BARS_MAX][24];
    const char *labels[BARS_MAX];
    double edges[BARS_MAX], counts[BARS_MAX];
    char id[32];
    const json_t *lateness = json_object_get(p->cairn, "lateness");
    const json_t *bars = json_object_get(lateness, "histogram");
    uint32_t count = 0;
    for (size_t i = 0; i < json_array_size(bars) && count < BARS_MAX; i++, count++) {
        const json_t *bar = json_array_get(bars, i);
        edges[count] = number(bar, "at_most_ms");
        counts[count] = number(bar, "count");
        snprintf(texts[count], sizeof texts[count], "%.3g", edges[count]);
        labels[count] = texts[count];
    }
    snprintf(id, sizeof id, "late%u", p->index);
    const cn_chart_line line = {"requests", counts};
    const cn_chart chart = {id,
                            "How late the generator sent",
                            "at most so many ms late",
                            "requests",
                            edges,
                            count,
                            &line,
                            1,
                            false};
    if (count > 0) cn_chart_write_bars(&chart, labels, p->out);
    begin_table(p, "Lateness of sending in milliseconds", "|mean|p50|p90|p99|p99.9|max");
    add_figures_row(p, "sent after it could be", json_object_get(lateness, "ms"));
    end_table(p);
}

static void add_outcomes(const page *p)
{
    const char *key;
    json_t *value;
    begin_table(p, "What came of the requests", "outcome|requests");
    json_object_foreach((json_t *)json_object_get(p->cairn, "outcomes"), key, value) {
        if (json_number_value(value) == 0) continue;
        cn_buf_add_text(p->out, "<tr><th scope=\"row\">");
        cn_chart_add_text(key, p->out);
        cn_buf_add_format(p->out, "</th><td>%.0f</td></tr>\n", json_number_value(value));
    }
    end_table(p);
}

static void add_object(const page *p, const char *title, const json_t *object)
{
    const char *key;
    json_t *value;
    cn_buf_add_format(p->out, "<details><summary>%s</summary>\n", title);
    begin_table(p, title, "name|value");
    json_object_foreach((json_t *)object, key, value) {
        char *text = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY);
        cn_buf_add_text(p->out, "<tr><th scope=\"row\">");
        cn_chart_add_text(key, p->out);
        cn_buf_add_text(p->out, "</th><td>");
        cn_chart_add_text(text                    ? text
                          : json_is_string(value) ? json_string_value(value)
                                                  : "",
                          p->out);
        cn_buf_add_text(p->out, "</td></tr>\n");
        free(text);
    }
    end_table(p);
    cn_buf_add_text(p->out, "</details>\n");
}

static void write_run(const page *p, const char *name)
{
    static const char *const tokens[] = {"events"}, *const token_names[] = {"tokens per second"};
    static const char *const flight[] = {"in_flight"}, *const flight_names[] = {
                                                           "requests in flight"};
    static const char *const ttft[] = {"ttft_p50_ms", "ttft_p99_ms"}, *const ttft_names[] = {"p50",
                                                                                             "p99"};
    cn_buf_add_format(p->out, "<article aria-labelledby=\"run%u\"><h2 id=\"run%u\">", p->index,
                      p->index);
    cn_chart_add_text(name, p->out);
    cn_buf_add_text(p->out, "</h2>\n<p>");
    cn_chart_add_text(text_of(p->root, "model_id"), p->out);
    cn_buf_add_text(p->out, " through ");
    cn_chart_add_text(text_of(p->root, "backend"), p->out);
    cn_buf_add_text(p->out, ", begun ");
    cn_chart_add_text(text_of(p->root, "date"), p->out);
    cn_buf_add_text(p->out, " UTC</p>\n");
    add_verdict(p);
    add_latencies(p);
    add_outcomes(p);
    add_turns(p);
    add_curve(p, "ttft", "Time to first token by percentile", "ttft_curve_ms");
    add_curve(p, "e2el", "Time to the whole answer by percentile", "e2el_curve_ms");
    add_series(p, "time", "Time to first token, by the second in which the request was due", "ms",
               ttft, ttft_names, 2, false);
    add_series(p, "tokens", "Tokens per second", "tokens/s", tokens, token_names, 1, true);
    add_series(p, "flight", "Requests in flight", "requests", flight, flight_names, 1, false);
    add_lateness(p);
    cn_buf_add_text(p->out, "<p>Digest of the answers: <code>");
    cn_chart_add_text(text_of(p->cairn, "digest"), p->out);
    cn_buf_add_format(p->out, "</code>, of %.0f.</p>\n", number(p->cairn, "digest_turns"));
    add_object(p, "Settings", json_object_get(p->cairn, "settings"));
    if (json_object_size(json_object_get(p->cairn, "server")) > 0)
        add_object(p, "What the server counted", json_object_get(p->cairn, "server"));
    add_object(p, "Environment", json_object_get(p->cairn, "environment"));
    cn_buf_add_text(p->out, "</article>\n");
}

cn_code cn_report_write_html(const cn_report_file *files, uint32_t count, cn_buf *out, cn_err *err)
{
    cn_buf_add_text(out, head);
    cn_buf_add_text(out,
                    "<p>Latency counts from when a request was due, which is what a user waits; "
                    "beside it stands what a generator sees that looks only from sending.</p>\n");
    for (uint32_t i = 0; i < count; i++) {
        json_error_t failure;
        json_t *root = json_loadb(files[i].json, files[i].json_len, 0, &failure);
        if (!root)
            return cn_err_set(err, CN_E_SYNTAX, "%s: line %d: %s", files[i].name, failure.line,
                              failure.text);
        const page p = {out, root, json_object_get(root, "cairn"), i};
        const bool ours = number(p.cairn, "format") == 1;
        if (ours) write_run(&p, files[i].name);
        json_decref(root);
        if (!ours)
            return cn_err_set(err, CN_E_FORMAT,
                              "%s: was not written by `cairn bench run`; has no "
                              "member cairn.format of 1",
                              files[i].name);
    }
    cn_buf_add_text(out, "</main>\n</body>\n</html>\n");
    return CN_OK;
}
