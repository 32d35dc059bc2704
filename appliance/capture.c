#include "appliance/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "appliance/cli.h"
#include "appliance/network.h"
#include "dataplane/nic_capture.h"

/* How it works. The server's socket gives a pcap file as a stream. Whole records are copied to the
 * output, so the file is sound whenever and however this ends. To end, the sending side is shut: the
 * server then sends what is left and a trailer that says how many frames were lost, which is not
 * written. */

enum { BUFFER_BYTES = 256 * 1024, FILE_HEAD_BYTES = 24, RECORD_BYTES = 16, ARGUMENT_MAX = 64,
       LAST_MS = 5000 };

typedef struct capture {
    const char *write;                       // path, "-": stdout
    uint64_t port, seconds, frames;          // 0: no bound
    int out, server, signals;
    size_t len;
    uint64_t frame_count, lost;
    bool has_head, has_trailer, asked_end;
    uint8_t buffer[BUFFER_BYTES];
} capture;

static void print_help(void)
{
    puts("usage: cairn capture --write FILE [--port 0] [--seconds N] [--frames N]\n"
         "                     [--run_directory DIR] [--config FILE]\n\n"
         "Writes what the DPDK port of a running server receives and sends, as a pcap file with\n"
         "nanoseconds, until Ctrl-C or one of the bounds. -w is --write; - is the standard output:\n"
         "  cairn capture -w - | tshark -r -\n"
         "Frames that come faster than they can be written are lost to the file, never to the server,\n"
         "and their number is said at the end. One capture of a port runs at a time. run_directory is\n"
         "the server's; only the user that the server runs as, and root, may capture.");
}

static bool read_number(const char *text, uint64_t *out)
{
    char *end;
    if (!text || text[0] < '0' || text[0] > '9') return false;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

/* Takes our own flags out of argv; *argc and argv keep the rest, for the configuration. */
static cn_code read_flags(capture *c, int *argc, char **argv, cn_err *err)
{
    const struct { const char *flag; uint64_t *to; } numbers[] = {
        {"--port", &c->port}, {"--seconds", &c->seconds}, {"--frames", &c->frames}};
    int kept = 0;
    for (int i = 0; i < *argc; i++) {
        const char *value = i + 1 < *argc ? argv[i + 1] : NULL;
        bool is_ours = false;
        if (strcmp(argv[i], "--write") == 0 || strcmp(argv[i], "-w") == 0) {
            if (!value) return cn_err_set(err, CN_E_INVALID, "%s: needs a file, or -", argv[i]);
            c->write = value;
            is_ours = true;
        }
        for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++) {
            if (strcmp(argv[i], numbers[k].flag) != 0) continue;
            if (!read_number(value, numbers[k].to))
                return cn_err_set(err, CN_E_INVALID, "%s: %.40s; must be a whole number", argv[i],
                                  value ? value : "nothing");
            is_ours = true;
        }
        if (is_ours) i++;
        else argv[kept++] = argv[i];
    }
    *argc = kept;
    return CN_OK;
}

static cn_code open_server(capture *c, const cn_config_settings *settings, cn_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char path[256];
    cn_network_capture_path(settings, (uint32_t)c->port, path, sizeof path);
    if (strlen(path) >= sizeof address.sun_path)
        return cn_err_set(err, CN_E_INVALID, "run_directory: %s; a socket's path has at most %zu bytes",
                          settings->run_directory, sizeof address.sun_path - 1);
    memcpy(address.sun_path, path, strlen(path) + 1);
    c->server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->server >= 0 && connect(c->server, (struct sockaddr *)&address, sizeof address) == 0)
        return CN_OK;
    return cn_err_set(err, CN_E_IO, "%s: %s; is a server running with transport dpdk and this "
                      "run_directory?", path, strerror(errno));
}

static cn_code open_output(capture *c, cn_err *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    c->signals = signalfd(-1, &set, SFD_CLOEXEC);
    c->out = strcmp(c->write, "-") == 0
                 ? STDOUT_FILENO
                 : open(c->write, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (c->out < 0) return cn_err_set(err, CN_E_IO, "--write: %s: %s", c->write, strerror(errno));
    return CN_OK;
}

static cn_code write_all(const capture *c, const uint8_t *data, size_t len, cn_err *err)
{
    while (len) {
        const ssize_t n = write(c->out, data, len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return cn_err_set(err, CN_E_IO, "--write: %s: %s", c->write, strerror(errno));
        data += n;
        len -= (size_t)n;
    }
    return CN_OK;
}

// Bytes of the whole records at `data`, at most as many as --frames lets through.
static size_t whole_records(capture *c, const uint8_t *data, size_t len)
{
    size_t at = 0;
    while (len - at >= RECORD_BYTES && !c->has_trailer && (!c->frames || c->frame_count < c->frames)) {
        uint32_t incl_len, orig_len;
        memcpy(&incl_len, data + at + 8, sizeof incl_len);
        memcpy(&orig_len, data + at + 12, sizeof orig_len);
        if (incl_len == (uint32_t)CN_NIC_CAPTURE_TRAILER) {
            c->has_trailer = true;
            c->lost = orig_len;
        } else {
            if (len - at - RECORD_BYTES < incl_len) break;
            at += RECORD_BYTES + incl_len;
            c->frame_count++;
        }
    }
    return at;
}

static cn_code take(capture *c, cn_err *err)
{
    size_t whole = 0;
    if (!c->has_head) {
        if (c->len < FILE_HEAD_BYTES) return CN_OK;
        whole = FILE_HEAD_BYTES;
        c->has_head = true;
    }
    whole += whole_records(c, c->buffer + whole, c->len - whole);
    const cn_code code = write_all(c, c->buffer, whole, err);
    c->len -= whole;
    // What is beyond --frames is only looked at for the trailer's sake, and that is not worth it.
    if (c->frames && c->frame_count >= c->frames) c->has_trailer = true;
    else memmove(c->buffer, c->buffer + whole, c->len);
    return code;
}

static void ask_for_end(capture *c)
{
    if (!c->asked_end) shutdown(c->server, SHUT_WR);
    c->asked_end = true;
}

static cn_code copy_frames(capture *c, cn_err *err)
{
    const cn_clock clock = cn_clock_system();
    const uint64_t end_ns = c->seconds ? cn_clock_now_ns(&clock) + c->seconds * 1000000000u : UINT64_MAX;
    while (!c->has_trailer) {
        struct pollfd fds[] = {{.fd = c->server, .events = POLLIN},
                               {.fd = c->asked_end ? -1 : c->signals, .events = POLLIN}};
        const uint64_t now_ns = cn_clock_now_ns(&clock);
        int wait_ms = -1;
        if (c->asked_end) wait_ms = LAST_MS;
        else if (c->seconds) wait_ms = now_ns < end_ns ? (int)((end_ns - now_ns) / 1000000) + 1 : 0;
        const int ready = poll(fds, 2, wait_ms);
        if (ready == 0 && c->asked_end) break;       // the server no longer talks
        if (ready == 0 || fds[1].revents) ask_for_end(c);
        if (ready <= 0 || !fds[0].revents) continue;
        const ssize_t got = recv(c->server, c->buffer + c->len, sizeof c->buffer - c->len, 0);
        if (got <= 0) break;
        c->len += (size_t)got;
        const cn_code code = take(c, err);
        if (code != CN_OK) return code;
    }
    if (!c->has_head)
        return cn_err_set(err, CN_E_IO, "the server closed the capture; another one is running");
    if (!c->has_trailer && !c->asked_end) return cn_err_set(err, CN_E_IO, "the server has ended");
    return CN_OK;
}

int cn_capture_run(int argc, char **argv)
{
    static capture c;
    static cn_config_settings settings;
    cn_cli_flags flags = {0};
    cn_err err;
    c.out = c.server = c.signals = -1;
    cn_code code = read_flags(&c, &argc, argv, &err);
    if (code == CN_OK) code = cn_cli_read(argc, argv, &settings, &flags, &err);
    if (flags.help) {
        print_help();
        cn_config_close(&settings);
        return CN_EXIT_OK;
    }
    if (code == CN_OK && !c.write)
        code = cn_err_set(&err, CN_E_INVALID, "--write: is not given; must be a file, or -");
    int exit_code = code == CN_OK ? CN_EXIT_FAILED : CN_EXIT_USAGE;
    if (code == CN_OK) code = open_server(&c, &settings, &err);
    if (code == CN_OK) code = open_output(&c, &err);
    if (code == CN_OK) code = copy_frames(&c, &err);
    if (c.has_head)
        fprintf(stderr, "%llu frames, %llu lost\n", (unsigned long long)c.frame_count,
                (unsigned long long)c.lost);
    if (code != CN_OK) cn_cli_complain(&err);
    else exit_code = CN_EXIT_OK;
    if (c.server >= 0) close(c.server);
    if (c.out >= 0) close(c.out);
    if (c.signals >= 0) close(c.signals);
    cn_config_close(&settings);
    return exit_code;
}
