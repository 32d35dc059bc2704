#include "appliance/doctor_int.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "appliance/backends.h"
#include "dataplane/host_tree.h"

#define PCI "/sys/bus/pci/devices"

// Calls `look` for the PCI address of each NVIDIA GPU until it returns true; how many were seen.
static uint32_t each_gpu(const cn_doctor_case *c, cn_doctor_finding *f,
                         bool (*look)(const cn_doctor_case *, const char *, cn_doctor_finding *))
{
    char full[512], vendor[16], class[16];
    snprintf(full, sizeof full, "%.250s" PCI, c->root);
    DIR *entries = opendir(full);
    uint32_t count = 0;
    bool done = false;
    for (const struct dirent *entry; entries && !done && (entry = readdir(entries));) {
        if (!cn_host_tree_line(c->root, vendor, sizeof vendor, PCI "/%s/vendor", entry->d_name) ||
            !cn_host_tree_line(c->root, class, sizeof class, PCI "/%s/class", entry->d_name) ||
            strcmp(vendor, "0x10de") != 0 || strncmp(class, "0x03", 4) != 0)
            continue;
        count++;
        done = look && look(c, entry->d_name, f);
    }
    if (entries) closedir(entries);
    return count;
}

static bool look_at_backend(const cn_doctor_case *c, cn_doctor_finding *f)
{
    const char *backend = c->settings->backend;
    const uint32_t count = each_gpu(c, f, NULL);
    const bool idle = count && strcmp(backend, "cuda") != 0;
    if (!count && strcmp(backend, "cuda") != 0) return false;
    if (!count) {
        cn_doctor_say(f, CN_NIC_BROKEN, "backend: cuda; no NVIDIA GPU is on the PCI bus");
        cn_doctor_fix(f, "cairn serve --backend cpu");
        return true;
    }
    cn_doctor_say(f, idle ? CN_NIC_POOR : CN_NIC_FINE, "%u NVIDIA GPUs%s%s", count,
                  idle ? " stand idle; backend is " : "", idle ? backend : "");
    if (cn_backends_find("cuda")) cn_doctor_fix(f, "cairn serve --backend cuda");
    else cn_doctor_fix(f, "apt-get install -y nvidia-cuda-toolkit && cmake --preset release && cmake "
                       "--build --preset release   # this cairn was built without CUDA");
    return true;
}

static bool look_at_driver(const cn_doctor_case *c, cn_doctor_finding *f)
{
    char version[160];
    if (!each_gpu(c, f, NULL)) return false;
    if (cn_host_tree_line(c->root, version, sizeof version, "/proc/driver/nvidia/version")) {
        cn_doctor_say(f, CN_NIC_FINE, "%.140s", version);
        return true;
    }
    cn_doctor_say(f, CN_NIC_BROKEN, "the kernel module nvidia is not loaded");
    cn_doctor_fix(f, "apt-get install -y nvidia-driver && modprobe nvidia");
    return true;
}

static bool look_at_devices(const cn_doctor_case *c, cn_doctor_finding *f)
{
    static const char *const nodes[] = {"/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia-uvm"};
    if (!each_gpu(c, f, NULL)) return false;
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) {
        if (cn_host_tree_exists(c->root, "%s", nodes[i])) continue;
        cn_doctor_say(f, CN_NIC_BROKEN, "%s is not there", nodes[i]);
        cn_doctor_fix(f, "nvidia-modprobe -c 0 -u");
        return true;
    }
    cn_doctor_say(f, CN_NIC_FINE, "the device nodes are there");
    return true;
}

static bool look_at_persistence(const cn_doctor_case *c, cn_doctor_finding *f)
{
    if (!each_gpu(c, f, NULL)) return false;
    const bool there = cn_host_tree_exists(c->root, "/run/nvidia-persistenced/nvidia-persistenced.pid") ||
                       cn_host_tree_exists(c->root, "/run/nvidia-persistenced/socket");
    cn_doctor_say(f, there ? CN_NIC_FINE : CN_NIC_POOR, there ? "nvidia-persistenced runs"
                  : "nvidia-persistenced does not run: each start waits seconds for the GPU");
    cn_doctor_fix(f, "apt-get install -y nvidia-persistenced && systemctl enable --now "
                  "nvidia-persistenced");
    return true;
}

// A slot or riser that gives less than the card has. GPUs lower the speed when idle, not the width.
static bool is_narrow(const cn_doctor_case *c, const char *pci, cn_doctor_finding *f)
{
    char now[16], most[16];
    if (!cn_host_tree_line(c->root, now, sizeof now, PCI "/%s/current_link_width", pci) ||
        !cn_host_tree_line(c->root, most, sizeof most, PCI "/%s/max_link_width", pci) ||
        atoi(now) >= atoi(most))
        return false;
    cn_doctor_say(f, CN_NIC_POOR, "%s has %s PCIe lanes of %s: pages move at a part of the speed", pci, now,
                  most);
    cn_doctor_fix(f, "lspci -vv -s %s | grep -E 'LnkCap|LnkSta'   # then another slot or riser", pci);
    return true;
}

static bool look_at_link(const cn_doctor_case *c, cn_doctor_finding *f)
{
    cn_doctor_say(f, CN_NIC_FINE, "all lanes are used");
    return each_gpu(c, f, is_narrow) > 0;
}

static const cn_doctor_check checks[] = {
    {"gpu", "whether backend and GPUs fit", look_at_backend},
    {"gpu_driver", "whether the GPU's driver is loaded", look_at_driver},
    {"gpu_devices", "whether the GPU's device nodes are there", look_at_devices},
    {"gpu_persist", "whether the GPU stays initialized", look_at_persistence},
    {"gpu_lanes", "whether the GPU has all of its PCIe lanes", look_at_link},
};

const cn_doctor_group cn_doctor_gpu = {"GPU", checks, sizeof checks / sizeof *checks};
