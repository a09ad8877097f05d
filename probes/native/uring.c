/* UDP through io_uring: one system call submits the send and the receive and waits for the answer. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "clock.h"
#include "path.h"

enum { ENTRIES = 8 };
enum { SEND = 1, RECEIVE = 2, TIMEOUT = 3 };

struct uring_transport {
  struct transport base;
  int ring;
  struct io_uring_params params;
  uint8_t *sq, *cq;
  size_t sq_bytes, cq_bytes, sqe_bytes;
  struct io_uring_sqe *sqes;
  unsigned pending;   /* submissions not yet handed over */
  int receiving;      /* a receive is in flight */
  uint8_t inbox[PAYLOAD_MAX], outbox[PAYLOAD_MAX];
};

static unsigned *at(uint8_t *base, unsigned offset) { return (unsigned *)(base + offset); }

static void submit(struct uring_transport *u, uint8_t opcode, void *buffer, size_t size, uint64_t tag) {
  unsigned *tail = at(u->sq, u->params.sq_off.tail);
  unsigned slot = *tail & *at(u->sq, u->params.sq_off.ring_mask);
  u->sqes[slot] = (struct io_uring_sqe){
      .opcode = opcode, .fd = u->base.fd, .addr = (uintptr_t)buffer, .len = (uint32_t)size, .user_data = tag};
  at(u->sq, u->params.sq_off.array)[slot] = slot;
  __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
  u->pending++;
}

static int uring_send(struct transport *t, const void *message, size_t size) {
  struct uring_transport *u = (struct uring_transport *)t;
  memcpy(u->outbox, message, size);
  submit(u, IORING_OP_SEND, u->outbox, size, SEND);
  /* Handed over now, not with the next receive: the send instant of the caller must be true. */
  if (!u->receiving) {
    submit(u, IORING_OP_RECV, u->inbox, sizeof u->inbox, RECEIVE);
    u->receiving = 1;
  }
  long n = syscall(__NR_io_uring_enter, u->ring, u->pending, 0, 0, NULL, 0);
  if (n < 0) return -errno;
  u->pending -= (unsigned)n;
  return 0;
}

static int uring_receive(struct transport *t, void *message, size_t size, uint64_t timeout_ns) {
  struct uring_transport *u = (struct uring_transport *)t;
  if (!u->receiving) {
    submit(u, IORING_OP_RECV, u->inbox, sizeof u->inbox, RECEIVE);
    u->receiving = 1;
  }
  uint64_t deadline = now_ns() + timeout_ns;
  struct __kernel_timespec wait = {.tv_nsec = (long long)(timeout_ns % 1000000000ull),
                                   .tv_sec = (long long)(timeout_ns / 1000000000ull)};
  struct io_uring_getevents_arg arg = {.ts = (uintptr_t)&wait};
  for (;;) {
    unsigned *head = at(u->cq, u->params.cq_off.head);
    unsigned mask = *at(u->cq, u->params.cq_off.ring_mask);
    struct io_uring_cqe *cqes = (struct io_uring_cqe *)(u->cq + u->params.cq_off.cqes);
    while (*head != __atomic_load_n(at(u->cq, u->params.cq_off.tail), __ATOMIC_ACQUIRE)) {
      struct io_uring_cqe done = cqes[*head & mask];
      __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
      if (done.user_data != RECEIVE) continue;
      u->receiving = 0;
      if (done.res < 0) return done.res == -ECONNREFUSED ? 0 : done.res;
      size_t bytes = (size_t)done.res < size ? (size_t)done.res : size;
      memcpy(message, u->inbox, bytes);
      return (int)bytes;
    }
    if (now_ns() > deadline) return 0;
    long n = syscall(__NR_io_uring_enter, u->ring, u->pending, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg,
                     sizeof arg);
    if (n >= 0) u->pending -= (unsigned)n;
    else if (errno != ETIME && errno != EINTR) return -errno;
  }
}

static void uring_close(struct transport *t) {
  struct uring_transport *u = (struct uring_transport *)t;
  if (u->sqes) munmap(u->sqes, u->sqe_bytes);
  if (u->cq && u->cq != u->sq) munmap(u->cq, u->cq_bytes);
  if (u->sq) munmap(u->sq, u->sq_bytes);
  if (u->ring >= 0) close(u->ring);
  if (t->fd >= 0) close(t->fd);
  free(u);
}

static void *map(int ring, size_t bytes, uint64_t offset) {
  void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, (off_t)offset);
  return memory == MAP_FAILED ? NULL : memory;
}

int open_io_uring(struct transport **out, const struct endpoint *end, char *reason, size_t size) {
  struct uring_transport *u = calloc(1, sizeof *u);
  u->base.send = uring_send;
  u->base.receive = uring_receive;
  u->base.close = uring_close;
  u->base.fd = -1;
  snprintf(u->base.effective_mode, sizeof u->base.effective_mode, "send and recv submitted together, waiting in the ring");
  u->ring = (int)syscall(__NR_io_uring_setup, ENTRIES, &u->params);
  if (u->ring < 0) {
    int error = errno;
    snprintf(reason, size, "the kernel does not allow io_uring: %s", strerror(error));
    uring_close(&u->base);
    return -error;
  }
  if (!(u->params.features & IORING_FEAT_EXT_ARG)) {
    snprintf(reason, size, "io_uring of this kernel is too old (before 5.11)");
    uring_close(&u->base);
    return -EOPNOTSUPP;
  }
  u->sq_bytes = u->params.sq_off.array + u->params.sq_entries * sizeof(unsigned);
  u->cq_bytes = u->params.cq_off.cqes + u->params.cq_entries * sizeof(struct io_uring_cqe);
  u->sqe_bytes = u->params.sq_entries * sizeof(struct io_uring_sqe);
  u->sq = map(u->ring, u->sq_bytes, IORING_OFF_SQ_RING);
  u->cq = map(u->ring, u->cq_bytes, IORING_OFF_CQ_RING);
  u->sqes = map(u->ring, u->sqe_bytes, IORING_OFF_SQES);
  u->base.fd = u->sq && u->cq && u->sqes ? udp_socket(end, reason, size) : -ENOMEM;
  if (u->base.fd < 0) {
    int error = u->base.fd;
    u->base.fd = -1;
    uring_close(&u->base);
    return error;
  }
  *out = &u->base;
  return 0;
}
