#include "appliance/drain.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "appliance/cli.h"
#include "appliance/control.h"

typedef struct drain {
    uint64_t pid;                        // 0: the only server there is
    bool waits;
} drain;

static void print_help(void)
{
    puts("usage: cairn drain [--wait] [--pid N] [--run_directory DIR] [--config FILE]\n\n"
         "Has a running server drain as SIGTERM does: /readyz and HAProxy's agent-check say so, new\n"
         "requests go elsewhere after drain.notice_ms, running answers get drain.seconds, pages are\n"
         "saved, and the process ends. --wait prints what is left once a second and ends with the\n"
         "server: 0 if it was drained, 1 if it ended otherwise. --pid chooses among several servers.");
}

/* Takes our own flags out of argv; *argc and argv keep the rest, for the configuration. */
static cn_code read_flags(drain *d, int *argc, char **argv, cn_err *err)
{
    int kept = 0;
    for (int i = 0; i < *argc; i++) {
        char *end;
        if (strcmp(argv[i], "--wait") == 0) {
            d->waits = true;
        } else if (strcmp(argv[i], "--pid") == 0) {
            const char *value = i + 1 < *argc ? argv[++i] : "nothing";
            d->pid = strtoull(value, &end, 10);
            if (d->pid == 0 || *end || value[0] == '-')
                return cn_err_set(err, CN_E_INVALID, "--pid: %.40s; must be the id of a process",
                                  value);
        } else {
            argv[kept++] = argv[i];
        }
    }
    *argc = kept;
    return CN_OK;
}

// Gives the order and prints the answers: the first, or all until the server has ended.
static cn_code give_order(const drain *d, int fd, cn_err *err)
{
    char line[256];
    bool is_drained = false, is_heard = false;
    if (send(fd, "drain\n", 6, MSG_NOSIGNAL) != 6)
        return cn_err_set(err, CN_E_IO, "the server does not listen: %s", strerror(errno));
    FILE *answers = fdopen(fd, "r");
    if (!answers) return cn_err_set(err, CN_E_IO, "drain: %s", strerror(errno));
    while ((d->waits || !is_heard) && fgets(line, sizeof line, answers)) {
        is_heard = true;
        is_drained |= strncmp(line, "drained", 7) == 0;
        fputs(line, stdout);
        fflush(stdout);
    }
    fclose(answers);
    if (!is_heard) return cn_err_set(err, CN_E_IO, "the server ended without an answer");
    if (d->waits && !is_drained)
        return cn_err_set(err, CN_E_IO, "the server ended before it was drained");
    return CN_OK;
}

int cn_drain_run(int argc, char **argv)
{
    static cn_config_settings settings;
    cn_cli_flags flags = {0};
    drain d = {0};
    cn_err err;
    int fd = -1, exit_code = CN_EXIT_USAGE;
    cn_code code = read_flags(&d, &argc, argv, &err);
    if (code == CN_OK) code = cn_cli_read(argc, argv, &settings, &flags, &err);
    if (flags.help) {
        print_help();
        cn_config_close(&settings);
        return CN_EXIT_OK;
    }
    if (code == CN_OK) code = cn_control_connect(settings.run_directory, d.pid, &fd, &err);
    if (code == CN_OK || code == CN_E_IO) exit_code = CN_EXIT_FAILED;
    if (code == CN_OK) code = give_order(&d, fd, &err);
    if (code == CN_OK) exit_code = CN_EXIT_OK;
    else cn_cli_complain(&err);
    cn_config_close(&settings);
    return exit_code;
}
