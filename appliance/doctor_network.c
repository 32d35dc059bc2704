#include "appliance/doctor_int.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/host_tree.h"

enum { HOST_BYTES = 128, LISTENING = 0x0A };

// `listen` in its parts; false for what is no HOST:PORT, which the server itself will say.
static bool split_listen(const char *listen, char host[HOST_BYTES], unsigned *port)
{
    const char *colon = strrchr(listen, ':');
    if (!colon || colon == listen || sscanf(colon + 1, "%u", port) != 1) return false;
    const bool bracket = listen[0] == '[' && colon[-1] == ']';
    snprintf(host, HOST_BYTES, "%.*s", (int)(colon - listen - (bracket ? 2 : 0)), listen + bracket);
    return true;
}

static bool is_every_address(const char *host)
{
    return strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0 || strcmp(host, "*") == 0;
}

static bool look_at_transport(const cn_doctor_case *c, cn_doctor_finding *f)
{
    if (c->is_dpdk) return false;
    cn_doctor_say(f, CN_NIC_FINE, "kernel: needs nothing; --transport dpdk is checked too");
    return true;
}

// ---- who has the port

// The inode of a listening socket in the way of host:port, from a line of /proc/net/tcp or tcp6.
static bool is_in_the_way(const char *line, const char *host, unsigned port, unsigned long *inode)
{
    char address[40], text[INET_ADDRSTRLEN] = "";
    unsigned their_port, state;
    if (sscanf(line, " %*u: %39[0-9A-F]:%x %*s %x %*s %*s %*s %*s %*s %lu", address, &their_port, &state,
               inode) != 4 || state != LISTENING || their_port != port)
        return false;
    if (strspn(address, "0") == strlen(address) || is_every_address(host)) return true;
    const struct in_addr in = {(in_addr_t)strtoul(address, NULL, 16)};
    if (strlen(address) == 8) inet_ntop(AF_INET, &in, text, sizeof text);
    return strcmp(text, host) == 0;
}

static bool find_socket(const cn_doctor_case *c, const char *host, unsigned port, unsigned long *inode)
{
    static const char *const tables[] = {"/proc/net/tcp", "/proc/net/tcp6"};
    char line[512];
    bool found = false;
    for (int i = 0; i < 2 && !found; i++) {
        FILE *file = cn_host_tree_open(c->root, tables[i]);
        while (file && !found && fgets(line, sizeof line, file))
            found = is_in_the_way(line, host, port, inode);
        if (file) fclose(file);
    }
    return found;
}

static bool process_has(const cn_doctor_case *c, const char *pid, const char *socket)
{
    char full[512], descriptor[128], target[64];
    snprintf(full, sizeof full, "%.250s/proc/%.20s/fd", c->root, pid);
    DIR *entries = opendir(full);
    bool found = false;
    for (const struct dirent *entry; entries && !found && (entry = readdir(entries));) {
        snprintf(descriptor, sizeof descriptor, "/proc/%.20s/fd/%.40s", pid, entry->d_name);
        found = cn_host_tree_link(c->root, descriptor, target, sizeof target) &&
                strcmp(target, socket) == 0;
    }
    if (entries) closedir(entries);
    return found;
}

// The process that holds a socket, as far as we may see it: its id and the name of its program.
static bool find_holder(const cn_doctor_case *c, unsigned long inode, char pid[24], char name[32])
{
    char socket[48], full[512];
    snprintf(socket, sizeof socket, "socket:[%lu]", inode);
    snprintf(full, sizeof full, "%.250s/proc", c->root);
    DIR *entries = opendir(full);
    bool found = false;
    for (const struct dirent *entry; entries && !found && (entry = readdir(entries));) {
        found = isdigit((unsigned char)entry->d_name[0]) && process_has(c, entry->d_name, socket);
        if (found) snprintf(pid, 24, "%.20s", entry->d_name);
    }
    if (entries) closedir(entries);
    return found && cn_host_tree_line(c->root, name, 32, "/proc/%s/comm", pid);
}

static bool look_at_port(const cn_doctor_case *c, cn_doctor_finding *f)
{
    char host[HOST_BYTES], pid[24], name[32];
    unsigned port;
    unsigned long inode;
    const char *listen = c->settings->listen;
    if (c->is_dpdk || !split_listen(listen, host, &port) || port == 0) return false;
    if (!find_socket(c, host, port, &inode)) {
        cn_doctor_say(f, CN_NIC_FINE, "nobody listens on %s", listen);
    } else if (!find_holder(c, inode, pid, name)) {
        cn_doctor_say(f, CN_NIC_BROKEN, "another process listens on port %u", port);
        cn_doctor_fix(f, "ss -ltnp 'sport = :%u'   # as root, names it; end it, or change listen", port);
    } else if (strcmp(name, "cairn") == 0) {
        cn_doctor_say(f, CN_NIC_FINE, "cairn (process %s) serves on it", pid);
    } else {
        cn_doctor_say(f, CN_NIC_BROKEN, "%s (process %s) listens on port %u", name, pid, port);
        cn_doctor_fix(f, "systemctl disable --now %s   # or change listen", name);
    }
    return true;
}

static bool look_at_address(const cn_doctor_case *c, cn_doctor_finding *f)
{
    char host[HOST_BYTES], text[INET6_ADDRSTRLEN];
    unsigned port;
    uint64_t any = 0;
    unsigned char parsed[16];
    struct ifaddrs *all = NULL;
    if (c->is_dpdk || !split_listen(c->settings->listen, host, &port) || is_every_address(host))
        return false;
    if (inet_pton(AF_INET, host, parsed) != 1 && inet_pton(AF_INET6, host, parsed) != 1) return false;
    cn_host_tree_number(c->root, "/proc/sys/net/ipv4/ip_nonlocal_bind", &any);
    bool found = any == 1;
    if (!found && getifaddrs(&all) != 0) return false;
    for (const struct ifaddrs *at = all; at && !found; at = at->ifa_next) {
        if (!at->ifa_addr) continue;
        const int family = at->ifa_addr->sa_family;
        const void *address = family == AF_INET6
            ? (const void *)&((const struct sockaddr_in6 *)(const void *)at->ifa_addr)->sin6_addr
            : (const void *)&((const struct sockaddr_in *)(const void *)at->ifa_addr)->sin_addr;
        found = (family == AF_INET || family == AF_INET6) &&
                inet_ntop(family, address, text, sizeof text) && strcmp(text, host) == 0;
    }
    if (all) freeifaddrs(all);
    cn_doctor_say(f, found ? CN_NIC_FINE : CN_NIC_BROKEN, found ? "%s is an address of this machine"
                  : "%s is no address of this machine", host);
    cn_doctor_fix(f, "ip -br addr   # lists them; listen takes one, or 0.0.0.0");
    return true;
}

static bool look_at_keys(const cn_doctor_case *c, cn_doctor_finding *f)
{
    char host[HOST_BYTES] = "";
    unsigned port;
    split_listen(c->settings->listen, host, &port);
    const bool open = !c->settings->api_key_count && !c->settings->api_keys_file[0];
    const bool public = c->is_dpdk || (strncmp(host, "127.", 4) != 0 && strcmp(host, "::1") != 0);
    const char *place = c->is_dpdk ? "the port" : c->settings->listen;
    if (!open) cn_doctor_say(f, CN_NIC_FINE, "clients need a key");
    else if (!public) cn_doctor_say(f, CN_NIC_FINE, "without keys, but only this machine reaches %s", place);
    else cn_doctor_say(f, CN_NIC_POOR, "there are no API keys, so whoever reaches %s is served", place);
    cn_doctor_fix(f, "(umask 077 && head -c 24 /dev/urandom | base64 > /etc/cairn/api-keys) && chown "
                  "cairn /etc/cairn/api-keys   # and set api_keys_file");
    return true;
}

// ---- variables of the kernel's TCP

static bool look_at_backlog(const cn_doctor_case *c, cn_doctor_finding *f)
{
    return !c->is_dpdk && cn_doctor_sysctl_least(c, f, "net.core.somaxconn", 1024,
                                                 "connections that come together are dropped");
}

static bool look_at_syn_backlog(const cn_doctor_case *c, cn_doctor_finding *f)
{
    return !c->is_dpdk && cn_doctor_sysctl_least(c, f, "net.ipv4.tcp_max_syn_backlog", 1024,
                                                 "connections that come together are dropped");
}

static bool look_at_syn_cookies(const cn_doctor_case *c, cn_doctor_finding *f)
{
    return !c->is_dpdk && cn_doctor_sysctl_least(c, f, "net.ipv4.tcp_syncookies", 1,
                                                 "a flood of half-open connections shuts clients out");
}

static bool look_at_slow_start(const cn_doctor_case *c, cn_doctor_finding *f)
{
    return !c->is_dpdk && cn_doctor_sysctl(c, f, "net.ipv4.tcp_slow_start_after_idle", 0,
                                           "the first burst after a pause of thought waits for round "
                                           "trips");
}

static bool look_at_conntrack(const cn_doctor_case *c, cn_doctor_finding *f)
{
    uint64_t count, most;
    const uint64_t connections = c->settings->limits.connections;
    if (c->is_dpdk ||
        !cn_host_tree_number(c->root, "/proc/sys/net/netfilter/nf_conntrack_count", &count) ||
        !cn_host_tree_number(c->root, "/proc/sys/net/netfilter/nf_conntrack_max", &most))
        return false;
    const bool fits = count + connections <= most;
    cn_doctor_say(f, fits ? CN_NIC_FINE : CN_NIC_POOR, fits ? "%llu of %llu connections are tracked"
                  : "%llu of %llu connections are tracked, and limits.connections may come to that: new "
                  "ones would be dropped", (unsigned long long)count, (unsigned long long)most);
    cn_doctor_fix(f, "sysctl -w net.netfilter.nf_conntrack_max=%llu",
                  (unsigned long long)(count + connections) * 2);
    return true;
}

// Interrupts on the CPU of the net thread: each one is a packet that waits.
static bool look_at_interrupts(const cn_doctor_case *c, cn_doctor_finding *f)
{
    const char *lcore = c->settings->dpdk_lcore;
    char full[512], list[256];
    if (!c->is_dpdk || !lcore[0]) return false;
    snprintf(full, sizeof full, "%.250s/proc/irq", c->root);
    DIR *entries = opendir(full);
    if (!entries) return false;
    cn_doctor_say(f, CN_NIC_FINE, "none is sent to CPU %s", lcore);
    for (const struct dirent *entry; (entry = readdir(entries));) {
        if (!isdigit((unsigned char)entry->d_name[0])) continue;
        if (!cn_host_tree_line(c->root, list, sizeof list, "/proc/irq/%.20s/smp_affinity_list",
                               entry->d_name) || !cn_host_tree_list_has(list, atoi(lcore)))
            continue;
        cn_doctor_say(f, CN_NIC_POOR, "interrupt %.20s may be sent to CPU %s, on which the net thread "
                      "runs", entry->d_name, lcore);
        cn_doctor_fix(f, "echo isolated_cores=%s > /etc/tuned/cairn-variables.conf && tuned-adm profile "
                      "cairn && reboot", lcore);
        break;
    }
    closedir(entries);
    return true;
}

static const cn_doctor_check checks[] = {
    {"transport", "how clients are reached", look_at_transport},
    {"port_free", "whether somebody else listens where Cairn will", look_at_port},
    {"address", "whether `listen` is an address of this machine", look_at_address},
    {"open_door", "whether others are served without a key", look_at_keys},
    {"backlog", "connections that may wait to be accepted", look_at_backlog},
    {"syn_backlog", "connections that may be half open", look_at_syn_backlog},
    {"syn_cookies", "whether a flood of them is withstood", look_at_syn_cookies},
    {"slow_start", "whether streams begin anew after a pause", look_at_slow_start},
    {"conntrack", "whether the packet filter can track all connections", look_at_conntrack},
    {"interrupts", "interrupts on the CPU of the net thread (dpdk)", look_at_interrupts},
};

const cn_doctor_group cn_doctor_network = {"Network", checks, sizeof checks / sizeof *checks};
