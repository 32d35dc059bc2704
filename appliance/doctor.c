#include "appliance/doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "appliance/cli.h"
#include "appliance/doctor_int.h"
#include "appliance/network.h"
#include "appliance/state.h"
#include "base/buf.h"
#include "dataplane/host_tree.h"
#include "state/redis_doctor.h"

/* How it works. Checks stand in tables, one per group (doctor_cpu.c and its neighbours); those of the
 * network port and of Redis are in their rooms, since they know what these need. A check that has
 * nothing to look at on this machine, or that no setting makes matter, is silent. Checks read, and
 * write nothing but a file without a name, to time a disk.
 *
 * Whatever is found comes with a command. It is printed and never run. */

enum { FINDINGS_MAX = 128 };

static const cn_doctor_group *const groups[] = {
    &cn_doctor_network, &cn_doctor_cpu,   &cn_doctor_memory, &cn_doctor_system,
    &cn_doctor_files,   &cn_doctor_gpu, &cn_doctor_service};

enum { GROUP_COUNT = sizeof groups / sizeof *groups };

void cn_doctor_say(cn_doctor_finding *f, cn_nic_health health, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    f->health = health;
    vsnprintf(f->text, sizeof f->text, format, arguments);
    va_end(arguments);
    f->fix[0] = '\0';
}

void cn_doctor_fix(cn_doctor_finding *f, const char *format, ...)
{
    va_list arguments;
    if (f->health == CN_NIC_FINE) return;
    va_start(arguments, format);
    vsnprintf(f->fix, sizeof f->fix, format, arguments);
    va_end(arguments);
}

// kernel.numa_balancing is /proc/sys/kernel/numa_balancing.
static bool read_sysctl(const cn_doctor_case *c, const char *name, uint64_t *out)
{
    char path[128];
    snprintf(path, sizeof path, "/proc/sys/%s", name);
    for (char *at = path + 10; (at = strchr(at, '.'));) *at = '/';
    return cn_host_tree_number(c->root, path, out);
}

static void say_sysctl(cn_doctor_finding *f, bool fine, const char *name, uint64_t value, uint64_t right,
                       const char *harm)
{
    cn_doctor_say(f, fine ? CN_NIC_FINE : CN_NIC_POOR, "%s is %llu%s%s", name, (unsigned long long)value,
                  fine ? "" : ": ", fine ? "" : harm);
    cn_doctor_fix(f, "sysctl -w %s=%llu", name, (unsigned long long)right);
}

bool cn_doctor_sysctl(const cn_doctor_case *c, cn_doctor_finding *f, const char *name, uint64_t best,
                      const char *harm)
{
    uint64_t value;
    if (!read_sysctl(c, name, &value)) return false;
    say_sysctl(f, value == best, name, value, best, harm);
    return true;
}

bool cn_doctor_sysctl_least(const cn_doctor_case *c, cn_doctor_finding *f, const char *name,
                            uint64_t least, const char *harm)
{
    uint64_t value;
    if (!read_sysctl(c, name, &value)) return false;
    say_sysctl(f, value >= least, name, value, least, harm);
    return true;
}

// ---- the machine and its findings

static void open_case(const cn_config_settings *s, const char *root, const char *config_path,
                      cn_doctor_case *c)
{
    char text[256];
    *c = (cn_doctor_case){.settings = s, .root = root, .config_path = config_path};
    c->is_dpdk = strcmp(s->transport, "dpdk") == 0;
    c->has_private_store = strcmp(s->state_store, "private") == 0;
    cn_state_directory(s, c->state_directory, sizeof c->state_directory);
    if (cn_host_tree_line(root, text, sizeof text, "/sys/devices/system/cpu/online"))
        c->cpu_count = cn_host_tree_list_count(text);
    c->thread_count = s->cpu_threads ? (uint32_t)s->cpu_threads : c->cpu_count;
    if (cn_host_tree_field(root, "/proc/meminfo", "MemTotal:", text, sizeof text))
        c->memory_bytes = strtoull(text, NULL, 10) * 1024;
    if (cn_host_tree_field(root, "/proc/self/cgroup", "0::", text, sizeof text) &&
        strcmp(text, "/") != 0)
        snprintf(c->cgroup, sizeof c->cgroup, "%s", text);
}

static uint32_t examine_port(const cn_doctor_case *c, cn_doctor_finding *out)
{
    if (!c->is_dpdk) return 0;
    const cn_nic_dpdk_options port = cn_network_port(c->settings);
    const cn_nic_doctor_options options = {
        .root = c->root, .device = c->settings->dpdk_device, .cpu = port.cpu,
        .memory_mb = port.memory_mb ? port.memory_mb : cn_nic_dpdk_need_mb(&port)};
    return cn_nic_doctor_examine(&options, out);
}

static uint32_t examine_redis(const cn_doctor_case *c, cn_doctor_finding *out)
{
    cn_redis_finding found[CN_REDIS_FINDING_MAX];
    char password[CN_STATE_PASSWORD_BYTES];
    const cn_config_settings *s = c->settings;
    const int durability = cn_store_durability_parse(s->state_durability);
    if (strcmp(s->state_store, "redis") != 0 || durability < 0) return 0;
    cn_state_password(s, password, NULL);            // the check of its file says what is wrong
    const cn_redis_doctor_options options = {
        .log = s->state_log, .pages = s->state_pages, .user = s->state_user, .password = password,
        .durability = (cn_durability)durability, .connection_count = (uint32_t)s->state_connections,
        .timeout_ms = (uint32_t)s->state_timeout_ms, .clock = cn_clock_system()};
    const uint32_t count = cn_redis_doctor_examine(&options, found);
    for (uint32_t i = 0; i < count; i++) {
        out[i] = (cn_doctor_finding){.check = found[i].check, .health = (cn_nic_health)found[i].health};
        snprintf(out[i].text, sizeof out[i].text, "%s", found[i].text);
        snprintf(out[i].fix, sizeof out[i].fix, "%s", found[i].fix);
    }
    return count;
}

_Static_assert((int)CN_REDIS_POOR == (int)CN_NIC_POOR && (int)CN_REDIS_BROKEN == (int)CN_NIC_BROKEN,
               "both rooms have the same three words");

static uint32_t examine(const cn_doctor_case *c, cn_doctor_finding out[FINDINGS_MAX])
{
    uint32_t count = 0;
    for (int g = 0; g < GROUP_COUNT; g++) {
        for (uint32_t i = 0; i < groups[g]->count; i++) {
            out[count].check = groups[g]->checks[i].name;
            count += groups[g]->checks[i].look(c, &out[count]);
        }
        if (groups[g] == &cn_doctor_network) count += examine_port(c, out + count);
        if (groups[g] == &cn_doctor_files) count += examine_redis(c, out + count);
    }
    return count;
}

// ---- telling

static const char *const healths[] = {"fine", "poor", "broken"};

static void write_json(const cn_doctor_finding *findings, uint32_t count, cn_buf *out)
{
    for (uint32_t i = 0; i < count; i++) {
        const cn_doctor_finding *f = &findings[i];
        cn_buf_add_format(out, "%s{\"check\":\"%s\",\"health\":\"%s\",\"text\":", i ? "," : "[",
                          f->check, healths[f->health]);
        cn_buf_add_json(out, f->text, strlen(f->text));
        if (f->fix[0]) {
            cn_buf_add_text(out, ",\"fix\":");
            cn_buf_add_json(out, f->fix, strlen(f->fix));
        }
        cn_buf_add_char(out, '}');
    }
    cn_buf_add_text(out, count ? "]\n" : "[]\n");
}

static void write_text(const cn_doctor_finding *findings, uint32_t count, cn_buf *out)
{
    uint32_t sums[3] = {0};
    for (uint32_t i = 0; i < count; i++) {
        const cn_doctor_finding *f = &findings[i];
        sums[f->health]++;
        cn_buf_add_format(out, "%-7s %-14s %s\n", healths[f->health], f->check, f->text);
        if (f->fix[0]) cn_buf_add_format(out, "        %-14s %s\n", "repair:", f->fix);
    }
    cn_buf_add_format(out, "\n%u checks: %u fine, %u poor, %u broken\n", count, sums[0], sums[1], sums[2]);
}

static uint32_t count_broken(const cn_doctor_finding *findings, uint32_t count)
{
    uint32_t broken = 0;
    for (uint32_t i = 0; i < count; i++) broken += findings[i].health == CN_NIC_BROKEN;
    return broken;
}

uint32_t cn_doctor_write_json(const cn_config_settings *settings, const char *root,
                              const char *config_path, cn_buf *out)
{
    static cn_doctor_finding findings[FINDINGS_MAX];
    cn_doctor_case c;
    open_case(settings, root, config_path, &c);
    const uint32_t count = examine(&c, findings);
    write_json(findings, count, out);
    return count_broken(findings, count);
}

void cn_doctor_write_checks(cn_buf *out)
{
    uint32_t count;
    for (int g = 0; g < GROUP_COUNT; g++) {
        cn_buf_add_format(out, "%s:\n", groups[g]->title);
        for (uint32_t i = 0; i < groups[g]->count; i++)
            cn_buf_add_format(out, "  %-14s %s\n", groups[g]->checks[i].name, groups[g]->checks[i].what);
    }
    cn_buf_add_text(out, "Redis (state.store: redis):\n");
    const cn_redis_doctor_check *redis = cn_redis_doctor_checks(&count);
    for (uint32_t i = 0; i < count; i++)
        cn_buf_add_format(out, "  %-14s %s\n", redis[i].name, redis[i].what);
    cn_buf_add_text(out, "A port of its own (transport: dpdk):\n");
    const cn_nic_doctor_check *port = cn_nic_doctor_checks(&count);
    for (uint32_t i = 0; i < count; i++)
        cn_buf_add_format(out, "  %-14s %s\n", port[i].name, port[i].what);
}

static void print_help(void)
{
    cn_buf out;
    cn_buf_init(&out, 1 << 20);
    puts("usage: cairn doctor [--json] [--root DIR] [--config FILE] [--KEY VALUE ...]\n\n"
         "Looks, without starting or changing anything, whether this machine can run what the\n"
         "configuration asks for. What is poor works and could be better; what is broken will fail, or\n"
         "lose data. Each of them comes with the command that repairs it. --root looks at the /proc,\n"
         "/sys, /etc and so on below another directory. Exit code 1 if something is broken.\n\n"
         "Checks; those that do not concern this machine are silent:");
    cn_doctor_write_checks(&out);
    cn_buf_add_text(&out, "\nKeys, with their [defaults]:\n");
    fwrite(out.data, 1, out.len, stdout);
    cn_buf_close(&out);
    cn_cli_print_keys();
}

// Takes --root out of argv; the rest is for the configuration.
static const char *take_root(int *argc, char **argv)
{
    const char *root = "";
    int kept = 0;
    for (int i = 0; i < *argc; i++) {
        if (strncmp(argv[i], "--root=", 7) == 0) root = argv[i] + 7;
        else if (strcmp(argv[i], "--root") == 0 && i + 1 < *argc) root = argv[++i];
        else argv[kept++] = argv[i];
    }
    *argc = kept;
    return root;
}

int cn_doctor_run(int argc, char **argv)
{
    static cn_config_settings settings;
    static cn_doctor_finding findings[FINDINGS_MAX];
    cn_cli_flags flags = {0};
    cn_doctor_case c;
    cn_err err;
    int exit_code = CN_EXIT_OK;
    const char *root = take_root(&argc, argv);
    const cn_code code = cn_cli_read(argc, argv, &settings, &flags, &err);
    if (flags.help) {
        print_help();
    } else if (code != CN_OK) {
        cn_cli_complain(&err);
        exit_code = CN_EXIT_USAGE;
    } else {
        cn_buf out;
        cn_buf_init(&out, 1 << 20);
        open_case(&settings, root, flags.config ? flags.config : "", &c);
        const uint32_t count = examine(&c, findings);
        if (flags.json) write_json(findings, count, &out);
        else write_text(findings, count, &out);
        fwrite(out.data, 1, out.len, stdout);
        cn_buf_close(&out);
        if (count_broken(findings, count)) exit_code = CN_EXIT_FAILED;
    }
    cn_config_close(&settings);
    return exit_code;
}
