#include "appliance/metrics_page.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "appliance/metrics_protobuf.h"
#include "appliance/metrics_text.h"
#include "dataplane/route.h"

enum { NAMES_BYTES = 64, PARAMETER_BYTES = 80 };

static const char *const content_types[] = {
    [CN_METRICS_FORMAT_TEXT] = "text/plain; version=0.0.4; charset=utf-8",
    [CN_METRICS_FORMAT_OPENMETRICS] = "application/openmetrics-text; version=1.0.0; charset=utf-8",
    [CN_METRICS_FORMAT_PROTOBUF] = ("application/vnd.google.protobuf; "
                                    "proto=io.prometheus.client.MetricFamily; encoding=delimited")};

// ---- Accept

/* The value of a parameter of one choice of Accept (`type; name=value; ...`); false if it has none. */
static bool parameter(const char *choice, size_t len, const char *name, char out[PARAMETER_BYTES])
{
    const size_t name_len = strlen(name);
    const char *const end = choice + len;
    for (const char *at = memchr(choice, ';', len); at; at = memchr(at, ';', (size_t)(end - at))) {
        at++;
        while (at < end && strchr(" \t", *at)) at++;
        const size_t room = (size_t)(end - at);
        if (room <= name_len || at[name_len] != '=' || strncasecmp(at, name, name_len) != 0) continue;
        at += name_len + 1;
        size_t value_len = 0;
        while (at + value_len < end && !strchr("; \t", at[value_len])) value_len++;
        if (value_len >= 2 && at[0] == '"' && at[value_len - 1] == '"') {
            at++;
            value_len -= 2;
        }
        if (value_len >= PARAMETER_BYTES) return false;
        memcpy(out, at, value_len);
        out[value_len] = '\0';
        return true;
    }
    return false;
}

static bool parameter_is(const char *choice, size_t len, const char *name, const char *wanted)
{
    char value[PARAMETER_BYTES];
    return parameter(choice, len, name, value) && strcasecmp(value, wanted) == 0;
}

static bool has_type(const char *choice, size_t len, const char *type)
{
    const size_t type_len = strlen(type);
    return len >= type_len && strncasecmp(choice, type, type_len) == 0 &&
           (len == type_len || strchr("; \t", choice[type_len]));
}

// Whether Cairn writes what a choice asks for, and if so as what.
static bool choice_format(const char *choice, size_t len, cn_metrics_format *out)
{
    char version[PARAMETER_BYTES];
    const bool versioned = parameter(choice, len, "version", version);
    if (has_type(choice, len, "application/vnd.google.protobuf")) {
        *out = CN_METRICS_FORMAT_PROTOBUF;
        return parameter_is(choice, len, "proto", "io.prometheus.client.MetricFamily") &&
               parameter_is(choice, len, "encoding", "delimited");
    }
    if (has_type(choice, len, "application/openmetrics-text")) {
        *out = CN_METRICS_FORMAT_OPENMETRICS;
        return !versioned || strcmp(version, "1.0.0") == 0;
    }
    *out = CN_METRICS_FORMAT_TEXT;
    if (has_type(choice, len, "text/plain")) return !versioned || strcmp(version, "0.0.4") == 0;
    return has_type(choice, len, "text/*") || has_type(choice, len, "*/*");
}

cn_metrics_format cn_metrics_page_format(const char *accept)
{
    cn_metrics_format best = CN_METRICS_FORMAT_TEXT, format;
    double best_q = 0;
    for (const char *at = accept ? accept : ""; *at;) {
        at += strspn(at, ", \t");
        const size_t len = strcspn(at, ",");
        char text[PARAMETER_BYTES];
        const double q = parameter(at, len, "q", text) ? strtod(text, NULL) : 1;
        if (q > best_q && choice_format(at, len, &format)) {
            best = format;
            best_q = q;
        }
        at += len;
    }
    return best;
}

// ---- the page

static void show(const cn_metrics_source *source, bool vllm, const cn_metrics_sink *sink)
{
    if (vllm) cn_metrics_catalogue_show_vllm(source, sink);
    else cn_metrics_catalogue_show(source, sink);
}

cn_code cn_metrics_page_write(const cn_metrics_source *source, const char *accept, const char *query,
                              cn_buf *out, const char **content_type, cn_err *err)
{
    char names[NAMES_BYTES] = "cairn";
    cn_route_query(query, "names", names, sizeof names);
    const bool vllm = strcmp(names, "vllm") == 0;
    if (!vllm && strcmp(names, "cairn") != 0) {
        return cn_err_set_param(err, CN_E_INVALID, "names", "names: \"%s\"; must be cairn or vllm",
                                names);
    }
    const cn_metrics_format format = cn_metrics_page_format(accept);
    *content_type = content_types[format];
    if (format == CN_METRICS_FORMAT_PROTOBUF) {
        cn_metrics_protobuf protobuf;
        const cn_metrics_sink sink = cn_metrics_protobuf_sink(&protobuf, out);
        show(source, vllm, &sink);
        cn_metrics_protobuf_end(&protobuf);
    } else {
        cn_metrics_text text = {out, format == CN_METRICS_FORMAT_TEXT ? CN_METRICS_PROMETHEUS
                                                                      : CN_METRICS_OPENMETRICS};
        const cn_metrics_sink sink = cn_metrics_text_sink(&text);
        show(source, vllm, &sink);
        cn_metrics_text_end(&text);
    }
    return CN_OK;
}
