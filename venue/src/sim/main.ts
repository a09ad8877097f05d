/** The simulator's process: flags, ready and summary lines, exit code. */
import { announce, parseDurationMs, runMain, stopRequested, UserError } from '@tickscope/contract'
import { Command, Option } from 'commander'
import { CROWD_DEFAULTS, CROWD_LIMITS, Crowd } from './crowd.ts'
import { FAULT_FORMS, type Fault, parseFault } from './fault.ts'
import { readLatencyTable } from './latency.ts'
import { readKeys } from './member.ts'
import { TIERS } from './ratelimit.ts'
import { scanRecording } from './recording.ts'
import { Replay } from './replay.ts'
import { Simulator, type SimulatorOptions } from './simulator.ts'

interface Flags {
  readonly host: string
  readonly port: number
  readonly keys: string
  readonly seed: number
  readonly fault: readonly Fault[]
  readonly venueLatency?: string
  readonly replay?: string
  readonly replaySpeed: number
  readonly replayMaxGap: number
  readonly rate: number
  readonly markets: number
  readonly tier: string
  readonly balance: number
  readonly readLag: number
  readonly hold: boolean
  readonly for?: number
}

const number = (flag: string, min: number, max: number, whole: boolean) => (text: string) => {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN
  if (!(value >= min && value <= max) || (whole && !Number.isInteger(value)))
    throw new UserError(
      'FLAG_INVALID',
      `${flag} is '${text}', not a ${whole ? 'whole ' : ''}number from ${min} to ${max}`,
    )
  return value
}

const speed = (text: string) => {
  if (text === 'max') return Number.POSITIVE_INFINITY
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN
  if (!(value >= 0.01 && value <= 1_000))
    throw new UserError('FLAG_INVALID', `--replay-speed is '${text}', neither max nor a factor from 0.01 to 1000`)
  return value
}

function parseFlags(argv: readonly string[]): Flags {
  return new Command('tickscope-sim')
    .description('A simulated exchange: Kalshi on real sockets, with a matching engine, real signatures and limits.')
    .requiredOption('--keys <file>', 'registered public keys: [{"keyId","publicKeyPem"}]')
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--port <port>', 'port to listen on, 0 for any free one', number('--port', 0, 65_535, true), 0)
    .option('--seed <number>', 'seed of everything random', number('--seed', 0, 4_294_967_295, true), 1)
    .option(
      '--fault <fault>',
      `inject a fault, repeatable: ${FAULT_FORMS}`,
      (text: string, faults: Fault[]) => [...faults, parseFault(text)],
      [],
    )
    .option('--venue-latency <file>', 'measured engine times (CSV, column latency_ms or …_latency_ms) for REST calls')
    .option('--replay <file>', 'recorded feed (JSON lines, also zstd) instead of the synthetic flow')
    .addOption(
      new Option('--replay-speed <speed>', "factor on the recorded pace, or 'max'").argParser(speed).default(1),
    )
    .addOption(
      new Option('--replay-max-gap <duration>', 'cut longer silences of the recording to this')
        .argParser((text) => parseDurationMs(text, '--replay-max-gap'))
        .default(Number.POSITIVE_INFINITY, 'none'),
    )
    .option(
      '--rate <messages>',
      'average market-data messages per second of the synthetic flow',
      number('--rate', 1, CROWD_LIMITS.ratePerSecond, false),
      CROWD_DEFAULTS.ratePerSecond,
    )
    .option(
      '--markets <count>',
      'markets of the synthetic flow',
      number('--markets', 1, CROWD_LIMITS.markets, true),
      CROWD_DEFAULTS.markets,
    )
    .addOption(
      new Option('--tier <tier>', 'rate limits of every key').choices(TIERS.map(({ name }) => name)).default('premier'),
    )
    .option('--balance <dollars>', 'what each key starts with', number('--balance', 0, 1e9, false), 100_000)
    .option('--read-lag <ms>', 'how far portfolio reads lag behind', number('--read-lag', 0, 60_000, false), 100)
    .option('--hold', 'start the flow and the clock of the faults at POST /sim/start', false)
    .option('--for <duration>', 'stop after this long', (text) => parseDurationMs(text, '--for'))
    .configureOutput({
      outputError: (text) => {
        throw new UserError(
          'FLAG_INVALID',
          text
            .replace(/^error: /, '')
            .trim()
            .replaceAll('\n', ' '),
        )
      },
    })
    .parse(argv)
    .opts<Flags>()
}

runMain('sim', async () => {
  const flags = parseFlags(process.argv)
  const { replay, venueLatency } = flags
  const recording = replay === undefined ? undefined : await scanRecording(replay, flags.replayMaxGap)
  const options: SimulatorOptions = {
    keys: readKeys(flags.keys),
    seed: flags.seed,
    tier: TIERS.find(({ name }) => name === flags.tier) as (typeof TIERS)[number],
    balanceMicros: Math.round(flags.balance * 1e6),
    faults: flags.fault,
    measuredMs: venueLatency === undefined ? undefined : readLatencyTable(venueLatency),
    readLagMs: flags.readLag,
    createFlow: (context) =>
      recording
        ? new Replay(context, { recording, speed: flags.replaySpeed, maxGapMs: flags.replayMaxGap })
        : new Crowd(context, { markets: flags.markets, ratePerSecond: flags.rate }),
  }
  const simulator = new Simulator(options)
  const url = await simulator.listen(flags.host, flags.port)
  const stopping = stopRequested()
  announce({ event: 'ready', url, tickers: simulator.flow.tickers })
  if (!flags.hold) simulator.start()
  const { promise: timeUp, resolve } = Promise.withResolvers<void>()
  const timer = flags.for === undefined ? undefined : setTimeout(resolve, flags.for)
  // The end of a recording ends nothing here: the venue stays open, its markets closed. A broken one throws.
  const broken = simulator.flow.ended.then(() => new Promise<never>(() => {}))
  try {
    await Promise.race([stopping, timeUp, broken])
  } finally {
    clearTimeout(timer)
    const stats = simulator.stats()
    await simulator.stop()
    announce({ event: 'summary', ...stats })
  }
  return undefined
})
