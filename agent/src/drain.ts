/**
 * The cold end of the ring: turns records into histograms, counters, suspects for the judge and candidates for a trace.
 *
 * Each instant becomes integer ns once, then durations are differences: the stages of an order add up to its
 * tick-to-trade exactly. A record that is not whole or runs backwards is not guessed at: it is dropped and counted, one
 * drop a record. Work per call is bounded; about 1 µs an order.
 */
import {
  type Cause,
  DECISION_STAGES,
  type DropReason,
  INSTANT,
  METRICS,
  ORDER_STAGES,
  type Slos,
} from '@tickscope/contract'
import { nowMs, nsOf } from './clock.ts'
import type { Judge, Suspect } from './judge.ts'
import { ENDPOINT, OUTCOME } from './recorder.ts'
import { CONTROL, INSTANT_BITS, KIND, META, META_BITS, type Ring } from './ring.ts'
import type { Series, SeriesSet } from './series.ts'

/** Kinds of collector pauses, in the order the runtime numbers them. */
export const PAUSE_KINDS = ['minor', 'major', 'incremental', 'weakcb'] as const

/** A finished tick, order or call as traces show it; instants in ns since the bot's origin, -1 where not set. */
export interface Finished {
  readonly kind: 'tick' | 'order' | 'call'
  readonly endpoint: string
  readonly outcome: string
  readonly instantsNs: readonly number[]
}

/** Where the drain puts what is not a number of a series. */
export interface DrainSink {
  /** A whole record within budget, and its duration: tick-to-decision, tick-to-trade or round trip. */
  finished(kind: Finished['kind'], durationNs: number, copy: () => Finished): void
  /** A record over budget, its causes known. */
  breached(record: Finished, suspects: readonly Suspect[], causes: readonly Cause[]): void
  /** A quiet tick that took longer than an order may. */
  slowTick(record: Finished): void
  /** Once an interval, from the bot's thread: its clocks together, ms, and how long its loop has been idle in all. */
  loop(instantMs: number, idleMs: number, wallMs: number): void
  /** A series the bot's thread knows and the drain may not yet: looks for its definition. */
  resolve(series: number): Series | undefined
}

/** Records between two publications of free slots. */
const PUBLISH_EVERY = 256
/** The loop is stalled when a timer of its is late by more than its own step. */
const STALL_STEP_NS = 1_000_000
/** A stall longer than this counts as this many ns: bounds the samples it stands for. */
const STALL_MAX_NS = 60_000_000_000
const INSTANTS = 1 << INSTANT_BITS

export class Drain {
  readonly #ring: Ring
  readonly #mask: number
  readonly #sink: DrainSink
  readonly #judge: Judge
  readonly #slos: Slos
  readonly #beatNs: number
  #head = 0
  #freeTail: number
  /** Instants of the record at hand, ns, -1 where not set. */
  readonly #ns = new Float64Array(INSTANTS)

  readonly #orderTicks: Series
  readonly #quietTicks: Series
  readonly #tickToTrade: Series
  readonly #tickToDecision: Series
  readonly #orderStages: readonly Series[]
  readonly #quietStages: readonly Series[]
  /** By endpoint, then outcome. */
  readonly #apiRtt: readonly (readonly Series[])[]
  readonly #loopDelay: Series
  readonly #pauses: readonly Series[]
  readonly #dropped: { readonly [reason in DropReason]: Series }
  readonly #endpoints: readonly string[]
  readonly #outcomes: readonly string[]

  /** @param beatMs period of the bot's event-loop beat; 0 when it is off */
  constructor(ring: Ring, series: SeriesSet, judge: Judge, slos: Slos, beatMs: number, sink: DrainSink) {
    this.#ring = ring
    this.#mask = ring.slots - 1
    this.#freeTail = Atomics.load(ring.control, CONTROL.freeTail)
    this.#judge = judge
    this.#slos = slos
    this.#beatNs = beatMs * 1e6
    this.#sink = sink
    this.#orderTicks = series.own('tickscope_ticks_total', { outcome: 'order' })
    this.#quietTicks = series.own('tickscope_ticks_total', { outcome: 'quiet' })
    this.#tickToTrade = series.own('tickscope_tick_to_trade_seconds')
    this.#tickToDecision = series.own('tickscope_tick_to_decision_seconds')
    this.#orderStages = ORDER_STAGES.map((stage) => series.own('tickscope_stage_seconds', { stage, outcome: 'order' }))
    this.#quietStages = DECISION_STAGES.map((stage) =>
      series.own('tickscope_stage_seconds', { stage, outcome: 'quiet' }),
    )
    const rtt = METRICS.tickscope_api_rtt_seconds.labels
    this.#endpoints = rtt.endpoint ?? []
    this.#outcomes = rtt.outcome ?? []
    this.#apiRtt = this.#endpoints.map((endpoint) =>
      this.#outcomes.map((outcome) => series.own('tickscope_api_rtt_seconds', { endpoint, outcome })),
    )
    this.#loopDelay = series.own('tickscope_event_loop_delay_seconds')
    this.#pauses = PAUSE_KINDS.map((kind) => series.own('tickscope_gc_pause_seconds', { kind }))
    const dropped = (reason: DropReason) => series.own('tickscope_agent_dropped_total', { reason })
    this.#dropped = {
      ring_full: dropped('ring_full'),
      clock: dropped('clock'),
      incomplete: dropped('incomplete'),
      series_limit: dropped('series_limit'),
    }
  }

  /**
   * Takes up to `limit` records.
   *
   * @returns whether more were waiting
   */
  run(limit: number): boolean {
    const { control, closed, free, meta, instants } = this.#ring
    const tail = Atomics.load(control, CONTROL.closedTail)
    let taken = 0
    while (this.#head !== tail && taken < limit) {
      const slot = closed[this.#head & this.#mask] as number
      this.#head = (this.#head + 1) | 0
      const base = slot << INSTANT_BITS
      const at = slot << META_BITS
      this.#record(
        meta[at + META.kind] as number,
        meta[at + META.detail] as number,
        meta[at + META.outcome] as number,
        instants,
        base,
      )
      for (let i = 0; i < INSTANTS; i++) instants[base + i] = 0
      free[this.#freeTail & this.#mask] = slot
      this.#freeTail = (this.#freeTail + 1) | 0
      if (++taken % PUBLISH_EVERY === 0) Atomics.store(control, CONTROL.freeTail, this.#freeTail)
    }
    Atomics.store(control, CONTROL.freeTail, this.#freeTail)
    this.#judge.expire(nowMs())
    return this.#head !== tail
  }

  /** Counts measurements lost; those of the bot's side are in shared memory already. */
  drop(reason: DropReason, times = 1): void {
    this.#dropped[reason].record(times)
    Atomics.add(this.#ring.control, CONTROL.droppedByDrain, times)
  }

  /** Moves what the bot's side lost since last time into the counters. */
  collectDrops(): void {
    const { control } = this.#ring
    for (const [word, reason] of [
      [CONTROL.droppedRingFull, 'ring_full'],
      [CONTROL.droppedIncomplete, 'incomplete'],
    ] as const) {
      const seen = Atomics.load(control, word)
      const lost = (seen - this.#seenDrops[reason]) >>> 0
      this.#seenDrops[reason] = seen
      if (lost > 0) this.#dropped[reason].record(lost)
    }
  }

  readonly #seenDrops = { ring_full: 0, incomplete: 0 }

  #record(kind: number, detail: number, outcome: number, instants: Float64Array, base: number): void {
    const a = instants[base] as number
    const b = instants[base + 1] as number
    switch (kind) {
      case KIND.tick:
        this.#load(instants, base)
        this.#tick(detail === 1, outcome & 3)
        break
      case KIND.order:
        this.#load(instants, base)
        this.#order(outcome & 3)
        break
      case KIND.call:
        this.#load(instants, base)
        this.#call(detail, outcome & 3)
        break
      case KIND.sample:
        this.#sample(detail, a)
        break
      case KIND.beat:
        this.#beat(nsOf(a), nsOf(b))
        break
      case KIND.pause:
        this.#pauses[detail]?.record(Math.max(0, nsOf(b) - nsOf(a)))
        this.#judge.pause(nsOf(a), nsOf(b))
        break
      case KIND.loop:
        this.#sink.loop(a, b, instants[base + 2] as number)
        break
    }
  }

  #load(instants: Float64Array, base: number): void {
    for (let i = 0; i < INSTANTS; i++) {
      const ms = instants[base + i] as number
      this.#ns[i] = ms === 0 ? -1 : nsOf(ms)
    }
  }

  /** What keeps the instants `first` … `last` from being durations. */
  #problem(first: number, last: number): 'incomplete' | 'clock' | undefined {
    const ns = this.#ns
    for (let i = first; i <= last; i++) if (ns[i] === -1) return 'incomplete'
    for (let i = first + 1; i <= last; i++) {
      // Negated, so that NaN is a problem too.
      if (!((ns[i] as number) >= (ns[i - 1] as number))) return 'clock'
    }
    return (ns[first] as number) >= 0 && (ns[last] as number) <= Number.MAX_SAFE_INTEGER ? undefined : 'clock'
  }

  #tick(causedOrder: boolean, outcome: number): void {
    if (causedOrder) {
      // Its stages travel with its orders.
      this.#orderTicks.record(1)
      return
    }
    this.#quietTicks.record(1)
    const ns = this.#ns
    if (ns[INSTANT.decided] === -1 && outcome !== OUTCOME.ok) return
    const problem = this.#problem(INSTANT.received, INSTANT.decided)
    if (problem !== undefined) {
      this.drop(problem)
      return
    }
    const durationNs = (ns[INSTANT.decided] as number) - (ns[INSTANT.received] as number)
    this.#tickToDecision.record(durationNs)
    for (let i = 0; i < this.#quietStages.length; i++) {
      this.#quietStages[i]?.record((ns[i + 1] as number) - (ns[i] as number))
    }
    const copy = () => this.#copy('tick', '', outcome)
    if (durationNs > this.#slos.processing.thresholdNs) this.#sink.slowTick(copy())
    else this.#sink.finished('tick', durationNs, copy)
  }

  #order(outcome: number): void {
    const ns = this.#ns
    if (ns[INSTANT.sent] === -1) {
      // Never sent, and said so: nothing was measured.
      if (outcome === OUTCOME.ok) this.drop('incomplete')
      return
    }
    const suspects: Suspect[] = []
    let durationNs = 0
    let problem: DropReason | undefined = this.#problem(INSTANT.received, INSTANT.sent)
    if (problem === undefined) {
      durationNs = (ns[INSTANT.sent] as number) - (ns[INSTANT.received] as number)
      this.#tickToTrade.record(durationNs)
      for (let i = 0; i < this.#orderStages.length; i++) {
        this.#orderStages[i]?.record((ns[i + 1] as number) - (ns[i] as number))
      }
      this.#suspect('processing', INSTANT.received, INSTANT.sent, suspects)
    }
    problem = this.#roundTrip(ENDPOINT.create_order, outcome, suspects) ?? problem
    if (problem !== undefined) this.drop(problem)
    this.#finish('order', ENDPOINT.create_order, outcome, problem === undefined ? durationNs : -1, suspects)
  }

  #call(endpoint: number, outcome: number): void {
    const ns = this.#ns
    if (ns[INSTANT.sent] === -1 && outcome !== OUTCOME.ok) return
    const suspects: Suspect[] = []
    const problem = this.#roundTrip(endpoint, outcome, suspects)
    const durationNs = (ns[INSTANT.acked] as number) - (ns[INSTANT.sent] as number)
    if (problem !== undefined) this.drop(problem)
    else this.#finish('call', endpoint, outcome, durationNs, suspects)
  }

  #roundTrip(endpoint: number, outcome: number, suspects: Suspect[]): DropReason | undefined {
    const ns = this.#ns
    const series = this.#apiRtt[endpoint]?.[outcome]
    const problem = series === undefined ? 'incomplete' : this.#problem(INSTANT.sent, INSTANT.acked)
    if (problem !== undefined) return problem
    series?.record((ns[INSTANT.acked] as number) - (ns[INSTANT.sent] as number))
    this.#suspect('api_rtt', INSTANT.sent, INSTANT.acked, suspects)
    return undefined
  }

  #suspect(slo: Suspect['slo'], from: number, to: number, suspects: Suspect[]): void {
    const startNs = this.#ns[from] as number
    const endNs = this.#ns[to] as number
    if (endNs - startNs > this.#slos[slo].thresholdNs) suspects.push({ slo, startNs, endNs })
  }

  /** @param durationNs -1 for a record that is not whole: judged when over budget, else shown to nobody */
  #finish(
    kind: Finished['kind'],
    endpoint: number,
    outcome: number,
    durationNs: number,
    suspects: readonly Suspect[],
  ): void {
    const copy = () => this.#copy(kind, this.#endpoints[endpoint] ?? '', outcome)
    if (suspects.length > 0) {
      const whole = copy()
      // Of a record that is not whole only the parts that were over budget are known to be sound.
      const sound = (i: number) =>
        suspects.some(({ slo }) => (slo === 'processing' ? i <= INSTANT.sent : i >= INSTANT.sent))
      const record =
        durationNs >= 0 ? whole : { ...whole, instantsNs: whole.instantsNs.map((ns, i) => (sound(i) ? ns : -1)) }
      const settle = (causes: readonly Cause[]) => this.#sink.breached(record, suspects, causes)
      this.#judge.add({ suspects, settle }, nowMs())
    } else if (durationNs >= 0) this.#sink.finished(kind, durationNs, copy)
  }

  #copy(kind: Finished['kind'], endpoint: string, outcome: number): Finished {
    return { kind, endpoint, outcome: this.#outcomes[outcome] ?? '', instantsNs: [...this.#ns] }
  }

  #sample(id: number, value: number): void {
    const series = this.#sink.resolve(id)
    if (series === undefined) {
      this.drop('series_limit')
      return
    }
    const { type } = METRICS[series.metric]
    if (type === 'gauge') {
      if (Number.isFinite(value)) series.record(value)
      else this.drop('incomplete')
      return
    }
    const whole = Math.round(value)
    if (whole >= 0 && whole <= Number.MAX_SAFE_INTEGER) series.record(whole)
    else this.drop('clock')
  }

  /**
   * A beat is due one period after the one before. A loop that comes round late is late for every beat that was due
   * meanwhile, so each counts with what was left of its wait (coordinated omission): the quantiles are those of an
   * event that becomes ready at any time.
   */
  #beat(previousNs: number, atNs: number): void {
    const dueNs = previousNs + this.#beatNs
    const delayNs = Math.min(STALL_MAX_NS, Math.max(0, atNs - dueNs))
    for (let left = delayNs; ; left -= this.#beatNs) {
      this.#loopDelay.record(left)
      if (left <= this.#beatNs) break
    }
    if (delayNs > STALL_STEP_NS) this.#judge.stall(dueNs, atNs)
    this.#judge.beat()
  }
}
