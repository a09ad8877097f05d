/*
 * dpdk: the same ping-pong through DPDK's poll-mode drivers that need no NIC: af_packet and af_xdp over the veth pair,
 * memif between two processes (shared memory: no network at all, an upper bound).
 *
 *   dpdk DRIVER [--count N] [--warmup N] [--payload N] [--interval-ns N] [--client-cpu N] [--server-cpu N]
 *
 * DRIVER is af_packet, af_xdp or memif. One JSON line. Without hugepages. Each side is a process with its own EAL; the
 * result is the client's, how the server ends tells nothing (a memif server may crash when its peer closes).
 * DPDK's runtime files and memif's socket lie on a tmpfs of a private mount namespace: gone with the processes.
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
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "histogram.h"
#include "topology.h"

enum { MBUFS = 8191, DESCRIPTORS = 512, BURST = 8, PORT = 20000, PAYLOAD_MAX = 1400, INTERVAL_ROUND_TRIPS = 2 };
enum { HEADERS = sizeof(struct ethhdr) + sizeof(struct iphdr) + sizeof(struct udphdr) };
#define LOST_NS 1000000000ull
#define START_TIMEOUT_NS 5000000000ull
/* Longest interval between messages of its own accord: a starved machine must not make a run endless. */
#define INTERVAL_MAX_NS 1000000ull
/* A driver that loses this many messages in a row, or in all, is given up: each costs LOST_NS. */
enum { LOST_IN_A_ROW_MAX = 3, LOST_MAX = 10 };
/* Where the EAL of root keeps its runtime files (dpdk/PREFIX). */
#define RUN_FOLDER "/var/run"
#define MEMIF_SOCKET RUN_FOLDER "/tickscope-memif"

static const char *driver;
static int count = 20000, warmup = 2000, payload = 64, interval_ns = 50000, client_cpu = 0, server_cpu = 1;
static struct rte_mempool *pool;
static uint8_t headers[HEADERS];

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

/* Files made from here on are seen by this process and its children only, and end with them. 0, or -errno. */
static int private_files(void) {
  if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
      mount("tickscope", RUN_FOLDER, "tmpfs", MS_NOSUID | MS_NODEV, "mode=700,size=16m"))
    return -errno;
  return 0;
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

/*
 * The pool must lie densely in memory: net_af_xdp registers (objects x object size) bytes from its start as UMEM, and
 * without hugepages a pool as rte_pktmbuf_pool_create makes it skips the end of every 4 KiB page. Its last objects would
 * lie beyond the UMEM, and every message in one of them would be dropped.
 */
static struct rte_mempool *dense_pool(void) {
  struct rte_pktmbuf_pool_private sizes = {.mbuf_data_room_size = RTE_MBUF_DEFAULT_BUF_SIZE};
  struct rte_mempool *made = rte_mempool_create_empty("frames", MBUFS, sizeof(struct rte_mbuf) + RTE_MBUF_DEFAULT_BUF_SIZE, 0,
                                                      sizeof sizes, SOCKET_ID_ANY, RTE_MEMPOOL_F_NO_IOVA_CONTIG);
  if (!made) return NULL;
  rte_pktmbuf_pool_init(made, &sizes);
  if (rte_mempool_populate_default(made) < 0) return NULL;
  rte_mempool_obj_iter(made, rte_pktmbuf_init, NULL);
  return made;
}

static void start_port(int client) {
  char name[32], device[192], core[16];
  snprintf(name, sizeof name, "tickscope%d", getpid());
  snprintf(core, sizeof core, "%d", client ? client_cpu : server_cpu);
  const char *end = client ? CLIENT_DEVICE : SERVER_DEVICE;
  if (!strcmp(driver, "memif"))
    snprintf(device, sizeof device, "net_memif0,role=%s,id=0,socket=%s,socket-abstract=no", client ? "client" : "server", MEMIF_SOCKET);
  else if (!strcmp(driver, "af_xdp")) snprintf(device, sizeof device, "net_af_xdp0,iface=%s,busy_budget=0", end);
  else snprintf(device, sizeof device, "net_af_packet0,iface=%s", end);
  char *args[] = {"dpdk", "--no-huge", "-m", "128", "--no-pci", "--no-telemetry", "--no-shconf", "--log-level=lib.*:error", "--log-level=pmd.*:error",
                  "--file-prefix", name, "-l", core, "--vdev", device};
  if (rte_eal_init((int)(sizeof args / sizeof *args), args) < 0) die(3, "EAL", rte_strerror(rte_errno));
  pool = dense_pool();
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

struct run {
  int lost, lost_in_a_row;
  struct histogram response, service, slip;
};

static int given_up(const struct run *run) { return run->lost_in_a_row >= LOST_IN_A_ROW_MAX || run->lost >= LOST_MAX; }

/* One message of the run. @returns when its answer came, 0 when it was lost */
static uint64_t counted(struct run *run, uint64_t number, uint64_t *sent_at) {
  uint64_t came = exchange(number, sent_at, LOST_NS);
  run->lost_in_a_row = came ? 0 : run->lost_in_a_row + 1;
  run->lost += !came;
  if (came) histogram_record(&run->service, came - *sent_at);
  return came;
}

static int measure(void) {
  static struct run run;
  uint64_t number = 1, sent_at, came, deadline = now_ns() + START_TIMEOUT_NS;
  while (!exchange(number++, &sent_at, 10000000)) /* until the server's port is up */
    if (now_ns() > deadline) die(3, "no answer through this driver within 5 s", NULL);
  for (int i = 0; i < warmup && !given_up(&run); i++) counted(&run, number++, &sent_at);
  if (given_up(&run)) die(3, "messages were lost in the warm-up, one after the other", NULL);
  uint64_t enough = INTERVAL_ROUND_TRIPS * histogram_mean(&run.service); /* as in bypass.c */
  if (enough > INTERVAL_MAX_NS) enough = INTERVAL_MAX_NS;
  uint64_t interval = enough > (uint64_t)interval_ns ? enough : (uint64_t)interval_ns, start = now_ns() + interval;
  memset(&run, 0, sizeof run);
  int sent = 0;
  while (sent < count && !given_up(&run)) {
    uint64_t intended = start + (uint64_t)sent++ * interval;
    while (now_ns() < intended) cpu_relax();
    came = counted(&run, number++, &sent_at);
    histogram_record(&run.slip, sent_at - intended);
    if (came) histogram_record(&run.response, came - intended);
  }
  printf("\n{\"kind\":\"ladder\",\"path\":\"dpdk_%s\",\"payloadBytes\":%d,\"status\":\"%s\",\"reason\":\"%s\",\"requestedMode\":\"DPDK net_%s, "
         "no hugepages\",\"effectiveMode\":\"%s, poll mode, %s\",\"sent\":%d,\"lost\":%d,\"intervalNs\":%llu,",
         driver, payload, given_up(&run) ? "unsupported" : "measured",
         given_up(&run) ? "given up: messages were lost one after the other" : "", driver, rte_version(),
         strcmp(driver, "memif") ? "veth" : "shared memory, no network", sent, run.lost, (unsigned long long)interval);
  histogram_print(stdout, "response", &run.response), putchar(',');
  histogram_print(stdout, "service", &run.service), putchar(',');
  histogram_print(stdout, "slip", &run.slip);
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
  int hidden = private_files();
  if (hidden) die(3, "a private " RUN_FOLDER " (needs root)", strerror(-hidden));
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
  _exit(result); /* the EAL's own clean-up waits for threads of drivers that are gone */
}
