#include "dataplane/nic_eal_int.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <rte_pci.h>

/* How it works. The EAL is started without devices, and the port plugs its device in afterwards: a
 * device that cannot be used is then an error of its own, with what DPDK wrote about it, and ports can
 * be opened and closed in one process. Only a PCI device has to be named at the start, because
 * otherwise the EAL would take every device that is bound to vfio. rte_eal_init pins the thread that
 * calls it; its affinity is put back. What DPDK logs is kept for error texts and goes nowhere else. */

enum { EAL_ARGUMENT_MAX = 64 };

static struct {
    bool is_started, was_tried, has_pci;
    char said[256];                          // since the last step began, for error texts
    FILE *log;
} eal;

// Keeps what DPDK says, line after line, as far as there is room: the first lines tell most.
static ssize_t keep_line(void *cookie, const char *text, size_t len)
{
    (void)cookie;
    size_t end = len;
    const size_t have = strlen(eal.said);
    while (end && (text[end - 1] == '\n' || text[end - 1] == ' ')) end--;
    if (end && have + 2 < sizeof eal.said) {
        snprintf(eal.said + have, sizeof eal.said - have, "%s%.*s", have ? "; " : "", (int)end, text);
    }
    return (ssize_t)len;
}

static cn_code open_log(cn_err *err)
{
    const cookie_io_functions_t functions = {.write = keep_line};
    eal.log = fopencookie(NULL, "w", functions);
    if (!eal.log) return cn_err_set(err, CN_E_MEMORY, "dpdk: no memory");
    setvbuf(eal.log, NULL, _IOLBF, 1024);
    rte_openlog_stream(eal.log);
    rte_log_set_global_level(RTE_LOG_WARNING);
    return CN_OK;
}

static uint64_t free_huge_mb(void)
{
    static const struct { const char *path; uint64_t mb; } sizes[] = {
        {"/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", 2},
        {"/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", 1024}};
    uint64_t total_mb = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned long long count = 0;
        FILE *file = fopen(sizes[i].path, "re");
        if (!file) continue;
        if (fscanf(file, "%llu", &count) == 1) total_mb += count * sizes[i].mb;
        fclose(file);
    }
    return total_mb;
}

typedef struct arguments {
    char *list[EAL_ARGUMENT_MAX];
    int count;
    size_t used;
    char text[2048];
} arguments;

static bool add_argument(arguments *a, const char *text, size_t len)
{
    if (a->count == EAL_ARGUMENT_MAX - 1 || a->used + len + 1 > sizeof a->text) return false;
    char *at = a->text + a->used;
    memcpy(at, text, len);
    at[len] = '\0';
    a->used += len + 1;
    a->list[a->count++] = at;
    return true;
}

static bool add_words(arguments *a, const char *words)
{
    for (const char *at = words; *at;) {
        at += strspn(at, " \t");
        const size_t len = strcspn(at, " \t");
        if (len && !add_argument(a, at, len)) return false;
        at += len;
    }
    return true;
}

static int first_cpu(const cpu_set_t *set)
{
    int cpu = 0;
    while (cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, set)) cpu++;
    return cpu;
}

static cn_code fill_arguments(const cn_nic_dpdk_options *o, uint32_t memory_mb,
                              const cpu_set_t *cpus, arguments *a, cn_err *err)
{
    char text[512];
    const uint64_t free_mb = free_huge_mb();
    const bool huge = o->memory == CN_NIC_MEMORY_HUGE ||
                      (o->memory == CN_NIC_MEMORY_AUTO && free_mb >= memory_mb);
    if (huge && free_mb < memory_mb)
        return cn_err_set(err, CN_E_MEMORY,
                          "dpdk.memory: %llu MB of huge pages are free; %u MB are needed "
                          "(sysctl vm.nr_hugepages)", (unsigned long long)free_mb, memory_mb);
    snprintf(text, sizeof text, "cairn --lcores 0@%d --no-telemetry", first_cpu(cpus));
    bool fits = add_words(a, text);
    // --in-memory leaves no file behind, but EAL refuses it together with --no-huge.
    if (huge) snprintf(text, sizeof text, "--in-memory");
    else snprintf(text, sizeof text, "--no-huge -m %u --no-shconf --file-prefix cairn-%d", memory_mb,
                  (int)getpid());
    fits = fits && add_words(a, text);
    if (cn_nic_eal_is_pci(o->device)) snprintf(text, sizeof text, "-a %s", o->device);
    else snprintf(text, sizeof text, "--no-pci");
    fits = fits && add_words(a, text) && add_words(a, o->eal_args ? o->eal_args : "");
    if (!fits)
        return cn_err_set(err, CN_E_INVALID,
                          "dpdk.eal_args: too long; must be fewer than %d words and %zu bytes",
                          EAL_ARGUMENT_MAX - 16, sizeof a->text - 512);
    return CN_OK;
}

cn_code cn_nic_eal_start(const cn_nic_dpdk_options *o, uint32_t memory_mb, cn_err *err)
{
    if (eal.is_started) return CN_OK;
    if (eal.was_tried)
        return cn_err_set(err, CN_E_IO, "dpdk: the EAL could not be started before (%s); it takes a "
                          "new process", cn_nic_eal_said());
    cpu_set_t cpus;
    arguments a = {.count = 0};
    CPU_ZERO(&cpus);
    sched_getaffinity(0, sizeof cpus, &cpus);
    cn_code code = fill_arguments(o, memory_mb, &cpus, &a, err);
    if (code == CN_OK) code = open_log(err);
    if (code != CN_OK) return code;
    eal.was_tried = true;
    const int rc = rte_eal_init(a.count, a.list);
    sched_setaffinity(0, sizeof cpus, &cpus);
    if (rc < 0)
        return cn_err_set(err, CN_E_IO, "dpdk: the EAL cannot be started: %s (%s)",
                          rte_strerror(rte_errno), cn_nic_eal_said());
    eal.is_started = true;
    eal.has_pci = cn_nic_eal_is_pci(o->device);
    return CN_OK;
}

bool cn_nic_eal_is_pci(const char *device)
{
    struct rte_pci_addr address;
    char name[PCI_PRI_STR_SIZE + 1];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(device, ","), device);
    return rte_pci_addr_parse(name, &address) == 0;
}

bool cn_nic_eal_has_pci(void) { return eal.has_pci; }

const char *cn_nic_eal_said(void)
{
    return eal.said[0] ? eal.said : "DPDK gives no reason";
}

void cn_nic_eal_forget(void) { eal.said[0] = '\0'; }
