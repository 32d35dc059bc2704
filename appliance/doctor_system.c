#include "appliance/doctor_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/host_tree.h"

// Soft limit of a line of /proc/self/limits; UINT64_MAX is unlimited. False: it is not there.
static bool limit(const cn_doctor_case *c, const char *name, uint64_t *out)
{
    char value[128];
    if (!cn_host_tree_field(c->root, "/proc/self/limits", name, value, sizeof value)) return false;
    *out = strncmp(value, "unlimited", 9) == 0 ? UINT64_MAX : strtoull(value, NULL, 10);
    return true;
}

// Whether a limit that systemd and shells set is high enough; the repair is for the service.
static bool enough(const cn_doctor_case *c, cn_doctor_finding *f, const char *name, uint64_t need,
                   const char *directive, const char *why)
{
    uint64_t have;
    char number[24] = "infinity";
    if (!limit(c, name, &have)) return false;
    if (need != UINT64_MAX) snprintf(number, sizeof number, "%" PRIu64, need);
    if (have >= need) {
        cn_doctor_say(f, CN_NIC_FINE, "enough are allowed");
        return true;
    }
    cn_doctor_say(f, CN_NIC_BROKEN, "%" PRIu64 " are allowed, %s needed: %s", have, number, why);
    cn_doctor_fix(f, "mkdir -p /etc/systemd/system/cairn.service.d && printf '[Service]\\n%s=%s\\n' > "
                  "/etc/systemd/system/cairn.service.d/%s.conf && systemctl daemon-reload", directive,
                  number, directive);
    return true;
}

static bool look_at_kernel(const cn_doctor_case *c, cn_doctor_finding *f)
{
    char line[128];
    unsigned major, minor;
    if (!cn_host_tree_line(c->root, line, sizeof line, "/proc/sys/kernel/osrelease")) return false;
    if (sscanf(line, "%u.%u", &major, &minor) != 2) return false;
    const bool fine = major > 5 || (major == 5 && minor >= 10);
    cn_doctor_say(f, fine ? CN_NIC_FINE : CN_NIC_POOR, fine ? "Linux %.80s"
                  : "Linux %.80s; Cairn is tested on 5.10 and later", line);
    cn_doctor_fix(f, "apt-get update && apt-get install -y linux-image-amd64 && reboot");
    return true;
}

static bool look_at_files(const cn_doctor_case *c, cn_doctor_finding *f)
{
    // Beside connections: the model's files, the log, rings' wakes, connections to the store.
    return enough(c, f, "Max open files", c->settings->limits.connections + 256, "LimitNOFILE",
                  "limits.connections and 256 for itself");
}

static bool look_at_processes(const cn_doctor_case *c, cn_doctor_finding *f)
{
    return enough(c, f, "Max processes", c->thread_count + 64u, "LimitNPROC",
                  "one per thread, and the private servers");
}

static bool look_at_memlock(const cn_doctor_case *c, cn_doctor_finding *f)
{
    const bool has_card = c->is_dpdk && strncmp(c->settings->dpdk_device, "net_", 4) != 0;
    if (!has_card && strcmp(c->settings->backend, "cuda") != 0) return false;
    return enough(c, f, "Max locked memory", UINT64_MAX, "LimitMEMLOCK",
                  "a device reads and writes memory that must stay where it is");
}

static bool look_at_tasks(const cn_doctor_case *c, cn_doctor_finding *f)
{
    char line[64];
    const uint64_t need = c->thread_count + 64u;
    if (!cn_host_tree_line(c->root, line, sizeof line, "/sys/fs/cgroup%s/pids.max", c->cgroup))
        return false;
    const uint64_t most = strcmp(line, "max") == 0 ? UINT64_MAX : strtoull(line, NULL, 10);
    cn_doctor_say(f, most >= need ? CN_NIC_FINE : CN_NIC_BROKEN, "the control group allows %s tasks; %"
                  PRIu64 " are needed", line, need);
    if (most < need)
        cn_doctor_fix(f, "systemctl set-property cairn.service TasksMax=%" PRIu64, need);
    return true;
}

static bool look_at_file_max(const cn_doctor_case *c, cn_doctor_finding *f)
{
    return cn_doctor_sysctl_least(c, f, "fs.file-max", c->settings->limits.connections * 2 + 4096,
                                  "the machine runs out of files before limits.connections is reached");
}

static bool look_at_core(const cn_doctor_case *c, cn_doctor_finding *f)
{
    uint64_t bytes;
    if (!limit(c, "Max core file size", &bytes)) return false;
    cn_doctor_say(f, bytes ? CN_NIC_POOR : CN_NIC_FINE, bytes
                  ? "a crash would write prompts, answers and keys to a file" : "none is written");
    cn_doctor_fix(f, "mkdir -p /etc/systemd/system/cairn.service.d && printf '[Service]\\nLimitCORE=0\\n'"
                  " > /etc/systemd/system/cairn.service.d/core.conf && systemctl daemon-reload");
    return true;
}

static bool look_at_aslr(const cn_doctor_case *c, cn_doctor_finding *f)
{
    return cn_doctor_sysctl(c, f, "kernel.randomize_va_space", 2,
                            "addresses can be guessed, which makes a fault in memory worth more");
}

static bool look_at_ptrace(const cn_doctor_case *c, cn_doctor_finding *f)
{
    return cn_doctor_sysctl_least(c, f, "kernel.yama.ptrace_scope", 1,
                                  "every process of the same user can read prompts from memory");
}

static bool look_at_links(const cn_doctor_case *c, cn_doctor_finding *f)
{
    return cn_doctor_sysctl(c, f, "fs.protected_symlinks", 1,
                            "others may lead what is written in shared directories elsewhere");
}

static bool look_at_entropy(const cn_doctor_case *c, cn_doctor_finding *f)
{
    uint64_t bits;
    if (!cn_host_tree_number(c->root, "/proc/sys/kernel/random/entropy_avail", &bits)) return false;
    const bool enough_bits = bits >= 128;
    cn_doctor_say(f, enough_bits ? CN_NIC_FINE : CN_NIC_POOR, enough_bits ? "%" PRIu64 " bits"
                  : "%" PRIu64 " bits: the start may wait, since ids are drawn from the system", bits);
    cn_doctor_fix(f, "apt-get install -y rng-tools5");
    return true;
}

static const cn_doctor_check checks[] = {
    {"kernel", "the kernel's version", look_at_kernel},
    {"open_files", "files that a process may open", look_at_files},
    {"processes", "threads that the user may have", look_at_processes},
    {"memlock", "memory that may be locked, for devices", look_at_memlock},
    {"tasks", "threads that the control group allows", look_at_tasks},
    {"file_max", "files that the machine may open", look_at_file_max},
    {"core_dumps", "whether a crash writes memory to a file", look_at_core},
    {"aslr", "whether addresses are random", look_at_aslr},
    {"ptrace", "whether others may read the process's memory", look_at_ptrace},
    {"symlinks", "whether links in shared directories are followed", look_at_links},
    {"entropy", "whether the system has random bits", look_at_entropy},
};

const cn_doctor_group cn_doctor_system = {"System", checks, sizeof checks / sizeof *checks};
