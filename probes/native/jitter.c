/*
 * jitter: how late this machine lets a thread run, and what it takes from it.
 *
 *   jitter wake     [flags]   a task at absolute times; one JSON line: wake-up latency, response and service time
 *   jitter hiccups  [flags]   a loop that only reads the clock: gaps; one JSON line
 *   jitter hog      [flags]   a noisy neighbour: says that it runs, then burns one core until the time is up
 *
 * wake: each period the thread sleeps until an absolute time (clock_nanosleep TIMER_ABSTIME), or spins for it, then works
 * `--task-us`. `wake` is how late it started, `response` runs from the intended start to the end of the work, `service`
 * from the actual start. Run-queue wait is the kernel's own figure (/proc/thread-self/schedstat).
 * Flags: --cpu N (-1: not pinned), --policy other|fifo|idle, --priority N, --interval-us N, --task-us N, --count N,
 * --spin 0|1, --slack-ns N (how late the kernel may let a sleeper sleep; 0: as inherited), --for-ms N.
 * All end with the process that started them. Exit: 0 done, 2 bad flag, 3 the machine does not allow it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "clock.h"
#include "histogram.h"

static struct {
  int cpu, policy, priority, interval_us, task_us, count, spin, slack_ns, for_ms;
} flags = {.cpu = -1, .policy = SCHED_OTHER, .priority = 80, .interval_us = 200, .task_us = 12, .count = 5000, .for_ms = 1000};

static int number(const char *flag, const char *text, long low, long high) {
  char *end;
  long value = text ? strtol(text, &end, 10) : 0;
  if (!text || *end || value < low || value > high) {
    fprintf(stderr, "jitter: %s is '%s', not a whole number from %ld to %ld\n", flag, text ? text : "", low, high);
    exit(2);
  }
  return (int)value;
}

static void parse(int argc, char **argv) {
  for (int i = 2; i < argc; i += 2) {
    const char *flag = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
    if (!strcmp(flag, "--cpu")) flags.cpu = number(flag, value, -1, CPU_SETSIZE - 1);
    else if (!strcmp(flag, "--priority")) flags.priority = number(flag, value, 1, 99);
    else if (!strcmp(flag, "--interval-us")) flags.interval_us = number(flag, value, 10, 10000000);
    else if (!strcmp(flag, "--task-us")) flags.task_us = number(flag, value, 0, 1000000);
    else if (!strcmp(flag, "--count")) flags.count = number(flag, value, 1, 10000000);
    else if (!strcmp(flag, "--spin")) flags.spin = number(flag, value, 0, 1);
    else if (!strcmp(flag, "--for-ms")) flags.for_ms = number(flag, value, 1, 3600000);
    else if (!strcmp(flag, "--slack-ns")) flags.slack_ns = number(flag, value, 0, 1000000000);
    else if (!strcmp(flag, "--policy") && value && !strcmp(value, "other")) flags.policy = SCHED_OTHER;
    else if (!strcmp(flag, "--policy") && value && !strcmp(value, "fifo")) flags.policy = SCHED_FIFO;
    else if (!strcmp(flag, "--policy") && value && !strcmp(value, "idle")) flags.policy = SCHED_IDLE;
    else {
      fprintf(stderr, "jitter: %s is not a flag, or '%s' is not one of its values\n", flag, value ? value : "");
      exit(2);
    }
  }
}

static void require(int failed, const char *what) {
  if (!failed) return;
  fprintf(stderr, "jitter: %s: %s\n", what, strerror(errno));
  exit(3);
}

static void place(void) {
  if (flags.cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(flags.cpu, &set);
    require(sched_setaffinity(0, sizeof set, &set), "pinning");
  }
  struct sched_param chosen = {.sched_priority = flags.policy == SCHED_FIFO ? flags.priority : 0};
  if (flags.policy != SCHED_OTHER)
    require(sched_setscheduler(0, flags.policy, &chosen),
            flags.policy == SCHED_FIFO ? "SCHED_FIFO (needs root or CAP_SYS_NICE)" : "SCHED_IDLE");
  if (flags.slack_ns) require(prctl(PR_SET_TIMERSLACK, flags.slack_ns), "timer slack");
}

/* Time this thread was ready to run and another ran, ns; -1 where the kernel does not say. */
static long long run_queue_wait_ns(void) {
  FILE *file = fopen("/proc/thread-self/schedstat", "r");
  long long ran, waited = -1;
  if (!file) return -1;
  if (fscanf(file, "%lld %lld", &ran, &waited) != 2) waited = -1;
  fclose(file);
  return waited;
}

static void print_place(const char *kind) {
  printf("{\"kind\":\"%s\",\"cpu\":%d,\"policy\":\"%s\",\"clock\":\"CLOCK_MONOTONIC\",", kind, flags.cpu,
         flags.policy == SCHED_FIFO ? "fifo" : flags.policy == SCHED_IDLE ? "idle" : "other");
}

static int wake(void) {
  static struct histogram late, response, service;
  struct rusage before, after;
  long long waited = run_queue_wait_ns();
  int migrations = 0, cpu = sched_getcpu();
  uint64_t task_ns = (uint64_t)flags.task_us * 1000, interval_ns = (uint64_t)flags.interval_us * 1000;
  getrusage(RUSAGE_THREAD, &before);
  uint64_t start = now_ns() + interval_ns, started_at = start;
  for (int i = 0; i < flags.count; i++) {
    uint64_t intended = start + (uint64_t)i * interval_ns;
    if (flags.spin) {
      while (now_ns() < intended) cpu_relax();
    } else {
      struct timespec at = {.tv_sec = (time_t)(intended / 1000000000ull), .tv_nsec = (long)(intended % 1000000000ull)};
      while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) {}
    }
    uint64_t begun = now_ns();
    /* The work is a number of clock reads, not a deadline: time taken away must make it longer. */
    for (uint64_t spent = 0, last = begun; spent < task_ns;) {
      uint64_t now = now_ns(), gap = now - last;
      spent += gap < 1000 ? gap : 1000; /* a gap is time taken away, it does no work */
      last = now;
    }
    uint64_t ended = now_ns();
    histogram_record(&late, begun - intended);
    histogram_record(&response, ended - intended);
    histogram_record(&service, ended - begun);
    int now_on = sched_getcpu();
    migrations += now_on != cpu;
    cpu = now_on;
  }
  getrusage(RUSAGE_THREAD, &after);
  long long waited_after = run_queue_wait_ns();
  print_place("wake");
  printf("\"spin\":%s,\"intervalUs\":%d,\"taskUs\":%d,\"count\":%d,\"durationNs\":%llu,\"voluntarySwitches\":%ld,"
         "\"involuntarySwitches\":%ld,\"migrations\":%d,\"ranOn\":%d,\"slackNs\":%d,\"runQueueWaitNs\":%lld,",
         flags.spin ? "true" : "false", flags.interval_us, flags.task_us, flags.count,
         (unsigned long long)(now_ns() - started_at), after.ru_nvcsw - before.ru_nvcsw, after.ru_nivcsw - before.ru_nivcsw,
         migrations, cpu, prctl(PR_GET_TIMERSLACK), waited < 0 || waited_after < 0 ? -1 : waited_after - waited);
  histogram_print(stdout, "wake", &late), putchar(',');
  histogram_print(stdout, "response", &response), putchar(',');
  histogram_print(stdout, "service", &service);
  printf("}\n");
  return 0;
}

static int hiccups(void) {
  static struct histogram gaps;
  uint64_t start = now_ns(), last = start, end = start + (uint64_t)flags.for_ms * 1000000ull;
  uint64_t stolen = 0, smallest = UINT64_MAX;
  while (last < end) {
    uint64_t now = now_ns(), gap = now - last;
    if (gap > 0 && gap < smallest) smallest = gap;
    if (gap > 8 * smallest) { /* eight reads' worth: rigtorp/hiccups draws the line there */
      histogram_record(&gaps, gap);
      stolen += gap;
    }
    last = now;
  }
  print_place("hiccups");
  printf("\"durationNs\":%llu,\"stolenNs\":%llu,\"smallestGapNs\":%llu,", (unsigned long long)(last - start),
         (unsigned long long)stolen, (unsigned long long)smallest);
  histogram_print(stdout, "gaps", &gaps);
  printf("}\n");
  return 0;
}

static int hog(void) {
  print_place("hog");
  printf("\"forMs\":%d}\n", flags.for_ms);
  fflush(stdout);
  uint64_t end = now_ns() + (uint64_t)flags.for_ms * 1000000ull;
  while (now_ns() < end) {}
  return 0;
}

int main(int argc, char **argv) {
  const char *command = argc > 1 ? argv[1] : "";
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  parse(argc, argv);
  place();
  if (!strcmp(command, "wake")) return wake();
  if (!strcmp(command, "hiccups")) return hiccups();
  if (!strcmp(command, "hog")) return hog();
  fprintf(stderr, "jitter: the first word is one of wake, hiccups, hog\n");
  return 2;
}
