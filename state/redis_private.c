#include "state/redis_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"

/* How it works. Three locks (flock) in the directory. `cairn.lock` is ours: a second cairn is
 * refused. `log.lock` and `pages.lock` are taken before a server is started and handed to it as
 * descriptor 3, which it does not know of and never closes: the lock is free when the last process
 * that could write the server's files is gone, whatever happened to us. Each file contains the
 * server's process id.
 *
 * Pages are worth a file, too: a conversation goes on faster after a restart if they are there.
 * Their server writes one when it is told to end, which a kill of ours tells it as well, and has
 * END_MS for it; without it, pages are computed again.
 *
 * A server dies with the thread that started it (PR_SET_PDEATHSIG): open runs on the main thread,
 * and the store's thread, which starts servers again, lives as long as they shall. It has a process
 * group of its own, so that Ctrl-C in a terminal, which begins a drain here, does not end it. */

enum {
    SOCKET_PATH_MAX = 107,
    DIRECTORY_BYTES = 108,
    PATH_BYTES = 160,
    LOCK_FD = 3,
    EXEC_FD = 4,
    ARGUMENT_MAX = 64
};
enum { END_MS = 5000, CHECK_MS = 5, LOG_FILE_BYTES_MAX = 1 << 20 };
static const uint64_t PAUSE_MIN_NS = 100000000, PAUSE_MAX_NS = 5000000000, YOUNG_NS = 2000000000;

typedef struct server {
    const char *name;                // "log", "pages"
    char address[PATH_BYTES];        // "unix:/..."
    pid_t pid;                       // 0: does not run
    uint64_t started_ns, again_ns, pause_ns;
} server;

struct cn_redis_private {
    cn_redis_private_options options;
    char directory[DIRECTORY_BYTES];
    int lock;                        // cairn.lock
    server log, pages;
};

// ---- locks

static void write_path(const cn_redis_private *p, const char *name, const char *ending,
                       char out[PATH_BYTES])
{
    const int len = snprintf(out, PATH_BYTES, "%s/%s%s", p->directory, name, ending);
    CN_ASSERT(len > 0 && len < PATH_BYTES);      // open has refused directories that are too long
}

// The descriptor of a lock file, locked or not (*is_ours); -1: errno says why.
static int open_lock(const cn_redis_private *p, const char *name, bool *is_ours)
{
    char path[PATH_BYTES];
    write_path(p, name, ".lock", path);
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0) *is_ours = flock(fd, LOCK_EX | LOCK_NB) == 0;
    return fd;
}

static void write_pid(int fd, pid_t pid)
{
    char text[16];
    // Of one length, so that a reader finds the old number or the new one. The lock is what counts.
    const int len = snprintf(text, sizeof text, "%-10d\n", (int)pid);
    const ssize_t written = pwrite(fd, text, (size_t)len, 0);
    (void)written;
}

static pid_t read_pid(int fd)
{
    char text[16] = "";
    return pread(fd, text, sizeof text - 1, 0) > 0 ? (pid_t)atoi(text) : 0;
}

// Whether a process is a redis-server: process ids are used again.
static bool is_redis(pid_t pid)
{
    char path[32], name[32] = "";
    if (pid <= 1) return false;
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t got = fd >= 0 ? read(fd, name, sizeof name - 1) : -1;
    if (fd >= 0) close(fd);
    return got > 0 && strncmp(name, "redis-", 6) == 0;
}

/* Takes the lock of a server; one that was left over gets the signal, and is made to end when half
 * the patience is over. -1 if the lock cannot be had: err says why. */
static int lock_server(const cn_redis_private *p, const char *name, int signal_number,
                       int patience_ms, cn_err *err)
{
    bool is_ours = false;
    for (int waited_ms = 0;; waited_ms += CHECK_MS) {
        const int fd = open_lock(p, name, &is_ours);
        if (fd < 0) {
            cn_err_set(err, CN_E_IO, "%s/%s.lock: %s", p->directory, name, strerror(errno));
            return -1;
        }
        if (is_ours) return fd;
        const pid_t pid = read_pid(fd);
        close(fd);
        if (waited_ms == 0 && is_redis(pid)) kill(pid, signal_number);
        if (waited_ms >= patience_ms) {
            cn_err_set(err, CN_E_IO,
                       "%s: a redis-server (process %d) still uses %s and does not end",
                       p->directory, (int)pid, name);
            return -1;
        }
        if (waited_ms == patience_ms / 2 && is_redis(pid)) kill(pid, SIGKILL);
        poll(NULL, 0, CHECK_MS);
    }
}

// ---- starting

static const char *yes_if(bool condition) { return condition ? "yes" : "no"; }

static void add(const char **args, int *n, const char *name, const char *value)
{
    CN_ASSERT(*n + 2 < ARGUMENT_MAX);
    args[(*n)++] = name;
    args[(*n)++] = value;
}

// The arguments of a server; `bytes` is memory for the number.
static void write_arguments(const cn_redis_private *p, const server *s, const char **args,
                            char bytes[24])
{
    const bool is_log = s == &p->log;
    int n = 0;
    args[n++] = "redis-server";
    add(args, &n, "--port", "0");
    add(args, &n, "--unixsocket", s->address + strlen("unix:"));
    add(args, &n, "--unixsocketperm", "700");
    add(args, &n, "--dir", p->directory);
    add(args, &n, "--databases", "1");
    add(args, &n, "--loglevel", "warning");
    snprintf(bytes, 24, "%llu",
             (unsigned long long)(is_log ? p->options.log_bytes : p->options.page_bytes));
    add(args, &n, "--maxmemory", bytes);
    if (is_log) {
        const cn_durability d = p->options.durability;
        add(args, &n, "--save", "");
        add(args, &n, "--maxmemory-policy", "noeviction");
        add(args, &n, "--appendonly", yes_if(d != CN_DURABILITY_MEMORY));
        add(args, &n, "--appendfsync", d >= CN_DURABILITY_FSYNC ? "always" : "no");
        add(args, &n, "--no-appendfsync-on-rewrite", "no");
        add(args, &n, "--aof-use-rdb-preamble", "yes");
        add(args, &n, "--auto-aof-rewrite-min-size", "256mb");
        add(args, &n, "--appenddirname", "log");
        add(args, &n, "--appendfilename", "log.aof");
    } else {
        add(args, &n, "--maxmemory-policy", "allkeys-lfu");
        add(args, &n, "--lfu-decay-time", "1");
        add(args, &n, "--maxmemory-samples", "10");
        add(args, &n, "--lazyfree-lazy-eviction", "yes");
        add(args, &n, "--appendonly", "no");
        // Three years: in truth only when it ends, for a server that may save does so at SIGTERM.
        add(args, &n, "--save", "100000000 1");
        add(args, &n, "--dbfilename", "pages.rdb");
        add(args, &n, "--rdbcompression", "no");
        add(args, &n, "--rdbchecksum", "no");    // each page has its own
    }
    args[n] = NULL;
}

// In the child, between fork and exec: only what is safe there.
static _Noreturn void become_server(const char **args, int lock, int exec_pipe, int output,
                                    pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    const int input = open("/dev/null", O_RDONLY);
    // By a high place: their numbers may be ones that are about to be used.
    const int high = fcntl(exec_pipe, F_DUPFD_CLOEXEC, 64), high_lock = fcntl(lock, F_DUPFD, 64);
    const bool good = getppid() == parent && setpgid(0, 0) == 0 &&
                      sigprocmask(SIG_SETMASK, &none, NULL) == 0 && input >= 0 && high >= 0 &&
                      high_lock >= 0 && dup2(output, STDOUT_FILENO) >= 0 &&
                      dup2(output, STDERR_FILENO) >= 0 && dup2(input, STDIN_FILENO) >= 0 &&
                      dup2(high_lock, LOCK_FD) >= 0 && dup3(high, EXEC_FD, O_CLOEXEC) >= 0 &&
                      close_range(EXEC_FD + 1, ~0u, 0) == 0;
    if (good) execvp(args[0], (char **)(uintptr_t)args);
    const int failure = errno;
    const ssize_t written = write(good ? EXEC_FD : exec_pipe, &failure, sizeof failure);
    (void)written;
    _exit(127);
}

// What a server left behind that was ended while it wrote a file.
static void remove_leftovers(const cn_redis_private *p, const server *s)
{
    DIR *directory = opendir(p->directory);
    if (!directory) return;
    for (const struct dirent *entry; (entry = readdir(directory));) {
        const char *name = entry->d_name;
        const bool is_log = strncmp(name, "temp-rewriteaof", 15) == 0;
        if (strncmp(name, "temp-", 5) == 0 && is_log == (s == &p->log)) {
            unlinkat(dirfd(directory), name, 0);
        }
    }
    closedir(directory);
}

static int open_output(const cn_redis_private *p, const server *s)
{
    char path[PATH_BYTES];
    struct stat status;
    write_path(p, s->name, ".txt", path);
    const int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd >= 0 && fstat(fd, &status) == 0 && status.st_size > LOG_FILE_BYTES_MAX) {
        const int cut = ftruncate(fd, 0);
        (void)cut;                   // then it grows until the next start
    }
    return fd;
}

static cn_code explain_exec(int failure, cn_err *err)
{
    if (failure == ENOENT)
        return cn_err_set(
            err, CN_E_IO,
            "redis-server is not installed (Debian: apt-get install redis-server); or name "
            "servers that run already (state.log, state.pages)");
    return cn_err_set(err, CN_E_IO, "redis-server cannot be started: %s", strerror(failure));
}

static cn_code start(cn_redis_private *p, server *s, int signal_number, int patience_ms,
                     cn_err *err)
{
    const char *args[ARGUMENT_MAX];
    char bytes[24];
    int pipe_fds[2] = {-1, -1}, failure = 0, output = -1;
    const pid_t parent = getpid();
    const int lock = lock_server(p, s->name, signal_number, patience_ms, err);
    if (lock < 0) return CN_E_IO;
    remove_leftovers(p, s);
    write_arguments(p, s, args, bytes);
    output = open_output(p, s);
    pid_t pid = -1;
    if (output >= 0 && pipe2(pipe_fds, O_CLOEXEC) == 0) pid = fork();
    if (pid == 0) become_server(args, lock, pipe_fds[1], output, parent);
    if (pid < 0) failure = errno;
    if (pid > 0) write_pid(lock, pid);
    close(lock);
    if (output >= 0) close(output);
    if (pipe_fds[1] >= 0) close(pipe_fds[1]);
    if (pid > 0) {
        // Ends without a byte when exec has closed the other side.
        const ssize_t got = read(pipe_fds[0], &failure, sizeof failure);
        if (got > 0) waitpid(pid, NULL, 0);
        else failure = 0;
    }
    if (pipe_fds[0] >= 0) close(pipe_fds[0]);
    if (failure) return explain_exec(failure, err);
    s->pid = pid;
    s->started_ns = cn_clock_now_ns(&p->options.clock);
    return CN_OK;
}

// ---- life

static cn_code make_directory(cn_redis_private *p, cn_err *err)
{
    const char *wanted = p->options.directory;
    char path[PATH_BYTES];
    if (strlen(wanted) + strlen("/pages.sock") + 1 > SOCKET_PATH_MAX)
        return cn_err_set(
            err, CN_E_INVALID,
            "state.directory: %s is too long; its Unix sockets' paths may have %d bytes", wanted,
            SOCKET_PATH_MAX);
    snprintf(path, sizeof path, "%s", wanted);
    for (char *at = path + 1; *at; at++) {       // parents, as mkdir -p
        if (*at != '/') continue;
        *at = '\0';
        mkdir(path, 0700);
        *at = '/';
    }
    struct stat status;
    const bool made = mkdir(path, 0700) == 0 || errno == EEXIST;
    if (!made || stat(path, &status) != 0 || !S_ISDIR(status.st_mode))
        return cn_err_set(err, CN_E_IO, "state.directory: %s: %s", wanted,
                          made ? "is not a directory" : strerror(errno));
    char *absolute = realpath(path, NULL);
    if (!absolute)
        return cn_err_set(err, CN_E_IO, "state.directory: %s: %s", wanted, strerror(errno));
    const bool fits = strlen(absolute) + strlen("/pages.sock") <= SOCKET_PATH_MAX;
    if (fits) snprintf(p->directory, sizeof p->directory, "%s", absolute);
    free(absolute);
    return fits ? CN_OK
                : cn_err_set(
                      err, CN_E_INVALID,
                      "state.directory: %s is too long; its Unix sockets' paths may have %d bytes",
                      wanted, SOCKET_PATH_MAX);
}

static cn_code lock_directory(cn_redis_private *p, cn_err *err)
{
    bool is_ours = false;
    p->lock = open_lock(p, "cairn", &is_ours);
    if (p->lock < 0)
        return cn_err_set(err, CN_E_IO, "state.directory: %s: %s", p->directory, strerror(errno));
    if (!is_ours)
        return cn_err_set(
            err, CN_E_IO,
            "state.directory: %s is in use by another cairn (process %d); give each its own",
            p->directory, (int)read_pid(p->lock));
    write_pid(p->lock, getpid());
    return CN_OK;
}

// Starts a server again that has ended, when it is time, or tries to.
static void tend(cn_redis_private *p, server *s)
{
    int status = 0;
    const uint64_t now = cn_clock_now_ns(&p->options.clock);
    if (s->pid > 0 && waitpid(s->pid, &status, WNOHANG) == s->pid) {
        const bool young = now - s->started_ns < YOUNG_NS;
        s->pause_ns = !young ? 0 : s->pause_ns ? s->pause_ns * 2 : PAUSE_MIN_NS;
        if (s->pause_ns > PAUSE_MAX_NS) s->pause_ns = PAUSE_MAX_NS;
        s->again_ns = now + s->pause_ns;
        s->pid = 0;
        char file[PATH_BYTES];
        write_path(p, s->name, ".txt", file);
        cn_log_event(p->options.logger, CN_LOG_WARN, "redis_ended", cn_log_text("role", s->name),
                     cn_log_number("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0),
                     cn_log_number("exit_code", WIFEXITED(status) ? WEXITSTATUS(status) : 0),
                     cn_log_text("see", file));
    }
    if (s->pid > 0 || now < s->again_ns) return;
    cn_err err = {0};
    const int signal_number = s->pause_ns < PAUSE_MAX_NS ? SIGTERM : SIGKILL;
    const bool again = s->started_ns != 0;
    if (start(p, s, signal_number, 0, &err) == CN_OK) {
        if (again) {
            cn_log_event(p->options.logger, CN_LOG_INFO, "redis_started",
                         cn_log_text("role", s->name), cn_log_number("pid", s->pid));
        }
        return;
    }
    s->pause_ns = s->pause_ns ? s->pause_ns * 2 : PAUSE_MIN_NS;
    if (s->pause_ns > PAUSE_MAX_NS) s->pause_ns = PAUSE_MAX_NS;
    s->again_ns = now + s->pause_ns;
    cn_log_event(p->options.logger, CN_LOG_WARN, "redis_not_started", cn_log_text("role", s->name),
                 cn_log_text("why", err.text));
}

cn_code cn_redis_private_open(const cn_redis_private_options *options, cn_redis_private **out,
                              cn_err *err)
{
    *out = NULL;
    if (options->durability == CN_DURABILITY_FSYNC_REPLICA)
        return cn_err_set(
            err, CN_E_INVALID,
            "state.durability: fsync+replica needs servers on two machines (state.log)");
    cn_redis_private *p = calloc(1, sizeof *p);
    if (!p) return cn_err_set(err, CN_E_MEMORY, "no memory for the private servers");
    *p = (cn_redis_private){
        .options = *options, .lock = -1, .log.name = "log", .pages.name = "pages"};
    cn_code code = make_directory(p, err);
    if (code == CN_OK) code = lock_directory(p, err);
    snprintf(p->log.address, sizeof p->log.address, "unix:%s/log.sock", p->directory);
    snprintf(p->pages.address, sizeof p->pages.address, "unix:%s/pages.sock", p->directory);
    if (code == CN_OK) code = start(p, &p->log, SIGTERM, 2 * END_MS, err);
    // The last one may still be writing its file, which may take long; nobody needs to wait for
    // that.
    if (code == CN_OK) tend(p, &p->pages);
    if (code != CN_OK) cn_redis_private_close(p);
    else *out = p;
    return code;
}

static void await_end(server *s)
{
    if (s->pid <= 0) return;
    for (int waited_ms = 0; waitpid(s->pid, NULL, WNOHANG) == 0; waited_ms += CHECK_MS) {
        if (waited_ms >= END_MS) kill(s->pid, SIGKILL);
        poll(NULL, 0, CHECK_MS);
    }
    s->pid = 0;
}

void cn_redis_private_close(cn_redis_private *p)
{
    if (!p) return;
    if (p->pages.pid > 0) kill(p->pages.pid, SIGTERM);
    if (p->log.pid > 0) kill(p->log.pid, SIGTERM);
    await_end(&p->log);
    await_end(&p->pages);
    if (p->lock >= 0) close(p->lock);
    free(p);
}

void cn_redis_private_tend(cn_redis_private *p)
{
    tend(p, &p->log);
    tend(p, &p->pages);
}

uint64_t cn_redis_private_due_ns(const cn_redis_private *p)
{
    uint64_t due = UINT64_MAX;
    if (p->log.pid == 0) due = p->log.again_ns;
    if (p->pages.pid == 0 && p->pages.again_ns < due) due = p->pages.again_ns;
    return due;
}

const char *cn_redis_private_log_address(const cn_redis_private *p) { return p->log.address; }
const char *cn_redis_private_pages_address(const cn_redis_private *p) { return p->pages.address; }
