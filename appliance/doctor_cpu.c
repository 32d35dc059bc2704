#include "appliance/doctor_int.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/host_tree.h"

#define CLOCK_SOURCE "/sys/devices/system/clocksource/clocksource0/"

// What an instruction set of the CPU backend needs (kernels/cpu/path_choose.c), best first.
static const struct {
    const char *path;
    const char *flags[8];
} paths[] = {
    {"avx512-bf16", {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_bf16"}},
    {"avx512", {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq"}},
    {"avx2", {"avx2", "fma", "f16c"}},
    {"portable", {NULL}},
};

enum { PATH_COUNT = sizeof paths / sizeof *paths, FLAGS_BYTES = 8192 };

static bool has_flag(const char *flags, const char *flag)
{
    const size_t len = strlen(flag);
    for (const char *at = flags; (at = strstr(at, flag)); at += len) {
        if ((at == flags || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0')) return true;
    }
    return false;
}

// The first flag that a path needs and the CPU lacks; NULL if it has all.
static const char *lacks(const char *flags, int path)
{
    for (int i = 0; i < 8 && paths[path].flags[i]; i++) {
        if (!has_flag(flags, paths[path].flags[i])) return paths[path].flags[i];
    }
    return NULL;
}

static bool read_flags(const cn_doctor_case *c, char flags[FLAGS_BYTES])
{
    if (!cn_host_tree_field(c->root, "/proc/cpuinfo", "flags", flags, FLAGS_BYTES)) return false;
    memmove(flags, flags + strspn(flags, ": "), strlen(flags + strspn(flags, ": ")) + 1);
    return true;
}

static bool look_at_features(const cn_doctor_case *c, cn_doctor_finding *f)
{
    char flags[FLAGS_BYTES];
    if (!read_flags(c, flags)) return false;
    const char *missing = lacks(flags, 2);
    if (!missing) {
        cn_doctor_say(f, CN_NIC_FINE, "has AVX2, FMA and F16C");
        return true;
    }
    cn_doctor_say(f, CN_NIC_POOR, "has no %s, so cpu.path is portable, several times slower", missing);
    cn_doctor_fix(f, "virt-xml GUEST --edit --cpu host-passthrough   # if this is a virtual machine");
    return true;
}

static bool look_at_path(const cn_doctor_case *c, cn_doctor_finding *f)
{
    char flags[FLAGS_BYTES];
    const char *wanted = c->settings->cpu_path;
    int path = 0, best = 0;
    if (!wanted[0] || !read_flags(c, flags)) return false;
    while (path < PATH_COUNT && strcmp(paths[path].path, wanted) != 0) path++;
    while (lacks(flags, best)) best++;
    const char *missing = path < PATH_COUNT ? lacks(flags, path) : "such a path";
    if (!missing) {
        cn_doctor_say(f, CN_NIC_FINE, "%s is served", wanted);
        return true;
    }
    cn_doctor_say(f, CN_NIC_BROKEN, "cpu.path: %.40s; this CPU has no %s", wanted, missing);
    cn_doctor_fix(f, "cairn serve --cpu.path %s", paths[best].path);
    return true;
}

static bool look_at_threads(const cn_doctor_case *c, cn_doctor_finding *f)
{
    if (!c->cpu_count) return false;
    if (c->thread_count <= c->cpu_count) {
        cn_doctor_say(f, CN_NIC_FINE, "%u of %u CPUs compute", c->thread_count, c->cpu_count);
        return true;
    }
    cn_doctor_say(f, CN_NIC_POOR, "cpu.threads: %u; there are %u CPUs, so threads wait for each other",
                  c->thread_count, c->cpu_count);
    cn_doctor_fix(f, "cairn serve --cpu.threads %u", c->cpu_count);
    return true;
}

static bool look_at_quota(const cn_doctor_case *c, cn_doctor_finding *f)
{
    char line[64];
    double quota, period;
    if (!cn_host_tree_line(c->root, line, sizeof line, "/sys/fs/cgroup%s/cpu.max", c->cgroup))
        return false;
    if (sscanf(line, "%lf %lf", &quota, &period) != 2 || quota >= period * c->thread_count) {
        cn_doctor_say(f, CN_NIC_FINE, "no quota below %u CPUs", c->thread_count);
        return true;
    }
    cn_doctor_say(f, CN_NIC_POOR, "the control group gets %.2f CPUs for %u threads: steps are stopped "
                  "half way", quota / period, c->thread_count);
    cn_doctor_fix(f, "systemctl set-property cairn.service CPUQuota=");
    return true;
}

static bool look_at_governor(const cn_doctor_case *c, cn_doctor_finding *f)
{
    static const char format[] = "/sys/devices/system/cpu/cpu%u/cpufreq/scaling_governor";
    char line[32];
    uint32_t seen = 0;
    for (uint32_t i = 0; i < c->cpu_count; i++) {
        if (!cn_host_tree_line(c->root, line, sizeof line, format, i)) continue;
        seen++;
        if (strcmp(line, "performance") == 0) continue;
        cn_doctor_say(f, CN_NIC_POOR, "CPU %u has the governor %s, so it is slow when work arrives", i,
                      line);
        cn_doctor_fix(f, "cpupower frequency-set -g performance");
        return true;
    }
    if (seen) cn_doctor_say(f, CN_NIC_FINE, "all CPUs have the governor performance");
    return seen > 0;
}

static bool look_at_clock_source(const cn_doctor_case *c, cn_doctor_finding *f)
{
    static const char *const slow[] = {"hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit"};
    char now[32], available[128] = "";
    if (!cn_host_tree_line(c->root, now, sizeof now, CLOCK_SOURCE "current_clocksource")) return false;
    bool is_slow = false;
    for (size_t i = 0; i < sizeof slow / sizeof *slow; i++) is_slow |= strcmp(now, slow[i]) == 0;
    cn_doctor_say(f, is_slow ? CN_NIC_POOR : CN_NIC_FINE, is_slow
                  ? "%s: each look at the clock is a call of the kernel, about 1 us" : "%s", now);
    cn_host_tree_line(c->root, available, sizeof available, CLOCK_SOURCE "available_clocksource");
    if (has_flag(available, "tsc"))
        cn_doctor_fix(f, "echo tsc > " CLOCK_SOURCE "current_clocksource");
    else
        cn_doctor_fix(f, "echo 'GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX tsc=reliable\"' >> "
                      "/etc/default/grub && update-grub && reboot");
    return true;
}

static bool look_at_time_sync(const cn_doctor_case *c, cn_doctor_finding *f)
{
    static const char *const signs[] = {"/run/systemd/timesync/synchronized", "/run/chrony/chronyd.pid",
                                        "/run/ntpd.pid", "/run/openntpd/openntpd.pid"};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
        if (!cn_host_tree_exists(c->root, "%s", signs[i])) continue;
        cn_doctor_say(f, CN_NIC_FINE, "%s is there", signs[i]);
        return true;
    }
    cn_doctor_say(f, CN_NIC_POOR, "nothing keeps the clock: times in logs and of turns drift apart "
                  "between appliances");
    cn_doctor_fix(f, "apt-get install -y systemd-timesyncd && timedatectl set-ntp true");
    return true;
}

static bool look_at_vulnerabilities(const cn_doctor_case *c, cn_doctor_finding *f)
{
    static const char directory[] = "/sys/devices/system/cpu/vulnerabilities";
    char path[512], line[256];
    snprintf(path, sizeof path, "%s%s", c->root, directory);
    DIR *entries = opendir(path);
    if (!entries) return false;
    cn_doctor_say(f, CN_NIC_FINE, "the kernel guards against what is known");
    for (const struct dirent *entry; (entry = readdir(entries));) {
        if (!cn_host_tree_line(c->root, line, sizeof line, "%s/%s", directory, entry->d_name)) continue;
        if (strncmp(line, "Vulnerable", 10) != 0) continue;
        cn_doctor_say(f, CN_NIC_POOR, "%.40s: %.120s", entry->d_name, line);
        cn_doctor_fix(f, "apt-get install -y intel-microcode amd64-microcode && reboot");
        break;
    }
    closedir(entries);
    return true;
}

static const cn_doctor_check checks[] = {
    {"cpu_features", "instruction sets that the CPU backend is quick with", look_at_features},
    {"cpu_path", "whether the CPU has what cpu.path names", look_at_path},
    {"cpu_threads", "cpu.threads against the CPUs that there are", look_at_threads},
    {"cpu_quota", "CPU time that the control group leaves", look_at_quota},
    {"cpu_governor", "whether CPUs wait at full speed", look_at_governor},
    {"clock_source", "what it costs to read the clock", look_at_clock_source},
    {"clock_sync", "whether something keeps the clock right", look_at_time_sync},
    {"cpu_holes", "known holes of the CPU that are open", look_at_vulnerabilities},
};

const cn_doctor_group cn_doctor_cpu = {"Processor and clock", checks, sizeof checks / sizeof *checks};
