/**
 * What does it cost the bot's thread to record a tick and its order, and is that less than a twentieth of what the same
 * instants cost as OpenTelemetry spans?
 *
 * Unit of work: one fully marked tick that causes an order: begin, 7 marks, order, 2 closes with the agent (its worker
 * draining and shipping to a collector stand-in); a root span and 7 children with the SDK (its batch processor handing
 * them to an exporter that drops them). A regression means the agent has become something to be weighed against.
 *
 * Method: each side in a fresh process, sides interleaved in rounds; bursts of 500 ticks with a pause between, as a feed
 * has them; ns per tick of a burst, the median of a process's bursts (pauses of the collector, which only the spans cause, are
 * left out of it: in the SDK's favour; the mean has them). The ratio is the median of the rounds' ratios, with a 95 %
 * bootstrap interval over rounds. Service time of a closed loop, on one thread; absolute times are the machine's.
 *
 * Bytes: heap in use before and after a million ticks in an isolate that did not collect meanwhile (checked), beside a
 * control that keeps one heap number a tick (16 bytes), which the method must see.
 *
 *   node --expose-gc agent/bench/tick.bench.ts [--json] [--rounds N]
 *
 * Exit code 1 when the ratio is below 20 or a tick allocates a byte or more.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { cpus } from 'node:os'
import { type PerformanceEntry, PerformanceObserver } from 'node:perf_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { EXIT, formatNs, runMain, UserError } from '@tickscope/contract'
import { createAgent, INSTANT, OUTCOME } from '../src/index.ts'

const RATIO_MIN = 20
const BYTES_MAX = 1
/** Bytes of a V8 heap number: what the control allocates and the method must be able to see. */
const HEAP_NUMBER_BYTES = 16
const BURST_TICKS = 500
const BURSTS = 200
const WARM_UP_BURSTS = 100
/** The drain's period, so that the ring never fills. */
const PAUSE_MS = 5
const BYTES_TICKS = 1_000_000
const BYTES_BURST_TICKS = 5_000
const BYTES_PAUSE_MS = 30
/** Of 300,000 (time) and 2,200,000 (bytes). */
const DROPPED_MAX = 3_000
const BOOTSTRAP_RUNS = 10_000

type Tick = () => void

/** One side of the comparison: its tick, and what to do at the end. */
type Side = (collectorUrl: string) => Promise<{ tick: Tick; end: () => Promise<void> }>

let sink = 0

const sides: { readonly [name: string]: Side } = {
  /** What the loop around costs. */
  empty: async () => ({ tick: () => void sink++, end: async () => {} }),

  agent: async (collectorUrl) => {
    // The largest ring: on a busy machine the worker may not run for longer than the default one lasts at this rate.
    const agent = await createAgent({ service: 'bench', collectorUrl, ringSlots: 131_072, log: () => {} })
    const tick = () => {
      const tick = agent.begin(performance.now())
      agent.mark(tick, INSTANT.decoded)
      agent.mark(tick, INSTANT.booked)
      agent.mark(tick, INSTANT.decided)
      const order = agent.order(tick)
      agent.mark(order, INSTANT.checked)
      agent.mark(order, INSTANT.encoded)
      agent.mark(order, INSTANT.sent)
      agent.close(tick, OUTCOME.ok)
      agent.mark(order, INSTANT.acked)
      agent.close(order, OUTCOME.ok)
    }
    const end = async () => {
      const { dropped } = await agent.stop()
      // A tick that found the ring full costs less: many of them would make the time no measurement.
      if (dropped > DROPPED_MAX)
        throw new Error(`${dropped} measurements were dropped: the machine is too busy for the bench`)
    }
    return { tick, end }
  },

  otel: async () => {
    const { ROOT_CONTEXT, trace } = await import('@opentelemetry/api')
    const { BasicTracerProvider, BatchSpanProcessor } = await import('@opentelemetry/sdk-trace-node')
    const exporter = {
      export: (_spans: unknown, done: (result: { code: number }) => void) => done({ code: 0 }),
      shutdown: async () => {},
    }
    // Room for several bursts, so that no span is dropped for want of it.
    const processor = new BatchSpanProcessor(exporter, { maxQueueSize: 65_536, scheduledDelayMillis: 10 })
    const tracer = new BasicTracerProvider({ spanProcessors: [processor] }).getTracer('bench')
    const tick = () => {
      const root = tracer.startSpan('tick', undefined, ROOT_CONTEXT)
      const context = trace.setSpan(ROOT_CONTEXT, root)
      tracer.startSpan('decoded', undefined, context).end()
      tracer.startSpan('booked', undefined, context).end()
      tracer.startSpan('decided', undefined, context).end()
      tracer.startSpan('checked', undefined, context).end()
      tracer.startSpan('encoded', undefined, context).end()
      tracer.startSpan('sent', undefined, context).end()
      tracer.startSpan('api call', undefined, context).end()
      root.end()
    }
    return { tick, end: () => processor.shutdown() }
  },
}

/** A child: ns per tick of each burst. */
async function measureTime(tick: Tick): Promise<{ medianNs: number; meanNs: number; bestNs: number }> {
  const perTickNs: number[] = []
  for (let burst = -WARM_UP_BURSTS; burst < BURSTS; burst++) {
    const startMs = performance.now()
    for (let i = 0; i < BURST_TICKS; i++) tick()
    const elapsedMs = performance.now() - startMs
    if (burst >= 0) perTickNs.push((elapsedMs * 1e6) / BURST_TICKS)
    await delay(PAUSE_MS)
  }
  const meanNs = perTickNs.reduce((sum, ns) => sum + ns, 0) / perTickNs.length
  return { medianNs: median(perTickNs), meanNs, bestNs: Math.min(...perTickNs) }
}

/** A child: bytes per tick, all in one turn of the loop so that nothing else of the process allocates. */
async function measureBytes(tick: Tick): Promise<{ bytesPerTick: number }> {
  const collect = globalThis.gc
  if (collect === undefined) throw new UserError('BENCH_FLAGS', 'the bench needs node --expose-gc')
  const pauses: PerformanceEntry[] = []
  const observer = new PerformanceObserver((list) => pauses.push(...list.getEntries()))
  observer.observe({ entryTypes: ['gc'] })
  const sleeper = new Int32Array(new SharedArrayBuffer(4))
  const run = (ticks: number) => {
    for (let done = 0; done < ticks; done += BYTES_BURST_TICKS) {
      for (let i = 0; i < BYTES_BURST_TICKS; i++) tick()
      // The worker drains meanwhile; sleeping allocates nothing.
      Atomics.wait(sleeper, 0, 0, BYTES_PAUSE_MS)
    }
  }
  run(BYTES_TICKS / 10)
  await delay(100)
  process.memoryUsage()
  collect()
  const startMs = performance.now()
  const before = process.memoryUsage().heapUsed
  run(BYTES_TICKS)
  const after = process.memoryUsage().heapUsed
  const endMs = performance.now()
  await delay(100)
  observer.disconnect()
  if (pauses.some(({ startTime }) => startTime > startMs && startTime < endMs)) {
    throw new Error('the collector ran during the measurement: its bytes are no measurement')
  }
  return { bytesPerTick: (after - before) / BYTES_TICKS }
}

/** The agent's tick, and one heap number kept: a generic array cannot hold a double unboxed. */
function withHeapNumber(tick: Tick): Tick {
  const kept: unknown[] = Array.from({ length: 1024 }, () => ({}))
  let at = 0
  return () => {
    tick()
    at = (at + 1) & 1023
    kept[at] = at + 0.5
  }
}

/** Smallest step of the clock seen, ns. */
function timerStepNs(): number {
  let step = Number.POSITIVE_INFINITY
  for (let i = 0; i < 100_000; i++) {
    const startMs = performance.now()
    const elapsedMs = performance.now() - startMs
    if (elapsedMs > 0 && elapsedMs < step) step = elapsedMs
  }
  return Math.round(step * 1e6)
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  const upper = sorted[middle] as number
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] as number)) / 2
}

/** 95 % percentile-bootstrap interval of the median. */
function interval(values: readonly number[]): [low: number, high: number] {
  const medians = Array.from({ length: BOOTSTRAP_RUNS }, () =>
    median(values.map(() => values[Math.floor(Math.random() * values.length)] as number)),
  ).sort((a, b) => a - b)
  return [medians[Math.floor(BOOTSTRAP_RUNS * 0.025)] as number, medians[Math.floor(BOOTSTRAP_RUNS * 0.975)] as number]
}

interface ChildResult {
  readonly medianNs: number
  readonly meanNs: number
  readonly bestNs: number
  readonly bytesPerTick: number
}

/** Runs one side in a process of its own. */
async function runChild(side: string, what: 'time' | 'bytes' | 'control', collectorUrl: string): Promise<ChildResult> {
  // A young generation of 32 MiB: no collection falls into the measurement of a million heap numbers, 16 MB.
  const flags = ['--expose-gc', ...(what === 'time' ? [] : ['--min-semi-space-size=32', '--max-semi-space-size=32'])]
  const script = fileURLToPath(import.meta.url)
  const child = spawn(
    process.execPath,
    [...flags, script, '--side', side, '--what', what, '--collector', collectorUrl],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  let out = ''
  child.stdout.on('data', (chunk) => {
    out += chunk
  })
  const [code] = await once(child, 'close')
  if (code !== 0)
    throw new UserError('BENCH_CHILD', `side ${side} (${what}) ended with exit code ${code}`, EXIT.environment)
  return JSON.parse(out)
}

/** A child's whole life. */
async function childMain(name: string, what: string, collectorUrl: string): Promise<number> {
  const side = sides[name]
  if (side === undefined)
    throw new UserError('BENCH_SIDE', `--side is '${name}', not one of ${Object.keys(sides).join(', ')}`)
  const { tick, end } = await side(collectorUrl)
  const result =
    what === 'time' ? await measureTime(tick) : await measureBytes(what === 'control' ? withHeapNumber(tick) : tick)
  await end()
  process.stdout.write(JSON.stringify(result))
  return EXIT.ok
}

await runMain('tick.bench', async () => {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean', default: false },
      rounds: { type: 'string', default: '5' },
      side: { type: 'string' },
      what: { type: 'string', default: 'time' },
      collector: { type: 'string', default: '' },
    },
  })
  if (values.side !== undefined) return childMain(values.side, values.what, values.collector)
  const rounds = Number(values.rounds)
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > 100) {
    throw new UserError('BENCH_ROUNDS', `--rounds is '${values.rounds}', not a whole number from 1 to 100`)
  }

  // Takes everything: the collector's own work is no part of the question.
  const collector = createServer((request, response) => request.resume().on('end', () => response.end('{}')))
  collector.listen(0, '127.0.0.1')
  await once(collector, 'listening')
  const url = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`

  const results: { [side: string]: ChildResult[] } = {}
  for (const side of Object.keys(sides)) results[side] = []
  for (let round = 0; round < rounds; round++) {
    for (const side of Object.keys(sides)) results[side]?.push(await runChild(side, 'time', url))
  }
  const { bytesPerTick } = await runChild('agent', 'bytes', url)
  const { bytesPerTick: controlBytesPerTick } = await runChild('agent', 'control', url)
  collector.close()
  collector.closeAllConnections()

  const costOf = (side: string) => {
    const runs = results[side] as ChildResult[]
    const medians = runs.map(({ medianNs }) => medianNs)
    return {
      medianNs: median(medians),
      lowNs: Math.min(...medians),
      highNs: Math.max(...medians),
      meanNs: median(runs.map(({ meanNs }) => meanNs)),
      bestNs: Math.min(...runs.map(({ bestNs }) => bestNs)),
    }
  }
  const ratios = (results.otel as ChildResult[]).map(
    ({ medianNs }, i) => medianNs / (results.agent?.[i]?.medianNs ?? 1),
  )
  const ratio = median(ratios)
  const [ratioLow, ratioHigh] = interval(ratios)
  const seen = controlBytesPerTick - bytesPerTick >= HEAP_NUMBER_BYTES * 0.9
  const ok = ratio >= RATIO_MIN && bytesPerTick < BYTES_MAX && seen
  const summary = {
    bench: 'agent-tick',
    rounds,
    agent: costOf('agent'),
    otel: costOf('otel'),
    empty: costOf('empty'),
    timerStepNs: timerStepNs(),
    ratio,
    /** Of the fastest burst each side had in any round: what a machine busy with others distorts least. */
    bestRatio: costOf('otel').bestNs / costOf('agent').bestNs,
    ratioInterval95: [ratioLow, ratioHigh],
    bytesPerTick,
    controlBytesPerTick,
    ok,
    node: process.version,
    cpu: cpus()[0]?.model ?? 'unknown',
  }
  if (values.json) {
    process.stdout.write(`${JSON.stringify(summary)}\n`)
    return ok ? EXIT.ok : EXIT.budget
  }
  const row = (title: string, side: string) => {
    const { medianNs, lowNs, highNs, meanNs, bestNs } = costOf(side)
    const cells = [medianNs, lowNs, highNs, meanNs, bestNs].map((ns) => formatNs(ns).padStart(9))
    return `${title.padEnd(34)}${cells.join('')}`
  }
  const lines = [
    `a tick with its order, on the bot's thread (${summary.cpu}, Node ${summary.node}, ${rounds} rounds)`,
    `${''.padEnd(34)}${['median', 'lowest', 'highest', 'mean', 'best'].map((title) => title.padStart(9)).join('')}`,
    row('agent: 7 marks, worker draining', 'agent'),
    row('OpenTelemetry SDK: 8 spans', 'otel'),
    row('empty loop (harness)', 'empty'),
    `timer step ${summary.timerStepNs} ns`,
    `ratio ${ratio.toFixed(1)}, 95 % interval ${ratioLow.toFixed(1)} … ${ratioHigh.toFixed(1)}; at least ${RATIO_MIN} wanted; ` +
      `best burst to best burst ${summary.bestRatio.toFixed(1)}`,
    `bytes allocated per tick ${bytesPerTick.toFixed(3)}, below ${BYTES_MAX} wanted; ` +
      `with one heap number a tick ${controlBytesPerTick.toFixed(3)}${seen ? '' : ', which the method did not see'}`,
    ok ? 'ok' : 'FAILED',
  ]
  process.stdout.write(`${lines.join('\n')}\n`)
  return ok ? EXIT.ok : EXIT.budget
})
