#include "appliance/doctor_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/host_tree.h"

static const uint64_t MIB = 1 << 20;

// A line of /proc/meminfo; 0 if it is not there. Most count KiB, some pages.
static uint64_t meminfo(const cn_doctor_case *c, const char *field)
{
    char value[64];
    if (!cn_host_tree_field(c->root, "/proc/meminfo", field, value, sizeof value)) return 0;
    return strtoull(value, NULL, 10);
}

// What the configuration will take: weights, pages, and the private servers' shares.
static uint64_t needed_bytes(const cn_doctor_case *c)
{
    const cn_config_settings *s = c->settings;
    uint64_t bytes = cn_doctor_model_bytes(s) + s->kv_bytes + s->kv_host_bytes + s->state_cache_bytes;
    if (c->has_private_store) {
        bytes += s->state_log_bytes ? s->state_log_bytes : c->memory_bytes / 64;
        bytes += s->state_page_bytes ? s->state_page_bytes : c->memory_bytes / 8;
    }
    return bytes;
}

static void fix_need(const cn_doctor_case *c, cn_doctor_finding *f)
{
    if (cn_doctor_model_bytes(c->settings) * 4 > c->memory_bytes * 3)
        cn_doctor_fix(f, "cairn serve --model DIR   # of a smaller model");
    else cn_doctor_fix(f, "cairn serve --kv.bytes 0 --kv.host_bytes 0 --state.log_bytes 0 "
                       "--state.page_bytes 0   # the sizes that fit this machine");
}

static bool look_at_memory(const cn_doctor_case *c, cn_doctor_finding *f)
{
    const uint64_t need = needed_bytes(c), available = meminfo(c, "MemAvailable:") * 1024;
    if (!c->memory_bytes) return false;
    const bool fits = need <= c->memory_bytes, fits_now = need <= available;
    cn_doctor_say(f, fits_now ? CN_NIC_FINE : fits ? CN_NIC_POOR : CN_NIC_BROKEN,
                  "%llu MiB are wanted (weights, kv.*, state.*); the machine has %llu, %llu of them free",
                  (unsigned long long)(need / MIB), (unsigned long long)(c->memory_bytes / MIB),
                  (unsigned long long)(available / MIB));
    if (fits) cn_doctor_fix(f, "ps -eo pid,rss,comm --sort -rss | head   # shows who has it");
    else fix_need(c, f);
    return true;
}

static bool look_at_cgroup(const cn_doctor_case *c, cn_doctor_finding *f)
{
    char line[64];
    const uint64_t need = needed_bytes(c);
    if (!cn_host_tree_line(c->root, line, sizeof line, "/sys/fs/cgroup%s/memory.max", c->cgroup))
        return false;
    const uint64_t most = strcmp(line, "max") == 0 ? UINT64_MAX : strtoull(line, NULL, 10);
    if (need <= most) {
        cn_doctor_say(f, CN_NIC_FINE, "the control group allows what is wanted");
        return true;
    }
    cn_doctor_say(f, CN_NIC_BROKEN, "the control group allows %llu MiB of %llu wanted: the kernel will "
                  "end the process", (unsigned long long)(most / MIB), (unsigned long long)(need / MIB));
    cn_doctor_fix(f, "systemctl set-property cairn.service MemoryMax=infinity");
    return true;
}

static bool look_at_swap(const cn_doctor_case *c, cn_doctor_finding *f)
{
    uint64_t swappiness;
    if (!cn_host_tree_number(c->root, "/proc/sys/vm/swappiness", &swappiness)) return false;
    const bool swaps = meminfo(c, "SwapTotal:") > 0 && swappiness > 10;
    cn_doctor_say(f, swaps ? CN_NIC_POOR : CN_NIC_FINE, swaps
                  ? "vm.swappiness is %llu, with swap: pages of Redis and weights may go to disk"
                  : "vm.swappiness is %llu", (unsigned long long)swappiness);
    cn_doctor_fix(f, "sysctl -w vm.swappiness=1");
    return true;
}

static bool look_at_huge(const cn_doctor_case *c, cn_doctor_finding *f, const char *name,
                         const char *harm)
{
    char line[128];
    if (!cn_host_tree_line(c->root, line, sizeof line, "/sys/kernel/mm/transparent_hugepage/%s", name))
        return false;
    const bool always = strstr(line, "[always]") != NULL;
    cn_doctor_say(f, always ? CN_NIC_POOR : CN_NIC_FINE, "%.60s%s", line, always ? harm : "");
    cn_doctor_fix(f, "echo madvise > /sys/kernel/mm/transparent_hugepage/%s", name);
    return true;
}

static bool look_at_thp(const cn_doctor_case *c, cn_doctor_finding *f)
{
    return look_at_huge(c, f, "enabled", ": Redis copies 2 MiB for every byte that is written while it "
                        "saves");
}

static bool look_at_thp_defrag(const cn_doctor_case *c, cn_doctor_finding *f)
{
    return look_at_huge(c, f, "defrag", ": taking memory stops until the kernel has moved others'");
}

static bool look_at_numa(const cn_doctor_case *c, cn_doctor_finding *f)
{
    if (!cn_host_tree_exists(c->root, "/sys/devices/system/node/node1")) return false;
    return cn_doctor_sysctl(c, f, "kernel.numa_balancing", 0,
                            "weights and pages are moved between nodes while they are read");
}

static bool look_at_reclaim(const cn_doctor_case *c, cn_doctor_finding *f)
{
    return cn_doctor_sysctl(c, f, "vm.zone_reclaim_mode", 0,
                            "the mapped checkpoint is thrown out while another node has room");
}

static bool look_at_overcommit(const cn_doctor_case *c, cn_doctor_finding *f)
{
    if (!c->has_private_store) return false;
    return cn_doctor_sysctl(c, f, "vm.overcommit_memory", 1,
                            "Redis cannot save or rewrite its file when half of the memory is in use");
}

static bool look_at_maps(const cn_doctor_case *c, cn_doctor_finding *f)
{
    return cn_doctor_sysctl_least(c, f, "vm.max_map_count", 65530,
                                  "a checkpoint of many files may not be mapped");
}

static bool look_at_idle_pages(const cn_doctor_case *c, cn_doctor_finding *f)
{
    const uint64_t pages = meminfo(c, "HugePages_Total:"), size_kib = meminfo(c, "Hugepagesize:");
    if (c->is_dpdk || !size_kib) return false;
    cn_doctor_say(f, pages ? CN_NIC_POOR : CN_NIC_FINE, pages
                  ? "%llu MiB are set aside as huge pages, which only transport dpdk uses"
                  : "%llu MiB are set aside", (unsigned long long)(pages * size_kib / 1024));
    cn_doctor_fix(f, "sysctl -w vm.nr_hugepages=0");
    return true;
}

static bool look_at_errors(const cn_doctor_case *c, cn_doctor_finding *f)
{
    char line[32];
    uint32_t controllers = 0;
    for (uint32_t i = 0; i < 64; i++) {
        if (!cn_host_tree_line(c->root, line, sizeof line, "/sys/devices/system/edac/mc/mc%u/ue_count",
                               i))
            continue;
        controllers++;
        if (strtoull(line, NULL, 10) == 0) continue;
        cn_doctor_say(f, CN_NIC_BROKEN, "controller %u had %s errors that could not be corrected: bits "
                      "of answers are not to be trusted", i, line);
        cn_doctor_fix(f, "edac-util --verbose   # names the module to exchange");
        return true;
    }
    if (controllers) cn_doctor_say(f, CN_NIC_FINE, "%u controllers had no error", controllers);
    return controllers > 0;
}

static const cn_doctor_check checks[] = {
    {"memory", "whether weights, pages and Redis fit", look_at_memory},
    {"memory_cgroup", "memory that the control group allows", look_at_cgroup},
    {"swap", "whether the kernel likes to swap", look_at_swap},
    {"thp", "transparent huge pages, which slow Redis down", look_at_thp},
    {"thp_defrag", "whether taking memory waits for huge pages", look_at_thp_defrag},
    {"numa_balancing", "whether memory is moved between nodes", look_at_numa},
    {"zone_reclaim", "whether near memory is emptied first", look_at_reclaim},
    {"overcommit", "whether Redis may fork when it saves", look_at_overcommit},
    {"memory_maps", "how many files a process may map", look_at_maps},
    {"idle_pages", "huge pages that nobody will use", look_at_idle_pages},
    {"memory_errors", "errors of the memory itself", look_at_errors},
};

const cn_doctor_group cn_doctor_memory = {"Memory", checks, sizeof checks / sizeof *checks};
