/* appliance/doctor_int.h: what the checks of `cairn doctor` have in common. A group is a table in a
 * file of its own; a check looks, fills in a finding, and says what command repairs it.
 *
 * Threads: main only.
 * Memory:  the caller's. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "appliance/config.h"
#include "dataplane/nic_doctor.h"

typedef cn_nic_finding cn_doctor_finding;

typedef struct cn_doctor_case {
    const cn_config_settings *settings;
    const char *root;                // where proc, sys, run, etc and usr are; "" is this machine
    const char *config_path;         // "": none was given
    char state_directory[1024];      // of the private servers
    char cgroup[256];                // of this process, below /sys/fs/cgroup; "" is the root
    uint32_t cpu_count;              // that are online
    uint32_t thread_count;           // that compute, as configured
    uint64_t memory_bytes;           // of the machine
    bool is_dpdk, has_private_store;
} cn_doctor_case;

typedef struct cn_doctor_check {
    const char *name;                // "open_files"
    const char *what;                // for people: what is looked at
    bool (*look)(const cn_doctor_case *c, cn_doctor_finding *f);     // false: it does not concern
} cn_doctor_check;

typedef struct cn_doctor_group {
    const char *title;
    const cn_doctor_check *checks;
    uint32_t count;
} cn_doctor_group;

extern const cn_doctor_group cn_doctor_cpu, cn_doctor_memory, cn_doctor_system, cn_doctor_network,
    cn_doctor_files, cn_doctor_gpu, cn_doctor_service;

/* Says how it is. POOR: it works, and could be better; BROKEN: it will fail, or lose data. */
void cn_doctor_say(cn_doctor_finding *f, cn_nic_health health, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The command that repairs it. After cn_doctor_say; nothing if that was FINE. */
void cn_doctor_fix(cn_doctor_finding *f, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The common shape: /proc/sys/NAME must be `best`. `harm` says what another value costs. False: the
 * kernel has no such variable. */
bool cn_doctor_sysctl(const cn_doctor_case *c, cn_doctor_finding *f, const char *name,
                      uint64_t best, const char *harm);
/* The same for a variable that must be at least `least`. */
bool cn_doctor_sysctl_least(const cn_doctor_case *c, cn_doctor_finding *f, const char *name,
                            uint64_t least, const char *harm);

/* Bytes of the model's weights; 0: no model is configured, or none is there. */
uint64_t cn_doctor_model_bytes(const cn_config_settings *settings);
