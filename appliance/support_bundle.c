#include "appliance/support_bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "appliance/cli.h"
#include "appliance/doctor.h"
#include "appliance/http_client.h"
#include "appliance/redact.h"
#include "appliance/state.h"
#include "base/clock.h"

/* How it works. Each part is written to memory, goes through cn_redact_write, and becomes a file of a tar
 * (POSIX ustar, no compression). A part that cannot be had says why in its place, so that a bundle is
 * written however ill the machine is. */

enum { PART_BYTES_MAX = 32 << 20, KEYS_BYTES_MAX = 1 << 20, BLOCK = 512, LOG_LINES = 1000 };

static const char ABOUT[] =
    "What `cairn support-bundle` found on this machine.\n\n"
    "version.txt   the program\n"
    "config.json   the effective configuration, and where each value is from; keys are counted\n"
    "doctor.json   what `cairn doctor` says\n"
    "ready.json    what the running server says of itself, if one answers\n"
    "metrics.txt   its metrics\n"
    "log.txt       the last lines of its log\n"
    "system.txt    kernel, processor, memory, limits\n\n"
    "API keys and passwords are replaced with [redacted], and so is whatever could be of a\n"
    "conversation. Look through it before you send it.\n";

typedef struct bundle {
    cn_config_settings settings;
    cn_cli_flags flags;
    const char *out, *log, *url;
    char password[CN_STATE_PASSWORD_BYTES];
    char keys_file[KEYS_BYTES_MAX];
    cn_redact redact;
    uint64_t now_s;
    cn_buf tar;
} bundle;

static void print_help(void)
{
    puts("usage: cairn support-bundle [--out FILE] [--log FILE] [--url URL] [--config FILE] [--KEY VALUE ...]\n\n"
         "Writes a tar file with version, configuration, doctor, metrics, log and facts of the system, for\n"
         "somebody who helps from afar. API keys, passwords and conversations are not in it.\n\n"
         "  --out FILE  the file to write, which must not be there [cairn-support.tar]\n"
         "  --log FILE  file with the server's log; default: the journal of cairn.service\n"
         "  --url URL   the running server; default: where `listen` says");
}

// ---- tar

static void octal(char *field, size_t bytes, uint64_t value)
{
    snprintf(field, bytes, "%0*llo", (int)bytes - 1, (unsigned long long)value);
}

static void add_file(bundle *b, const char *name, const cn_buf *text)
{
    cn_buf clean;
    char head[BLOCK] = {0};
    unsigned sum = 0;
    cn_buf_init(&clean, 2 * (size_t)PART_BYTES_MAX);
    if (text->len) cn_redact_write(&b->redact, text->data, text->len, &clean);
    snprintf(head, 100, "cairn-support/%s", name);
    octal(head + 100, 8, 0600);
    octal(head + 108, 8, 0);
    octal(head + 116, 8, 0);
    octal(head + 124, 12, clean.len);
    octal(head + 136, 12, b->now_s);
    memset(head + 148, ' ', 8);
    head[156] = '0';
    memcpy(head + 257, "ustar\00000", 8);
    for (int i = 0; i < BLOCK; i++) sum += (unsigned char)head[i];
    snprintf(head + 148, 8, "%06o", sum);
    cn_buf_add(&b->tar, head, BLOCK);
    if (clean.len) cn_buf_add(&b->tar, clean.data, clean.len);
    while (b->tar.len % BLOCK && !b->tar.overflowed) cn_buf_add_char(&b->tar, '\0');
    cn_buf_close(&clean);
}

// ---- the parts

static void write_about(bundle *b, cn_buf *out)
{
    (void)b;
    cn_buf_add_text(out, ABOUT);
}

static void write_version(bundle *b, cn_buf *out)
{
    (void)b;
    cn_buf_add_text(out, "cairn " CN_VERSION "\ncompiler " __VERSION__ "\n");
}

static void write_config(bundle *b, cn_buf *out) { cn_config_write(&b->settings, true, out); }

static void write_doctor(bundle *b, cn_buf *out)
{
    cn_doctor_write_json(&b->settings, "", b->flags.config ? b->flags.config : "", out);
}

static bool take_body(void *self, unsigned status, const char *data, size_t len)
{
    (void)status;
    cn_buf_add(self, data, len);
    return true;
}

static void get(bundle *b, const char *path, cn_buf *out)
{
    const cn_config_settings *s = &b->settings;
    const char *address = s->admin_listen[0] ? s->admin_listen : s->listen;
    char url[400];
    unsigned status;
    cn_err err;
    if (b->url) snprintf(url, sizeof url, "%.300s%s", b->url, path);
    else snprintf(url, sizeof url, "http://%.300s%s", address, path);
    const cn_http_client_call call = {
        .url = url, .method = "GET", .api_key = s->api_key_count ? s->api_keys[0] : NULL};
    if (cn_http_client_request(&call, take_body, out, &status, &err) != CN_OK)
        cn_buf_add_format(out, "%s: %s\n", url, err.text);
}

static void write_ready(bundle *b, cn_buf *out) { get(b, "/readyz", out); }

static void write_metrics(bundle *b, cn_buf *out) { get(b, "/metrics", out); }

static void add_stream(FILE *file, cn_buf *out)
{
    char piece[8192];
    for (size_t got; (got = fread(piece, 1, sizeof piece, file)) > 0;) cn_buf_add(out, piece, got);
}

static void keep_last_lines(cn_buf *text, unsigned lines)
{
    size_t at = text->len;
    while (at > 0 && lines > 0) {
        at--;
        lines -= at > 0 && text->data[at - 1] == '\n';
    }
    memmove(text->data, text->data + at, text->len - at);
    text->len -= at;
}

static void write_log(bundle *b, cn_buf *out)
{
    FILE *file = b->log ? fopen(b->log, "re")
                        : popen("journalctl -u cairn.service -n 1000 --no-pager -o short-iso 2>&1", "re");
    if (!file) {
        cn_buf_add_format(out, "%s: %s\n", b->log ? b->log : "journalctl", strerror(errno));
        return;
    }
    // The end of a log that may be longer than what is kept.
    if (b->log && fseek(file, -(PART_BYTES_MAX / 2), SEEK_END) != 0) rewind(file);
    add_stream(file, out);
    if (b->log) fclose(file);
    else pclose(file);
    if (out->len) keep_last_lines(out, LOG_LINES);
}

static void write_system(bundle *b, cn_buf *out)
{
    static const char *const files[] = {
        "/etc/os-release", "/proc/version", "/proc/cmdline", "/proc/cpuinfo", "/proc/meminfo", "/proc/loadavg",
        "/proc/pressure/cpu", "/proc/pressure/memory", "/proc/pressure/io", "/proc/self/limits",
        "/proc/self/cgroup", "/sys/devices/system/node/online", "/proc/interrupts"};
    (void)b;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        FILE *file = fopen(files[i], "re");
        cn_buf_add_format(out, "== %s\n", files[i]);
        if (!file) cn_buf_add_format(out, "%s\n", strerror(errno));
        else {
            add_stream(file, out);
            fclose(file);
        }
    }
}

static const struct {
    const char *name;
    void (*write)(bundle *b, cn_buf *out);
} parts[] = {
    {"README", write_about},      {"version.txt", write_version}, {"config.json", write_config},
    {"doctor.json", write_doctor}, {"ready.json", write_ready},   {"metrics.txt", write_metrics},
    {"log.txt", write_log},       {"system.txt", write_system},
};

// ---- the command

// Takes our own flags out of argv; the rest is for the configuration.
static bool take_flags(bundle *b, int *argc, char **argv)
{
    struct {
        const char *name;
        const char **value;
    } own[] = {{"--out", &b->out}, {"--log", &b->log}, {"--url", &b->url}};
    int kept = 0;
    for (int i = 0; i < *argc; i++) {
        bool mine = false;
        for (size_t j = 0; j < sizeof own / sizeof *own && !mine; j++) {
            const size_t len = strlen(own[j].name);
            if (strncmp(argv[i], own[j].name, len) != 0 || (argv[i][len] && argv[i][len] != '=')) continue;
            mine = true;
            *own[j].value = argv[i][len] ? argv[i] + len + 1 : i + 1 < *argc ? argv[++i] : NULL;
            if (*own[j].value) continue;
            fprintf(stderr, "cairn: %s: needs a value, as in %s VALUE\n", own[j].name, own[j].name);
            return false;
        }
        if (!mine) argv[kept++] = argv[i];
    }
    *argc = kept;
    return true;
}

static cn_code write_file(const bundle *b, cn_err *err)
{
    const char *name = b->out ? b->out : "cairn-support.tar";
    const int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    size_t done = 0;
    if (fd < 0) {
        return cn_err_set(err, CN_E_IO, "%.300s: %s%s", name, strerror(errno),
                          errno == EEXIST ? "; name another one with --out" : "");
    }
    while (done < b->tar.len) {
        const ssize_t put = write(fd, b->tar.data + done, b->tar.len - done);
        if (put <= 0) {
            const int why = errno;
            close(fd);
            unlink(name);
            return cn_err_set(err, CN_E_IO, "%.300s: %s", name, strerror(why));
        }
        done += (size_t)put;
    }
    close(fd);
    printf("%s: %zu bytes; look through it before you send it\n", name, b->tar.len);
    return CN_OK;
}

// The keys that stand in api_keys_file as clients send them; its other lines have hashes alone.
static void hide_keys_of_file(bundle *b)
{
    FILE *file = b->settings.api_keys_file[0] ? fopen(b->settings.api_keys_file, "re") : NULL;
    if (!file) return;
    const size_t len = fread(b->keys_file, 1, sizeof b->keys_file - 1, file);
    fclose(file);
    b->keys_file[len] = '\0';
    char *rest = b->keys_file;
    for (char *line; (line = strsep(&rest, "\r\n"));) {
        if (line[0] != '#' && line[0] != '{') cn_redact_add(&b->redact, line);
    }
}

static cn_code make(bundle *b, cn_err *err)
{
    static const char end[2 * BLOCK];
    const cn_clock clock = cn_clock_system();
    b->now_s = (uint64_t)(cn_clock_wall_ns(&clock) / 1000000000);
    for (uint32_t i = 0; i < b->settings.api_key_count; i++) cn_redact_add(&b->redact, b->settings.api_keys[i]);
    hide_keys_of_file(b);
    if (cn_state_password(&b->settings, b->password, NULL) == CN_OK) cn_redact_add(&b->redact, b->password);
    cn_redact_add(&b->redact, getenv("CAIRN_API_KEY"));
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        cn_buf part;
        cn_buf_init(&part, PART_BYTES_MAX);
        parts[i].write(b, &part);
        if (part.overflowed) cn_buf_clear(&part);
        add_file(b, parts[i].name, &part);
        cn_buf_close(&part);
    }
    cn_buf_add(&b->tar, end, sizeof end);
    return b->tar.overflowed ? cn_err_set(err, CN_E_MEMORY, "support-bundle: no memory") : write_file(b, err);
}

int cn_support_bundle_run(int argc, char **argv)
{
    static bundle b;
    cn_err err;
    if (!take_flags(&b, &argc, argv)) return CN_EXIT_USAGE;
    cn_buf_init(&b.tar, 8 * (size_t)PART_BYTES_MAX);
    cn_code code = cn_cli_read(argc, argv, &b.settings, &b.flags, &err);
    int exit_code = code == CN_OK ? CN_EXIT_OK : CN_EXIT_USAGE;
    if (b.flags.help) print_help();
    else if (code == CN_OK && make(&b, &err) != CN_OK) exit_code = CN_EXIT_FAILED;
    if (!b.flags.help && exit_code != CN_EXIT_OK) cn_cli_complain(&err);
    if (b.flags.help) exit_code = CN_EXIT_OK;
    cn_buf_close(&b.tar);
    cn_config_close(&b.settings);
    return exit_code;
}
