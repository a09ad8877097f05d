/**
 * What the runtime and the machine did to the bot: event-loop delay, collector pauses, utilisation, context switches.
 *
 * Only what cannot be seen from outside runs on the bot's thread: a timer beat, the collector's pauses, and the loop's
 * idle time once an interval. The beat is one timer a millisecond: about 2 µs of a busy loop's time, lost in its noise
 * (under 1 %); an idle loop pays a wake-up, which perf_hooks' `monitorEventLoopDelay` pays too (measured alike: 46 µs
 * of CPU each on a two-core VM), while its histogram gives percentiles only, cannot be merged and does not say when.
 * libuv keeps time in whole milliseconds, so delays below one say little.
 *
 * CPU, memory and context switches are the process's and are read on the drain's thread.
 */
import { availableParallelism, totalmem } from 'node:os'
import { constants, type PerformanceEntry, PerformanceObserver, performance } from 'node:perf_hooks'
import { epochMs, nowMs } from './clock.ts'
import { PAUSE_KINDS } from './drain.ts'
import type { Recorder } from './recorder.ts'
import { KIND } from './ring.ts'
import type { Series, SeriesSet } from './series.ts'

/** V8's collections → kinds of the catalogue. 2 is V8's minor mark-sweep, which perf_hooks has no name for. */
const PAUSE_INDEX: ReadonlyMap<number | undefined, number> = new Map([
  [constants.NODE_PERFORMANCE_GC_MINOR, PAUSE_KINDS.indexOf('minor')],
  [2, PAUSE_KINDS.indexOf('minor')],
  [constants.NODE_PERFORMANCE_GC_MAJOR, PAUSE_KINDS.indexOf('major')],
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL, PAUSE_KINDS.indexOf('incremental')],
  [constants.NODE_PERFORMANCE_GC_WEAKCB, PAUSE_KINDS.indexOf('weakcb')],
])

export interface RuntimeOptions {
  /** Period of the beat, ms; 0 leaves it out. */
  readonly loopSampleMs: number
  readonly intervalMs: number
}

/** The part on the bot's thread. Never keeps the process alive. @returns how to stop it */
export function watchRuntime(recorder: Recorder, { loopSampleMs, intervalMs }: RuntimeOptions): () => void {
  const record = (entries: readonly PerformanceEntry[]) => {
    for (const entry of entries) {
      const kind = PAUSE_INDEX.get((entry as { detail?: { kind?: number } }).detail?.kind)
      if (kind !== undefined) recorder.push(KIND.pause, kind, entry.startTime, entry.startTime + entry.duration, 0)
    }
  }
  const pauses = new PerformanceObserver((list) => record(list.getEntries()))
  pauses.observe({ entryTypes: ['gc'] })

  const report = () => recorder.push(KIND.loop, 0, nowMs(), performance.nodeTiming.idleTime, epochMs())
  report()
  const reports = setInterval(report, intervalMs).unref()
  let beats: NodeJS.Timeout | undefined
  if (loopSampleMs > 0) {
    let previousMs = nowMs()
    beats = setInterval(() => {
      const atMs = nowMs()
      recorder.push(KIND.beat, 0, previousMs, atMs, 0)
      previousMs = atMs
    }, loopSampleMs).unref()
  }
  return () => {
    clearInterval(reports)
    clearInterval(beats)
    record(pauses.takeRecords())
    pauses.disconnect()
  }
}

/** Memory the process may use: the cgroup's limit, or the machine's. */
function memoryLimitBytes(): number {
  const limit = process.constrainedMemory()
  return limit > 0 && limit < totalmem() ? limit : totalmem()
}

/** The part on the drain's thread: once an interval, what the process used of its machine. */
export class Usage {
  readonly #cpu: Series
  readonly #loop: Series
  readonly #memory: Series
  readonly #resident: Series
  readonly #voluntary: Series
  readonly #involuntary: Series
  #atMs = nowMs()
  #cpuUs = cpuUs()
  #switches = process.resourceUsage()
  #loopReport: { atMs: number; idleMs: number } | undefined
  #loopRatio: number | undefined

  constructor(series: SeriesSet) {
    this.#cpu = series.own('tickscope_utilization_ratio', { resource: 'cpu' })
    this.#loop = series.own('tickscope_utilization_ratio', { resource: 'event_loop' })
    this.#memory = series.own('tickscope_utilization_ratio', { resource: 'memory' })
    this.#resident = series.own('tickscope_resident_memory_bytes')
    this.#voluntary = series.own('tickscope_context_switches_total', { kind: 'voluntary' })
    this.#involuntary = series.own('tickscope_context_switches_total', { kind: 'involuntary' })
  }

  /** The loop's report of the bot's thread: the share of time since the last one that it was not idle. */
  loop(atMs: number, idleMs: number): void {
    const last = this.#loopReport
    if (last !== undefined && atMs > last.atMs) {
      this.#loopRatio = ratio(1 - (idleMs - last.idleMs) / (atMs - last.atMs))
      this.#loop.record(this.#loopRatio)
    }
    this.#loopReport = { atMs, idleMs }
  }

  /** Ends an interval. @returns its highest utilisation of any resource, and how long it lasted */
  interval(): { highestRatio: number; durationMs: number } {
    const atMs = nowMs()
    const durationMs = atMs - this.#atMs
    const usedUs = cpuUs()
    const cpu = ratio((usedUs - this.#cpuUs) / 1e3 / (durationMs * availableParallelism()))
    const residentBytes = process.memoryUsage.rss()
    const memory = ratio(residentBytes / memoryLimitBytes())
    const switches = process.resourceUsage()
    this.#cpu.record(cpu)
    this.#memory.record(memory)
    this.#resident.record(residentBytes)
    this.#voluntary.record(switches.voluntaryContextSwitches - this.#switches.voluntaryContextSwitches)
    this.#involuntary.record(switches.involuntaryContextSwitches - this.#switches.involuntaryContextSwitches)
    const highestRatio = Math.max(cpu, memory, this.#loopRatio ?? 0)
    this.#atMs = atMs
    this.#cpuUs = usedUs
    this.#switches = switches
    this.#loopRatio = undefined
    return { highestRatio, durationMs }
  }
}

function cpuUs(): number {
  const { user, system } = process.cpuUsage()
  return user + system
}

function ratio(value: number): number {
  return Math.min(1, Math.max(0, value))
}
