/**
 * The fast path's judgement: is a budget broken right now, and what would a person want to know about it?
 *
 * Latency: over the last `PAGING.fastWindowSeconds` of one-second intervals of a service at a venue, all its instances
 * together, at least `minimumBad` events and at least the share `fastBadRatio` took longer than the threshold, in its
 * first interval and in its last. Counts are exact: thresholds are bucket bounds, and agents record at them. Utilisation: one
 * resource of one process above its budget in every interval for `utilizationForSeconds`.
 *
 * Only a batch that brings events over budget can be a breach, so an old incident is never judged twice. Windows are
 * measured on the collector's monotonic clock by arrival; the agents' clocks only date the first breach.
 */
import { ALERT_IDENTITY_LABELS, formatNs, type LatencySlo, PAGING, type SloId, type Slos } from '@tickscope/contract'
import { type CellCounts, CellSum } from './cells.ts'
import type { AcceptedBatch } from './merge.ts'

/** A budget broken, as of one batch. */
export interface Breach {
  readonly slo: SloId
  readonly service: string
  readonly venue: string | undefined
  /** First event over budget of the window, epoch ms, the agent's clock. */
  readonly firstBreachAtMs: number
  /** One line, as on a phone. */
  readonly summary: string
  /** The figures. */
  readonly description: string
}

/** How much later than a second the batches of one-second intervals may arrive after each other, ms. */
const ARRIVAL_SLACK_MS = 500

/** One interval of one process. */
interface Interval {
  readonly arrivedAtMs: number
  readonly lengthMs: number
  readonly total: number
  readonly bad: number
  readonly cells: readonly CellCounts[]
  readonly firstBreachAtMs: number
  readonly causes: ReadonlyMap<string, number>
}

/** A resource above its budget since. */
interface Run {
  readonly startMs: number
  readonly firstBreachAtMs: number
  arrivedAtMs: number
}

export class Judge {
  readonly #slos: Slos
  /** By SLO and identity, oldest first. */
  readonly #windows = new Map<string, Interval[]>()
  /** By identity, instance and resource. */
  readonly #runs = new Map<string, Run>()
  readonly #sum = new CellSum()

  constructor(slos: Slos) {
    this.#slos = slos
  }

  /** @param nowMs monotonic clock */
  judge(batch: AcceptedBatch, nowMs: number): Breach[] {
    const { api_rtt, processing } = this.#slos
    const breaches = [this.#latency(api_rtt, batch, nowMs), this.#latency(processing, batch, nowMs)]
    breaches.push(this.#utilization(batch, nowMs))
    return breaches.filter((breach) => breach !== undefined)
  }

  /** Forgets what no window can see. */
  expire(nowMs: number): void {
    for (const [key, intervals] of this.#windows) {
      if (intervals.every((interval) => !inWindow(interval, nowMs))) this.#windows.delete(key)
    }
    for (const [key, run] of this.#runs) if (!unbroken(run, nowMs)) this.#runs.delete(key)
  }

  #latency(slo: LatencySlo, batch: AcceptedBatch, nowMs: number): Breach | undefined {
    const cells = batch.series.filter(({ metric }) => metric === slo.metric).map((series) => series.cells)
    const total = cells.reduce((sum, { count }) => sum + count, 0)
    const within = cells.reduce((sum, each) => sum + each.countAtMost(slo.thresholdNs), 0)
    if (total === 0) return undefined
    const key = JSON.stringify([slo.id, ...identityOf(batch)])
    const before = (this.#windows.get(key) ?? []).filter((interval) => inWindow(interval, nowMs))
    const intervals = [
      ...before,
      {
        arrivedAtMs: nowMs,
        lengthMs: batch.intervalEndMs - batch.intervalStartMs,
        total,
        bad: total - within,
        cells,
        firstBreachAtMs: batch.firstBreachAtMs[slo.id] ?? batch.intervalStartMs,
        causes: causesOf(slo.id, batch),
      },
    ]
    this.#windows.set(key, intervals)
    if (total === within) return undefined
    const bad = intervals.reduce((sum, interval) => sum + interval.bad, 0)
    const events = intervals.reduce((sum, interval) => sum + interval.total, 0)
    if (bad < PAGING.minimumBad || bad / events < PAGING.fastBadRatio) return undefined
    // Slow from one end of the window to the other, whoever saw it: a stall of one moment does not reach that far.
    const slow = intervals.filter((interval) => interval.bad > 0)
    const spanMs = nowMs - Math.min(...slow.map(({ arrivedAtMs, lengthMs }) => arrivedAtMs - lengthMs))
    if (spanMs < PAGING.fastWindowSeconds * 1000 - ARRIVAL_SLACK_MS) return undefined
    return this.#latencyBreach(slo, batch, intervals, bad, events)
  }

  #latencyBreach(slo: LatencySlo, batch: AcceptedBatch, intervals: Interval[], bad: number, events: number): Breach {
    const { service, venue } = batch.resource
    const [p99Ns, maxNs] = intervals
      .flatMap(({ cells }) => cells)
      .reduce((sum, cells) => sum.add(cells), this.#sum.clear())
      .quantilesNs([0.99, 1]) as [number, number]
    const share = percent(bad / events)
    const threshold = formatNs(slo.thresholdNs)
    const window = `${PAGING.fastWindowSeconds} s`
    const cause = mostNamed(intervals.map(({ causes }) => causes))
    return {
      slo: slo.id,
      service,
      venue: venue || undefined,
      firstBreachAtMs: Math.min(
        ...intervals.filter(({ bad }) => bad > 0).map(({ firstBreachAtMs }) => firstBreachAtMs),
      ),
      summary: `${slo.title} over ${threshold}: ${share} of the last ${window} (${whose(batch)})`,
      description:
        `${bad} of ${events} events of the last ${window} took longer than ${threshold}: ` +
        `p99 ${formatNs(p99Ns)}, max ${formatNs(maxNs)}.${cause ? ` Cause named most: ${cause}.` : ''}`,
    }
  }

  #utilization(batch: AcceptedBatch, nowMs: number): Breach | undefined {
    const slo = this.#slos.utilization
    const { service, venue, instance } = batch.resource
    const { intervalStartMs, intervalEndMs } = batch
    for (const { metric, labels, value } of batch.gauges) {
      if (metric !== slo.metric) continue
      const key = JSON.stringify([...identityOf(batch), instance, labels.resource])
      if (value <= slo.thresholdRatio) {
        this.#runs.delete(key)
        continue
      }
      const known = this.#runs.get(key)
      // A gauge is the last value of its interval: of a long one it vouches for a second.
      const startMs = Math.max(intervalStartMs, intervalEndMs - 1000)
      const run =
        known && unbroken(known, nowMs)
          ? known
          : { startMs, firstBreachAtMs: batch.firstBreachAtMs.utilization ?? startMs, arrivedAtMs: nowMs }
      run.arrivedAtMs = nowMs
      this.#runs.set(key, run)
      if (intervalEndMs - run.startMs < PAGING.utilizationForSeconds * 1000) continue
      const budget = percent(slo.thresholdRatio)
      return {
        slo: slo.id,
        service,
        venue: venue || undefined,
        firstBreachAtMs: run.firstBreachAtMs,
        summary: `${slo.title} over ${budget}: ${labels.resource} at ${percent(value)} (${whose(batch)})`,
        description:
          `${labels.resource} of ${instance} has stood above ${budget} for ` +
          `${Math.round((intervalEndMs - run.startMs) / 1000)} s, now at ${percent(value)}.`,
      }
    }
    return undefined
  }
}

function identityOf({ resource }: AcceptedBatch): (string | null)[] {
  return ALERT_IDENTITY_LABELS.map((label) => resource[label] || null)
}

/** `bot → kalshi` */
function whose({ resource: { service, venue } }: AcceptedBatch): string {
  return venue ? `${service} → ${venue}` : service
}

function percent(ratio: number): string {
  return `${Number((ratio * 100).toPrecision(3))}%`
}

function inWindow({ arrivedAtMs, lengthMs }: Interval, nowMs: number): boolean {
  return arrivedAtMs - lengthMs >= nowMs - PAGING.fastWindowSeconds * 1000 - ARRIVAL_SLACK_MS
}

/** Whether the next interval of a run arrived soon enough to be the next one. */
function unbroken({ arrivedAtMs }: Run, nowMs: number): boolean {
  return nowMs - arrivedAtMs <= 2000 + ARRIVAL_SLACK_MS
}

function causesOf(slo: SloId, { counters }: AcceptedBatch): Map<string, number> {
  const causes = new Map<string, number>()
  for (const { metric, labels, value } of counters) {
    if (metric === 'tickscope_breaches_total' && labels.slo === slo) causes.set(labels.cause as string, value)
  }
  return causes
}

function mostNamed(counts: readonly ReadonlyMap<string, number>[]): string | undefined {
  const sums = new Map<string, number>()
  for (const each of counts) for (const [cause, n] of each) sums.set(cause, (sums.get(cause) ?? 0) + n)
  const [most] = [...sums].sort((a, b) => b[1] - a[1])
  return most && most[1] > 0 ? most[0] : undefined
}
