/**
 * What does a collector cost: a batch from POST to acknowledgement, a scrape, a start?
 *
 * Unit of work: the batch of one busy bot, 16 series of 1000 events each. Batches are posted open loop, one per agent and
 * second, agents spread over the second; the latency is from the intended send to the answer, the sync to disk included.
 * A regression means: agents wait longer for their acknowledgement, a scrape holds up batches (its longest stall of the
 * event loop), a killed collector is away for longer.
 *
 * Usage: node collector/bench/collector.bench.ts [agents=20] [seconds=5]
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  BATCH_VERSION,
  boundCells,
  bucketBoundsNs,
  DEFAULT_SLOS,
  encodeSeries,
  formatNs,
  LatencyHistogram,
  ORDER_STAGES,
  summarize,
} from '@tickscope/contract'
import { Pool } from 'undici'
import { createCollector } from '../src/app.ts'

const AGENTS = Number(process.argv[2] ?? 20)
const SECONDS = Number(process.argv[3] ?? 5)
const EVENTS = 1000
const BOUNDS = boundCells(bucketBoundsNs(DEFAULT_SLOS))

function events(medianNs: number): LatencyHistogram {
  const histogram = new LatencyHistogram(BOUNDS)
  for (let i = 0; i < EVENTS; i++) {
    histogram.record(Math.round(medianNs * Math.exp((Math.random() + Math.random() + Math.random() - 1.5) * 1.2)))
  }
  return histogram
}

const SERIES = [
  encodeSeries('tickscope_tick_to_trade_seconds', {}, events(3e5)),
  encodeSeries('tickscope_tick_to_decision_seconds', {}, events(1e5)),
  ...ORDER_STAGES.map((stage) => encodeSeries('tickscope_stage_seconds', { stage, outcome: 'order' }, events(5e4))),
  ...['decoded', 'booked', 'decided'].map((stage) =>
    encodeSeries('tickscope_stage_seconds', { stage, outcome: 'quiet' }, events(5e4)),
  ),
  ...['create_order', 'cancel_order'].map((endpoint) =>
    encodeSeries('tickscope_api_rtt_seconds', { endpoint, outcome: 'ok' }, events(6e6)),
  ),
  encodeSeries('tickscope_event_loop_delay_seconds', {}, events(1e5)),
  ...['minor', 'major'].map((kind) => encodeSeries('tickscope_gc_pause_seconds', { kind }, events(1e6))),
]

function body(agent: string, sequence: number): string {
  const endMs = Date.now()
  return JSON.stringify({
    version: BATCH_VERSION,
    agent,
    epoch: 'bench',
    sequence,
    resource: { service: 'bot', instance: agent, venue: 'kalshi' },
    intervalStartMs: endMs - 1000,
    intervalEndMs: endMs,
    series: SERIES,
    counters: [{ metric: 'tickscope_ticks_total', labels: { outcome: 'order' }, value: EVENTS }],
  })
}

const dataDir = mkdtempSync(join(tmpdir(), 'tickscope-bench-'))
try {
  const collector = createCollector({ dataDir, port: 0 })
  await collector.start()
  const pool = new Pool(collector.url, { connections: AGENTS })
  const latency = new LatencyHistogram()
  let refused = 0
  const post = async (agent: string, sequence: number, intendedAt: number) => {
    const answer = await pool.request({
      method: 'POST',
      path: '/v1/batches',
      headers: { 'content-type': 'application/json' },
      body: body(agent, sequence),
    })
    await answer.body.dump()
    if (answer.statusCode === 200) latency.record(Math.round((performance.now() - intendedAt) * 1e6))
    else refused++
  }
  const startAt = performance.now() + 100
  await Promise.all(
    Array.from({ length: AGENTS }, async (_, agent) => {
      for (let second = 0; second < SECONDS; second++) {
        const intendedAt = startAt + (second + agent / AGENTS) * 1000
        await sleep(Math.max(0, intendedAt - performance.now()))
        await post(`agent-${agent}`, second + 1, intendedAt)
      }
    }),
  )
  const { count, p50Ns, p99Ns, maxNs } = summarize(latency)
  console.log(
    `batch to acknowledgement: ${count} batches of ${SERIES.length} series at ${AGENTS}/s, ${refused} refused: ` +
      `p50 ${formatNs(p50Ns)}, p99 ${formatNs(p99Ns)}, max ${formatNs(maxNs)}`,
  )

  for (let run = 1; run <= 3; run++) {
    let stallMs = 0
    let turnedAt = performance.now()
    let turn: NodeJS.Immediate
    const watch = () => {
      const now = performance.now()
      stallMs = Math.max(stallMs, now - turnedAt)
      turnedAt = now
      turn = setImmediate(watch)
    }
    turn = setImmediate(watch)
    const startedAt = performance.now()
    const { body: text } = await pool.request({ method: 'GET', path: '/metrics' })
    const bytes = (await text.arrayBuffer()).byteLength
    clearImmediate(turn)
    console.log(
      `scrape ${run}: ${(bytes / 1e6).toFixed(1)} MB of ${AGENTS * SERIES.length} histograms in ` +
        `${(performance.now() - startedAt).toFixed(0)} ms, longest stall ${stallMs.toFixed(1)} ms (reader in the same process)`,
    )
  }
  await pool.close()
  await collector.stop()

  const again = createCollector({ dataDir, port: 0 })
  const startedAt = performance.now()
  await again.start()
  console.log(`start on a journal of ${count} batches: ${(performance.now() - startedAt).toFixed(0)} ms`)
  await again.stop()
  console.log(`resident memory: ${(process.memoryUsage().rss / 1e6).toFixed(0)} MB`)
} finally {
  rmSync(dataDir, { recursive: true })
}
