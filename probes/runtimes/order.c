/*
 * The order path of a C bot, timed phase by phase: order.py says what is timed, and does the same.
 *
 * One blocking socket; ticks and answers are scanned for the fields needed, as C bots do; signing is libcrypto's EVP
 * with a key parsed once. Build: cc -O2 -o order order.c -lcrypto
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define ORDERS "/trade-api/v2/portfolio/events/orders"
/* Spun before a send, as the other programs' loops do. */
#define LEAD_NS 2000000ll
#define CPU_BATCH 200
#define CPU_BATCH_SIGN 10
enum { LEVELS = 10, TICKS_MAX = 100000, ANSWER_MAX = 65536, PHASES = 7, COUNT_MAX = 1000000 };
static const char *PHASE[PHASES] = {"slip", "parse", "decide", "sign", "encode", "io", "answer"};

static void fail(const char *format, ...) {
  va_list args;
  va_start(args, format);
  fputs("order: ", stderr);
  vfprintf(stderr, format, args);
  fputc('\n', stderr);
  exit(1);
}

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void wait_until(int64_t at) {
  if (at - now_ns() > LEAD_NS) {
    int64_t wake = at - LEAD_NS;
    struct timespec t = {.tv_sec = wake / 1000000000ll, .tv_nsec = wake % 1000000000ll};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
  }
  while (now_ns() < at) {}
}

/* --- book ------------------------------------------------------------------------------------------------------ */

static double yes_levels[101], no_levels[101];

/* Value of a string field, or NULL. */
static const char *field(const char *text, const char *name) {
  const char *at = strstr(text, name);
  return at ? at + strlen(name) : NULL;
}

static void apply(const char *line) {
  const char *side = field(line, "\"side\":\""), *price = field(line, "\"price_dollars\":\""),
             *delta = field(line, "\"delta_fp\":\"");
  if (!side || !price || !delta) fail("a tick lacks a field: %.80s", line);
  double *levels = *side == 'y' ? yes_levels : no_levels;
  long cents = lround(strtod(price, NULL) * 100);
  if (cents < 0 || cents > 100) fail("a tick has the price %ld cents", cents);
  double contracts = levels[cents] + strtod(delta, NULL);
  levels[cents] = contracts > 0 ? contracts : 0;
}

static double weight(const double *levels) {
  double sum = 0;
  int found = 0;
  for (int cents = 99; cents > 0; cents--) {
    if (levels[cents] <= 0) continue;
    sum += levels[cents] / (1 + found);
    if (++found == LEVELS) break;
  }
  return sum;
}

static const char *decide(void) { return weight(yes_levels) >= weight(no_levels) ? "bid" : "ask"; }

/* --- order ----------------------------------------------------------------------------------------------------- */

static EVP_PKEY *key;
static int rsa;
static const char *host, *key_id, *ticker, *prefix;
static int port;
static char timestamp[24], signature[1400], request[4096], answer[ANSWER_MAX + 1];

static void sign_request(void) {
  struct timeval t;
  gettimeofday(&t, NULL);
  snprintf(timestamp, sizeof timestamp, "%lld", (long long)t.tv_sec * 1000 + t.tv_usec / 1000);
  char text[128];
  int length = snprintf(text, sizeof text, "%sPOST" ORDERS, timestamp);
  unsigned char raw[1024];
  size_t size = sizeof raw;
  EVP_MD_CTX *context = EVP_MD_CTX_new();
  EVP_PKEY_CTX *options;
  int ok = EVP_DigestSignInit(context, &options, rsa ? EVP_sha256() : NULL, NULL, key);
  if (ok == 1 && rsa)
    ok = EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING) > 0 &&
         EVP_PKEY_CTX_set_rsa_pss_saltlen(options, 32) > 0;
  if (ok != 1 || EVP_DigestSign(context, raw, &size, (unsigned char *)text, (size_t)length) != 1)
    fail("libcrypto cannot sign with this key");
  EVP_MD_CTX_free(context);
  EVP_EncodeBlock((unsigned char *)signature, raw, (int)size);
}

/* Far from the market and immediate-or-cancel: nothing rests, nothing fills. */
static int encode(const char *side, int index) {
  char body[1024];
  int size = snprintf(body, sizeof body,
                      "{\"ticker\":\"%s\",\"side\":\"%s\",\"count\":\"1.00\",\"price\":\"%s\",\"time_in_force\":\"immediate_or_cancel\","
                      "\"self_trade_prevention_type\":\"taker_at_cross\",\"client_order_id\":\"%s-%08d\"}",
                      ticker, side, *side == 'b' ? "0.0100" : "0.9900", prefix, index);
  int total = snprintf(request, sizeof request,
                       "POST " ORDERS " HTTP/1.1\r\nhost: %s:%d\r\nuser-agent: tickscope\r\naccept: application/json\r\n"
                       "content-type: application/json\r\nKALSHI-ACCESS-KEY: %s\r\nKALSHI-ACCESS-TIMESTAMP: %s\r\n"
                       "KALSHI-ACCESS-SIGNATURE: %s\r\ncontent-length: %d\r\n\r\n%s",
                       host, port, key_id, timestamp, signature, size, body);
  if (size >= (int)sizeof body || total >= (int)sizeof request) fail("the order is longer than the buffer");
  return total;
}

/* Status of the answer, whose body is then at *body; 0 when the connection is of no more use. */
static int exchange(int fd, int length, const char **body) {
  *body = "";
  for (int at = 0; at < length;) {
    ssize_t n = send(fd, request + at, (size_t)(length - at), MSG_NOSIGNAL);
    if (n <= 0) return 0;
    at += (int)n;
  }
  int size = 0;
  for (;;) {
    ssize_t n = recv(fd, answer + size, (size_t)(ANSWER_MAX - size), 0);
    if (n <= 0) return 0;
    size += (int)n;
    answer[size] = 0;
    char *end = strstr(answer, "\r\n\r\n");
    if (!end) continue;
    const char *field_at = strcasestr(answer, "\r\ncontent-length:");
    if (!field_at || field_at > end) return 0;
    long wanted = strtol(field_at + 17, NULL, 10);
    if (wanted < 0 || wanted > ANSWER_MAX - (end + 4 - answer)) return 0;
    if (answer + size >= end + 4 + wanted) {
      *body = end + 4;
      return atoi(answer + 9);
    }
  }
}

static int connect_to(void) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
  char service[8];
  snprintf(service, sizeof service, "%d", port);
  if (getaddrinfo(host, service, &hints, &list)) fail("%s has no address", host);
  int fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
  if (fd < 0 || connect(fd, list->ai_addr, list->ai_addrlen)) fail("%s:%d: %s", host, port, strerror(errno));
  struct timeval timeout = {.tv_sec = 5};
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  freeaddrinfo(list);
  return fd;
}

/* --- run ------------------------------------------------------------------------------------------------------- */

static char *ticks[TICKS_MAX];
static int tick_count;

static void read_ticks(const char *path) {
  FILE *file = fopen(path, "r");
  if (!file) fail("%s: %s", path, strerror(errno));
  size_t room = 0;
  for (char *line = NULL; tick_count < TICKS_MAX && getline(&line, &room, file) > 0; line = NULL, room = 0)
    ticks[tick_count++] = line;
  fclose(file);
  if (tick_count == 0) fail("%s has no ticks", path);
}

static void op_parse(int i) { apply(ticks[i % tick_count]); }
static const char *volatile decided;
static void op_decide(int i) {
  (void)i;
  decided = decide();
}
static void op_encode(int i) { encode("bid", i); }
static void op_sign(int i) {
  (void)i;
  sign_request();
}

/* The same work in a hot loop without a venue: ns an operation, one figure a batch; warmed up by as many batches. */
static void print_cpu(int batches) {
  static const struct {
    const char *name;
    int size;
    void (*operation)(int);
  } work[] = {{"parse", CPU_BATCH, op_parse},
              {"decide", CPU_BATCH, op_decide},
              {"encode", CPU_BATCH, op_encode},
              {"sign", CPU_BATCH_SIGN, op_sign}};
  for (size_t w = 0; w < sizeof work / sizeof *work; w++) {
    /* Volatile, so that the compiler cannot look inside and do the work of a batch once. */
    void (*volatile operation)(int) = work[w].operation;
    printf("%s\"%s\":[", w ? "," : "", work[w].name);
    for (int batch = 0; batch < 2 * batches; batch++) {
      int64_t started = now_ns();
      for (int i = 0; i < work[w].size; i++) operation(i);
      int64_t each = (now_ns() - started + work[w].size / 2) / work[w].size;
      if (batch >= batches) printf("%s%lld", batch > batches ? "," : "", (long long)each);
    }
    printf("]");
  }
}

int main(int argc, char **argv) {
  const char *key_file = NULL, *tick_file = NULL;
  double rate = 0;
  int count = 0, warm_up = 0, batches = 0;
  for (int i = 1; i + 1 < argc; i += 2) {
    const char *name = argv[i], *value = argv[i + 1];
    if (!strcmp(name, "--host")) host = value;
    else if (!strcmp(name, "--port")) port = atoi(value);
    else if (!strcmp(name, "--key-file")) key_file = value;
    else if (!strcmp(name, "--key-id")) key_id = value;
    else if (!strcmp(name, "--ticker")) ticker = value;
    else if (!strcmp(name, "--ticks")) tick_file = value;
    else if (!strcmp(name, "--prefix")) prefix = value;
    else if (!strcmp(name, "--rate")) rate = atof(value);
    else if (!strcmp(name, "--count")) count = atoi(value);
    else if (!strcmp(name, "--warm-up")) warm_up = atoi(value);
    else if (!strcmp(name, "--cpu-batches")) batches = atoi(value);
    else fail("unknown flag %s", name);
  }
  if (!host || !key_file || !key_id || !ticker || !tick_file || !prefix || rate <= 0 || count < 1 || count > COUNT_MAX)
    fail("a flag is missing or out of range");
  FILE *file = fopen(key_file, "r");
  key = file ? PEM_read_PrivateKey(file, NULL, NULL, NULL) : NULL;
  if (!key) fail("%s is no PEM private key", key_file);
  fclose(file);
  rsa = EVP_PKEY_base_id(key) == EVP_PKEY_RSA;
  read_ticks(tick_file);

  int64_t *samples = calloc((size_t)count * PHASES, sizeof *samples);
  if (!samples) fail("out of memory");
  int fd = connect_to(), sent = 0, lost = 0, answered = 0, last_status = 0;
  int64_t begin = 0;
  for (int index = 0; index < warm_up + count; index++) {
    int measured = index - warm_up;
    if (measured == 0) begin = now_ns() + 5000000;
    int64_t t[PHASES + 1];
    t[0] = measured < 0 ? now_ns() : begin + (int64_t)llround(measured * 1e9 / rate);
    wait_until(t[0]);
    t[1] = now_ns();
    apply(ticks[index % tick_count]);
    t[2] = now_ns();
    const char *side = decide();
    t[3] = now_ns();
    sign_request();
    t[4] = now_ns();
    int length = encode(side, index);
    t[5] = now_ns();
    const char *body;
    int status = exchange(fd, length, &body);
    t[6] = now_ns();
    int good = status == 201 && field(body, "\"order_id\":\"") != NULL;
    t[7] = now_ns();
    if (measured < 0) {
      if (!good) fail("the venue answered %d to the first orders: %.200s", status, body);
      continue;
    }
    sent++;
    if (!good) {
      lost++;
      last_status = status;
      if (status == 0) break;
      continue;
    }
    for (int phase = 0; phase < PHASES; phase++) samples[phase * (int64_t)count + answered] = t[phase + 1] - t[phase];
    answered++;
  }
  close(fd);

  printf("{\"runtime\":\"C\",\"version\":\"" __VERSION__ "\",\"loop\":\"blocking socket\",\"signing\":\"%s\","
         "\"clock\":\"clock_gettime (CLOCK_MONOTONIC)\",\"sent\":%d,\"lost\":%d,\"reasons\":{",
         OpenSSL_version(OPENSSL_VERSION), sent, lost);
  if (lost) printf("\"STATUS_%d\":%d", last_status, lost);
  printf("},\"samplesNs\":{");
  for (int phase = 0; phase < PHASES; phase++) {
    printf("%s\"%s\":[", phase ? "," : "", PHASE[phase]);
    for (int i = 0; i < answered; i++)
      printf("%s%lld", i ? "," : "", (long long)samples[phase * (int64_t)count + i]);
    printf("]");
  }
  printf("},\"cpuNs\":{");
  print_cpu(batches);
  printf("}}\n");
  return 0;
}
