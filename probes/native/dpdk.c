/*
 * dpdk: the same ping-pong through DPDK's poll-mode drivers that need no NIC: af_packet and af_xdp over the veth pair,
 * memif between two processes (shared memory: no network at all, an upper bound).
 *
 *   dpdk DRIVER [--count N] [--warmup N] [--payload N] [--interval-ns N] [--client-cpu N] [--server-cpu N]
 *
 * DRIVER is af_packet, af_xdp or memif. One JSON line. Without hugepages. Each side is a process with its own EAL; the
 * result is the client's, how the server ends tells nothing (a memif server may crash when its peer closes).
 * Exit: 0 done, 2 bad flag, 3 the machine does not allow it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <net/ethernet.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_version.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "histogram.h"
#include "topology.h"

enum { MBUFS = 8191, DESCRIPTORS = 512, BURST = 8, PORT = 20000, PAYLOAD_MAX = 1400, INTERVAL_ROUND_TRIPS = 3 };
enum { HEADERS = sizeof(struct ethhdr) + sizeof(struct iphdr) + sizeof(struct udphdr) };
#define LOST_NS 1000000000ull
#define START_TIMEOUT_NS 5000000000ull

static const char *driver;
static int count = 20000, warmup = 2000, payload = 64, interval_ns = 50000, client_cpu = 0, server_cpu = 1;
static struct rte_mempool *pool;
static uint8_t headers[HEADERS];
static char memif_socket[64];

static _Noreturn void die(int code, const char *what, const char *why) {
  fprintf(stderr, "dpdk: %s%s%s\n", what, why ? ": " : "", why ? why : "");
  exit(code);
}

static uint16_t ip_checksum(const void *data, size_t bytes) {
  const uint16_t *words = data;
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes / 2; i++) sum += words[i];
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)~sum;
}

/* Frames as the AF_XDP path sends them: IPv4, UDP without checksum. */
static void headers_make(int client) {
  struct ethhdr *eth = (struct ethhdr *)headers;
  struct iphdr *ip = (struct iphdr *)(eth + 1);
  struct udphdr *udp = (struct udphdr *)(ip + 1);
  memcpy(eth->h_dest, client ? SERVER_MAC : CLIENT_MAC, 6);
  memcpy(eth->h_source, client ? CLIENT_MAC : SERVER_MAC, 6);
  eth->h_proto = htons(ETH_P_IP);
  *ip = (struct iphdr){.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP};
  ip->tot_len = htons((uint16_t)(HEADERS - sizeof *eth + (size_t)payload));
  inet_pton(AF_INET, client ? CLIENT_ADDRESS : SERVER_ADDRESS, &ip->saddr);
  inet_pton(AF_INET, client ? SERVER_ADDRESS : CLIENT_ADDRESS, &ip->daddr);
  ip->check = ip_checksum(ip, sizeof *ip);
  udp->source = udp->dest = htons(PORT);
  udp->len = htons((uint16_t)(sizeof *udp + (size_t)payload));
}

static void start_port(int client) {
  char name[32], device[192], core[16];
  snprintf(name, sizeof name, "tickscope%d", getpid());
  snprintf(core, sizeof core, "%d", client ? client_cpu : server_cpu);
  const char *end = client ? CLIENT_DEVICE : SERVER_DEVICE;
  if (!strcmp(driver, "memif"))
    snprintf(device, sizeof device, "net_memif0,role=%s,id=0,socket=%s,socket-abstract=no", client ? "client" : "server", memif_socket);
  else if (!strcmp(driver, "af_xdp")) snprintf(device, sizeof device, "net_af_xdp0,iface=%s,busy_budget=0", end);
  else snprintf(device, sizeof device, "net_af_packet0,iface=%s", end);
  char *args[] = {"dpdk", "--no-huge", "-m", "128", "--no-pci", "--no-telemetry", "--no-shconf", "--log-level=lib.*:error", "--log-level=pmd.*:error",
                  "--file-prefix", name, "-l", core, "--vdev", device};
  if (rte_eal_init((int)(sizeof args / sizeof *args), args) < 0) die(3, "EAL", rte_strerror(rte_errno));
  pool = rte_pktmbuf_pool_create("frames", MBUFS, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
  if (!pool) die(3, "frame pool", rte_strerror(rte_errno));
  struct rte_eth_conf none = {0};
  if (rte_eth_dev_count_avail() == 0) die(3, "no DPDK port came up for this driver", NULL);
  if (rte_eth_dev_configure(0, 1, 1, &none) || rte_eth_rx_queue_setup(0, 0, DESCRIPTORS, SOCKET_ID_ANY, NULL, pool) ||
      rte_eth_tx_queue_setup(0, 0, DESCRIPTORS, SOCKET_ID_ANY, NULL) || rte_eth_dev_start(0))
    die(3, "port configuration", rte_strerror(rte_errno));
  headers_make(client);
}

static int send_number(uint64_t number) {
  struct rte_mbuf *frame = rte_pktmbuf_alloc(pool);
  if (!frame) return -1;
  char *data = rte_pktmbuf_append(frame, (uint16_t)(HEADERS + payload));
  memcpy(data, headers, HEADERS);
  memset(data + HEADERS, 0, (size_t)payload);
  memcpy(data + HEADERS, &number, sizeof number);
  if (rte_eth_tx_burst(0, 0, &frame, 1) == 1) return 0;
  rte_pktmbuf_free(frame);
  return -1;
}

/* The number in one received message, 0 when nothing (of ours) came. */
static uint64_t receive_number(void) {
  struct rte_mbuf *frames[BURST];
  uint16_t n = rte_eth_rx_burst(0, 0, frames, BURST);
  uint64_t number = 0;
  for (uint16_t i = 0; i < n; i++) {
    const uint8_t *data = rte_pktmbuf_mtod(frames[i], const uint8_t *);
    const struct ethhdr *eth = (const struct ethhdr *)data;
    const struct iphdr *ip = (const struct iphdr *)(eth + 1);
    const struct udphdr *udp = (const struct udphdr *)(ip + 1);
    if (rte_pktmbuf_data_len(frames[i]) >= HEADERS + 8 && eth->h_proto == htons(ETH_P_IP) && ip->protocol == IPPROTO_UDP &&
        udp->dest == htons(PORT))
      memcpy(&number, data + HEADERS, sizeof number);
    rte_pktmbuf_free(frames[i]);
  }
  return number;
}

static _Noreturn void serve(void) {
  for (;;) {
    uint64_t number = receive_number();
    if (number) send_number(number);
  }
}

static uint64_t exchange(uint64_t number, uint64_t *sent_at, uint64_t timeout_ns) {
  *sent_at = now_ns();
  if (send_number(number)) return 0;
  for (;;) {
    uint64_t got = receive_number(), now = now_ns();
    if (got == number) return now;
    if (now - *sent_at > timeout_ns) return 0;
  }
}

static int measure(void) {
  static struct histogram response, service, slip;
  uint64_t number = 1, sent_at, came, deadline = now_ns() + START_TIMEOUT_NS;
  while (!exchange(number++, &sent_at, 10000000)) /* until the server's port is up */
    if (now_ns() > deadline) die(3, "no answer through this driver within 5 s", NULL);
  for (int i = 0; i < warmup; i++)
    if ((came = exchange(number++, &sent_at, LOST_NS))) histogram_record(&service, came - sent_at);
  uint64_t enough = INTERVAL_ROUND_TRIPS * histogram_quantile(&service, 0.5);
  uint64_t interval = enough > (uint64_t)interval_ns ? enough : (uint64_t)interval_ns, start = now_ns() + interval;
  histogram_reset(&service);
  int lost = 0;
  for (int i = 0; i < count; i++) {
    uint64_t intended = start + (uint64_t)i * interval;
    while (now_ns() < intended) cpu_relax();
    came = exchange(number++, &sent_at, LOST_NS);
    histogram_record(&slip, sent_at - intended);
    if (!came) {
      lost++;
      continue;
    }
    histogram_record(&response, came - intended);
    histogram_record(&service, came - sent_at);
  }
  printf("\n{\"kind\":\"ladder\",\"path\":\"dpdk_%s\",\"payloadBytes\":%d,\"status\":\"measured\",\"reason\":\"\",\"requestedMode\":\"DPDK net_%s, "
         "no hugepages\",\"effectiveMode\":\"%s, poll mode, %s\",\"sent\":%d,\"lost\":%d,\"intervalNs\":%llu,",
         driver, payload, driver, rte_version(), strcmp(driver, "memif") ? "veth" : "shared memory, no network", count, lost,
         (unsigned long long)interval);
  histogram_print(stdout, "response", &response), putchar(',');
  histogram_print(stdout, "service", &service), putchar(',');
  histogram_print(stdout, "slip", &slip);
  printf("}\n");
  fflush(stdout);
  return 0;
}

static int number_of(const char *flag, const char *text, long low, long high) {
  char *end;
  long value = text ? strtol(text, &end, 10) : 0;
  if (!text || *end || value < low || value > high) die(2, flag, "not a whole number within its limits");
  return (int)value;
}

int main(int argc, char **argv) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  driver = argc > 1 ? argv[1] : "";
  if (strcmp(driver, "af_packet") && strcmp(driver, "af_xdp") && strcmp(driver, "memif"))
    die(2, "the first word is one of af_packet, af_xdp, memif", NULL);
  for (int i = 2; i < argc; i += 2) {
    const char *flag = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
    if (!strcmp(flag, "--count")) count = number_of(flag, value, 1, 10000000);
    else if (!strcmp(flag, "--warmup")) warmup = number_of(flag, value, 0, 1000000);
    else if (!strcmp(flag, "--payload")) payload = number_of(flag, value, 8, PAYLOAD_MAX);
    else if (!strcmp(flag, "--interval-ns")) interval_ns = number_of(flag, value, 0, 1000000000);
    else if (!strcmp(flag, "--client-cpu")) client_cpu = number_of(flag, value, 0, 1023);
    else if (!strcmp(flag, "--server-cpu")) server_cpu = number_of(flag, value, 0, 1023);
    else die(2, "unknown flag", flag);
  }
  snprintf(memif_socket, sizeof memif_socket, "/tmp/tickscope-memif-%d", getpid());
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair)) die(70, "socketpair", strerror(errno));
  pid_t client = getpid(), server = fork();
  char token = 0;
  if (server == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != client) exit(0);
    token = (char)-namespace_enter();
    if (write(pair[1], &token, 1) != 1 || token || read(pair[1], &token, 1) != 1) exit(3);
    if (veth_configure(SERVER_DEVICE, SERVER_MAC, SERVER_ADDRESS, CLIENT_ADDRESS, CLIENT_MAC)) exit(3);
    start_port(0);
    if (write(pair[1], &token, 1) != 1) exit(3);
    serve();
  }
  close(pair[1]);
  if (server < 0 || read(pair[0], &token, 1) != 1 || token) die(3, "network namespaces are not allowed here (they need root)", NULL);
  int failed = namespace_enter();
  if (!failed) failed = veth_create(server);
  if (!failed) failed = veth_configure(CLIENT_DEVICE, CLIENT_MAC, CLIENT_ADDRESS, SERVER_ADDRESS, SERVER_MAC);
  if (failed) die(3, "creating the veth pair", strerror(-failed));
  if (write(pair[0], &token, 1) != 1 || read(pair[0], &token, 1) != 1) die(3, "the server's port did not come up", NULL);
  start_port(1);
  int result = measure();
  kill(server, SIGKILL);
  unlink(memif_socket);
  _exit(result); /* the EAL's own clean-up waits for threads of drivers that are gone */
}
