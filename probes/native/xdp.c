/*
 * AF_XDP in copy mode, spinning, generic (SKB) or native (driver): raw bpf(2) and socket calls, no library.
 *
 * The program is attached through a bpf link, which detaches when its descriptor closes, also by SIGKILL.
 * Sequence and pitfalls: kernel Documentation/networking/af_xdp.rst.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "clock.h"
#include "path.h"

#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif

/* Half of the frames wait in the fill ring, half are for sending; a power of two each. */
enum { FRAMES = 128, FRAME_BYTES = 2048, RING = 64 };
#define BIND_TIMEOUT_NS 1000000000ull
enum { HEADERS = sizeof(struct ethhdr) + sizeof(struct iphdr) + sizeof(struct udphdr) };

struct ring {
  uint32_t *producer, *consumer, *flags;
  void *descriptors;
  void *map;
  size_t map_bytes;
};

struct xdp_transport {
  struct transport base;
  int map, program, link;
  uint8_t *umem;
  struct ring fill, completion, rx, tx;
  uint8_t headers[HEADERS];
  uint32_t tx_frame; /* next of the sending half, round robin */
  uint16_t port;
};

static long bpf(int command, union bpf_attr *attr) { return syscall(__NR_bpf, command, attr, sizeof *attr); }

static int fail(char *reason, size_t size, const char *what) {
  int error = errno;
  snprintf(reason, size, "%s: %s", what, strerror(error));
  return -error;
}

/*
 * IPv4, UDP and our port go to the socket; everything else (ARP, ssh, the words of a remote run) stays with the kernel:
 *   return matches ? bpf_redirect_map(&map, ctx->rx_queue_index, XDP_PASS) : XDP_PASS
 * Offsets: h_proto 12, protocol 14 + 9, destination port 14 + 20 + 2; an IP header with options does not match ours.
 */
static int program_load(int map, uint16_t port) {
#define LOAD(size, to, from, offset) {.code = BPF_LDX | BPF_MEM | size, .dst_reg = to, .src_reg = from, .off = offset}
#define PASS_UNLESS(reg, value, skip) {.code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = reg, .off = skip, .imm = value}
  const struct bpf_insn code[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = BPF_REG_6, .src_reg = BPF_REG_1},
      LOAD(BPF_W, BPF_REG_2, BPF_REG_1, 0), /* data */
      LOAD(BPF_W, BPF_REG_3, BPF_REG_1, 4), /* data_end */
      {.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = BPF_REG_4, .src_reg = BPF_REG_2},
      {.code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = BPF_REG_4, .imm = HEADERS},
      {.code = BPF_JMP | BPF_JGT | BPF_X, .dst_reg = BPF_REG_4, .src_reg = BPF_REG_3, .off = 12},
      LOAD(BPF_H, BPF_REG_5, BPF_REG_2, 12),
      PASS_UNLESS(BPF_REG_5, htons(ETH_P_IP), 10),
      LOAD(BPF_B, BPF_REG_5, BPF_REG_2, 23),
      PASS_UNLESS(BPF_REG_5, IPPROTO_UDP, 8),
      LOAD(BPF_H, BPF_REG_5, BPF_REG_2, 36),
      PASS_UNLESS(BPF_REG_5, htons(port), 6),
      LOAD(BPF_W, BPF_REG_2, BPF_REG_6, 16), /* rx_queue_index */
      {.code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = BPF_REG_1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = map},
      {0},
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_3, .imm = XDP_PASS},
      {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect_map},
      {.code = BPF_JMP | BPF_EXIT},
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS},
      {.code = BPF_JMP | BPF_EXIT},
  };
#undef LOAD
#undef PASS_UNLESS
  union bpf_attr attr = {.prog_type = BPF_PROG_TYPE_XDP,
                         .insn_cnt = sizeof code / sizeof *code,
                         .insns = (uintptr_t)code,
                         .license = (uintptr_t) "Dual BSD/GPL",
                         .expected_attach_type = BPF_XDP};
  return (int)bpf(BPF_PROG_LOAD, &attr);
}

static int ring_map(struct ring *ring, int fd, const struct xdp_ring_offset *offset, size_t entry_bytes, uint64_t page) {
  ring->map_bytes = offset->desc + RING * entry_bytes;
  ring->map = mmap(NULL, ring->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, (off_t)page);
  if (ring->map == MAP_FAILED) return -1;
  ring->producer = (uint32_t *)((char *)ring->map + offset->producer);
  ring->consumer = (uint32_t *)((char *)ring->map + offset->consumer);
  ring->flags = (uint32_t *)((char *)ring->map + offset->flags);
  ring->descriptors = (char *)ring->map + offset->desc;
  return 0;
}

static void frame_return(struct ring *fill, uint64_t address) {
  uint32_t at = *fill->producer;
  ((uint64_t *)fill->descriptors)[at & (RING - 1)] = address;
  __atomic_store_n(fill->producer, at + 1, __ATOMIC_RELEASE);
}

static uint16_t ip_checksum(const void *data, size_t bytes) {
  const uint16_t *words = data;
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes / 2; i++) sum += words[i];
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)~sum;
}

static void headers_make(struct xdp_transport *x, const struct endpoint *end) {
  struct ethhdr *eth = (struct ethhdr *)x->headers;
  struct iphdr *ip = (struct iphdr *)(eth + 1);
  struct udphdr *udp = (struct udphdr *)(ip + 1);
  memcpy(eth->h_dest, end->peer_mac, 6);
  memcpy(eth->h_source, end->mac, 6);
  eth->h_proto = htons(ETH_P_IP);
  ip->version = 4;
  ip->ihl = 5;
  ip->ttl = 64;
  ip->protocol = IPPROTO_UDP;
  inet_pton(AF_INET, end->address, &ip->saddr);
  inet_pton(AF_INET, end->peer_address, &ip->daddr);
  udp->source = udp->dest = htons(end->port); /* checksum 0: none, as RFC 768 allows */
}

static int xdp_send(struct transport *t, const void *message, size_t size) {
  struct xdp_transport *x = (struct xdp_transport *)t;
  /* Reap what has been sent: one message is in flight, so the ring can only fill when the kernel stops sending. */
  uint32_t done = __atomic_load_n(x->completion.producer, __ATOMIC_ACQUIRE);
  __atomic_store_n(x->completion.consumer, done, __ATOMIC_RELEASE);
  uint32_t at = *x->tx.producer;
  if (at - __atomic_load_n(x->tx.consumer, __ATOMIC_ACQUIRE) >= RING) return -ENOBUFS;

  uint64_t address = (uint64_t)(RING + (x->tx_frame++ & (RING - 1))) * FRAME_BYTES;
  uint8_t *frame = x->umem + address;
  memcpy(frame, x->headers, HEADERS);
  struct iphdr *ip = (struct iphdr *)(frame + sizeof(struct ethhdr));
  struct udphdr *udp = (struct udphdr *)(ip + 1);
  ip->tot_len = htons((uint16_t)(HEADERS - sizeof(struct ethhdr) + size));
  ip->check = 0;
  ip->check = ip_checksum(ip, sizeof *ip);
  udp->len = htons((uint16_t)(sizeof *udp + size));
  memcpy(frame + HEADERS, message, size);

  struct xdp_desc *descriptor = &((struct xdp_desc *)x->tx.descriptors)[at & (RING - 1)];
  *descriptor = (struct xdp_desc){.addr = address, .len = (uint32_t)(HEADERS + size)};
  __atomic_store_n(x->tx.producer, at + 1, __ATOMIC_RELEASE);
  if (__atomic_load_n(x->tx.flags, __ATOMIC_RELAXED) & XDP_RING_NEED_WAKEUP) {
    while (sendto(t->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0) {
      if (errno != EAGAIN && errno != EBUSY && errno != ENOBUFS) return -errno;
    }
  }
  return 0;
}

/* The message in a received frame, or 0 when it is not for us. */
static int unwrap(const struct xdp_transport *x, const uint8_t *frame, uint32_t length, void *message, size_t size) {
  const struct ethhdr *eth = (const struct ethhdr *)frame;
  const struct iphdr *ip = (const struct iphdr *)(eth + 1);
  const struct udphdr *udp = (const struct udphdr *)(ip + 1);
  if (length < HEADERS || eth->h_proto != htons(ETH_P_IP) || ip->protocol != IPPROTO_UDP || ip->ihl != 5) return 0;
  if (udp->dest != htons(x->port)) return 0;
  size_t bytes = (size_t)ntohs(udp->len) - sizeof *udp;
  if (bytes > length - HEADERS || bytes > size) return 0;
  memcpy(message, udp + 1, bytes);
  return (int)bytes;
}

static int xdp_receive(struct transport *t, void *message, size_t size, uint64_t timeout_ns) {
  struct xdp_transport *x = (struct xdp_transport *)t;
  uint64_t deadline = now_ns() + timeout_ns;
  for (;;) {
    uint32_t at = *x->rx.consumer;
    if (at == __atomic_load_n(x->rx.producer, __ATOMIC_ACQUIRE)) {
      if (now_ns() > deadline) return 0;
      continue;
    }
    struct xdp_desc descriptor = ((struct xdp_desc *)x->rx.descriptors)[at & (RING - 1)];
    int bytes = unwrap(x, x->umem + descriptor.addr, descriptor.len, message, size);
    __atomic_store_n(x->rx.consumer, at + 1, __ATOMIC_RELEASE);
    frame_return(&x->fill, descriptor.addr & ~(uint64_t)(FRAME_BYTES - 1));
    if (bytes > 0) return bytes;
  }
}

static void xdp_close(struct transport *t) {
  struct xdp_transport *x = (struct xdp_transport *)t;
  struct ring *rings[] = {&x->fill, &x->completion, &x->rx, &x->tx};
  if (x->link >= 0) close(x->link);
  for (int i = 0; i < 4; i++)
    if (rings[i]->map && rings[i]->map != MAP_FAILED) munmap(rings[i]->map, rings[i]->map_bytes);
  if (t->fd >= 0) close(t->fd);
  if (x->program >= 0) close(x->program);
  if (x->map >= 0) close(x->map);
  if (x->umem && x->umem != MAP_FAILED) munmap(x->umem, (size_t)FRAMES * FRAME_BYTES);
  free(x);
}

/* Says what the kernel says of the socket: copied or not, and what it dropped. */
static void xdp_proof(struct transport *t, char *reason, size_t size) {
  struct xdp_options options = {0};
  struct xdp_statistics lost = {0};
  socklen_t length = sizeof options;
  getsockopt(t->fd, SOL_XDP, XDP_OPTIONS, &options, &length);
  length = sizeof lost;
  getsockopt(t->fd, SOL_XDP, XDP_STATISTICS, &lost, &length);
  size_t used = strlen(t->effective_mode);
  snprintf(t->effective_mode + used, sizeof t->effective_mode - used, ", %s, %llu dropped",
           options.flags & XDP_OPTIONS_ZEROCOPY ? "zero-copy" : "copy",
           (unsigned long long)(lost.rx_dropped + lost.rx_ring_full));
  (void)reason;
  (void)size;
}

static int step(struct xdp_transport *x, const struct endpoint *end, uint32_t mode, char *reason, size_t size) {
  unsigned device = if_nametoindex(end->device);
  if (!device) return fail(reason, size, "device");
  struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
  setrlimit(RLIMIT_MEMLOCK, &unlimited);

  union bpf_attr map = {.map_type = BPF_MAP_TYPE_XSKMAP, .key_size = 4, .value_size = 4, .max_entries = 4};
  if ((x->map = (int)bpf(BPF_MAP_CREATE, &map)) < 0) return fail(reason, size, "XSKMAP");
  if ((x->program = program_load(x->map, end->port)) < 0) return fail(reason, size, "XDP program");
  union bpf_attr link = {0};
  link.link_create.prog_fd = (uint32_t)x->program;
  link.link_create.target_ifindex = device;
  link.link_create.attach_type = BPF_XDP;
  link.link_create.flags = mode;
  if ((x->link = (int)bpf(BPF_LINK_CREATE, &link)) < 0) return fail(reason, size, "attaching the XDP program");

  if ((x->base.fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0)) < 0) return fail(reason, size, "AF_XDP socket");
  x->umem = mmap(NULL, (size_t)FRAMES * FRAME_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (x->umem == MAP_FAILED) return fail(reason, size, "UMEM");
  struct xdp_umem_reg area = {.addr = (uintptr_t)x->umem, .len = (uint64_t)FRAMES * FRAME_BYTES, .chunk_size = FRAME_BYTES};
  int fd = x->base.fd, entries = RING;
  if (setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &area, sizeof area) ||
      setsockopt(fd, SOL_XDP, XDP_UMEM_FILL_RING, &entries, sizeof entries) ||
      setsockopt(fd, SOL_XDP, XDP_UMEM_COMPLETION_RING, &entries, sizeof entries) ||
      setsockopt(fd, SOL_XDP, XDP_RX_RING, &entries, sizeof entries) ||
      setsockopt(fd, SOL_XDP, XDP_TX_RING, &entries, sizeof entries))
    return fail(reason, size, "AF_XDP rings");
  struct xdp_mmap_offsets offsets;
  socklen_t length = sizeof offsets;
  if (getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &length)) return fail(reason, size, "AF_XDP offsets");
  if (ring_map(&x->fill, fd, &offsets.fr, sizeof(uint64_t), XDP_UMEM_PGOFF_FILL_RING) ||
      ring_map(&x->completion, fd, &offsets.cr, sizeof(uint64_t), XDP_UMEM_PGOFF_COMPLETION_RING) ||
      ring_map(&x->rx, fd, &offsets.rx, sizeof(struct xdp_desc), XDP_PGOFF_RX_RING) ||
      ring_map(&x->tx, fd, &offsets.tx, sizeof(struct xdp_desc), XDP_PGOFF_TX_RING))
    return fail(reason, size, "AF_XDP ring map");
  for (uint64_t i = 0; i < RING; i++) frame_return(&x->fill, i * FRAME_BYTES); /* before bind, or the first are lost */

  struct sockaddr_xdp self = {.sxdp_family = AF_XDP, .sxdp_flags = XDP_COPY | XDP_USE_NEED_WAKEUP, .sxdp_ifindex = device};
  /* The kernel lets go of the previous run's queue a moment after its socket has closed. */
  uint64_t deadline = now_ns() + BIND_TIMEOUT_NS;
  while (bind(fd, (struct sockaddr *)&self, sizeof self)) {
    if (errno != EBUSY || now_ns() > deadline) return fail(reason, size, "AF_XDP bind");
    usleep(5000);
  }
  uint32_t queue = 0;
  union bpf_attr put = {0};
  put.map_fd = (uint32_t)x->map;
  put.key = (uintptr_t)&queue;
  put.value = (uintptr_t)&fd;
  if (bpf(BPF_MAP_UPDATE_ELEM, &put)) return fail(reason, size, "XSKMAP entry");
  headers_make(x, end);
  return 0;
}

static int xdp_open(struct transport **out, const struct endpoint *end, uint32_t mode, char *reason, size_t size) {
  struct xdp_transport *x = calloc(1, sizeof *x);
  x->base.fd = x->map = x->program = x->link = -1;
  x->base.send = xdp_send;
  x->base.receive = xdp_receive;
  x->base.close = xdp_close;
  x->base.proof = xdp_proof;
  x->port = end->port;
  snprintf(x->base.effective_mode, sizeof x->base.effective_mode, "XDP %s, spinning",
           mode == XDP_FLAGS_SKB_MODE ? "generic" : "native");
  int result = step(x, end, mode, reason, size);
  if (result) xdp_close(&x->base);
  else *out = &x->base;
  return result;
}

int open_xdp_generic(struct transport **out, const struct endpoint *end, char *reason, size_t size) {
  return xdp_open(out, end, XDP_FLAGS_SKB_MODE, reason, size);
}

int open_xdp_native(struct transport **out, const struct endpoint *end, char *reason, size_t size) {
  return xdp_open(out, end, XDP_FLAGS_DRV_MODE, reason, size);
}
