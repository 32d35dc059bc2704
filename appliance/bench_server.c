#include "appliance/bench_int.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "appliance/http_client.h"

static bool collect(void *self, unsigned status, const char *data, size_t len)
{
    (void)status;
    cn_buf_add(self, data, len);
    return cn_bench_stop == 0;
}

// A GET, or a POST of `json`; the body of the answer in *out.
static cn_code ask(const cn_settings *settings, const char *path, const char *json,
                   unsigned *status, cn_buf *out, cn_err *err)
{
    char url[512];
    size_t len = strlen(settings->url);
    while (len > 0 && settings->url[len - 1] == '/') len--;
    snprintf(url, sizeof url, "%.*s%s", (int)len, settings->url, path);
    cn_buf_clear(out);
    const cn_http_client_call call = {url, getenv("CAIRN_API_KEY"), json ? "POST" : "GET", json,
                                      json ? strlen(json) : 0};
    return cn_http_client_request(&call, collect, out, status, err);
}

// The string `key` of an object, copied.
static bool copy_member(const json_t *object, const char *key, char *out, size_t size)
{
    const char *value = json_string_value(json_object_get(object, key));
    if (!value || strlen(value) >= size) return false;
    snprintf(out, size, "%s", value);
    return true;
}

cn_code cn_bench_find_model(const cn_settings *settings, char model[256], cn_err *err)
{
    cn_buf text;
    unsigned status = 0;
    cn_buf_init(&text, 1 << 20);
    cn_code code = ask(settings, "/v1/models", NULL, &status, &text, err);
    json_t *root = code == CN_OK ? json_loadb(text.data ? text.data : "", text.len, 0, NULL) : NULL;
    const json_t *first = json_array_get(json_object_get(root, "data"), 0);
    if (code == CN_OK && (status != 200 || !copy_member(first, "id", model, 256))) {
        code = cn_err_set(err, CN_E_SYNTAX,
                          "%s/v1/models: status %u and no model; name one with --model",
                          settings->url, status);
    }
    json_decref(root);
    cn_buf_close(&text);
    return code;
}

cn_code cn_bench_create_conversations(const cn_settings *settings, uint32_t count, char (**out)[80],
                                      cn_err *err)
{
    cn_buf text;
    cn_code code = CN_OK;
    *out = calloc(count, sizeof **out);
    if (!*out) return cn_err_set(err, CN_E_MEMORY, "no memory for %u conversations", count);
    cn_buf_init(&text, 1 << 20);
    for (uint32_t i = 0; i < count && code == CN_OK; i++) {
        unsigned status = 0;
        code = ask(settings, "/v1/conversations", "{}", &status, &text, err);
        json_t *root =
            code == CN_OK ? json_loadb(text.data ? text.data : "", text.len, 0, NULL) : NULL;
        if (code == CN_OK && (status != 200 || !copy_member(root, "id", (*out)[i], sizeof **out))) {
            code = cn_err_set(err, CN_E_UNSUPPORTED, "%s/v1/conversations: status %u; --history "
                              "conversation needs a server that keeps conversations", settings->url,
                              status);
        }
        json_decref(root);
    }
    cn_buf_close(&text);
    return code;
}

void cn_bench_scrape(const cn_settings *settings, cn_buf *out)
{
    unsigned status = 0;
    if (ask(settings, "/metrics", NULL, &status, out, NULL) != CN_OK || status != 200) {
        cn_buf_clear(out);
    }
}

double cn_bench_metric(const cn_buf *text, const char *series)
{
    const size_t len = strlen(series);
    double sum = 0;
    bool found = false;
    for (size_t at = 0; at < text->len;) {
        const char *line = text->data + at;
        const char *end = memchr(line, '\n', text->len - at);
        const size_t line_len = end ? (size_t)(end - line) : text->len - at;
        if (line_len > len && memcmp(line, series, len) == 0 && strchr(" {", line[len])) {
            const char *value = memrchr(line, ' ', line_len);
            char number[64];
            snprintf(number, sizeof number, "%.*s", (int)(line_len - (size_t)(value - line)),
                     value);
            sum += strtod(number, NULL);
            found = true;
        }
        at += line_len + 1;
    }
    return found ? sum : -1;
}

// The series and value of one line of a page of metrics; false for comments and what is no counter.
static bool read_counter(const char *line, size_t len, char series[256], double *value)
{
    const char *space = len > 0 && line[0] != '#' ? memrchr(line, ' ', len) : NULL;
    char number[64];
    if (!space || (size_t)(space - line) >= 256) return false;
    snprintf(series, 256, "%.*s", (int)(space - line), line);
    snprintf(number, sizeof number, "%.*s", (int)(len - (size_t)(space - line)), space);
    *value = strtod(number, NULL);
    const size_t name_len = strcspn(series, "{");
    static const char *const ends[] = {"_total", "_sum", "_count"};
    for (int i = 0; i < 3; i++) {
        const size_t end_len = strlen(ends[i]);
        if (name_len > end_len && memcmp(series + name_len - end_len, ends[i], end_len) == 0)
            return true;
    }
    return false;
}

void cn_bench_metrics_gain(const cn_buf *before, const cn_buf *after, cn_buf *out)
{
    const char *comma = "{";
    for (size_t at = 0; at < after->len;) {
        const char *line = after->data + at;
        const char *end = memchr(line, '\n', after->len - at);
        const size_t len = end ? (size_t)(end - line) : after->len - at;
        char series[256];
        double now;
        at += len + 1;
        if (!read_counter(line, len, series, &now)) continue;
        const double then = cn_bench_metric(before, series);
        if (now == fmax(0, then)) continue;
        cn_buf_add_text(out, comma);
        cn_buf_add_json(out, series, strlen(series));
        cn_buf_add_format(out, ":%.10g", now - fmax(0, then));
        comma = ",";
    }
    if (out->len > 0) cn_buf_add_char(out, '}');
}

cn_code cn_bench_read_file(const char *path, cn_buf *out, cn_err *err)
{
    FILE *file = fopen(path, "rb");
    if (!file) return cn_err_set(err, CN_E_IO, "%s: %s", path, strerror(errno));
    size_t n;
    do {
        char *at = cn_buf_reserve(out, 65536);
        n = at ? fread(at, 1, 65536, file) : 0;
        cn_buf_advance(out, n);
    } while (n > 0);
    const bool broken = ferror(file) != 0;
    fclose(file);
    if (broken || out->overflowed) {
        return cn_err_set(err, CN_E_IO, "%s: cannot be read, or is above 1 GiB", path);
    }
    return CN_OK;
}

cn_code cn_bench_write_file(const char *path, const cn_buf *text, cn_err *err)
{
    if (text->overflowed)
        return cn_err_set(err, CN_E_MEMORY, "%s: above 1 GiB, or no memory", path);
    FILE *file = fopen(path, "wb");
    const bool written = file && fwrite(text->data, 1, text->len, file) == text->len;
    const int reason = errno;
    const bool closed = file && fclose(file) == 0;
    if (written && closed) return CN_OK;
    return cn_err_set(err, CN_E_IO, "%s: %s", path, strerror(reason));
}
