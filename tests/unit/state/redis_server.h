/* tests/unit/state/redis_server.h: a redis-server of a test's own, on a Unix socket in a new
 * directory.
 *
 * Threads: one.
 * Memory:  plain memory of the test; the directory is removed by close. */
#pragma once

#include "tests/unit/cmocka_all.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REDIS_SERVER_FLAGS_MAX = 32 };

typedef struct redis_server {
    char directory[64];
    char address[80];            // "unix:/..."
    const char *flags[REDIS_SERVER_FLAGS_MAX];   // "--name", "value", ..., NULL
    pid_t pid;
} redis_server;

static inline void redis_server_run(redis_server *s)
{
    const char *args[REDIS_SERVER_FLAGS_MAX + 16] = {
        "redis-server", "--port", "0", "--unixsocket", s->address + 5, "--dir", s->directory,
        "--save", "", "--logfile", "redis.log", "--enable-debug-command", "yes"};
    int n = 13;
    for (int i = 0; s->flags[i]; i++) args[n++] = s->flags[i];
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (s->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execvp(args[0], (char **)(uintptr_t)args);
        _exit(127);
    }
}

static inline void redis_server_open(redis_server *s)
{
    char directory[] = "/tmp/cairn-test-XXXXXX";
    assert_non_null(mkdtemp(directory));
    memcpy(s->directory, directory, sizeof directory);
    snprintf(s->address, sizeof s->address, "unix:%s/s", directory);
    redis_server_run(s);
}

static inline void redis_server_end(redis_server *s, int signal_number)
{
    int status;
    if (s->pid <= 0) return;
    kill(s->pid, SIGCONT);
    kill(s->pid, signal_number);
    waitpid(s->pid, &status, 0);
    s->pid = 0;
}

static inline void redis_server_close(redis_server *s)
{
    char command[128];
    redis_server_end(s, SIGKILL);
    snprintf(command, sizeof command, "rm -rf '%.63s'", s->directory);
    assert_int_equal(system(command), 0);
}

/* Runs redis-cli with the words, which the shell reads; its output is dropped. */
static inline void redis_server_cli(const redis_server *s, const char *words)
{
    char command[512];
    snprintf(command, sizeof command, "redis-cli -s '%.74s' %s > /dev/null", s->address + 5, words);
    assert_int_equal(system(command), 0);
}
