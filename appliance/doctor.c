#include "appliance/doctor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "appliance/cli.h"
#include "appliance/network.h"
#include "base/buf.h"
#include "dataplane/nic_doctor.h"

static void print_help(void)
{
    puts("usage: cairn doctor [--json] [--config FILE] [--KEY VALUE ...]\n\n"
         "Looks, without starting or changing anything, whether this machine can run what the\n"
         "configuration asks for: with transport dpdk its device, privileges, huge pages, IOMMU,\n"
         "routes and CPUs. Exit code 1 if something is broken.\n\n"
         "Keys, with their [defaults]:");
    cn_cli_print_keys();
}

static void check_run_directory(const cn_config_settings *s, cn_nic_finding *f)
{
    struct stat st;
    const char *directory = s->run_directory;
    f->check = "run_directory";
    f->health = CN_NIC_FINE;
    if (stat(directory, &st) != 0 && errno == ENOENT)
        snprintf(f->text, sizeof f->text, "%.200s will be made", directory);
    else if (access(directory, W_OK | X_OK) == 0)
        snprintf(f->text, sizeof f->text, "%.200s is there", directory);
    else {
        f->health = CN_NIC_BROKEN;
        snprintf(f->text, sizeof f->text, "%.160s: %s", directory, strerror(errno));
    }
}

static uint32_t examine(const cn_config_settings *s, cn_nic_finding *findings)
{
    uint32_t count = 0;
    if (strcmp(s->transport, "dpdk") == 0) {
        const cn_nic_dpdk_options port = cn_network_port(s);
        const cn_nic_doctor_options options = {
            .root = "", .device = s->dpdk_device, .cpu = port.cpu,
            .memory_mb = port.memory_mb ? port.memory_mb : cn_nic_dpdk_need_mb(&port)};
        count = cn_nic_doctor_examine(&options, findings);
        check_run_directory(s, &findings[count++]);
    } else {
        findings[count++] = (cn_nic_finding){"transport", CN_NIC_FINE,
                                             "kernel: needs nothing; --transport dpdk is checked too"};
    }
    return count;
}

static void print_findings(const cn_nic_finding *findings, uint32_t count, bool json)
{
    static const char *const words[] = {"fine", "poor", "broken"};
    cn_buf out;
    cn_buf_init(&out, 1 << 16);
    for (uint32_t i = 0; i < count; i++) {
        const cn_nic_finding *f = &findings[i];
        if (json) {
            cn_buf_add_format(&out, "%s{\"check\":\"%s\",\"health\":\"%s\",\"text\":", i ? "," : "[",
                              f->check, words[f->health]);
            cn_buf_add_json(&out, f->text, strlen(f->text));
            cn_buf_add_char(&out, '}');
        } else cn_buf_add_format(&out, "%-7s %-14s %s\n", words[f->health], f->check, f->text);
    }
    if (json) cn_buf_add_text(&out, "]\n");
    fwrite(out.data, 1, out.len, stdout);
    cn_buf_close(&out);
}

int cn_doctor_run(int argc, char **argv)
{
    static cn_config_settings settings;
    cn_nic_finding findings[CN_NIC_FINDING_MAX + 1];
    cn_cli_flags flags = {0};
    cn_err err;
    int exit_code = CN_EXIT_OK;
    const cn_code code = cn_cli_read(argc, argv, &settings, &flags, &err);
    if (flags.help) {
        print_help();
    } else if (code != CN_OK) {
        fprintf(stderr, "cairn: %s\n", err.text);
        exit_code = CN_EXIT_USAGE;
    } else {
        const uint32_t count = examine(&settings, findings);
        for (uint32_t i = 0; i < count; i++) {
            if (findings[i].health == CN_NIC_BROKEN) exit_code = CN_EXIT_FAILED;
        }
        print_findings(findings, count, flags.json);
    }
    cn_config_close(&settings);
    return exit_code;
}
