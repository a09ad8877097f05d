/**
 * How long from the first byte of a tick read to the bytes of the order it caused handed to the kernel, in the whole bot?
 *
 * Unit of work: one order of the real bot process, quoting against the simulated venue over loopback; collector and
 * agent run as in production and do the measuring. A regression means orders leave later after the tick that caused
 * them. No gates: absolute times are the machine's.
 *
 * Open loop by construction: the venue's ticks come on its own seeded schedule whatever the bot does, and `received` is
 * when the kernel's bytes were read, so ticks that queue behind others in one read carry their wait. What is not in it:
 * the time bytes lie in the kernel's buffer before the bot's loop reads them.
 *
 * Venue and collector run at a lower priority (nice 10). At the bot's own, the kernel hands the bot's core to the venue
 * the moment an order wakes it, and the bot's write returns only when the venue has dealt with the order: on two cores
 * that more than doubled the median. A real venue is on another machine. Tails still show what the cores are shared with.
 *
 * Each run is three fresh processes; the first order of a run is on code not compiled yet and is told apart.
 *
 *   node bot/bench/tick-to-trade.bench.ts [--for 10s] [--runs 3] [--rate 400] [--json]
 */
import { cpus, release, setPriority } from 'node:os'
import { parseArgs } from 'node:util'
import {
  EXIT,
  formatNs,
  type LatencySummary,
  ORDER_STAGES,
  parseDurationMs,
  runMain,
  UserError,
} from '@tickscope/contract'
import { getJson, type Json, Processes, post } from '../test/processes.ts'

/** Samples beyond a quantile that make it more than an anecdote. */
const SAMPLES_BEYOND = 100
/** Asked of the bot; the venue tier of the run leaves room for about as many. */
const ORDERS_A_SECOND = '60'
/** Priority of the processes that are not measured. */
const OTHERS_NICE = 10

interface Run {
  readonly tickToTrade: LatencySummary
  readonly stages: { readonly [stage: string]: LatencySummary }
  readonly apiRtt: LatencySummary
  readonly ticks: number
  readonly firstTickToTradeNs: number | null
  readonly dropped: number
}

async function run(forMs: number, rate: number, seed: number): Promise<Run> {
  const processes = new Processes()
  try {
    const venue = await processes.venue('--rate', `${rate}`, '--seed', `${seed}`)
    const collector = await processes.collector()
    for (const { process } of [venue, collector]) if (process.pid) setPriority(process.pid, OTHERS_NICE)
    const bot = await processes.bot(venue, collector.ready.url, '--order-rate', ORDERS_A_SECOND)
    await post(`${venue.ready.url}/sim/start`)
    await new Promise((resolve) => setTimeout(resolve, forMs))
    await post(`${venue.ready.url}/sim/pause`)
    const { firstTickToTradeNs, dropped } = await bot.stop()
    const { tickToTrade, stages, apiRtt, ticks }: Json = await getJson(`${collector.ready.url}/v1/summary`)
    return { tickToTrade, stages, apiRtt, ticks, firstTickToTradeNs, dropped }
  } finally {
    await processes.stopAll()
  }
}

function row(name: string, h: LatencySummary): string {
  const cells = [h.p50Ns, h.p90Ns, h.p99Ns, h.p999Ns, h.maxNs].map((ns, i) => {
    const beyond = h.count * [0.5, 0.1, 0.01, 0.001, 0][i]!
    return `${formatNs(ns)}${i < 4 && beyond < SAMPLES_BEYOND ? '*' : ' '}`.padStart(11)
  })
  return `${name.padEnd(16)}${String(h.count).padStart(7)} ${cells.join(' ')}`
}

await runMain('tick-to-trade.bench', async () => {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean', default: false },
      for: { type: 'string', default: '10s' },
      runs: { type: 'string', default: '3' },
      rate: { type: 'string', default: '400' },
    },
  })
  const forMs = parseDurationMs(values.for, '--for')
  const [runCount, rate] = (['runs', 'rate'] as const).map((name) => {
    const value = Number(values[name])
    if (Number.isInteger(value) && value >= 1 && value <= 10_000) return value
    throw new UserError('BENCH_OPTION', `--${name} is '${values[name]}', not a whole number from 1 to 10000`)
  }) as [number, number]

  const runs: Run[] = []
  for (let i = 0; i < runCount; i++) runs.push(await run(forMs, rate, i + 1))

  const machine = { cpu: cpus()[0]?.model, cores: cpus().length, kernel: release(), node: process.version }
  if (values.json) {
    console.log(JSON.stringify({ bench: 'tick-to-trade', ...machine, forMs, rate, runs }))
    return EXIT.ok
  }
  console.log(
    `tick-to-trade of the bot, loopback, ${rate} messages/s, ${values.for} a run; times of performance.now() (40 ns step)`,
  )
  console.log(
    `${machine.cpu}, ${machine.cores} cores shared by venue, collector (both nice ${OTHERS_NICE}) and bot; Linux ${machine.kernel}, Node ${machine.node}`,
  )
  console.log(
    `${''.padEnd(16)}${'count'.padStart(7)} ${['p50', 'p90', 'p99', 'p99.9', 'max'].map((q) => `${q} `.padStart(11)).join(' ')}`,
  )
  for (const [i, { tickToTrade, stages, apiRtt, ticks, firstTickToTradeNs, dropped }] of runs.entries()) {
    console.log(row(`run ${i + 1}`, tickToTrade))
    for (const stage of ORDER_STAGES) if (stages[stage]) console.log(row(`  ${stage}`, stages[stage]))
    console.log(row('  API round trip', apiRtt))
    const first = firstTickToTradeNs === null ? '-' : formatNs(firstTickToTradeNs)
    console.log(`  ${ticks} ticks, ${dropped} measurements dropped, first order ${first}`)
  }
  console.log(`* fewer than ${SAMPLES_BEYOND} samples lie beyond this quantile`)
  return EXIT.ok
})
