#include "appliance/doctor_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "model/checkpoint.h"

static const uint64_t MIB = 1 << 20;

// ---- what others may do with a file

/* That others can neither read nor change it. Root owns what an operator installs, so whose it is
 * does not matter. */
static bool secret_file(const char *path, const char *key, cn_doctor_finding *f)
{
    struct stat st;
    if (!path[0]) return false;
    if (stat(path, &st) != 0) {
        cn_doctor_say(f, CN_NIC_BROKEN, "%s: %.160s: %s", key, path, strerror(errno));
        cn_doctor_fix(f, "install -m 600 /dev/null %.160s   # and write it there", path);
        return true;
    }
    const bool shut = (st.st_mode & 0027) == 0;
    cn_doctor_say(f, shut ? CN_NIC_FINE : CN_NIC_POOR, "%s: %.160s has mode %03o%s", key, path,
                  st.st_mode & 0777, shut ? "" : ", so others can read or change it");
    cn_doctor_fix(f, "chmod 640 %.200s", path);
    return true;
}

static bool look_at_keys_file(const cn_doctor_case *c, cn_doctor_finding *f)
{
    return secret_file(c->settings->api_keys_file, "api_keys_file", f);
}

static bool look_at_password_file(const cn_doctor_case *c, cn_doctor_finding *f)
{
    return secret_file(c->settings->state_password_file, "state.password_file", f);
}

static bool look_at_config(const cn_doctor_case *c, cn_doctor_finding *f)
{
    struct stat st;
    if (!c->config_path[0] || stat(c->config_path, &st) != 0) return false;
    const bool has_keys = c->settings->api_key_count && !c->settings->api_keys_file[0];
    if (has_keys && st.st_mode & 0007) {
        cn_doctor_say(f, CN_NIC_POOR, "%.160s has API keys in it and mode %03o", c->config_path,
                      st.st_mode & 0777);
        cn_doctor_fix(f, "chmod 640 %.200s", c->config_path);
    } else if (st.st_mode & 0022) {
        cn_doctor_say(f, CN_NIC_POOR, "%.160s has mode %03o, so others decide how Cairn runs",
                      c->config_path, st.st_mode & 0777);
        cn_doctor_fix(f, "chmod go-w %.200s", c->config_path);
    } else {
        cn_doctor_say(f, CN_NIC_FINE, "%.160s has mode %03o", c->config_path, st.st_mode & 0777);
    }
    return true;
}

// ---- the model

static bool look_at_model(const cn_doctor_case *c, cn_doctor_finding *f)
{
    const char *directory = c->settings->model;
    cn_checkpoint *checkpoint;
    cn_err err;
    if (!directory[0]) return false;
    const cn_code code = cn_checkpoint_open(directory, &checkpoint, &err);
    if (code == CN_OK) {
        cn_doctor_say(f, CN_NIC_FINE, "%.160s is a %s of %llu million parameters", directory,
                      cn_checkpoint_family(checkpoint),
                      (unsigned long long)cn_checkpoint_parameter_count(checkpoint) / 1000000);
        cn_checkpoint_close(checkpoint);
        return true;
    }
    cn_doctor_say(f, CN_NIC_BROKEN, "%.240s", err.text);
    if (code == CN_E_IO) cn_doctor_fix(f, "ls -l %.200s   # and copy what is missing", directory);
    else cn_doctor_fix(f, "sha256sum %.160s/*.safetensors   # against the publisher's; copy again",
                       directory);
    return true;
}

static bool look_at_model_mode(const cn_doctor_case *c, cn_doctor_finding *f)
{
    struct stat st;
    const char *directory = c->settings->model;
    if (!directory[0] || stat(directory, &st) != 0) return false;
    const bool shut = !(st.st_mode & 0002);
    cn_doctor_say(f, shut ? CN_NIC_FINE : CN_NIC_POOR, shut ? "%.160s is its owner's"
                  : "%.160s may be written by everybody, template and weights with it", directory);
    cn_doctor_fix(f, "chmod -R o-w %.200s", directory);
    return true;
}

uint64_t cn_doctor_model_bytes(const cn_config_settings *settings)
{
    char path[1100];
    uint64_t bytes = 0;
    struct stat st;
    if (!settings->model[0]) return 0;
    snprintf(path, sizeof path, "%.1000s/model.safetensors", settings->model);
    if (stat(path, &st) == 0) return (uint64_t)st.st_size;
    for (unsigned i = 1; i < 1000; i++) {            // shards: model-00001-of-00004.safetensors
        unsigned count = i;
        for (; count < 1000; count++) {
            snprintf(path, sizeof path, "%.1000s/model-%05u-of-%05u.safetensors", settings->model,
                     i, count);
            if (stat(path, &st) == 0) break;
        }
        if (count == 1000) break;
        bytes += (uint64_t)st.st_size;
    }
    return bytes;
}

// ---- directories that the server writes to

/* That the directory can be written to, or made where it is not there yet. */
static void writable(const char *directory, cn_doctor_finding *f)
{
    struct stat st;
    const bool there = stat(directory, &st) == 0;
    const int why = errno;
    if (there && S_ISDIR(st.st_mode) && access(directory, W_OK | X_OK) == 0) {
        cn_doctor_say(f, CN_NIC_FINE, "%.200s is there", directory);
    } else if (!there && why == ENOENT) {
        cn_doctor_say(f, CN_NIC_FINE, "%.200s will be made", directory);
    } else {
        cn_doctor_say(f, CN_NIC_BROKEN, "%.160s: %s", directory,
                      !there ? strerror(why) : S_ISDIR(st.st_mode) ? "cannot be written to"
                                                                    : "is no directory");
        if (there && !S_ISDIR(st.st_mode))
            cn_doctor_fix(f, "mv %.100s %.100s.old", directory, directory);
        else cn_doctor_fix(f, "install -d -o cairn -g cairn -m 750 %.160s", directory);
    }
}

static bool look_at_run(const cn_doctor_case *c, cn_doctor_finding *f)
{
    writable(c->settings->run_directory, f);
    return true;
}

static bool look_at_state(const cn_doctor_case *c, cn_doctor_finding *f)
{
    if (!c->has_private_store) return false;
    writable(c->state_directory, f);
    return true;
}

static bool look_at_state_mode(const cn_doctor_case *c, cn_doctor_finding *f)
{
    struct stat st;
    if (!c->has_private_store || stat(c->state_directory, &st) != 0 || !S_ISDIR(st.st_mode)) return false;
    const bool shut = (st.st_mode & 0007) == 0;
    cn_doctor_say(f, shut ? CN_NIC_FINE : CN_NIC_POOR, "%.160s has mode %03o%s", c->state_directory,
                  st.st_mode & 0777, shut ? "" : ": others can read conversations");
    cn_doctor_fix(f, "chmod 700 %.200s", c->state_directory);
    return true;
}

// The state directory, or the nearest one above it that is there: on the same disk.
static void existing_directory(const cn_doctor_case *c, char out[1024])
{
    snprintf(out, 1024, "%s", c->state_directory);
    for (char *slash; access(out, F_OK) != 0 && (slash = strrchr(out, '/'));) {
        if (slash == out) slash++;
        *slash = '\0';
        if (slash == out + 1) break;
    }
}

static bool look_at_space(const cn_doctor_case *c, cn_doctor_finding *f)
{
    char directory[1024];
    struct statfs fs;
    if (!c->has_private_store) return false;
    existing_directory(c, directory);
    if (statfs(directory, &fs) != 0) return false;
    const uint64_t log = c->settings->state_log_bytes ? c->settings->state_log_bytes
                                                      : c->memory_bytes / 64;
    const uint64_t pages = c->settings->state_page_bytes ? c->settings->state_page_bytes
                                                         : c->memory_bytes / 8;
    // The log's file and the new one while it is rewritten, and the pages' file.
    const uint64_t need = 2 * log + pages, have = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
    const cn_nic_health health = have >= need ? CN_NIC_FINE : have >= log ? CN_NIC_POOR : CN_NIC_BROKEN;
    cn_doctor_say(f, health, "%llu MiB are free in %.120s; turns and pages take up to %llu",
                  (unsigned long long)(have / MIB), directory, (unsigned long long)(need / MIB));
    cn_doctor_fix(f, "cairn serve --state.log_bytes %lluM --state.page_bytes %lluM",
                  (unsigned long long)(have / 4 / MIB + 1), (unsigned long long)(have / 4 / MIB + 1));
    return true;
}

static bool look_at_medium(const cn_doctor_case *c, cn_doctor_finding *f)
{
    static const struct { long magic; const char *name, *harm; } media[] = {
        {0x01021994, "tmpfs", "is memory: what is stored there is gone after a reboot"},
        {(long)0x858458f6, "ramfs", "is memory: what is stored there is gone after a reboot"},
        {0x6969, "NFS", "may acknowledge what no disk has, and its locks may outlive a machine"},
        {(long)0xff534d42, "CIFS", "may acknowledge what no disk has"},
        {(long)0xfe534d42, "SMB", "may acknowledge what no disk has"},
    };
    char directory[1024];
    struct statfs fs;
    if (!c->has_private_store || strcmp(c->settings->state_durability, "memory") == 0) return false;
    existing_directory(c, directory);
    if (statfs(directory, &fs) != 0) return false;
    cn_doctor_say(f, CN_NIC_FINE, "%.200s is on a disk", directory);
    for (size_t i = 0; i < sizeof media / sizeof *media; i++) {
        if (((long)fs.f_type & 0xffffffffL) != (media[i].magic & 0xffffffffL)) continue;
        cn_doctor_say(f, CN_NIC_POOR, "%.120s is on %s, which %s", directory, media[i].name, media[i].harm);
        cn_doctor_fix(f, "cairn serve --state.directory /var/lib/cairn");
    }
    return true;
}

enum { SYNC_COUNT = 5, SYNC_MS_MAX = 20 };

static int compare_u64(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

// The median time of some small synced writes to a file that has no name; 0: errno says why not.
static uint64_t measure_sync_ns(const char *directory)
{
    const cn_clock clock = cn_clock_system();
    uint64_t times[SYNC_COUNT] = {0};
    const char block[4096] = {0};
    const int fd = open(directory, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
    bool done = fd >= 0;
    for (int i = 0; i < SYNC_COUNT && done; i++) {
        const uint64_t start_ns = cn_clock_now_ns(&clock);
        done = write(fd, block, sizeof block) == (ssize_t)sizeof block && fdatasync(fd) == 0;
        times[i] = cn_clock_now_ns(&clock) - start_ns + 1;
    }
    if (fd >= 0) close(fd);
    qsort(times, SYNC_COUNT, sizeof *times, compare_u64);
    return done ? times[SYNC_COUNT / 2] : 0;
}

/* Every acknowledged turn waits for one disk sync (state.durability: fsync). Disks with a battery or
 * capacitors take below 1 ms, good ones without 2 to 10. */
static bool look_at_sync(const cn_doctor_case *c, cn_doctor_finding *f)
{
    char directory[1024];
    if (!c->has_private_store || strncmp(c->settings->state_durability, "fsync", 5) != 0) return false;
    existing_directory(c, directory);
    const uint64_t ns = measure_sync_ns(directory);
    if (!ns && (errno == EOPNOTSUPP || errno == EISDIR || errno == EACCES || errno == EROFS)) return false;
    if (!ns) {
        cn_doctor_say(f, CN_NIC_BROKEN, "%.120s: a synced write: %s", directory, strerror(errno));
        cn_doctor_fix(f, "df -h %.160s   # and make room, or change state.directory", directory);
        return true;
    }
    const bool quick = ns < SYNC_MS_MAX * UINT64_C(1000000);
    cn_doctor_say(f, quick ? CN_NIC_FINE : CN_NIC_POOR, "a synced write takes %.2f ms in %.120s%s",
                  (double)ns / 1e6, directory, quick ? "" : ", and each turn waits for one");
    cn_doctor_fix(f, "cairn serve --state.directory DIR   # on a disk that keeps writes over a power "
                  "loss; or --state.durability process");
    return true;
}

// The program of the private servers, where execvp will look for it.
static bool look_at_server(const cn_doctor_case *c, cn_doctor_finding *f)
{
    char path[1024];
    const char *at = getenv("PATH");
    bool found = false;
    if (!c->has_private_store) return false;
    for (size_t len; at && *at && !found; at += len + (at[len] == ':')) {
        len = strcspn(at, ":");
        snprintf(path, sizeof path, "%.*s/redis-server", (int)(len < 900 ? len : 900), at);
        found = access(path, X_OK) == 0;
    }
    if (found) cn_doctor_say(f, CN_NIC_FINE, "%.200s", path);
    else cn_doctor_say(f, CN_NIC_BROKEN, "redis-server is not installed, so no turn is stored");
    cn_doctor_fix(f, "apt-get install -y redis-server");
    return true;
}

static const cn_doctor_check checks[] = {
    {"config_file", "who may read and change the configuration", look_at_config},
    {"keys_file", "who may read the API keys", look_at_keys_file},
    {"password_file", "who may read the password for Redis", look_at_password_file},
    {"model", "whether the checkpoint can be served", look_at_model},
    {"model_mode", "who may change the checkpoint", look_at_model_mode},
    {"run_directory", "directory for sockets", look_at_run},
    {"redis_server", "the program that keeps turns and pages", look_at_server},
    {"state_dir", "directory of the private servers", look_at_state},
    {"state_mode", "who may read stored conversations", look_at_state_mode},
    {"state_space", "room on the disk for turns and pages", look_at_space},
    {"state_medium", "whether what is stored outlives a reboot", look_at_medium},
    {"disk_sync", "how long a synced write takes", look_at_sync},
};

const cn_doctor_group cn_doctor_files = {"Files and disks", checks, sizeof checks / sizeof *checks};
