#include "dataplane/nic_doctor.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/host_tree.h"

enum { PATH_BYTES = 512, CAP_NET_ADMIN_BIT = 12, CAP_NET_RAW_BIT = 13 };

typedef struct patient {
    const cn_nic_doctor_options *options;
    char pci[32];                            // "" for a virtual device
    char interface[IFNAMSIZ];                // of the kernel; "" if there is none
} patient;

static void say(cn_nic_finding *f, cn_nic_health health, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void say(cn_nic_finding *f, cn_nic_health health, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    f->health = health;
    vsnprintf(f->text, sizeof f->text, format, arguments);
    va_end(arguments);
    f->fix[0] = '\0';
}

// The command that repairs what was just said.
static void repair(cn_nic_finding *f, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void repair(cn_nic_finding *f, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(f->fix, sizeof f->fix, format, arguments);
    va_end(arguments);
}

// ---- the device

// "0000:81:00.0" or "81:00.0", with arguments behind a comma
static bool read_pci(const char *device, char *out, size_t out_bytes)
{
    unsigned domain = 0, bus, slot, function;
    int used = 0;
    if (sscanf(device, "%4x:%2x:%2x.%1x%n", &domain, &bus, &slot, &function, &used) != 4) {
        domain = 0;
        if (sscanf(device, "%2x:%2x.%1x%n", &bus, &slot, &function, &used) != 3) return false;
    }
    if (device[used] && device[used] != ',') return false;
    snprintf(out, out_bytes, "%04x:%02x:%02x.%x", domain, bus, slot, function);
    return true;
}

static void look_at_device(const char *root, const char *device, patient *p)
{
    char path[PATH_BYTES];
    p->pci[0] = p->interface[0] = '\0';
    if (read_pci(device, p->pci, sizeof p->pci)) {
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/net", p->pci);
        cn_host_tree_entry(root, path, p->interface, sizeof p->interface);
        return;
    }
    // A tap makes its interface; the others sit on one that is there.
    const char *at = strncmp(device, "net_tap", 7) == 0 ? NULL : strstr(device, ",iface=");
    if (at) snprintf(p->interface, sizeof p->interface, "%.*s", (int)strcspn(at + 7, ","), at + 7);
}

// /proc/net/route: interface, destination and mask in hexadecimal, among others.
static bool has_route4(const char *root, const char *interface)
{
    char line[256], name[64];
    unsigned destination, mask;
    bool found = false;
    FILE *file = cn_host_tree_open(root, "/proc/net/route");
    while (file && !found && fgets(line, sizeof line, file)) {
        found = sscanf(line, "%63s %x %*x %*x %*d %*d %*d %x", name, &destination, &mask) == 3 &&
                destination == 0 && mask == 0 && strcmp(name, interface) == 0;
    }
    if (file) fclose(file);
    return found;
}

/* /proc/net/ipv6_route: destination, its prefix length, ..., flags, interface. Every interface is in
 * lines with prefix length 0 that reject what has no other route (RTF_REJECT). */
static bool has_route6(const char *root, const char *interface)
{
    enum { RTF_REJECT_FLAG = 0x200 };
    char line[256], name[64];
    unsigned prefix, flags;
    bool found = false;
    FILE *file = cn_host_tree_open(root, "/proc/net/ipv6_route");
    while (file && !found && fgets(line, sizeof line, file)) {
        found = sscanf(line, "%*s %x %*s %*x %*s %*x %*x %*x %x %63s", &prefix, &flags, name) == 3 &&
                prefix == 0 && !(flags & RTF_REJECT_FLAG) && strcmp(name, interface) == 0;
    }
    if (file) fclose(file);
    return found;
}

bool cn_nic_doctor_carries_default_route(const char *root, const char *device)
{
    patient p;
    look_at_device(root, device, &p);
    return p.interface[0] && (has_route4(root, p.interface) || has_route6(root, p.interface));
}

// ---- the checks: each fills in a finding, or says that it does not concern this device

static bool check_cpu(const patient *p, cn_nic_finding *f)
{
    (void)p;
#ifdef __x86_64__
    const bool fits = __builtin_cpu_supports("sse4.2");
    say(f, fits ? CN_NIC_FINE : CN_NIC_BROKEN,
        fits ? "has SSE4.2, which DPDK needs" : "has no SSE4.2, which DPDK needs");
    if (!fits) repair(f, "cairn serve --transport kernel");
    return true;
#else
    (void)f;
    return false;
#endif
}

static bool check_privileges(const patient *p, cn_nic_finding *f)
{
    char line[256];
    unsigned long long effective = 0;
    FILE *file = cn_host_tree_open(p->options->root, "/proc/self/status");
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "CapEff: %llx", &effective) == 1) break;
    }
    if (file) fclose(file);
    const bool admin = effective >> CAP_NET_ADMIN_BIT & 1, raw = effective >> CAP_NET_RAW_BIT & 1;
    if (admin && raw) {
        say(f, CN_NIC_FINE, "has CAP_NET_ADMIN and CAP_NET_RAW");
    } else {
        say(f, CN_NIC_BROKEN, "lacks%s%s; run as root, or give them to the service "
            "(AmbientCapabilities= of systemd)", admin ? "" : " CAP_NET_ADMIN",
            raw ? "" : " CAP_NET_RAW");
        repair(f, "install -D -m 644 /usr/share/cairn/dpdk.conf "
               "/etc/systemd/system/cairn.service.d/dpdk.conf");
    }
    return true;
}

static bool check_huge_pages(const patient *p, cn_nic_finding *f)
{
    const char *root = p->options->root;
    uint64_t small = 0, large = 0;
    cn_host_tree_number(root, "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", &small);
    cn_host_tree_number(root, "/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", &large);
    const unsigned long long free_mb = small * 2 + large * 1024;
    const uint32_t wanted_mb = p->options->memory_mb;
    if (free_mb >= wanted_mb) {
        say(f, CN_NIC_FINE, "%llu MB free, %u MB wanted", free_mb, wanted_mb);
    } else if (p->pci[0]) {
        say(f, CN_NIC_BROKEN, "%llu MB free, %u MB wanted; sysctl vm.nr_hugepages=%u", free_mb,
            wanted_mb, (wanted_mb + 1) / 2);
        repair(f, "sysctl -w vm.nr_hugepages=%u", (wanted_mb + 1) / 2);
    } else {
        say(f, CN_NIC_FINE, "%llu MB free, so normal pages will be used, which a virtual device does "
            "not mind", free_mb);
    }
    return true;
}

static bool check_device(const patient *p, cn_nic_finding *f)
{
    const char *root = p->options->root, *device = p->options->device;
    char path[PATH_BYTES];
    if (p->pci[0]) {
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%s", p->pci);
        const bool there = cn_host_tree_exists(root, "%s", path);
        say(f, there ? CN_NIC_FINE : CN_NIC_BROKEN,
            there ? "%s is there" : "%s is not on the PCI bus; see /sys/bus/pci/devices", p->pci);
        if (!there) repair(f, "lspci -D -d ::0200   # lists the cards; dpdk.device takes one");
    } else if (p->interface[0]) {
        snprintf(path, sizeof path, "/sys/class/net/%s", p->interface);
        const bool there = cn_host_tree_exists(root, "%s", path);
        say(f, there ? CN_NIC_FINE : CN_NIC_BROKEN,
            there ? "interface %s is there" : "interface %s does not exist in this network namespace",
            p->interface);
        if (!there) repair(f, "ip -br link   # lists the interfaces; dpdk.device takes one");
    } else if (strncmp(device, "net_af_", 7) == 0) {
        say(f, CN_NIC_BROKEN, "%s names no interface; must be like net_af_packet0,iface=eth1", device);
        repair(f, "cairn doctor --dpdk.device net_af_packet0,iface=eth1");
    } else if (strncmp(device, "net_", 4) == 0) {
        say(f, CN_NIC_FINE, "%s is made when the server starts", device);
    } else {
        say(f, CN_NIC_BROKEN, "\"%s\" is neither a PCI address (0000:81:00.0) nor a virtual device "
            "(net_af_packet0,iface=eth1)", device);
        repair(f, "lspci -D -d ::0200   # lists the cards; dpdk.device takes one");
    }
    return true;
}

static bool check_driver(const patient *p, cn_nic_finding *f)
{
    char path[PATH_BYTES], driver[64] = "none";
    if (!p->pci[0]) return false;
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/driver", p->pci);
    cn_host_tree_link(p->options->root, path, driver, sizeof driver);
    if (strcmp(driver, "vfio-pci") == 0 || strncmp(driver, "mlx5", 4) == 0)
        say(f, CN_NIC_FINE, "%s is driven by %s", p->pci, driver);
    else {
        say(f, CN_NIC_BROKEN, "%s is driven by %s; must be vfio-pci (deploy/dpdk/bind %s)", p->pci,
            driver, p->pci);
        repair(f, "driverctl set-override %s vfio-pci", p->pci);
    }
    return true;
}

static bool check_iommu(const patient *p, cn_nic_finding *f)
{
    const char *root = p->options->root;
    char path[PATH_BYTES], group[32], unsafe[8] = "";
    if (!p->pci[0]) return false;
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/iommu_group", p->pci);
    cn_host_tree_line(root, unsafe, sizeof unsafe,
                      "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode");
    if (cn_host_tree_link(root, path, group, sizeof group))
        say(f, CN_NIC_FINE, "%s is in IOMMU group %s", p->pci, group);
    else {
        if (unsafe[0] == 'Y')
            say(f, CN_NIC_POOR, "no IOMMU, and vfio allows that: the device can write to all memory");
        else
            say(f, CN_NIC_BROKEN, "no IOMMU; switch it on in the firmware and boot with intel_iommu=on "
                "or amd_iommu=on");
        repair(f, "echo 'GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX intel_iommu=on iommu=pt\"' "
               ">> /etc/default/grub && update-grub && reboot");
    }
    return true;
}

static bool check_default_route(const patient *p, cn_nic_finding *f)
{
    if (!p->interface[0]) return false;
    const bool carries = cn_nic_doctor_carries_default_route(p->options->root, p->options->device);
    say(f, carries ? CN_NIC_BROKEN : CN_NIC_FINE,
        carries ? "%s carries the default route and is refused: taking it could cut this machine off; "
                  "give Cairn an interface of its own"
                : "%s does not carry it", p->interface);
    if (carries) repair(f, "ip -br link   # lists the interfaces; dpdk.device takes another one");
    return true;
}

/* An address of the kernel's on the same interface: it would answer beside us, with resets. IPv6 has a
 * link-local one on every interface, which only answers for itself. */
static bool check_addresses(const patient *p, cn_nic_finding *f)
{
    struct ifaddrs *all = NULL;
    char text[INET6_ADDRSTRLEN] = "";
    if (!p->interface[0] || p->pci[0] || getifaddrs(&all) != 0) return false;
    for (const struct ifaddrs *at = all; at && !text[0]; at = at->ifa_next) {
        if (!at->ifa_addr || at->ifa_addr->sa_family != AF_INET) continue;
        if (strcmp(at->ifa_name, p->interface) != 0) continue;
        const struct sockaddr_in *in = (const struct sockaddr_in *)at->ifa_addr;
        inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
    }
    freeifaddrs(all);
    if (text[0]) {
        say(f, CN_NIC_BROKEN, "the kernel has %s on %s and would answer beside Cairn; ip addr flush dev "
            "%s", text, p->interface, p->interface);
        repair(f, "ip -4 addr flush dev %s", p->interface);
    } else say(f, CN_NIC_FINE, "the kernel has no IPv4 address on %s", p->interface);
    return true;
}

static bool check_isolation(const patient *p, cn_nic_finding *f)
{
    const char *root = p->options->root;
    const int32_t cpu = p->options->cpu;
    char path[PATH_BYTES], isolated[256] = "";
    cn_host_tree_line(root, isolated, sizeof isolated, "/sys/devices/system/cpu/isolated");
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d", cpu);
    if (cpu < 0) {
        say(f, CN_NIC_POOR, "the net thread is not pinned; dpdk.lcore names a CPU for it, best one of "
            "isolcpus= (now: %.100s)", isolated[0] ? isolated : "none");
        repair(f, "cairn serve --dpdk.lcore %u", isolated[0] ? (unsigned)atoi(isolated) : 1);
    } else if (!cn_host_tree_exists(root, "%s", path)) {
        say(f, CN_NIC_BROKEN, "dpdk.lcore: %d; there is no such CPU", cpu);
        repair(f, "lscpu -e   # lists them; dpdk.lcore takes one");
    } else if (!cn_host_tree_list_has(isolated, cpu)) {
        say(f, CN_NIC_POOR, "CPU %d is shared with whatever runs here; isolcpus=%d nohz_full=%d keep it "
            "for the net thread", cpu, cpu, cpu);
        repair(f, "echo isolated_cores=%d > /etc/tuned/cairn-variables.conf && tuned-adm profile "
               "cairn && reboot", cpu);
    } else {
        say(f, CN_NIC_FINE, "CPU %d is isolated", cpu);
    }
    return true;
}

static bool check_numa(const patient *p, cn_nic_finding *f)
{
    char path[PATH_BYTES], line[32];
    if (!p->pci[0] || p->options->cpu < 0) return false;
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/numa_node", p->pci);
    if (!cn_host_tree_line(p->options->root, line, sizeof line, "%s", path) || line[0] == '-')
        return false;
    const long node = strtol(line, NULL, 10);
    snprintf(path, sizeof path, "/sys/devices/system/node/node%ld/cpu%d", node, p->options->cpu);
    const bool near = cn_host_tree_exists(p->options->root, "%s", path);
    say(f, near ? CN_NIC_FINE : CN_NIC_POOR,
        near ? "CPU %d and the device are both on node %ld"
             : "CPU %d is not on the device's node, %ld: every frame crosses the socket",
        p->options->cpu, node);
    if (!near) repair(f, "lscpu -e=cpu,node   # dpdk.lcore takes a CPU of node %ld", node);
    return true;
}

static const struct {
    cn_nic_doctor_check named;
    bool (*check)(const patient *p, cn_nic_finding *f);
} checks[] = {
    {{"cpu", "whether the CPU has what DPDK needs"}, check_cpu},
    {{"privileges", "capabilities for the device"}, check_privileges},
    {{"device", "whether the device is there"}, check_device},
    {{"default_route", "that taking it does not cut this machine off"}, check_default_route},
    {{"addresses", "that the kernel does not answer beside Cairn"}, check_addresses},
    {{"driver", "who drives the device"}, check_driver},
    {{"iommu", "whether the device is kept to its own memory"}, check_iommu},
    {{"huge_pages", "memory for frames"}, check_huge_pages},
    {{"isolation", "whether the net thread has a CPU to itself"}, check_isolation},
    {{"numa", "whether that CPU is near the device"}, check_numa},
};

enum { CHECK_COUNT = sizeof checks / sizeof *checks };

const cn_nic_doctor_check *cn_nic_doctor_checks(uint32_t *count)
{
    static cn_nic_doctor_check names[CHECK_COUNT];
    for (int i = 0; i < CHECK_COUNT; i++) names[i] = checks[i].named;
    *count = CHECK_COUNT;
    return names;
}

uint32_t cn_nic_doctor_examine(const cn_nic_doctor_options *options, cn_nic_finding *out)
{
    patient p = {.options = options};
    uint32_t count = 0;
    look_at_device(options->root, options->device, &p);
    for (int i = 0; i < CHECK_COUNT; i++) {
        out[count].check = checks[i].named.name;
        count += checks[i].check(&p, &out[count]);
    }
    return count;
}
