#include "appliance/redact.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

enum { SECRET_BYTES_MIN = 4 };

static const char REDACTED[] = "[redacted]";

// Names whose value is never shown, in logfmt (name=value), YAML (name: value) and JSON ("name": value).
static const char *const names[] = {
    "password", "passwd", "secret", "token",  "authorization", "api_key", "apikey", "requirepass", "masterauth",
    "prompt",   "prompts", "content", "answer", "messages", "input", "instructions", "cookie"};

void cn_redact_add(cn_redact *r, const char *secret)
{
    if (!secret || strlen(secret) < SECRET_BYTES_MIN || r->count == CN_REDACT_SECRETS_MAX) return;
    r->secrets[r->count++] = secret;
}

// A dot as well: limits.prompts is no prompt.
static bool is_word(char c) { return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '.'; }

// Length of the known secret that begins here; 0: none.
static size_t known(const cn_redact *r, const char *at, const char *end)
{
    size_t longest = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        const size_t len = strlen(r->secrets[i]);
        if (len > longest && len <= (size_t)(end - at) && memcmp(at, r->secrets[i], len) == 0) longest = len;
    }
    return longest;
}

// Behind the quote that ends what begins with one.
static const char *quoted_end(const char *at, const char *end)
{
    for (at++; at < end && *at != '"'; at++) at += *at == '\\' && at + 1 < end;
    return at < end ? at + 1 : end;
}

// End of a value: of a quoted one with its quotes, of a list or object, or up to a blank.
static const char *value_end(const char *at, const char *end)
{
    int depth = 0;
    if (at < end && *at == '"') return quoted_end(at, end);
    if (at < end && (*at == '[' || *at == '{')) {
        do {
            if (*at == '[' || *at == '{') depth++;
            else if (*at == ']' || *at == '}') depth--;
            at = *at == '"' ? quoted_end(at, end) : at + 1;
        } while (depth > 0 && at < end);
        return at;
    }
    if ((size_t)(end - at) > 7 && strncasecmp(at, "Bearer ", 7) == 0) at += 7;
    while (at < end && !isspace((unsigned char)*at) && *at != ',' && *at != '}') at++;
    return at;
}

/* Where the value begins of a name that begins at `at` and says that it is secret; NULL: none does. */
static const char *named_value(const char *at, const char *end)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const size_t len = strlen(names[i]);
        if ((size_t)(end - at) <= len || strncasecmp(at, names[i], len) != 0) continue;
        const char *v = at + len;
        if (v < end && *v == '"') v++;
        while (v < end && *v == ' ') v++;
        const bool is_command = strcmp(names[i], "requirepass") == 0 || strcmp(names[i], "masterauth") == 0;
        if (v < end && (*v == '=' || *v == ':')) v++;
        else if (!is_command || v == at + len) continue;
        while (v < end && *v == ' ') v++;
        return v < end && *v != '\n' ? v : NULL;
    }
    return NULL;
}

// What looks like a secret and begins here: "Bearer xyz", "sk-...". The end; NULL: nothing does.
static const char *looks_secret(const char *at, const char *end, const char **begin)
{
    *begin = at;
    if ((size_t)(end - at) > 7 && strncasecmp(at, "Bearer ", 7) == 0) {
        *begin = at + 7;
        return value_end(at + 7, end);
    }
    if ((size_t)(end - at) < 8 || strncmp(at, "sk-", 3) != 0) return NULL;
    while (at < end && is_word(*at)) at++;
    return at - *begin >= 8 ? at : NULL;
}

// "://user:password@host": the end of the password, *begin is its start.
static const char *url_password(const char *at, const char *end, const char **begin)
{
    if (end - at < 5 || memcmp(at, "://", 3) != 0) return NULL;
    const char *colon = NULL;
    for (at += 3; at < end && !isspace((unsigned char)*at) && *at != '/' && *at != '"'; at++) {
        if (*at == ':' && !colon) colon = at;
        if (*at != '@') continue;
        *begin = colon ? colon + 1 : at;
        return colon ? at : NULL;
    }
    return NULL;
}

void cn_redact_write(const cn_redact *r, const char *text, size_t len, cn_buf *out)
{
    const char *end = text + len, *at = text;
    while (at < end) {
        const bool begins_word = at == text || !is_word(at[-1]);
        const size_t secret = known(r, at, end);
        const char *begin = at, *stop = NULL;
        if (secret) stop = at + secret;
        if (!stop) stop = url_password(at, end, &begin);
        if (!stop && begins_word) stop = looks_secret(at, end, &begin);
        if (!stop && begins_word && (begin = named_value(at, end))) stop = value_end(begin, end);
        if (!stop) {
            cn_buf_add_char(out, *at++);
            continue;
        }
        cn_buf_add(out, at, (size_t)(begin - at));
        cn_buf_add_text(out, REDACTED);
        at = stop;
    }
}
