#include "dataplane/nic_interface_int.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* How it works. The lock is a Unix socket bound to a name of the network namespace, which goes with the
 * process. Any socket can be asked about interfaces, so the same one serves for all questions. */

cn_code cn_nic_interface_open(cn_nic_interface *i, const char *name, const char *device, cn_err *err)
{
    struct sockaddr_un lock = {.sun_family = AF_UNIX};
    *i = (cn_nic_interface){.fd = -1};
    snprintf(i->name, sizeof i->name, "%s", name);
    if (!name[0]) return CN_OK;
    const int len = snprintf(lock.sun_path + 1, sizeof lock.sun_path - 1, "cairn-nic-%s", i->name);
    const socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
    i->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (i->fd >= 0 && bind(i->fd, (struct sockaddr *)&lock, bytes) == 0) return CN_OK;
    return cn_err_set(err, CN_E_IO,
                      errno == EADDRINUSE ? "dpdk.device: %s: another process serves on %s"
                                          : "dpdk.device: %s: cannot lock %s",
                      device, i->name);
}

void cn_nic_interface_close(cn_nic_interface *i)
{
    if (i->fd >= 0) close(i->fd);
    i->fd = -1;
}

bool cn_nic_interface_exists(const cn_nic_interface *i) { return if_nametoindex(i->name) != 0; }

void cn_nic_interface_bind(cn_nic_interface *i) { i->index = if_nametoindex(i->name); }

cn_nic_interface_state cn_nic_interface_look(const cn_nic_interface *i)
{
    struct ifreq request = {0};
    memcpy(request.ifr_name, i->name, sizeof request.ifr_name);
    const int rc = ioctl(i->fd, SIOCGIFINDEX, &request);
    if (rc != 0 ? errno == ENODEV : (unsigned)request.ifr_ifindex != i->index)
        return CN_NIC_INTERFACE_GONE;
    if (ioctl(i->fd, SIOCGIFFLAGS, &request) != 0 || !(request.ifr_flags & IFF_UP))
        return CN_NIC_INTERFACE_DOWN;
    // IFF_RUNNING follows the carrier up to a second later; some interfaces tell nothing else.
    struct ethtool_value carrier = {.cmd = ETHTOOL_GLINK};
    bool up = (request.ifr_flags & IFF_RUNNING) != 0;
    request.ifr_data = (char *)&carrier;
    if (ioctl(i->fd, SIOCETHTOOL, &request) == 0) up = carrier.data != 0;
    return up ? CN_NIC_INTERFACE_UP : CN_NIC_INTERFACE_DOWN;
}

int cn_nic_interface_set_mtu(const cn_nic_interface *i, uint16_t mtu)
{
    struct ifreq request = {0};
    memcpy(request.ifr_name, i->name, sizeof request.ifr_name);
    request.ifr_mtu = mtu;
    return ioctl(i->fd, SIOCSIFMTU, &request) == 0 ? 0 : -errno;
}

static int socket_domain(int fd)
{
    int domain = -1;
    socklen_t len = sizeof domain;
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 ? domain : -1;
}

bool cn_nic_interface_is_socket(int fd)
{
    const int domain = socket_domain(fd);
    return domain == AF_PACKET || domain == AF_XDP;
}

uint64_t cn_nic_interface_socket_drops(int fd)
{
    struct tpacket_stats drops;
    socklen_t len = sizeof drops;
    if (fd < 0 || socket_domain(fd) != AF_PACKET) return 0;
    return getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &drops, &len) == 0 ? drops.tp_drops : 0;
}
