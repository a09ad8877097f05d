/*
 * One way for a message to travel: a transport with the same four calls, so that the ping-pong loop is one for all.
 */
#ifndef TICKSCOPE_PATH_H
#define TICKSCOPE_PATH_H

#include <stddef.h>
#include <stdint.h>

enum { PAYLOAD_MAX = 1400 };

enum role { CLIENT, SERVER };

struct endpoint {
  enum role role;
  const char *device; /* for AF_XDP */
  const char *address, *peer_address;
  const uint8_t *mac, *peer_mac;
  uint16_t port;
  int unconnected; /* UDP names its peer with every message, as servers of many peers do: a route lookup each */
};

struct transport {
  /* Sends one message. 0, or -errno. */
  int (*send)(struct transport *, const void *message, size_t size);
  /* Receives one message, waiting as the path waits, at most about `timeout_ns`. Bytes, 0 on timeout, or -errno. */
  int (*receive)(struct transport *, void *message, size_t size, uint64_t timeout_ns);
  void (*close)(struct transport *);
  /* What the path turned out to be, for the row. */
  char effective_mode[128];
  /* Why a requested mode is not active, empty when it is. Set after messages have flowed. */
  void (*proof)(struct transport *, char *reason, size_t size);
  int fd;
};

struct path {
  const char *name;
  const char *requested_mode;
  /* 0, or -errno with a reason; -EOPNOTSUPP and -EPERM mean this machine cannot, not that we failed. */
  int (*open)(struct transport **, const struct endpoint *, char *reason, size_t size);
};

extern const struct path PATHS[];
extern const size_t PATH_COUNT;

/* In socket.c, xdp.c and uring.c. */
int open_udp_blocking(struct transport **, const struct endpoint *, char *, size_t);
int open_udp_epoll(struct transport **, const struct endpoint *, char *, size_t);
int open_udp_spinning(struct transport **, const struct endpoint *, char *, size_t);
int open_udp_busy_poll(struct transport **, const struct endpoint *, char *, size_t);
int open_tcp_blocking(struct transport **, const struct endpoint *, char *, size_t);
int open_tcp_spinning(struct transport **, const struct endpoint *, char *, size_t);
int open_xdp_generic(struct transport **, const struct endpoint *, char *, size_t);
int open_xdp_native(struct transport **, const struct endpoint *, char *, size_t);
int open_io_uring(struct transport **, const struct endpoint *, char *, size_t);
int udp_socket(const struct endpoint *, char *reason, size_t size);

#endif
