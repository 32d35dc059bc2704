#include "appliance/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "appliance/http_client.h"
#include "appliance/nearest.h"

static bool refuse_flag(const cn_client *client, const char *flag)
{
    const char *names[CN_CLIENT_FLAGS_MAX + 3] = {"--url", "--api_key", "--help"};
    for (int i = 0; i < client->flag_count; i++) names[3 + i] = client->flags[i].name;
    const char *nearest = cn_nearest_find(flag, names, (uint32_t)client->flag_count + 3);
    fprintf(stderr, "cairn: unknown argument %.60s; %s%s", flag, nearest ? "is this meant: " : "",
            nearest ? nearest : "");
    if (!nearest) fprintf(stderr, "`%s --help` lists them", client->command);
    fputc('\n', stderr);
    return false;
}

// One flag at argv[*i]; *i moves on if its value stands apart.
static bool read_flag(cn_client *client, int argc, char **argv, int *i)
{
    const char *word = argv[*i];
    const size_t len = strcspn(word, "=");
    cn_client_flag known[] = {
        {"--url", true, NULL}, {"--api_key", true, NULL}, {"--help", false, NULL}};
    cn_client_flag *flag = NULL;
    for (int n = 0; n < 3 + client->flag_count; n++) {
        cn_client_flag *f = n < 3 ? &known[n] : &client->flags[n - 3];
        if (strlen(f->name) == len && strncmp(f->name, word, len) == 0) flag = f;
    }
    if (!flag) return refuse_flag(client, word);
    if (!flag->takes_value && word[len]) {
        fprintf(stderr, "cairn: %s: takes no value\n", flag->name);
        return false;
    }
    if (!flag->takes_value) flag->value = "";
    else if (word[len]) flag->value = word + len + 1;
    else if (*i + 1 < argc) flag->value = argv[++*i];
    else {
        fprintf(stderr, "cairn: %s: needs a value, as in %s VALUE\n", flag->name, flag->name);
        return false;
    }
    if (known[0].value) client->url = known[0].value;
    if (known[1].value) client->api_key = known[1].value;
    client->help |= known[2].value != NULL;
    return true;
}

bool cn_client_read(cn_client *client, int argc, char **argv)
{
    client->url = "http://127.0.0.1:8000";
    client->api_key = getenv("CAIRN_API_KEY");
    client->word_count = 0;
    client->help = false;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) == 0) {
            if (!read_flag(client, argc, argv, &i)) return false;
        } else if (client->word_count == client->words_max) {
            fprintf(stderr, "cairn: unexpected argument %.80s; `%s --help` says what is\n", argv[i],
                    client->command);
            return false;
        } else client->words[client->word_count++] = argv[i];
    }
    if (client->help || client->word_count >= client->words_min) return true;
    fprintf(stderr, "cairn: %s: needs an id; `%s --help` says which\n", client->command,
            client->command);
    return false;
}

const char *cn_client_flag_value(const cn_client *client, const char *name)
{
    for (int i = 0; i < client->flag_count; i++) {
        if (strcmp(client->flags[i].name, name) == 0) return client->flags[i].value;
    }
    return NULL;
}

// ---- requests

static bool keep_piece(void *self, unsigned status, const char *data, size_t len)
{
    (void)status;
    cn_buf *out = self;
    cn_buf_add(out, data, len);
    return !out->overflowed;
}

static cn_code refused(unsigned status, const char *body, size_t len, cn_err *err)
{
    json_t *answer = json_loadb(body ? body : "", len, 0, NULL);
    const json_t *message = json_object_get(json_object_get(answer, "error"), "message");
    cn_err_set(err, CN_E_HTTP, "the server answers %u: %s", status,
               json_is_string(message) ? json_string_value(message) : "(no reason given)");
    json_decref(answer);
    return CN_E_HTTP;
}

cn_code cn_client_request(const cn_client *client, const char *method, const char *path,
                          const char *body, size_t body_len, cn_buf *out, cn_err *err)
{
    char url[600];
    unsigned status = 0;
    const size_t before = out->len;
    snprintf(url, sizeof url, "%s%s", client->url, path);
    const cn_http_client_call call = {url, client->api_key, method, body, body_len};
    const cn_code code = cn_http_client_request(&call, keep_piece, out, &status, err);
    if (code != CN_OK) return code;
    if (out->overflowed) {
        return cn_err_set(err, CN_E_LIMIT, "the answer is longer than %zu bytes", out->bytes_max);
    }
    if (status == 200) return CN_OK;
    refused(status, out->data + before, out->len - before, err);
    out->len = before;
    return CN_E_HTTP;
}

json_t *cn_client_json(const cn_client *client, const char *method, const char *path,
                       const json_t *body, cn_err *err)
{
    json_error_t why;
    json_t *parsed = NULL;
    cn_buf out;
    cn_buf_init(&out, CN_CLIENT_ANSWER_BYTES_MAX);
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    const size_t len = text ? strlen(text) : 0;
    const cn_code code = cn_client_request(client, method, path, text, len, &out, err);
    free(text);
    if (code == CN_OK) {
        parsed = json_loadb(out.data ? out.data : "", out.len, JSON_ALLOW_NUL, &why);
        if (!parsed) cn_err_set(err, CN_E_SYNTAX, "the server's answer is no JSON: %s", why.text);
    }
    cn_buf_close(&out);
    return parsed;
}

void cn_client_print(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const unsigned char byte = (unsigned char)text[i];
        const bool is_plain = (byte >= 0x20 && byte != 0x7F) || byte == '\n' || byte == '\t';
        putchar(is_plain ? byte : ' ');
    }
}
