#include "dataplane/nic_doctor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"

/* Every test writes the /proc and /sys of a machine into a directory and asks about it. */

static char root[64];

static void make_parents(const char *path)
{
    char part[512];
    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        mkdir(part, 0755);
    }
}

static void put(const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    make_parents(full);
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void put_link(const char *path, const char *target)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    make_parents(full);
    assert_int_equal(symlink(target, full), 0);
}

#define ROUTE_HEAD "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"

// A machine on which all is well for 0000:81:00.0 and for eth1.
static int healthy(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/cairn-doctor-XXXXXX");
    assert_non_null(mkdtemp(root));
    put("/proc/self/status", "Name:\tcairn\nCapInh:\t0\nCapEff:\t0000000000003000\n");
    put("/proc/net/route", ROUTE_HEAD "eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
                                      "eth1\t0000A8C0\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n");
    put("/proc/net/ipv6_route",
        "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
        "00000000000000000000000000000000 ffffffff 00000001 00000000 00200200 eth1\n");
    put("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "128\n");
    put("/sys/class/net/eth0/mtu", "1500\n");
    put("/sys/class/net/eth1/mtu", "1500\n");
    put("/sys/bus/pci/devices/0000:81:00.0/numa_node", "1\n");
    put_link("/sys/bus/pci/devices/0000:81:00.0/driver", "../../../bus/pci/drivers/vfio-pci");
    put_link("/sys/bus/pci/devices/0000:81:00.0/iommu_group", "../../../kernel/iommu_groups/17");
    put("/sys/devices/system/cpu/isolated", "2-3,7\n");
    put("/sys/devices/system/cpu/cpu3/online", "1\n");
    put("/sys/devices/system/cpu/cpu4/online", "1\n");
    put("/sys/devices/system/node/node1/cpu3/online", "1\n");
    return 0;
}

static int remove_root(void **state)
{
    char command[128];
    (void)state;
    assert_non_null(strstr(root, "/tmp/cairn-doctor-"));
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static cn_nic_finding examined[CN_NIC_FINDING_MAX];

// The finding of one check; NULL if it does not concern the device.
static const cn_nic_finding *examine(const char *device, int32_t cpu, const char *check)
{
    const cn_nic_doctor_options options = {root, device, 200, cpu};
    const uint32_t count = cn_nic_doctor_examine(&options, examined);
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(examined[i].check, check) == 0) return &examined[i];
    }
    return NULL;
}

static const char *const PCI = "0000:81:00.0", *const VETH = "net_af_packet0,iface=eth1";

static void expect(const char *device, int32_t cpu, const char *check, cn_nic_health health,
                   const char *words)
{
    const cn_nic_finding *f = examine(device, cpu, check);
    assert_non_null(f);
    if (f->health != health || !strstr(f->text, words)) print_message("%s: %s\n", check, f->text);
    assert_int_equal(f->health, health);
    assert_non_null(strstr(f->text, words));
    assert_int_equal(f->fix[0] != '\0', health != CN_NIC_FINE);     // whatever is wrong has a repair
}

static void a_healthy_machine_is_fine(void **state)
{
    (void)state;
    const cn_nic_doctor_options pci = {root, PCI, 200, 3}, veth = {root, VETH, 200, 3};
    assert_int_equal(cn_nic_doctor_examine(&pci, examined), 8);
    for (int i = 0; i < 8; i++) assert_int_equal(examined[i].health, CN_NIC_FINE);
    assert_int_equal(cn_nic_doctor_examine(&veth, examined), 7);
    for (int i = 0; i < 7; i++) assert_int_equal(examined[i].health, CN_NIC_FINE);
    assert_null(examine(VETH, 3, "driver"));
    assert_null(examine(PCI, 3, "default_route"));
}

static void the_default_route_is_refused(void **state)
{
    (void)state;
    expect("net_af_packet0,iface=eth0,qpairs=1", -1, "default_route", CN_NIC_BROKEN,
           "eth0 carries the default route and is refused");
    assert_true(cn_nic_doctor_carries_default_route(root, "net_af_packet0,iface=eth0"));
    assert_false(cn_nic_doctor_carries_default_route(root, VETH));
    assert_false(cn_nic_doctor_carries_default_route(root, "net_tap0,iface=eth0"));
    // A card that the kernel still drives, and its interface has the route.
    put("/sys/bus/pci/devices/0000:81:00.0/net/eth0/mtu", "1500\n");
    assert_true(cn_nic_doctor_carries_default_route(root, PCI));
    // Over IPv6 alone.
    put("/proc/net/ipv6_route",
        "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
        "fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth1\n");
    assert_true(cn_nic_doctor_carries_default_route(root, VETH));
}

static void what_is_broken_is_named(void **state)
{
    (void)state;
    expect("", -1, "device", CN_NIC_BROKEN, "\"\" is neither a PCI address");
    expect("net_af_packet0", -1, "device", CN_NIC_BROKEN, "names no interface");
    expect("net_af_packet0,iface=eth9", -1, "device", CN_NIC_BROKEN, "eth9 does not exist");
    expect("0000:82:00.0", -1, "device", CN_NIC_BROKEN, "0000:82:00.0 is not on the PCI bus");
    expect("0000:82:00.0", -1, "driver", CN_NIC_BROKEN, "driven by none; must be vfio-pci");
    expect("82:00.0", -1, "iommu", CN_NIC_BROKEN, "intel_iommu=on");
    expect(PCI, 99, "isolation", CN_NIC_BROKEN, "dpdk.lcore: 99; there is no such CPU");
    put("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "99\n");
    expect(PCI, 3, "huge_pages", CN_NIC_BROKEN, "198 MB free, 200 MB wanted; sysctl vm.nr_hugepages=100");
    expect(VETH, 3, "huge_pages", CN_NIC_FINE, "normal pages will be used");
    put("/proc/self/status", "CapEff:\t0000000000001000\n");
    expect(VETH, 3, "privileges", CN_NIC_BROKEN, "lacks CAP_NET_RAW;");
    put("/proc/self/status", "CapEff:\t0000000000000000\n");
    expect(VETH, 3, "privileges", CN_NIC_BROKEN, "lacks CAP_NET_ADMIN CAP_NET_RAW;");
}

static void what_could_be_better_is_said(void **state)
{
    (void)state;
    expect(VETH, -1, "isolation", CN_NIC_POOR, "not pinned");
    expect(VETH, 4, "isolation", CN_NIC_POOR, "isolcpus=4");
    expect(PCI, 4, "numa", CN_NIC_POOR, "not on the device's node, 1");
    put("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
    expect("0000:82:00.0", -1, "iommu", CN_NIC_POOR, "can write to all memory");
}

// Addresses are asked from the kernel and not from files: the loopback has one everywhere.
static void an_address_of_the_kernel_is_broken(void **state)
{
    (void)state;
    expect("net_af_packet0,iface=lo", -1, "addresses", CN_NIC_BROKEN, "the kernel has 127.");
    assert_null(examine(PCI, 3, "addresses"));
}

// An empty root: nothing can be read, nothing crashes, and the port is not called healthy.
static void a_machine_that_tells_nothing(void **state)
{
    (void)state;
    const cn_nic_doctor_options options = {"/nonexistent", PCI, 200, 3};
    const uint32_t count = cn_nic_doctor_examine(&options, examined);
    uint32_t broken = 0;
    for (uint32_t i = 0; i < count; i++) broken += examined[i].health == CN_NIC_BROKEN;
    assert_int_equal(broken, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_healthy_machine_is_fine, healthy, remove_root),
        cmocka_unit_test_setup_teardown(the_default_route_is_refused, healthy, remove_root),
        cmocka_unit_test_setup_teardown(what_is_broken_is_named, healthy, remove_root),
        cmocka_unit_test_setup_teardown(what_could_be_better_is_said, healthy, remove_root),
        cmocka_unit_test_setup_teardown(an_address_of_the_kernel_is_broken, healthy, remove_root),
        cmocka_unit_test_setup_teardown(a_machine_that_tells_nothing, healthy, remove_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
