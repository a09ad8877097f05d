#define _GNU_SOURCE
#include "topology.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <linux/veth.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Locally administered addresses. */
const uint8_t CLIENT_MAC[6] = {2, 0, 0, 0, 0, 0x0a}, SERVER_MAC[6] = {2, 0, 0, 0, 0, 0x0b};

int namespace_enter(void) { return unshare(CLONE_NEWNET) ? -errno : 0; }

/* --- netlink: one RTM_NEWLINK request, attributes appended in place ------------------------------------------- */

struct request {
  struct nlmsghdr header;
  struct ifinfomsg link;
  char attributes[512];
};

static struct rtattr *put(struct request *r, int type, const void *data, size_t size) {
  struct rtattr *a = (struct rtattr *)((char *)r + NLMSG_ALIGN(r->header.nlmsg_len));
  a->rta_type = (unsigned short)type;
  a->rta_len = (unsigned short)RTA_LENGTH(size);
  if (size) memcpy(RTA_DATA(a), data, size);
  r->header.nlmsg_len = NLMSG_ALIGN(r->header.nlmsg_len) + RTA_ALIGN(a->rta_len);
  return a;
}

static void nest_end(struct request *r, struct rtattr *nest) {
  nest->rta_len = (unsigned short)((char *)r + r->header.nlmsg_len - (char *)nest);
}

int veth_create(pid_t server) {
  struct request r = {.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)),
                                 .nlmsg_type = RTM_NEWLINK,
                                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL}};
  put(&r, IFLA_IFNAME, CLIENT_DEVICE, sizeof CLIENT_DEVICE);
  struct rtattr *info = put(&r, IFLA_LINKINFO, NULL, 0);
  put(&r, IFLA_INFO_KIND, "veth", 4);
  struct rtattr *data = put(&r, IFLA_INFO_DATA, NULL, 0);
  struct ifinfomsg empty = {0};
  struct rtattr *peer = put(&r, VETH_INFO_PEER, &empty, sizeof empty);
  put(&r, IFLA_IFNAME, SERVER_DEVICE, sizeof SERVER_DEVICE);
  uint32_t pid = (uint32_t)server;
  put(&r, IFLA_NET_NS_PID, &pid, sizeof pid);
  nest_end(&r, peer);
  nest_end(&r, data);
  nest_end(&r, info);

  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) return -errno;
  struct {
    struct nlmsghdr header;
    struct nlmsgerr error;
    char rest[512];
  } answer = {0};
  int result = send(fd, &r, r.header.nlmsg_len, 0) < 0 || recv(fd, &answer, sizeof answer, 0) < 0 ? -errno : answer.error.error;
  close(fd);
  return result;
}

/* --- ioctl: the rest ------------------------------------------------------------------------------------------ */

static struct sockaddr_in ipv4(const char *address) {
  struct sockaddr_in a = {.sin_family = AF_INET};
  inet_pton(AF_INET, address, &a.sin_addr);
  return a;
}

int veth_configure(const char *device, const uint8_t mac[6], const char *address, const char *peer_address,
                   const uint8_t peer_mac[6]) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  struct ifreq r = {0};
  snprintf(r.ifr_name, sizeof r.ifr_name, "%s", device);
  int failed = 0;

  r.ifr_hwaddr.sa_family = ARPHRD_ETHER;
  memcpy(r.ifr_hwaddr.sa_data, mac, 6);
  failed = failed ? failed : ioctl(fd, SIOCSIFHWADDR, &r) ? -errno : 0;

  struct sockaddr_in a = ipv4(address);
  memcpy(&r.ifr_addr, &a, sizeof a);
  failed = failed ? failed : ioctl(fd, SIOCSIFADDR, &r) ? -errno : 0;
  a = ipv4("255.255.255.0");
  memcpy(&r.ifr_netmask, &a, sizeof a);
  failed = failed ? failed : ioctl(fd, SIOCSIFNETMASK, &r) ? -errno : 0;

  memset(&r.ifr_ifru, 0, sizeof r.ifr_ifru);
  r.ifr_flags = IFF_UP | IFF_RUNNING;
  failed = failed ? failed : ioctl(fd, SIOCSIFFLAGS, &r) ? -errno : 0;

  /* With offload on, a kernel UDP frame echoed by AF_XDP carries half a checksum and is dropped. */
  struct ethtool_value off = {.cmd = ETHTOOL_STXCSUM, .data = 0};
  r.ifr_data = (char *)&off;
  failed = failed ? failed : ioctl(fd, SIOCETHTOOL, &r) ? -errno : 0;

  struct arpreq neighbour = {.arp_flags = ATF_PERM | ATF_COM};
  a = ipv4(peer_address);
  memcpy(&neighbour.arp_pa, &a, sizeof a);
  neighbour.arp_ha.sa_family = ARPHRD_ETHER;
  memcpy(neighbour.arp_ha.sa_data, peer_mac, 6);
  snprintf(neighbour.arp_dev, sizeof neighbour.arp_dev, "%s", device);
  failed = failed ? failed : ioctl(fd, SIOCSARP, &neighbour) ? -errno : 0;
  close(fd);
  return failed;
}
