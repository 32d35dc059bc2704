#include "appliance/key.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>
#include <sodium.h>

#include "appliance/cli.h"
#include "appliance/keys.h"
#include "appliance/nearest.h"
#include "base/random.h"

/* How it works. The file is the truth, and whoever edits it by hand keeps every line as it was: a key
 * is made by adding a line, and revoked by taking its line out. The new text is checked as a server
 * would read it, written beside the file and renamed over it, so a server never sees half of it. Two
 * commands at once wait for each other at a lock on the directory, since the file itself is replaced.
 *
 * Only the hash of a key is written. A key has 256 random bits, so its hash needs neither salt nor
 * time: guessing is hopeless. */

enum { KEY_BYTES = 32, KEY_TEXT_BYTES = 64, PATH_BYTES = 4096 };

static const char key_prefix[] = "ck-";

typedef struct job {
    const char *word, *name;     // "new", and the key's name
    const char *path, *tenant, *scopes, *note;
    const char *requests_per_minute, *tokens_per_minute, *concurrent;
    const char *config;
    bool json, help;
    cn_config_settings settings; // for api_keys_file
    int lock;                    // descriptor of the directory; -1: none
    char *text;                  // of the file
    size_t len;
    cn_key_file *keys;           // what stands in it
} job;

static int fail(const cn_err *err)
{
    fprintf(stderr, "cairn: %s\n", err->text);
    return err->code == CN_E_INVALID ? CN_EXIT_USAGE : CN_EXIT_FAILED;
}

static void print_help(void)
{
    puts("usage: cairn key new NAME --tenant TENANT [--scopes inference,conversations]\n"
         "                 [--requests_per_minute N] [--tokens_per_minute N] [--concurrent N]\n"
         "                 [--note TEXT] [FILE] [--json]\n"
         "       cairn key ls [FILE] [--json]\n"
         "       cairn key revoke NAME [FILE]\n\n"
         "new prints the key, once: the file keeps its hash alone. A server that runs sees the\n"
         "change within a second. FILE is --api_keys_file PATH, or what --config PATH or\n"
         "CAIRN_API_KEYS_FILE say. Scopes: inference, conversations, metrics, admin.\n\n"
         "Limits that a tenant's keys share stand in a line of its own in the file:\n"
         "{\"tenant\": \"acme\", \"weight\": 2, \"concurrent\": 16}. It may have requests_per_minute,\n"
         "tokens_per_minute, concurrent and weight. The tenant \"*\" stands for\n"
         "all that have no line.");
}

// ---- the command line

static cn_code read_flag(job *j, int argc, char **argv, int *i, cn_err *err)
{
    static const char *const names[] = {"--api_keys_file", "--config", "--tenant", "--scopes",
        "--note", "--requests_per_minute", "--tokens_per_minute", "--concurrent", "--json",
        "--help"};
    const char **const values[] = {&j->path, &j->config, &j->tenant, &j->scopes, &j->note,
        &j->requests_per_minute, &j->tokens_per_minute, &j->concurrent};
    const char *word = argv[*i];
    const size_t len = strcspn(word, "=");
    if (strcmp(word, "--json") == 0) j->json = true;
    else if (strcmp(word, "--help") == 0) j->help = true;
    else {
        for (size_t f = 0; f < sizeof values / sizeof values[0]; f++) {
            if (strlen(names[f]) != len || strncmp(names[f], word, len) != 0) continue;
            const bool stands_apart = *i + 1 < argc && strncmp(argv[*i + 1], "--", 2) != 0;
            *values[f] = word[len] ? word + len + 1 : stands_apart ? argv[++*i] : NULL;
            if (*values[f]) return CN_OK;
            return cn_err_set(err, CN_E_INVALID, "%s: needs a value, as in %s VALUE", word, word);
        }
        const char *nearest = cn_nearest_find(word, names, sizeof names / sizeof names[0]);
        return cn_err_set(err, CN_E_INVALID, "unknown argument %.60s; %s%s", word,
                          nearest ? "is this meant: " : "`cairn key --help` lists them",
                          nearest ? nearest : "");
    }
    return CN_OK;
}

static cn_code read_words(job *j, int argc, char **argv, cn_err *err)
{
    for (int i = 0; i < argc; i++) {
        const char **to = !j->word ? &j->word : !j->name ? &j->name : NULL;
        if (strncmp(argv[i], "--", 2) == 0) {
            const cn_code code = read_flag(j, argc, argv, &i, err);
            if (code != CN_OK) return code;
        } else if (to) {
            *to = argv[i];
        } else {
            return cn_err_set(err, CN_E_INVALID, "unexpected argument %.80s", argv[i]);
        }
    }
    return CN_OK;
}

static cn_code find_path(job *j, cn_err *err)
{
    cn_code code = cn_config_open(&j->settings, err);
    if (code == CN_OK && j->config) code = cn_config_read_file(&j->settings, j->config, err);
    if (code == CN_OK) code = cn_config_read_environment(&j->settings, environ, err);
    if (code != CN_OK) return code;
    if (!j->path) j->path = j->settings.api_keys_file;
    if (j->path[0] && strlen(j->path) < PATH_BYTES - 8) return CN_OK;
    return cn_err_set(err, CN_E_INVALID, "api_keys_file: is not given; must be the path of the keys "
                      "file (--api_keys_file PATH)");
}

// ---- the file

static cn_code refuse_file(const char *path, cn_err *err)
{
    return cn_err_set(err, CN_E_IO, "%.300s: %s", path, strerror(errno));
}

static cn_code lock_directory(job *j, cn_err *err)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s", j->path);
    const char *directory = dirname(path);
    j->lock = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (j->lock < 0 || flock(j->lock, LOCK_EX) != 0) return refuse_file(directory, err);
    return CN_OK;
}

// Reads the file; one that is not there is an empty one for `new`.
static cn_code read_keys(job *j, bool may_be_absent, cn_err *err)
{
    cn_code code = cn_key_file_open(&j->keys, err);
    if (code != CN_OK || (may_be_absent && access(j->path, F_OK) != 0)) return code;
    code = cn_keys_load(j->path, &j->text, &j->len, err);
    return code == CN_OK ? cn_key_file_read(j->keys, j->text, j->len, j->path, err) : code;
}

static cn_code write_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        const ssize_t n = write(fd, text, len);
        if (n < 0) return CN_E_IO;
        text += n;
        len -= (size_t)n;
    }
    return fsync(fd) == 0 ? CN_OK : CN_E_IO;
}

/* Replaces the file by `text`, for its owner's eyes. The server may run as another user, whose file
 * it stays. */
static cn_code replace_file(const job *j, const char *text, size_t len, cn_err *err)
{
    char path[PATH_BYTES];
    struct stat before;
    snprintf(path, sizeof path, "%s.new", j->path);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return refuse_file(path, err);
    cn_code code = fchmod(fd, 0600) == 0 ? write_all(fd, text, len) : CN_E_IO;
    if (code == CN_OK && stat(j->path, &before) == 0 &&
        (before.st_uid != geteuid() || before.st_gid != getegid()) &&
        fchown(fd, before.st_uid, before.st_gid) != 0) {
        code = CN_E_IO;
    }
    if (code == CN_OK && rename(path, j->path) != 0) code = CN_E_IO;
    if (code != CN_OK) refuse_file(path, err);
    close(fd);
    if (code == CN_OK) (void)fsync(j->lock);     // the name as well
    else unlink(path);
    return code;
}

// ---- new

static cn_code add_number(json_t *line, const char *member, const char *text, cn_err *err)
{
    char *end;
    if (!text) return CN_OK;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (errno || *end || end == text || value < 1) {
        return cn_err_set(err, CN_E_INVALID, "--%s: %.40s; must be a whole number from 1 on", member,
                          text);
    }
    json_object_set_new(line, member, json_integer(value));
    return CN_OK;
}

static cn_code add_scopes(json_t *line, const char *text, cn_err *err)
{
    json_t *list = json_array();
    json_object_set_new(line, "scopes", list);
    for (const char *at = text; *at;) {
        char name[32];
        const size_t len = strcspn(at, ",");
        snprintf(name, sizeof name, "%.*s", (int)(len < 31 ? len : 31), at);
        if (!cn_key_file_scope(name)) {
            return cn_err_set(err, CN_E_INVALID, "--scopes: %s; must be a list of: inference, "
                              "conversations, metrics, admin", name);
        }
        json_array_append_new(list, json_string(name));
        at += len + (at[len] == ',');
    }
    return CN_OK;
}

static void make_key(char key[KEY_TEXT_BYTES], char hash[96])
{
    uint8_t bytes[KEY_BYTES], digest[CN_KEY_FILE_HASH_BYTES];
    char hex[2 * CN_KEY_FILE_HASH_BYTES + 1];
    const cn_random random = cn_random_system();
    cn_random_fill(&random, bytes, sizeof bytes);
    memcpy(key, key_prefix, sizeof key_prefix);
    sodium_bin2base64(key + sizeof key_prefix - 1, KEY_TEXT_BYTES - sizeof key_prefix, bytes,
                      sizeof bytes, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    cn_key_file_hash(key, strlen(key), digest);
    sodium_bin2hex(hex, sizeof hex, digest, sizeof digest);
    snprintf(hash, 96, "blake2b-256:%s", hex);
    sodium_memzero(bytes, sizeof bytes);
}

static cn_code make_line(const job *j, const char *hash, char **out, cn_err *err)
{
    char day[16];
    struct tm parts;
    const cn_clock clock = cn_clock_system();
    const time_t now = (time_t)(cn_clock_wall_ns(&clock) / 1000000000u);
    json_t *line = json_pack("{s:s,s:s,s:s}", "key", j->name, "tenant", j->tenant, "hash", hash);
    if (!line) {
        return cn_err_set(err, CN_E_INVALID, "cairn key new: the name and the tenant must be UTF-8");
    }
    strftime(day, sizeof day, "%Y-%m-%d", gmtime_r(&now, &parts));
    cn_code code = add_scopes(line, j->scopes ? j->scopes : "inference,conversations", err);
    json_object_set_new(line, "created", json_string(day));
    if (j->note) json_object_set_new(line, "note", json_string(j->note));
    if (code == CN_OK) {
        code = add_number(line, "requests_per_minute", j->requests_per_minute, err);
    }
    if (code == CN_OK) code = add_number(line, "tokens_per_minute", j->tokens_per_minute, err);
    if (code == CN_OK) code = add_number(line, "concurrent", j->concurrent, err);
    *out = code == CN_OK ? json_dumps(line, JSON_COMPACT) : NULL;
    json_decref(line);
    return code;
}

static cn_code add_line(job *j, const char *line, cn_err *err)
{
    cn_buf text;
    cn_buf_init(&text, 16 << 20);
    cn_buf_add(&text, j->text, j->len);
    if (j->len && j->text[j->len - 1] != '\n') cn_buf_add_char(&text, '\n');
    const size_t start = text.len;
    cn_buf_add_text(&text, line);
    cn_buf_add_char(&text, '\n');
    // As a server will read it: what it would refuse is not written.
    cn_code code = text.overflowed ? cn_err_set(err, CN_E_MEMORY, "API keys: no memory")
                                   : cn_key_file_read(j->keys, text.data + start, text.len - start,
                                                      "the new key", err);
    if (code == CN_OK) code = replace_file(j, text.data, text.len, err);
    cn_buf_close(&text);
    return code;
}

static cn_code run_new(job *j, cn_err *err)
{
    char key[KEY_TEXT_BYTES], hash[96], *line = NULL;
    if (!j->name || !j->tenant) {
        return cn_err_set(err, CN_E_INVALID, "cairn key new: %s is not given; usage: cairn key new "
                          "NAME --tenant TENANT", j->name ? "--tenant" : "a name");
    }
    make_key(key, hash);
    cn_code code = make_line(j, hash, &line, err);
    if (code == CN_OK) code = read_keys(j, true, err);
    if (code == CN_OK) code = add_line(j, line, err);
    free(line);
    if (code != CN_OK) return code;
    if (j->json) {
        printf("{\"name\":\"%s\",\"tenant\":\"%s\",\"key\":\"%s\"}\n", j->name, j->tenant, key);
    } else {
        puts(key);
        if (isatty(STDOUT_FILENO)) fputs("This is the only time that it is shown.\n", stderr);
    }
    sodium_memzero(key, sizeof key);
    return CN_OK;
}

// ---- ls

static void write_scopes(unsigned scopes, const char *quote, cn_buf *out)
{
    for (unsigned bit = 1, first = 1; bit <= CN_SCOPE_ADMIN; bit *= 2) {
        if (!(scopes & bit)) continue;
        cn_buf_add_format(out, "%s%s%s%s", first ? "" : ",", quote, cn_key_file_scope_name(bit),
                          quote);
        first = 0;
    }
}

static void write_limits(const cn_quota_limits *limits, const char *format, cn_buf *out)
{
    static const char *const names[] = {
#define X(member, max, of_key, what) #member,
        CN_QUOTAS(X)
#undef X
    };
    const uint64_t values[] = {
#define X(member, max, of_key, what) limits->member,
        CN_QUOTAS(X)
#undef X
    };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        if (values[i]) cn_buf_add_format(out, format, names[i], values[i]);
    }
}

static void write_key(const cn_key_file *keys, const cn_key_file_key *k, bool json, cn_buf *out)
{
    const cn_key_file_tenant *tenant = &keys->tenants[k->tenant];
    if (json) {
        cn_buf_add_format(out, "{\"name\":\"%s\",\"tenant\":\"%s\",\"plain\":%s,\"created\":",
                          k->name, tenant->name, k->is_plain ? "true" : "false");
        if (k->created[0]) cn_buf_add_json(out, k->created, strlen(k->created));
        else cn_buf_add_text(out, "null");
        cn_buf_add_text(out, ",\"scopes\":[");
        write_scopes(k->scopes, "\"", out);
        cn_buf_add_char(out, ']');
        write_limits(&k->limits, ",\"%s\":%" PRIu64, out);
        cn_buf_add_text(out, ",\"tenant_limits\":{\"name\":");
        cn_buf_add_json(out, tenant->name, strlen(tenant->name));
        write_limits(&tenant->limits, ",\"%s\":%" PRIu64, out);
        cn_buf_add_text(out, "}}");
        return;
    }
    cn_buf_add_format(out, "%-20s  %-16s  %-10s  ", k->name, tenant->name,
                      k->created[0] ? k->created : "-");
    write_scopes(k->scopes, "", out);
    write_limits(&k->limits, " %s=%" PRIu64, out);
    write_limits(&tenant->limits, " tenant.%s=%" PRIu64, out);
    if (k->is_plain) cn_buf_add_text(out, " (in plain text)");
    cn_buf_add_char(out, '\n');
}

static cn_code run_ls(job *j, cn_err *err)
{
    cn_buf out;
    if (j->name) return cn_err_set(err, CN_E_INVALID, "unexpected argument %.80s", j->name);
    const cn_code code = read_keys(j, false, err);
    if (code != CN_OK) return code;
    cn_buf_init(&out, 16 << 20);
    if (!j->json) {
        cn_buf_add_format(&out, "%-20s  %-16s  %-10s  %s\n", "KEY", "TENANT", "CREATED",
                          "SCOPES AND LIMITS");
    }
    for (uint32_t i = 0; i < j->keys->key_count; i++) {
        if (j->json) cn_buf_add_char(&out, i ? ',' : '[');
        write_key(j->keys, &j->keys->keys[i], j->json, &out);
    }
    if (j->json) cn_buf_add_text(&out, j->keys->key_count ? "]\n" : "[]\n");
    fwrite(out.data, 1, out.len, stdout);
    cn_buf_close(&out);
    return CN_OK;
}

// ---- revoke

static cn_code run_revoke(job *j, cn_err *err)
{
    uint32_t line = 0;
    if (!j->name) {
        return cn_err_set(err, CN_E_INVALID, "cairn key revoke: a name is not given; `cairn key ls` "
                          "lists them");
    }
    cn_code code = read_keys(j, false, err);
    for (uint32_t i = 0; code == CN_OK && i < j->keys->key_count; i++) {
        if (strcmp(j->keys->keys[i].name, j->name) == 0) line = j->keys->keys[i].line;
    }
    if (code != CN_OK) return code;
    if (!line) {
        return cn_err_set(err, CN_E_NOT_FOUND, "%.200s: has no key \"%.64s\"; `cairn key ls` lists "
                          "them", j->path, j->name);
    }
    char *start = j->text;
    for (uint32_t at = 1; at < line; at++) start = (char *)memchr(start, '\n', j->len) + 1;
    const size_t before = (size_t)(start - j->text);
    const char *newline = memchr(start, '\n', j->len - before);
    const size_t gone = newline ? (size_t)(newline - start) + 1 : j->len - before;
    memmove(start, start + gone, j->len - before - gone);
    code = replace_file(j, j->text, j->len - gone, err);
    if (code == CN_OK && j->keys->key_count == 1) {
        fputs("cairn: that was the last key: a server that runs lets nobody in now, and one that is "
              "started refuses the file\n", stderr);
    }
    return code;
}

int cn_key_run(int argc, char **argv)
{
    static job j;
    static const char *const jobs[] = {"new", "ls", "revoke"};
    cn_err err = {0};
    j.lock = -1;
    cn_code code = sodium_init() < 0 ? cn_err_set(&err, CN_E_INTERNAL, "libsodium cannot be started")
                                     : read_words(&j, argc, argv, &err);
    if (code == CN_OK && (j.help || !j.word)) {
        print_help();
        return j.help ? CN_EXIT_OK : CN_EXIT_USAGE;
    }
    cn_code (*run)(job *, cn_err *) = NULL;
    if (code == CN_OK) {
        run = strcmp(j.word, "new") == 0      ? run_new
              : strcmp(j.word, "ls") == 0     ? run_ls
              : strcmp(j.word, "revoke") == 0 ? run_revoke
                                              : NULL;
        if (!run) {
            cn_nearest_refuse("unknown job ", "cairn key", j.word, jobs, 3);
            return CN_EXIT_USAGE;
        }
        code = find_path(&j, &err);
    }
    if (code == CN_OK) code = lock_directory(&j, &err);
    if (code == CN_OK) code = run(&j, &err);
    const int exit_code = code == CN_OK ? CN_EXIT_OK : fail(&err);
    if (j.text) sodium_memzero(j.text, j.len);
    free(j.text);
    cn_key_file_close(j.keys);
    cn_config_close(&j.settings);
    if (j.lock >= 0) close(j.lock);
    return exit_code;
}
