/*
 * Latency histogram of the C programs: the cells of contract/src/histogram.ts (HdrHistogram, 1 ns … 60 s, 3 digits), so
 * that rounds and programs merge exactly. Printed as [cell,count,cell,count,…], only cells in use.
 */
#ifndef TICKSCOPE_HISTOGRAM_H
#define TICKSCOPE_HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { CELL_COUNT = 27648 };
#define HIGHEST_NS 60000000000ull

struct histogram {
  uint64_t count, sum_ns;
  uint32_t cells[CELL_COUNT];
};

static inline void histogram_reset(struct histogram *h) { memset(h, 0, sizeof *h); }

static inline void histogram_record(struct histogram *h, uint64_t ns) {
  if (ns > HIGHEST_NS) ns = HIGHEST_NS;
  int bits = ns ? 64 - __builtin_clzll(ns) : 0;
  int bucket = bits > 11 ? bits - 11 : 0;
  h->cells[bucket * 1024 + (int)(ns >> bucket)]++;
  h->count++;
  h->sum_ns += ns;
}

/* For the programs' own decisions; people read the merged histograms. 0 of nothing. */
static inline uint64_t histogram_mean(const struct histogram *h) { return h->count ? h->sum_ns / h->count : 0; }

static inline void histogram_print(FILE *out, const char *name, const struct histogram *h) {
  fprintf(out, "\"%s\":{\"count\":%llu,\"sumNs\":%llu,\"cells\":[", name, (unsigned long long)h->count,
          (unsigned long long)h->sum_ns);
  const char *comma = "";
  for (int cell = 0; cell < CELL_COUNT; cell++) {
    if (!h->cells[cell]) continue;
    fprintf(out, "%s%d,%u", comma, cell, h->cells[cell]);
    comma = ",";
  }
  fprintf(out, "]}");
}

#endif
