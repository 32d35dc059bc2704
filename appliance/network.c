#include "appliance/network.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "dataplane/nic_capture.h"
#include "dataplane/nic_doctor.h"
#include "dataplane/transport_dpdk.h"

enum { CPU_MAX = 1023, VIP_TEXT_BYTES = 256, PATH_BYTES = 256 };

struct cn_network {
    cn_network_options options;
    cn_nic *nic;
    char vips[VIP_TEXT_BYTES];               // dpdk.vip, cut into its addresses
    bool was_up, was_gone;
    cn_err trouble;                          // why a device that is back cannot be used, as last logged
};

static bool is_dpdk(const cn_config_settings *s) { return strcmp(s->transport, "dpdk") == 0; }

// -1 for "", -2 for what is not a CPU number.
static int32_t parse_cpu(const char *text)
{
    char *end;
    if (!text[0]) return -1;
    if (!isdigit((unsigned char)text[0])) return -2;
    const long cpu = strtol(text, &end, 10);
    return *end == '\0' && cpu <= CPU_MAX ? (int32_t)cpu : -2;
}

static int parse_memory(const char *text)
{
    static const char *const names[] = {"auto", "huge", "normal"};       // as cn_nic_memory
    for (int i = 0; i < 3; i++) {
        if (strcmp(text, names[i]) == 0) return i;
    }
    return -1;
}

cn_code cn_network_check(const cn_config_settings *s, cn_err *err)
{
    if (!is_dpdk(s) && strcmp(s->transport, "kernel") != 0)
        return cn_err_set(err, CN_E_INVALID, "transport: %.40s; must be kernel or dpdk", s->transport);
    if (parse_memory(s->dpdk_memory) < 0)
        return cn_err_set(err, CN_E_INVALID, "dpdk.memory: %.40s; must be auto, huge or normal",
                          s->dpdk_memory);
    if (parse_cpu(s->dpdk_lcore) == -2)
        return cn_err_set(err, CN_E_INVALID, "dpdk.lcore: %.40s; must be the number of a CPU, 0 to %d, "
                          "or empty", s->dpdk_lcore, CPU_MAX);
    if (strlen(s->dpdk_vip) >= VIP_TEXT_BYTES)
        return cn_err_set(err, CN_E_INVALID, "dpdk.vip: has %zu bytes; at most %d", strlen(s->dpdk_vip),
                          VIP_TEXT_BYTES - 1);
    if (!is_dpdk(s)) return CN_OK;
    if (!s->dpdk_device[0])
        return cn_err_set(err, CN_E_INVALID, "dpdk.device: is empty; transport: dpdk needs a PCI "
                          "address or a virtual device such as net_af_packet0,iface=eth1");
    if (!s->dpdk_address[0] && !s->dpdk_address6[0])
        return cn_err_set(err, CN_E_INVALID, "dpdk.address: is empty; transport: dpdk needs an address "
                          "such as 192.0.2.10/24 (or dpdk.address6)");
    return CN_OK;
}

cn_nic_dpdk_options cn_network_port(const cn_config_settings *s)
{
    return (cn_nic_dpdk_options){
        .device = s->dpdk_device, .eal_args = s->dpdk_eal_args,
        .memory = (cn_nic_memory)parse_memory(s->dpdk_memory),
        .memory_mb = (uint32_t)s->dpdk_memory_mb, .cpu = parse_cpu(s->dpdk_lcore),
        .mtu = (uint16_t)s->dpdk_mtu};
}

void cn_network_capture_path(const cn_config_settings *s, uint32_t port, char *out, size_t out_bytes)
{
    snprintf(out, out_bytes, "%s/port%u.capture", s->run_directory, port);
}

static cn_code add_capture(cn_network *n, cn_err *err)
{
    const cn_config_settings *s = n->options.settings;
    char path[PATH_BYTES];
    if (mkdir(s->run_directory, 0755) != 0 && errno != EEXIST)
        return cn_err_set(err, CN_E_IO, "run_directory: %s: %s", s->run_directory, strerror(errno));
    cn_network_capture_path(s, 0, path, sizeof path);
    const cn_nic_capture_options options = {n->nic, path, n->options.clock};
    return cn_nic_capture_open(&options, &n->nic, err);
}

static const char *or_null(const char *text) { return text[0] ? text : NULL; }

static cn_code split_vips(cn_network *n, const char **vips, cn_err *err)
{
    uint32_t count = 0;
    char *rest = NULL;
    snprintf(n->vips, sizeof n->vips, "%s", n->options.settings->dpdk_vip);
    for (char *at = strtok_r(n->vips, ", ", &rest); at; at = strtok_r(NULL, ", ", &rest)) {
        if (count == CN_STACK_VIP_MAX)
            return cn_err_set(err, CN_E_INVALID, "dpdk.vip: %s; at most %d addresses",
                              n->options.settings->dpdk_vip, CN_STACK_VIP_MAX);
        vips[count++] = at;
    }
    return CN_OK;
}

static cn_code hand_over(cn_network *n, cn_err *err)
{
    const cn_config_settings *s = n->options.settings;
    cn_transport_dpdk_options options = {.stack = {
        .nic = n->nic, .clock = n->options.clock, .random = n->options.random,
        .ipv4 = or_null(s->dpdk_address), .ipv4_gateway = or_null(s->dpdk_gateway),
        .ipv6 = or_null(s->dpdk_address6), .ipv6_gateway = or_null(s->dpdk_gateway6),
        .vlan = (uint16_t)s->dpdk_vlan}};
    const cn_code code = split_vips(n, options.stack.vips, err);
    if (code == CN_OK) cn_transport_dpdk_use(&options);
    return code;
}

static void log_port(cn_network *n)
{
    cn_nic_info info;
    char mac[18];
    n->nic->ops->info(n->nic, &info);
    snprintf(mac, sizeof mac, "%02x:%02x:%02x:%02x:%02x:%02x", info.mac[0], info.mac[1], info.mac[2],
             info.mac[3], info.mac[4], info.mac[5]);
    cn_log_event(n->options.log, CN_LOG_INFO, "port",
                 cn_log_text("device", n->options.settings->dpdk_device),
                 cn_log_text("driver", info.driver), cn_log_text("mac", mac),
                 cn_log_number("mtu", info.mtu),
                 cn_log_text("checksums", info.fills_checksums ? "device" : "software"));
}

cn_code cn_network_open(const cn_network_options *options, cn_network **out, cn_err *err)
{
    const cn_config_settings *s = options->settings;
    *out = NULL;
    if (!is_dpdk(s)) return CN_OK;
    if (cn_nic_doctor_carries_default_route("", s->dpdk_device))
        return cn_err_set(err, CN_E_INVALID, "dpdk.device: %s: its interface carries the default route; "
                          "Cairn needs an interface of its own", s->dpdk_device);
    cn_network *n = calloc(1, sizeof *n);
    if (!n) return cn_err_set(err, CN_E_MEMORY, "network: no memory");
    n->options = *options;
    n->was_up = true;
    const cn_nic_dpdk_options port = cn_network_port(s);
    cn_code code = cn_nic_dpdk_open(&port, &n->nic, err);
    if (code == CN_OK) code = add_capture(n, err);
    if (code == CN_OK) code = hand_over(n, err);
    if (code != CN_OK) {
        cn_network_close(n);
        return code;
    }
    log_port(n);
    cn_network_watch(n);
    *out = n;
    return CN_OK;
}

void cn_network_close(cn_network *network)
{
    if (!network) return;
    if (network->nic) network->nic->ops->close(network->nic);
    free(network);
}

const cn_transport_ops *cn_network_transport(const cn_network *network)
{
    return network ? &cn_transport_dpdk_ops : &cn_transport_kernel_ops;
}

static void count(const cn_network *n, const cn_nic_stats *stats)
{
    cn_metrics *m = n->options.metrics;
    cn_nic_capture_counts capture;
    cn_nic_capture_counted(n->nic, &capture);
    cn_metrics_set(&m->capture_dropped, capture.dropped);
    cn_metrics_set(&m->port_link_up, stats->link_up);
    cn_metrics_set(&m->port_gone, stats->gone);
    cn_metrics_set(&m->port_rx_frames, stats->rx_frames);
    cn_metrics_set(&m->port_tx_frames, stats->tx_frames);
    cn_metrics_set(&m->port_rx_bytes, stats->rx_bytes);
    cn_metrics_set(&m->port_tx_bytes, stats->tx_bytes);
    cn_metrics_set(&m->port_rx_missed, stats->rx_missed);
    cn_metrics_set(&m->port_rx_no_frame, stats->rx_no_frame);
    cn_metrics_set(&m->port_tx_full, stats->tx_full);
    cn_metrics_set(&m->port_frames_all, stats->frames_all);
    cn_metrics_set(&m->port_frames_free, stats->frames_free);
}

static void count_tcp(cn_metrics *m)
{
    const cn_stack_counts *c = cn_stack_counted();
    cn_metrics_set(&m->tcp_dropped, cn_metrics_get(&c->frames_dropped));
    cn_metrics_set(&m->tcp_refused, cn_metrics_get(&c->frames_refused));
#define COUNT(id) cn_metrics_set(&m->tcp_##id, cn_metrics_get(&c->id))
    COUNT(rexmits);
    COUNT(needless);
    COUNT(timeouts);
    COUNT(probes);
    COUNT(recoveries);
    COUNT(early);
    COUNT(unkept);
    COUNT(syns_dropped);
    COUNT(challenges);
    COUNT(resets_sent);
    COUNT(resets_taken);
    COUNT(half_open);
    COUNT(time_waiting);
#undef COUNT
}

// Takes a device that has gone into use again once it is there; says so if that cannot be done.
static void look_for_device(cn_network *n, cn_log_field device)
{
    cn_err err;
    const cn_code code = n->nic->ops->recover(n->nic, &err);
    if (code == CN_OK) {
        n->trouble = (cn_err){0};
        n->was_up = true;                    // so that a link that is down is told
        cn_log_event(n->options.log, CN_LOG_INFO, "port_back", device);
    } else if (code != CN_E_ABSENT && code != CN_E_AGAIN && strcmp(n->trouble.text, err.text) != 0) {
        n->trouble = err;
        cn_log_event(n->options.log, CN_LOG_ERROR, "port_unusable", device,
                     cn_log_text("error", err.text));
    }
}

const char *cn_network_watch(cn_network *n)
{
    cn_nic_stats stats;
    if (!n) return NULL;
    const cn_log_field device = cn_log_text("device", n->options.settings->dpdk_device);
    if (n->was_gone) look_for_device(n, device);
    n->nic->ops->stats(n->nic, &stats);
    count(n, &stats);
    count_tcp(n->options.metrics);
    if (stats.gone && !n->was_gone) {
        cn_log_event(n->options.log, CN_LOG_ERROR, "port_gone", device,
                     cn_log_text("then", "it is used again once it is back"));
    } else if (!stats.gone && stats.link_up != n->was_up) {
        cn_log_event(n->options.log, stats.link_up ? CN_LOG_INFO : CN_LOG_WARN,
                     stats.link_up ? "link_up" : "link_down", device);
    }
    n->was_gone = stats.gone;
    n->was_up = stats.link_up;
    if (stats.gone) return "port: its device has disappeared; it is used again once it is back";
    return stats.link_up ? NULL : "port: the link is down";
}
