/* Kernel sockets: UDP blocking, epoll, spinning, busy-poll; TCP blocking and spinning. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "path.h"

#ifndef SO_PREFER_BUSY_POLL
#define SO_PREFER_BUSY_POLL 69
#endif
#ifndef SO_BUSY_POLL_BUDGET
#define SO_BUSY_POLL_BUDGET 70
#endif

/* Busy-poll as asked for, µs per wait. */
enum { BUSY_POLL_US = 50 };
/* How long a TCP connection may take, ms. */
enum { CONNECT_TIMEOUT_MS = 2000 };

struct socket_transport {
  struct transport base;
  int epoll;
  int stream; /* TCP: messages are of a fixed size, so a length is not needed */
  struct sockaddr_in peer; /* of an unconnected UDP socket */
};

static int fail(char *reason, size_t size, const char *what) {
  int error = errno;
  snprintf(reason, size, "%s: %s", what, strerror(error));
  return -error;
}

static struct sockaddr_in ipv4(const char *address, uint16_t port) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
  inet_pton(AF_INET, address, &a.sin_addr);
  return a;
}

int udp_socket(const struct endpoint *end, char *reason, size_t size) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail(reason, size, "UDP socket");
  struct sockaddr_in self = ipv4(end->address, end->port), peer = ipv4(end->peer_address, end->port);
  if (bind(fd, (struct sockaddr *)&self, sizeof self) ||
      (!end->unconnected && connect(fd, (struct sockaddr *)&peer, sizeof peer))) {
    int result = fail(reason, size, "UDP bind");
    close(fd);
    return result;
  }
  return fd;
}

static int tcp_socket(const struct endpoint *end, char *reason, size_t size) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail(reason, size, "TCP socket");
  int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in self = ipv4(end->address, end->port), peer = ipv4(end->peer_address, end->port);
  if (end->role == SERVER) {
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    int accepted = -1;
    if (!bind(fd, (struct sockaddr *)&self, sizeof self) && !listen(fd, 1) && poll(&wait, 1, CONNECT_TIMEOUT_MS) == 1)
      accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    int result = accepted < 0 ? fail(reason, size, "TCP accept") : accepted;
    close(fd);
    fd = result;
  } else {
    /* The server says it is ready before it accepts: try until it listens. */
    uint64_t deadline = now_ns() + CONNECT_TIMEOUT_MS * 1000000ull;
    while (connect(fd, (struct sockaddr *)&peer, sizeof peer)) {
      if (now_ns() > deadline) {
        int result = fail(reason, size, "TCP connect");
        close(fd);
        return result;
      }
      usleep(1000);
      close(fd);
      fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    }
  }
  if (fd >= 0) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

static int socket_send(struct transport *t, const void *message, size_t size) {
  return send(t->fd, message, size, MSG_NOSIGNAL) == (ssize_t)size ? 0 : -errno;
}

/* One read; a stream is read until the whole message is there. */
static int take(struct transport *t, void *message, size_t size, int flags) {
  struct socket_transport *s = (struct socket_transport *)t;
  size_t got = 0;
  do {
    ssize_t n = recv(t->fd, (char *)message + got, size - got, flags);
    if (n == 0 && s->stream) return -ECONNRESET;
    if (n < 0) {
      if ((errno == EAGAIN || errno == EWOULDBLOCK) && got > 0) continue;
      return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR || errno == ECONNREFUSED ? 0 : -errno;
    }
    got += (size_t)n;
  } while (s->stream && got < size);
  return (int)got;
}

static int receive_blocking(struct transport *t, void *message, size_t size, uint64_t timeout_ns) {
  (void)timeout_ns; /* SO_RCVTIMEO, set at opening, ends the wait */
  return take(t, message, size, 0);
}

static int receive_spinning(struct transport *t, void *message, size_t size, uint64_t timeout_ns) {
  uint64_t deadline = now_ns() + timeout_ns;
  for (;;) {
    int n = take(t, message, size, MSG_DONTWAIT);
    if (n != 0) return n;
    if (now_ns() > deadline) return 0;
  }
}

static int receive_epoll(struct transport *t, void *message, size_t size, uint64_t timeout_ns) {
  struct epoll_event event;
  int ready = epoll_wait(((struct socket_transport *)t)->epoll, &event, 1, (int)(timeout_ns / 1000000));
  return ready == 1 ? take(t, message, size, MSG_DONTWAIT) : ready == 0 || errno == EINTR ? 0 : -errno;
}

static void socket_close(struct transport *t) {
  struct socket_transport *s = (struct socket_transport *)t;
  if (s->epoll >= 0) close(s->epoll);
  close(t->fd);
  free(s);
}

/* Busy-polling is active only when packets name the NAPI context they came through. */
static void busy_poll_proof(struct transport *t, char *reason, size_t size) {
  unsigned napi = 0;
  socklen_t length = sizeof napi;
  getsockopt(t->fd, SOL_SOCKET, SO_INCOMING_NAPI_ID, &napi, &length);
  if (napi == 0) snprintf(reason, size, "requested, not active: SO_INCOMING_NAPI_ID is 0 on this device");
  else snprintf(t->effective_mode, sizeof t->effective_mode, "busy-poll %d us, NAPI id %u", BUSY_POLL_US, napi);
}

static int socket_send_to(struct transport *t, const void *message, size_t size) {
  const struct socket_transport *s = (const struct socket_transport *)t;
  return sendto(t->fd, message, size, MSG_NOSIGNAL, (const struct sockaddr *)&s->peer, sizeof s->peer) == (ssize_t)size ? 0 : -errno;
}

/* A UDP transport of an endpoint that may be unconnected. */
static void name_peer(struct transport *t, const struct endpoint *end) {
  if (!end->unconnected) return;
  ((struct socket_transport *)t)->peer = ipv4(end->peer_address, end->port);
  t->send = socket_send_to;
}

static int socket_open(struct transport **out, int fd, int stream, const char *mode) {
  if (fd < 0) return fd;
  struct socket_transport *s = calloc(1, sizeof *s);
  s->base.fd = fd;
  s->base.send = socket_send;
  s->base.receive = receive_blocking;
  s->base.close = socket_close;
  s->epoll = -1;
  s->stream = stream;
  snprintf(s->base.effective_mode, sizeof s->base.effective_mode, "%s", mode);
  struct timeval timeout = {.tv_usec = 100000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  *out = &s->base;
  return 0;
}

int open_udp_blocking(struct transport **out, const struct endpoint *end, char *reason, size_t size) {
  int result = socket_open(out, udp_socket(end, reason, size), 0, "blocking recv");
  if (!result) name_peer(*out, end);
  return result;
}

int open_udp_epoll(struct transport **out, const struct endpoint *end, char *reason, size_t size) {
  int result = socket_open(out, udp_socket(end, reason, size), 0, "epoll_wait, then recv");
  if (result) return result;
  struct socket_transport *s = (struct socket_transport *)*out;
  s->base.receive = receive_epoll;
  s->epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN};
  if (s->epoll >= 0 && !epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->base.fd, &event)) return 0;
  result = fail(reason, size, "epoll");
  socket_close(&s->base);
  return result;
}

int open_udp_spinning(struct transport **out, const struct endpoint *end, char *reason, size_t size) {
  int result = socket_open(out, udp_socket(end, reason, size), 0, "recv MSG_DONTWAIT in a loop");
  if (result) return result;
  (*out)->receive = receive_spinning;
  name_peer(*out, end);
  return 0;
}

int open_udp_busy_poll(struct transport **out, const struct endpoint *end, char *reason, size_t size) {
  int fd = udp_socket(end, reason, size);
  if (fd < 0) return fd;
  int microseconds = BUSY_POLL_US, on = 1, budget = 8;
  if (setsockopt(fd, SOL_SOCKET, SO_BUSY_POLL, &microseconds, sizeof microseconds)) {
    int result = fail(reason, size, "SO_BUSY_POLL");
    close(fd);
    return result;
  }
  /* Both need newer kernels and more rights; plain busy-polling does without. */
  setsockopt(fd, SOL_SOCKET, SO_PREFER_BUSY_POLL, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_BUSY_POLL_BUDGET, &budget, sizeof budget);
  int result = socket_open(out, fd, 0, "blocking recv, busy-poll asked for");
  if (!result) (*out)->proof = busy_poll_proof;
  return result;
}

int open_tcp_blocking(struct transport **out, const struct endpoint *end, char *reason, size_t size) {
  return socket_open(out, tcp_socket(end, reason, size), 1, "blocking recv, TCP_NODELAY");
}

int open_tcp_spinning(struct transport **out, const struct endpoint *end, char *reason, size_t size) {
  int result = socket_open(out, tcp_socket(end, reason, size), 1, "recv MSG_DONTWAIT in a loop, TCP_NODELAY");
  if (!result) (*out)->receive = receive_spinning;
  return result;
}
