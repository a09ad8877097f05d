/*
 * bypass: one message there and back over every way this machine has, interleaved, so that the ways can be compared.
 *
 *   bypass ladder   [flags]   the ping-pong; one JSON line a (round, path, payload)
 *   bypass stamps   [flags]   where the time of a kernel UDP round trip goes, by SO_TIMESTAMPING; one JSON line a mode
 *   bypass controls [flags]   what the machine itself does: clock cost, core-to-core round trip, hiccups; one JSON line
 *   bypass serve    --device NIC --address IP --peer IP --peer-mac MAC    the far end of a real network, until killed
 *   bypass paths              the names of the paths, one a line
 *
 * The default topology is two network namespaces and a veth pair, gone with the processes; with --device, --address,
 * --peer and --peer-mac it is a real NIC, and `bypass serve` on the peer. Open loop: message i is due
 * at start + i * interval; `response` runs from then, `service` from the actual send. One message is in flight.
 * --unconnected: udp_blocking and udp_spinning name their peer with every message, as sockperf does.
 * Needs gcc and the kernel's headers, nothing else. Exit: 0 done, 2 bad flag, 3 the machine does not allow it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "histogram.h"
#include "path.h"
#include "topology.h"

#define MS 1000000ull
/* An answer later than this is lost; longer than any stall a busy virtual machine shows. */
#define LOST_NS (1000 * MS)
/* The server looks for the end of a run this often when nothing comes. */
#define IDLE_NS (50 * MS)
/* TCP port of a real network's far end, for the words of the client. */
enum { CONTROL_PORT = 19999 };
/* UDP port of the socket a preloaded stack is asked about. */
enum { PRELOAD_PORT = 19998 };
/* A path that loses this many messages in a row, or in all, is given up: each costs LOST_NS. */
enum { LOST_IN_A_ROW_MAX = 3, LOST_MAX = 10 };
/*
 * Messages are at least this many mean round trips of the warm-up apart, so that the loop stays open: a path that is busy
 * half of the time still catches up after a stall. The mean, not the median: on a shared machine stalls make most of it.
 */
enum { INTERVAL_ROUND_TRIPS = 2 };
/* ... up to here: a starved machine must not make a run endless. */
#define INTERVAL_MAX_NS MS

const struct path PATHS[] = {
    {"udp_blocking", "blocking", open_udp_blocking},
    {"udp_epoll", "epoll", open_udp_epoll},
    {"udp_spinning", "spinning", open_udp_spinning},
    {"udp_busy_poll", "SO_BUSY_POLL + SO_PREFER_BUSY_POLL", open_udp_busy_poll},
    {"tcp_blocking", "blocking", open_tcp_blocking},
    {"tcp_spinning", "spinning", open_tcp_spinning},
    {"io_uring", "io_uring", open_io_uring},
    {"af_xdp_generic", "XDP generic (SKB), copy, need-wakeup, spinning", open_xdp_generic},
    {"af_xdp_native", "XDP native (driver), copy, need-wakeup, spinning", open_xdp_native},
};
const size_t PATH_COUNT = sizeof PATHS / sizeof *PATHS;

struct flags {
  const char *paths, *payloads;
  /* A real network; device NULL means our own veth pair. */
  const char *device, *address, *peer;
  uint8_t mac[6], peer_mac[6];
  int round, rounds, count, warmup, interval_ns, client_cpu, server_cpu, loopback, unconnected;
};

static struct flags flags = {.paths = NULL,
                             .payloads = "64",
                             .rounds = 5,
                             .count = 20000,
                             .warmup = 2000,
                             .interval_ns = 50000,
                             .client_cpu = 0,
                             .server_cpu = 1};

static _Noreturn void die(int code, const char *what, int error) {
  if (error) fprintf(stderr, "bypass: %s: %s\n", what, strerror(error));
  else fprintf(stderr, "bypass: %s\n", what);
  exit(code);
}

/* Pins the caller; a machine without that core leaves it where it is, and the row says where it ran. */
static void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof set, &set);
}

static int named(const char *list, const char *name) {
  if (!list) return 1;
  size_t length = strlen(name);
  for (const char *at = list; (at = strstr(at, name)); at += length)
    if ((at == list || at[-1] == ',') && (at[length] == 0 || at[length] == ',')) return 1;
  return 0;
}

/* --- the two ends --------------------------------------------------------------------------------------------- */

struct command {
  int path; /* of PATHS */
  uint16_t port;
  int payload;
};

struct answer {
  int result;
  char reason[160];
};

static struct endpoint endpoint_of(enum role role, uint16_t port) {
  if (flags.device)
    return (struct endpoint){role, flags.device, flags.address, flags.peer, flags.mac, flags.peer_mac, port, flags.unconnected};
  if (flags.loopback) {
    const char *self = role == CLIENT ? "127.0.0.1" : "127.0.0.2", *peer = role == CLIENT ? "127.0.0.2" : "127.0.0.1";
    return (struct endpoint){role, "lo", self, peer, CLIENT_MAC, SERVER_MAC, port, flags.unconnected};
  }
  return role == CLIENT
             ? (struct endpoint){role, CLIENT_DEVICE, CLIENT_ADDRESS, SERVER_ADDRESS, CLIENT_MAC, SERVER_MAC, port, flags.unconnected}
             : (struct endpoint){role, SERVER_DEVICE, SERVER_ADDRESS, CLIENT_ADDRESS, SERVER_MAC, CLIENT_MAC, port, flags.unconnected};
}

static int ended(int control) {
  struct pollfd waiting = {.fd = control, .events = POLLIN};
  return poll(&waiting, 1, 0) != 0;
}

/* A whole struct, also from a stream. 0, or -1 when the other side is gone. */
static int take(int control, void *data, size_t size) {
  for (size_t got = 0; got < size;) {
    ssize_t n = read(control, (char *)data + got, size - got);
    if (n <= 0) return -1;
    got += (size_t)n;
  }
  return 0;
}

/* Echoes run after run, until the client is gone. */
static void serve(int control) {
  static uint8_t message[PAYLOAD_MAX];
  pin(flags.server_cpu);
  struct command command;
  while (!take(control, &command, sizeof command)) {
    if (command.path < 0 || (size_t)command.path >= PATH_COUNT || command.payload < 8 || command.payload > PAYLOAD_MAX) return;
    struct endpoint end = endpoint_of(SERVER, command.port);
    struct transport *transport = NULL;
    struct answer answer = {0};
    const struct path *path = &PATHS[command.path];
    /* TCP accepts inside open: say ready first, the client retries until it is listening. */
    int tcp = !strncmp(path->name, "tcp", 3);
    if (tcp && write(control, &answer, sizeof answer) < 0) return;
    answer.result = path->open(&transport, &end, answer.reason, sizeof answer.reason);
    if (!tcp && write(control, &answer, sizeof answer) < 0) return;
    while (!answer.result) {
      size_t wanted = tcp ? (size_t)command.payload : sizeof message;
      int n = transport->receive(transport, message, wanted, IDLE_NS);
      if (n > 0) n = transport->send(transport, message, (size_t)n);
      else if (n == 0 && ended(control)) break;
      if (n < 0 && ended(control)) break;
      if (n < 0 && n != -ENOBUFS) {
        while (!ended(control)) usleep(1000);
        break;
      }
    }
    if (transport) transport->close(transport);
    char over;
    if (read(control, &over, 1) != 1) break;
    if (write(control, &over, 1) != 1) break; /* closed here too: the next run may take the device */
  }
}

/* The far end of a real network: one client after another, until killed. */
static int serve_remote(void) {
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
  struct sockaddr_in self = {.sin_family = AF_INET, .sin_port = htons(CONTROL_PORT)};
  inet_pton(AF_INET, flags.address, &self.sin_addr);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (listener < 0 || bind(listener, (struct sockaddr *)&self, sizeof self) || listen(listener, 1))
    die(3, "listening for the client", errno);
  for (;;) {
    int control = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (control < 0) continue;
    serve(control);
    close(control);
  }
}

static int remote_connect(void) {
  int control = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
  struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(CONTROL_PORT)};
  inet_pton(AF_INET, flags.peer, &peer.sin_addr);
  if (control < 0 || connect(control, (struct sockaddr *)&peer, sizeof peer)) die(3, "no `bypass serve` answers at the peer", errno);
  setsockopt(control, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return control;
}

static void run_end(int control) {
  char over = 1;
  if (write(control, &over, 1) != 1 || read(control, &over, 1) != 1) die(70, "the server process ended", 0);
}

/* Starts the server process in its own namespace. @returns the control socket */
static int server_start(void) {
  if (flags.device) return remote_connect();
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) die(70, "socketpair", errno);
  pid_t client = getpid(), server = fork();
  if (server < 0) die(70, "fork", errno);
  char token;
  if (server == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != client) exit(0);
    close(pair[0]);
    if (flags.loopback) {
      serve(pair[1]);
      exit(0);
    }
    char failed = (char)-namespace_enter();
    if (write(pair[1], &failed, 1) != 1 || failed || read(pair[1], &token, 1) != 1) exit(3);
    failed = (char)-veth_configure(SERVER_DEVICE, SERVER_MAC, SERVER_ADDRESS, CLIENT_ADDRESS, CLIENT_MAC);
    if (write(pair[1], &failed, 1) != 1 || failed) exit(3);
    serve(pair[1]);
    exit(0);
  }
  close(pair[1]);
  if (flags.loopback) return pair[0];
  if (read(pair[0], &token, 1) != 1 || token)
    die(3, "network namespaces are not allowed here (they need root); --loopback measures what needs none", token);
  int result = namespace_enter();
  if (!result) result = veth_create(server);
  if (!result) result = veth_configure(CLIENT_DEVICE, CLIENT_MAC, CLIENT_ADDRESS, SERVER_ADDRESS, SERVER_MAC);
  if (result) die(3, "creating the veth pair", -result);
  if (write(pair[0], &token, 1) != 1 || read(pair[0], &token, 1) != 1 || token) die(3, "configuring the veth pair", token);
  usleep(20000); /* the carrier comes up asynchronously */
  return pair[0];
}

/* --- ladder --------------------------------------------------------------------------------------------------- */

struct run {
  int sent, lost, lost_in_a_row, cpu;
  uint64_t interval_ns;
  long voluntary, involuntary;
  struct histogram response, service, slip;
};

static int given_up(const struct run *run) { return run->lost_in_a_row >= LOST_IN_A_ROW_MAX || run->lost >= LOST_MAX; }

/* Sends message `i` and waits for its answer. @returns when it came, 0 when it was lost */
static uint64_t exchange(struct transport *t, uint64_t i, size_t payload, uint64_t *sent_at) {
  static uint8_t out[PAYLOAD_MAX], in[PAYLOAD_MAX];
  memcpy(out, &i, sizeof i);
  *sent_at = now_ns();
  if (t->send(t, out, payload)) return 0;
  do {
    int n = t->receive(t, in, payload, LOST_NS);
    uint64_t came = now_ns(), number;
    memcpy(&number, in, sizeof number);
    if (n == (int)payload && number == i) return came; /* an older number is the answer to a lost one */
    if (n < 0) return 0;
  } while (now_ns() - *sent_at < LOST_NS);
  return 0;
}

/* One message of a run. @returns when its answer came, 0 when it was lost */
static uint64_t counted(struct transport *t, uint64_t number, size_t payload, struct run *run, uint64_t *sent_at) {
  uint64_t came = exchange(t, number, payload, sent_at);
  run->lost_in_a_row = came ? 0 : run->lost_in_a_row + 1;
  run->lost += !came;
  if (came) histogram_record(&run->service, came - *sent_at);
  return came;
}

static void run_client(struct transport *t, size_t payload, struct run *run) {
  uint64_t number = 1, sent_at, came;
  memset(run, 0, sizeof *run);
  for (int i = 0; i < flags.warmup && !given_up(run); i++) counted(t, number++, payload, run, &sent_at);
  uint64_t enough = INTERVAL_ROUND_TRIPS * histogram_mean(&run->service);
  if (enough > INTERVAL_MAX_NS) enough = INTERVAL_MAX_NS;
  memset(run, 0, sizeof *run);
  run->interval_ns = enough > (uint64_t)flags.interval_ns ? enough : (uint64_t)flags.interval_ns;

  struct rusage before, after;
  getrusage(RUSAGE_THREAD, &before);
  uint64_t start = now_ns() + run->interval_ns;
  while (run->sent < flags.count && !given_up(run)) {
    uint64_t intended = start + (uint64_t)run->sent++ * run->interval_ns;
    while (now_ns() < intended) cpu_relax();
    came = counted(t, number++, payload, run, &sent_at);
    histogram_record(&run->slip, sent_at - intended);
    if (came) histogram_record(&run->response, came - intended);
  }
  getrusage(RUSAGE_THREAD, &after);
  run->voluntary = after.ru_nvcsw - before.ru_nvcsw;
  run->involuntary = after.ru_nivcsw - before.ru_nivcsw;
  run->cpu = sched_getcpu();
}

static void print_head(int round, const struct path *path, int payload, const char *status, const char *reason,
                       const char *effective) {
  printf("{\"kind\":\"ladder\",\"round\":%d,\"path\":\"%s\",\"payloadBytes\":%d,\"status\":\"%s\",\"reason\":\"%s\","
         "\"requestedMode\":\"%s\",\"effectiveMode\":\"%s\"",
         round, path->name, payload, status, reason, path->requested_mode, effective);
}

static void ladder_run(int control, int round, int index, int payload, struct run *run) {
  static uint16_t port = 20000;
  const struct path *path = &PATHS[index];
  if (flags.loopback && !strncmp(path->name, "af_xdp", 6)) {
    print_head(round, path, payload, "unsupported", "needs root, for a network namespace and an XDP program", "");
    printf("}\n");
    return;
  }
  struct command command = {.path = index, .port = ++port, .payload = payload};
  struct answer answer;
  if (write(control, &command, sizeof command) < 0 || take(control, &answer, sizeof answer))
    die(70, "the server process ended", 0);
  struct transport *transport = NULL;
  if (!answer.result) {
    struct endpoint end = endpoint_of(CLIENT, port);
    answer.result = path->open(&transport, &end, answer.reason, sizeof answer.reason);
  }
  if (answer.result) {
    print_head(round, path, payload, "unsupported", answer.reason, "");
    printf("}\n");
  } else {
    run_client(transport, (size_t)payload, run);
    char inactive[160] = "";
    if (transport->proof) transport->proof(transport, inactive, sizeof inactive);
    const char *status = *inactive ? "inactive" : "measured";
    if (given_up(run)) {
      status = "unsupported";
      snprintf(inactive, sizeof inactive, "given up: messages were lost one after the other");
    }
    print_head(round, path, payload, status, inactive, transport->effective_mode);
    printf(",\"sent\":%d,\"lost\":%d,\"intervalNs\":%llu,\"voluntarySwitches\":%ld,\"involuntarySwitches\":%ld,\"cpu\":%d,",
           run->sent, run->lost, (unsigned long long)run->interval_ns, run->voluntary, run->involuntary, run->cpu);
    histogram_print(stdout, "response", &run->response);
    putchar(',');
    histogram_print(stdout, "service", &run->service);
    putchar(',');
    histogram_print(stdout, "slip", &run->slip);
    printf("}\n");
    transport->close(transport);
  }
  fflush(stdout);
  run_end(control);
}

/*
 * Tells whether a preloaded stack is really there, and whether it carries a socket of ours: OpenOnload exports both
 * questions (onload/extensions.h). Present is not active: it leaves a device it does not know to the kernel.
 */
static void print_preload(void) {
  struct {
    int32_t stack_id;
    char *stack_name;
    int32_t endpoint_id, endpoint_state;
  } stat = {0};
  extern int onload_is_present(void) __attribute__((weak));
  extern int onload_fd_stat(int fd, void *stat) __attribute__((weak));
  char reason[160];
  struct endpoint end = endpoint_of(CLIENT, PRELOAD_PORT);
  int fd = udp_socket(&end, reason, sizeof reason);
  int present = onload_is_present ? onload_is_present() : 0;
  int accelerated = present && onload_fd_stat && fd >= 0 && onload_fd_stat(fd, &stat) > 0;
  if (fd >= 0) close(fd);
  printf("{\"kind\":\"preload\",\"present\":%s,\"accelerated\":%s}\n", present ? "true" : "false", accelerated ? "true" : "false");
}

static int ladder(void) {
  static struct run run;
  int control = server_start();
  pin(flags.client_cpu);
  print_preload();
  for (int round = flags.round; round < flags.round + flags.rounds; round++)
    for (size_t i = 0; i < PATH_COUNT; i++) {
      /* Each round starts with another path, so that none always follows the same one. */
      size_t index = (i + (size_t)round) % PATH_COUNT;
      if (!named(flags.paths, PATHS[index].name)) continue;
      char payloads[128];
      snprintf(payloads, sizeof payloads, "%s", flags.payloads);
      for (char *save, *word = strtok_r(payloads, ",", &save); word; word = strtok_r(NULL, ",", &save))
        ladder_run(control, round, (int)index, atoi(word), &run);
    }
  return 0;
}

/* --- stamps --------------------------------------------------------------------------------------------------- */

static uint64_t realtime_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* The software and hardware stamps in a message's control data; 0 when absent. */
static void stamps_of(struct msghdr *message, uint64_t *software, uint64_t *hardware) {
  for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPING) continue;
    struct scm_timestamping s;
    memcpy(&s, CMSG_DATA(c), sizeof s);
    *software = (uint64_t)s.ts[0].tv_sec * 1000000000ull + (uint64_t)s.ts[0].tv_nsec;
    *hardware = (uint64_t)s.ts[2].tv_sec * 1000000000ull + (uint64_t)s.ts[2].tv_nsec;
  }
}

static int stamped_receive(int fd, int receive_flags, uint64_t *software, uint64_t *hardware) {
  uint8_t data[PAYLOAD_MAX];
  char control[512];
  struct iovec part = {data, sizeof data};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  ssize_t n = recvmsg(fd, &message, receive_flags);
  if (n >= 0) stamps_of(&message, software, hardware);
  return (int)n;
}

static void stamps_run(int control, int spinning, int payload) {
  static struct histogram app_to_tx, tx_to_rx, rx_to_app, total;
  static uint16_t port = 30000;
  char reason[160] = "";
  struct command command = {.path = 2 /* udp_spinning serves both */, .port = ++port, .payload = payload};
  struct answer answer;
  if (write(control, &command, sizeof command) < 0 || take(control, &answer, sizeof answer) || answer.result)
    die(70, "the server process ended", 0);
  struct endpoint end = endpoint_of(CLIENT, port);
  int fd = udp_socket(&end, reason, sizeof reason);
  int on = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE |
           SOF_TIMESTAMPING_TX_HARDWARE | SOF_TIMESTAMPING_RX_HARDWARE | SOF_TIMESTAMPING_RAW_HARDWARE |
           SOF_TIMESTAMPING_OPT_TSONLY | SOF_TIMESTAMPING_OPT_CMSG;
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &on, sizeof on)) die(3, "SO_TIMESTAMPING", errno);
  struct timeval timeout = {.tv_usec = 100000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  histogram_reset(&app_to_tx), histogram_reset(&tx_to_rx), histogram_reset(&rx_to_app), histogram_reset(&total);
  int missing = 0, hardware_seen = 0;
  uint8_t out[PAYLOAD_MAX] = {0};
  for (int i = 0; i < flags.warmup + flags.count; i++) {
    uint64_t tx = 0, rx = 0, hardware = 0, sent_at = realtime_ns(), deadline = now_ns() + 100 * MS;
    if (send(fd, out, (size_t)payload, 0) < 0) continue;
    int n;
    while ((n = stamped_receive(fd, spinning ? MSG_DONTWAIT : 0, &rx, &hardware)) < 0 && spinning && now_ns() < deadline) {}
    uint64_t came = realtime_ns();
    while (stamped_receive(fd, MSG_ERRQUEUE | MSG_DONTWAIT, &tx, &hardware) < 0 && now_ns() < deadline) {}
    if (i < flags.warmup) continue;
    hardware_seen |= hardware != 0;
    /* A step of the real-time clock between the stamps makes them unordered: such a sample is no measurement. */
    if (n < 0 || !tx || !rx || tx < sent_at || rx < tx || came < rx) {
      missing++;
      continue;
    }
    histogram_record(&app_to_tx, tx - sent_at);
    histogram_record(&tx_to_rx, rx - tx);
    histogram_record(&rx_to_app, came - rx);
    histogram_record(&total, came - sent_at);
  }
  close(fd);
  printf("{\"kind\":\"stamps\",\"mode\":\"%s\",\"payloadBytes\":%d,\"clock\":\"CLOCK_REALTIME\",\"sent\":%d,\"missing\":%d,"
         "\"hardwareStamps\":%s,",
         spinning ? "spinning" : "blocking", payload, flags.count, missing, hardware_seen ? "true" : "false");
  histogram_print(stdout, "appToTx", &app_to_tx), putchar(',');
  histogram_print(stdout, "txToRx", &tx_to_rx), putchar(',');
  histogram_print(stdout, "rxToApp", &rx_to_app), putchar(',');
  histogram_print(stdout, "total", &total);
  printf("}\n");
  fflush(stdout);
  run_end(control);
}

static int stamps(void) {
  int control = server_start();
  pin(flags.client_cpu);
  for (int spinning = 0; spinning < 2; spinning++) stamps_run(control, spinning, atoi(flags.payloads));
  return 0;
}

/* --- controls ------------------------------------------------------------------------------------------------- */

enum { CORE_ROUND_TRIPS = 20000, HICCUP_MS = 100 };
static struct {
  _Alignas(64) volatile uint32_t ping;
  _Alignas(64) volatile uint32_t pong;
} line;

static void *core_echo(void *unused) {
  (void)unused;
  pin(flags.server_cpu);
  for (uint32_t i = 1; i <= CORE_ROUND_TRIPS; i++) {
    while (__atomic_load_n(&line.ping, __ATOMIC_ACQUIRE) != i) cpu_relax();
    __atomic_store_n(&line.pong, i, __ATOMIC_RELEASE);
  }
  return NULL;
}

/*
 * Gaps between two clock reads of a thread that does nothing else: what the machine takes away from it.
 * @returns how long it looked: a stall across the end makes it longer than asked
 */
static uint64_t hiccups(int cpu, struct histogram *gaps, uint64_t *stolen_ns, uint64_t *smallest_ns) {
  pin(cpu);
  histogram_reset(gaps);
  *stolen_ns = 0;
  *smallest_ns = UINT64_MAX;
  uint64_t start = now_ns(), last = start, end = start + HICCUP_MS * MS;
  while (last < end) {
    uint64_t now = now_ns(), gap = now - last;
    if (gap > 0 && gap < *smallest_ns) *smallest_ns = gap;
    /* Eight reads' worth: rigtorp/hiccups draws the line there. */
    if (gap > 8 * *smallest_ns) {
      histogram_record(gaps, gap);
      *stolen_ns += gap;
    }
    last = now;
  }
  return last - start;
}

static int controls(void) {
  static struct histogram round_trips, gaps;
  pin(flags.client_cpu);
  enum { READS = 200000 };
  uint64_t start = now_ns(), step = UINT64_MAX, last = start;
  for (int i = 0; i < READS; i++) {
    uint64_t now = now_ns();
    if (now > last && now - last < step) step = now - last;
    last = now;
  }
  printf("{\"kind\":\"controls\",\"clockReadNs\":%.1f,\"clockStepNs\":%llu,", (double)(last - start) / READS,
         (unsigned long long)step);

  start = now_ns();
  for (int i = 0; i < READS; i++) histogram_record(&gaps, (uint64_t)i * 7);
  printf("\"recordNs\":%.1f,", (double)(now_ns() - start) / READS);

  if (flags.server_cpu != flags.client_cpu && sysconf(_SC_NPROCESSORS_ONLN) > 1) {
    pthread_t echo;
    pthread_create(&echo, NULL, core_echo, NULL);
    for (uint32_t i = 1; i <= CORE_ROUND_TRIPS; i++) {
      uint64_t sent_at = now_ns();
      __atomic_store_n(&line.ping, i, __ATOMIC_RELEASE);
      while (__atomic_load_n(&line.pong, __ATOMIC_ACQUIRE) != i) cpu_relax();
      histogram_record(&round_trips, now_ns() - sent_at);
    }
    pthread_join(echo, NULL);
  }
  histogram_print(stdout, "coreToCore", &round_trips);
  printf(",\"hiccups\":[");
  const int cpus[] = {flags.client_cpu, flags.server_cpu};
  for (int i = 0; i < 2 && (i == 0 || cpus[1] != cpus[0]); i++) {
    uint64_t stolen, smallest, looked = hiccups(cpus[i], &gaps, &stolen, &smallest);
    printf("%s{\"cpu\":%d,\"durationNs\":%llu,\"stolenNs\":%llu,\"smallestGapNs\":%llu,", i ? "," : "", cpus[i], (unsigned long long)looked,
           (unsigned long long)stolen, (unsigned long long)smallest);
    histogram_print(stdout, "gaps", &gaps);
    putchar('}');
  }
  printf("]}\n");
  return 0;
}

/* --- flags ---------------------------------------------------------------------------------------------------- */

static int number(const char *flag, const char *text, long low, long high) {
  char *end;
  long value = text ? strtol(text, &end, 10) : 0;
  if (!text || *end || value < low || value > high) {
    fprintf(stderr, "bypass: %s is '%s', not a whole number from %ld to %ld\n", flag, text ? text : "", low, high);
    exit(2);
  }
  return (int)value;
}

static void mac_of(const char *text, uint8_t mac[6]) {
  if (sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) != 6)
    die(2, "--peer-mac is not a MAC address such as 02:00:00:00:00:0b", 0);
}

/* A real network is named whole or not at all. */
static void complete_network(const char *peer_mac) {
  if (!flags.device && !flags.address && !flags.peer && !peer_mac) return;
  struct in_addr parsed;
  if (!flags.device || !flags.address || !flags.peer || !peer_mac)
    die(2, "a real network needs all of --device, --address, --peer and --peer-mac", 0);
  if (inet_pton(AF_INET, flags.address, &parsed) != 1 || inet_pton(AF_INET, flags.peer, &parsed) != 1)
    die(2, "--address and --peer are IPv4 addresses", 0);
  mac_of(peer_mac, flags.peer_mac);
  struct ifreq device = {0};
  snprintf(device.ifr_name, sizeof device.ifr_name, "%s", flags.device);
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || ioctl(fd, SIOCGIFHWADDR, &device)) die(3, flags.device, errno);
  memcpy(flags.mac, device.ifr_hwaddr.sa_data, 6);
  close(fd);
}

static void parse(int argc, char **argv) {
  const char *peer_mac = NULL;
  for (int i = 2; i < argc; i++) {
    const char *flag = argv[i];
    if (!strcmp(flag, "--loopback") || !strcmp(flag, "--unconnected")) {
      *(flag[2] == 'l' ? &flags.loopback : &flags.unconnected) = 1;
      continue;
    }
    const char *value = i + 1 < argc ? argv[++i] : NULL;
    if (!strcmp(flag, "--paths") && value) flags.paths = value;
    else if (!strcmp(flag, "--payloads") && value) flags.payloads = value;
    else if (!strcmp(flag, "--device") && value) flags.device = value;
    else if (!strcmp(flag, "--address") && value) flags.address = value;
    else if (!strcmp(flag, "--peer") && value) flags.peer = value;
    else if (!strcmp(flag, "--peer-mac") && value) peer_mac = value;
    else if (!strcmp(flag, "--round")) flags.round = number(flag, value, 0, 1000);
    else if (!strcmp(flag, "--rounds")) flags.rounds = number(flag, value, 1, 1000);
    else if (!strcmp(flag, "--count")) flags.count = number(flag, value, 1, 10000000);
    else if (!strcmp(flag, "--warmup")) flags.warmup = number(flag, value, 0, 1000000);
    else if (!strcmp(flag, "--interval-ns")) flags.interval_ns = number(flag, value, 0, 1000000000);
    else if (!strcmp(flag, "--client-cpu")) flags.client_cpu = number(flag, value, 0, CPU_SETSIZE - 1);
    else if (!strcmp(flag, "--server-cpu")) flags.server_cpu = number(flag, value, 0, CPU_SETSIZE - 1);
    else {
      fprintf(stderr, "bypass: unknown flag %s\n", flag);
      exit(2);
    }
  }
  char payloads[128];
  snprintf(payloads, sizeof payloads, "%s", flags.payloads);
  for (char *save, *word = strtok_r(payloads, ",", &save); word; word = strtok_r(NULL, ",", &save))
    number("--payloads", word, 8, PAYLOAD_MAX);
  complete_network(peer_mac);
}

int main(int argc, char **argv) {
  const char *command = argc > 1 ? argv[1] : "";
  prctl(PR_SET_PDEATHSIG, SIGKILL); /* the suite that started us may be killed: then so are we, and all we made */
  parse(argc, argv);
  if (!strcmp(command, "ladder")) return ladder();
  if (!strcmp(command, "stamps")) return stamps();
  if (!strcmp(command, "controls")) return controls();
  if (!strcmp(command, "serve")) {
    if (!flags.device) die(2, "serve needs --device, --address, --peer and --peer-mac", 0);
    return serve_remote();
  }
  if (!strcmp(command, "paths")) {
    for (size_t i = 0; i < PATH_COUNT; i++) puts(PATHS[i].name);
    return 0;
  }
  die(2, "the first word is one of ladder, stamps, controls, serve, paths", 0);
}
