#include "appliance/metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "appliance/cli.h"
#include "appliance/client.h"
#include "appliance/metrics_catalogue.h"

/* The list is the walk of the catalogue over metrics that were never counted, with a sink that counts the
 * series of each family and remembers their labels. So it tells what a server will show, whatever happens
 * to it. */

enum { LABELS_BYTES = 256, TEXT_BYTES_MAX = 1 << 22 };

typedef struct family {
    char name[96], help[160];
    char labels[LABELS_BYTES];   // names, with commas
    cn_metrics_type type;
    uint32_t series_count;
} family;

typedef struct list {
    family family;               // the one whose series are being counted
    bool json, any;
    cn_buf out;
} list;

static void print_help(void)
{
    puts("usage: cairn metrics [--url URL] [--api_key KEY] [--names cairn|vllm]\n"
         "       cairn metrics --list [--json] [--names cairn|vllm]\n\n"
         "Prints what a running server counts, as GET /metrics does for Prometheus. --list says what\n"
         "there is to count: name, type, unit, number of series, labels and meaning. Rules for alerts\n"
         "and dashboards that use them are in deploy/prometheus and deploy/grafana.");
}

static bool ends_in(const char *name, const char *end)
{
    const size_t len = strlen(name), end_len = strlen(end);
    return len >= end_len && strcmp(name + len - end_len, end) == 0;
}

static const char *unit_of(const char *name)
{
    static const char *const units[] = {"seconds", "bytes", "tokens", "pages", "fds"};
    char end[32];
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        snprintf(end, sizeof end, "_%s", units[i]);
        if (ends_in(name, end)) return units[i];
        snprintf(end, sizeof end, "_%s_total", units[i]);
        if (ends_in(name, end)) return units[i];
    }
    return ends_in(name, "_per_second") ? "per second" : ends_in(name, "_perc") ? "ratio" : "count";
}

static void end_family(list *l)
{
    static const char *const types[] = {"counter", "gauge", "info", "histogram"};
    const family *f = &l->family;
    if (!f->name[0]) return;
    if (l->json) {
        cn_buf_add_format(&l->out, "%s{\"name\":\"%s\",\"type\":\"%s\",\"unit\":\"%s\",\"series\":%u,"
                          "\"labels\":\"%s\",\"help\":", l->any ? ",\n " : "[", f->name,
                          types[f->type], unit_of(f->name), f->series_count, f->labels);
        cn_buf_add_json(&l->out, f->help, strlen(f->help));
        cn_buf_add_char(&l->out, '}');
    } else {
        cn_buf_add_format(&l->out, "%-40s %-9s %-10s %4u  %s%s%s%s\n", f->name, types[f->type],
                          unit_of(f->name), f->series_count, f->help, f->labels[0] ? "  [" : "",
                          f->labels, f->labels[0] ? "]" : "");
    }
    l->any = true;
}

static void list_family(void *self, const char *name, cn_metrics_type type, const char *help)
{
    list *l = self;
    end_family(l);
    l->family = (family){.type = type};
    snprintf(l->family.name, sizeof l->family.name, "%s", name);
    snprintf(l->family.help, sizeof l->family.help, "%s", help);
}

// The names of labels; a series of a family may have more of them than the one before.
static void note_labels(family *f, const char *labels)
{
    char names[LABELS_BYTES] = "";
    size_t len = 0;
    for (const char *at = labels; *at && len + 1 < sizeof names;) {
        while (*at && *at != '=' && len + 1 < sizeof names) names[len++] = *at++;
        for (at += at[0] && at[1] ? 2 : 0; *at && *at != '"'; at++) at += *at == '\\' && at[1];
        at += *at == '"';
    }
    names[len] = '\0';
    if (strlen(names) > strlen(f->labels)) memcpy(f->labels, names, len + 1);
}

static void list_value(void *self, const char *name, const char *labels, double value)
{
    list *l = self;
    (void)name;
    (void)value;
    note_labels(&l->family, labels);
    l->family.series_count++;
}

static void list_histogram(void *self, const char *name, const char *labels,
                           const cn_metrics_shown_histogram *histogram)
{
    list *l = self;
    (void)name;
    note_labels(&l->family, labels);
    l->family.series_count += histogram->edges->count + 3;      // +Inf, _sum and _count
}

static int print_list(bool json, bool vllm)
{
    list l = {.json = json};
    cn_metrics *metrics = malloc(sizeof *metrics);
    if (!metrics) {
        fputs("cairn: no memory\n", stderr);
        return CN_EXIT_FAILED;
    }
    cn_metrics_init(metrics);
    cn_buf_init(&l.out, TEXT_BYTES_MAX);
    const cn_metrics_source source = {metrics, "", true};
    const cn_metrics_sink sink = {list_family, list_value, list_histogram, &l};
    if (vllm) cn_metrics_catalogue_show_vllm(&source, &sink);
    else cn_metrics_catalogue_show(&source, &sink);
    end_family(&l);
    if (json) cn_buf_add_text(&l.out, "]\n");
    fwrite(l.out.data, 1, l.out.len, stdout);
    cn_buf_close(&l.out);
    free(metrics);
    return CN_EXIT_OK;
}

static int print_page(const cn_client *client, bool vllm)
{
    cn_buf text;
    cn_err err;
    cn_buf_init(&text, TEXT_BYTES_MAX);
    const cn_code code = cn_client_request(client, "GET", vllm ? "/metrics?names=vllm" : "/metrics",
                                           NULL, 0, &text, &err);
    if (code == CN_OK) fwrite(text.data, 1, text.len, stdout);
    else cn_cli_complain(&err);
    cn_buf_close(&text);
    return code == CN_OK ? CN_EXIT_OK : CN_EXIT_FAILED;
}

int cn_metrics_run(int argc, char **argv)
{
    cn_client client = {.command = "cairn metrics",
                        .flags = {{"--list", false, NULL}, {"--json", false, NULL},
                                  {"--names", true, NULL}},
                        .flag_count = 3};
    if (!cn_client_read(&client, argc, argv)) return CN_EXIT_USAGE;
    const char *names = cn_client_flag_value(&client, "--names");
    const bool vllm = names && strcmp(names, "vllm") == 0;
    const bool lists = cn_client_flag_value(&client, "--list");
    const bool json = cn_client_flag_value(&client, "--json");
    if (client.help) {
        print_help();
        return CN_EXIT_OK;
    }
    if (names && !vllm && strcmp(names, "cairn") != 0) {
        fprintf(stderr, "cairn: --names: %.60s; must be cairn or vllm\n", names);
        return CN_EXIT_USAGE;
    }
    if (json && !lists) {
        fputs("cairn: --json: goes with --list; the server's own text is what Prometheus reads\n", stderr);
        return CN_EXIT_USAGE;
    }
    return lists ? print_list(json, vllm) : print_page(&client, vllm);
}
