/** `probe route`: flags, signals, output; and the routes watched as a service. */
import { announce, EXIT, loadSlos, type Slos, stopSignal, UserError } from '@tickscope/contract'
import type { Command } from 'commander'
import { durationFlag, integerFlag, rateFlag } from '../flag.ts'
import { targetUrl } from '../http.ts'
import { createNotes } from '../note.ts'
import { startProgress } from '../progress.ts'
import { createReporter, type Reporter, SILENT_REPORTER } from '../reporter.ts'
import {
  addServiceFlags,
  type ProbeEnvironment,
  type ReportTo,
  reportTo,
  type ServiceOptions,
  sleepUntil,
} from '../service.ts'
import { openVantage, type RoundOptions, type Vantage } from './measure.ts'
import { PRICE_FILE, readPrices } from './price.ts'
import { type Route, readRoutes } from './routes.ts'
import { runRoutes } from './run.ts'
import { routeText } from './text.ts'

const EVERY_MS = 60_000

interface Options extends ServiceOptions {
  readonly routes?: string
  readonly url?: string
  readonly name: string
  readonly region?: string
  readonly route: string
  readonly import: readonly string[]
  readonly prices: string
  readonly baseline?: string
  readonly rounds: number
  readonly count: number
  readonly rate: number
  readonly for?: number
  readonly timeout: number
  readonly path?: string
  readonly caFile?: string
  readonly json: boolean
  readonly venue: string
}

/** @param exit takes the exit code of the run */
export function addRouteCommand(
  parent: Command,
  exit: (code: number) => void,
  environment: ProbeEnvironment = {},
): void {
  const command = parent
    .command('route')
    .description(
      'The same probe over several routes and from several places: edge, behind the edge, cost of a ms saved.',
    )
    .option('--routes <file>', 'JSON list of routes: [{name, url, region, route, via, pricePerMonth, feed}]')
    .option('--url <url>', 'one route instead of a file, for a result to import elsewhere')
    .option('--name <name>', 'name of the route of --url', 'here')
    .option('--region <name>', 'region of the route of --url')
    .option('--route <label>', 'label of the route of --url', 'public internet')
    .option(
      '--import <result>',
      'JSON result of this probe from another machine, kept with its fingerprint; repeatable',
      (file: string, files: string[]) => [...files, file],
      [] as string[],
    )
    .option('--prices <file>', 'price file, USD a month', PRICE_FILE)
    .option('--baseline <name>', 'route the others are compared with (default: the first)')
    .option('--rounds <n>', 'interleaved rounds; 5 make an interval worth reading', integerFlag('--rounds', 1, 1000), 5)
    .option('--count <n>', 'requests a route, round and kind of connection', integerFlag('--count', 1, 10_000), 20)
    .option('--rate <requests>', 'requests per second, open loop', rateFlag('--rate', 1_000), 10)
    .option('--for <duration>', 'about this long in all, instead of --rounds', durationFlag('--for', 24 * 3_600_000))
    .option('--timeout <duration>', 'longest wait for an answer', durationFlag('--timeout', 60_000), 5_000)
    .option('--path <path>', 'path to GET (default: that of the URL, or a cheap public call)')
    .option('--ca-file <pem>', "certificates to trust instead of the system's")
    .option('--json', 'print one JSON object, the last line of stdout', false)
  addServiceFlags(command, 'a round', EVERY_MS)
    .option('--venue <name>', 'venue label', 'kalshi')
    .addHelpText(
      'after',
      `
via of a route: {"localAddress": "10.0.1.5"}, {"namespace": "uplink2"}, {"relay": "vpce-0abc.example:443"}, or, as a
rehearsal that is labelled so, {"injectDelayMs": 15}. Prices: edit ${PRICE_FILE}
Examples:
  probe route --routes routes.json
  probe route --url https://demo-api.kalshi.co --region us-east-1 --json > virginia.json   (there)
  probe route --routes routes.json --import virginia.json                                  (here)`,
    )
    .action(async (options: Options) => exit(await run(options, environment)))
}

async function run(options: Options, environment: ProbeEnvironment): Promise<number> {
  const { routes: file, url, serve } = options
  if (file === undefined && url === undefined && options.import.length === 0)
    throw new UserError('ROUTES_MISSING', 'nothing to compare: give --routes, --url or --import')
  if (file !== undefined && url !== undefined)
    throw new UserError('FLAG_CONFLICT', '--routes and --url exclude each other')
  const prices = readPrices(options.prices)
  const routes = file !== undefined ? readRoutes(file, prices) : url !== undefined ? [routeOf(url, options)] : []
  const slos = loadSlos(options.config ?? environment.config)
  if (serve) return serveRoutes(routes, options, slos, reportTo(options, environment))
  const signal = stopSignal()
  const roundMs = Math.max(1, routes.length) * 2 * (options.count / options.rate) * 1000
  const rounds =
    routes.length === 0
      ? 0
      : options.for === undefined
        ? options.rounds
        : Math.max(1, Math.round(options.for / roundMs))
  const progress = startProgress('route', rounds * roundMs)
  const result = await runRoutes({
    ...roundOf(options),
    rounds,
    routes,
    imports: options.import,
    ...(options.baseline === undefined ? {} : { baseline: options.baseline }),
    slos,
    signal,
    note: createNotes('route', false),
    progress: progress.show,
  }).finally(progress.end)
  process.stdout.write(`${options.json ? JSON.stringify(result) : routeText(result, process.stdout)}\n`)
  if (routes.length > 0 && !signal.aborted && !result.rows.some(({ status }) => status === 'measured'))
    return EXIT.environment
  return result.budgets.some(({ ok }) => !ok) ? EXIT.budget : EXIT.ok
}

function routeOf(url: string, { name, region, route }: Options): Route {
  return {
    name,
    url: targetUrl(url, undefined, false),
    region: region ?? null,
    route,
    via: null,
    price: null,
    feedFile: null,
  }
}

function roundOf({ count, rate, timeout, path, caFile }: Options): RoundOptions {
  return {
    count,
    ratePerSecond: rate,
    timeoutMs: timeout,
    ...(path === undefined ? {} : { path }),
    ...(caFile === undefined ? {} : { caFile }),
  }
}

interface Watched {
  readonly route: Route
  readonly reporter: Reporter
  readonly vantage: Vantage
  up: boolean
}

/** Rounds on a schedule, each route with an agent of its own, since region and route are labels of a whole agent. */
async function serveRoutes(
  routes: readonly Route[],
  options: Options,
  slos: Slos,
  to: ReportTo | undefined,
): Promise<number> {
  if (options.json || options.for !== undefined || options.import.length > 0)
    throw new UserError(
      'FLAG_CONFLICT',
      '--serve runs until stopped and prints no result: leave out --json, --for and --import',
    )
  const inside = routes.find(({ via }) => via !== null && 'namespace' in via)
  if (inside !== undefined)
    throw new UserError(
      'FLAG_CONFLICT',
      `route '${inside.name}' is in a network namespace: start the service inside it (nsenter, ip netns exec)`,
    )
  const { venue, every } = options
  const signal = stopSignal()
  const note = createNotes('route', true)
  const watched: Watched[] = []
  let rounds = 0
  let acknowledged = true
  try {
    for (const route of routes) {
      const labels = { venue, region: route.region ?? undefined, route: route.route }
      const reporter = to === undefined ? SILENT_REPORTER : await createReporter('route', { ...to, ...labels })
      const vantage = await openVantage(route, roundOf(options), { slos, signal, reporter, note: () => {} })
      watched.push({ route, reporter, vantage, up: true })
    }
    announce({ event: 'ready', probe: 'route', routes: routes.map(({ name }) => name) })
    while (!signal.aborted) {
      const startedAtMs = performance.now()
      for (const lane of watched) if (!signal.aborted) await watchRound(lane, note)
      rounds++
      await sleepUntil(startedAtMs + every, signal)
    }
  } finally {
    for (const { reporter, vantage } of watched) {
      await vantage.stop()
      acknowledged = (await reporter.stop()) && acknowledged
    }
  }
  announce({ event: 'summary', probe: 'route', rounds, acknowledged })
  return EXIT.ok
}

async function watchRound(lane: Watched, note: (line: string) => void): Promise<void> {
  try {
    await lane.vantage.round()
    if (!lane.up) note(`${lane.route.name} answers again`)
    lane.up = true
  } catch (error) {
    if (!(error instanceof UserError)) throw error
    lane.reporter.up(false)
    lane.reporter.request('error')
    if (lane.up) note(`${lane.route.name}: ${error.message}`)
    lane.up = false
  }
}
