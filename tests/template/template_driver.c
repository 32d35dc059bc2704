/* tests/template/template_driver.c: renders templates for the tests in Python.
 * Reads requests from stdin and answers on stdout; each is a JSON text behind its length, 4 bytes,
 * little-endian.
 *
 *    {"template": "...", "variables": {...}, "now_s": 0, "steps": 5000000, "depth": 64,
 *     "output_bytes": 1048576, "memory_bytes": 67108864, "repeat": 1}      all but template
 * optional
 *    {"code": "OK", "text": "..."} or {"code": "E_INVALID", "error": "..."}
 *    with repeat above 1 also "render_ns": the fastest of the renders */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "model/template.h"

enum { REQUEST_BYTES_MAX = 64 << 20 };

static json_t *read_request(void)
{
    unsigned char prefix[4];
    if (fread(prefix, 1, sizeof prefix, stdin) != sizeof prefix) return NULL;
    const size_t len = prefix[0] | (size_t)prefix[1] << 8 | (size_t)prefix[2] << 16 |
                       (size_t)prefix[3] << 24;
    char *text = len <= REQUEST_BYTES_MAX ? malloc(len + 1) : NULL;
    json_t *request = NULL;
    json_error_t error;
    if (text && fread(text, 1, len, stdin) == len) {
        request = json_loadb(text, len, JSON_ALLOW_NUL, &error);
        if (!request) fprintf(stderr, "template_driver: %s\n", error.text);
    }
    free(text);
    return request;
}

static void write_answer(json_t *answer)
{
    char *text = json_dumps(answer, JSON_COMPACT);
    const size_t len = strlen(text);
    const unsigned char prefix[4] = {(unsigned char)len, (unsigned char)(len >> 8),
                                     (unsigned char)(len >> 16), (unsigned char)(len >> 24)};
    fwrite(prefix, 1, sizeof prefix, stdout);
    fwrite(text, 1, len, stdout);
    fflush(stdout);
    free(text);
    json_decref(answer);
}

static json_int_t option(const json_t *request, const char *key, json_int_t absent)
{
    const json_t *value = json_object_get(request, key);
    return json_is_integer(value) ? json_integer_value(value) : absent;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static json_t *failed(const cn_err *err)
{
    return json_pack("{s:s, s:s}", "code", cn_err_info(err->code)->name, "error", err->text);
}

static json_t *render(const cn_template *tmpl, const json_t *request)
{
    cn_arena arena;
    cn_buf out;
    cn_err err = {0};
    uint64_t fastest = UINT64_MAX;
    json_t *none = json_object();
    const json_t *variables = json_object_get(request, "variables");
    const cn_template_limits limits = {
        .steps_max = (uint64_t)option(request, "steps", 5000000),
        .depth_max = (uint32_t)option(request, "depth", 64),
        .now_s = option(request, "now_s", 0),
    };
    const json_int_t repeat = option(request, "repeat", 1);
    cn_code code = CN_OK;
    cn_arena_init(&arena, (uint64_t)option(request, "memory_bytes", 67108864));
    cn_buf_init(&out, (size_t)option(request, "output_bytes", 1048576));
    for (json_int_t i = 0; i < repeat && code == CN_OK; i++) {
        cn_buf_clear(&out);
        cn_arena_reset(&arena);
        const uint64_t start = now_ns();
        code = cn_template_render(tmpl, variables ? variables : none, &limits, &arena, &out, &err);
        const uint64_t took = now_ns() - start;
        if (took < fastest) fastest = took;
    }
    json_t *answer = code == CN_OK ? json_pack("{s:s, s:s%}", "code", "OK", "text",
                                               out.len ? out.data : "", out.len)
                                   : failed(&err);
    if (repeat > 1) json_object_set_new(answer, "render_ns", json_integer((json_int_t)fastest));
    cn_buf_close(&out);
    cn_arena_close(&arena);
    json_decref(none);
    return answer;
}

static json_t *answer_to(const json_t *request)
{
    cn_template *tmpl = NULL;
    cn_err err = {0};
    const json_t *text = json_object_get(request, "template");
    if (!json_is_string(text)) {
        cn_err_set(&err, CN_E_INVALID, "the request has no template");
        return failed(&err);
    }
    if (cn_template_open("test", json_string_value(text), json_string_length(text), &tmpl, &err)) {
        return failed(&err);
    }
    json_t *answer = render(tmpl, request);
    cn_template_close(tmpl);
    return answer;
}

int main(void)
{
    json_t *request;
    while ((request = read_request())) {
        json_t *answer = answer_to(request);
        if (!answer) {
            cn_err err = {0};
            cn_err_set(&err, CN_E_INTERNAL, "the answer cannot be written as JSON");
            answer = failed(&err);
        }
        write_answer(answer);
        json_decref(request);
    }
    return 0;
}
