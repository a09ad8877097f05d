/** `probe route`: flags, signals, output; and the routes watched as a service. */
import { announce, EXIT, loadSlos, type Slos, stopRequested, UserError } from '@tickscope/contract'
import type { Command } from 'commander'
import { nowNs } from '../clock.ts'
import { durationFlag, integerFlag, rateFlag, readFlagFile } from '../flag.ts'
import { targetUrl } from '../http.ts'
import { startProgress } from '../progress.ts'
import { createReporter, type Reporter, SILENT_REPORTER } from '../reporter.ts'
import { openVantage, type RoundOptions, type Vantage } from './measure.ts'
import { PRICE_FILE, readPrices } from './price.ts'
import { type Route, readRoutes } from './routes.ts'
import { runRoutes } from './run.ts'
import { routeText } from './text.ts'

interface Options {
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
  readonly config?: string
  readonly json: boolean
  readonly serve: boolean
  readonly every: number
  readonly collector?: string
  readonly tokenFile?: string
  readonly service: string
  readonly instance?: string
  readonly venue: string
}

/** @param exit takes the exit code of the run */
export function addRouteCommand(
  parent: Command,
  exit: (code: number) => void,
  environment: { readonly config?: string | undefined; readonly tokenFile?: string | undefined } = {},
): void {
  parent
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
    .option('--config <file>', 'JSON file that overrides the SLOs')
    .option('--json', 'print one JSON object, the last line of stdout', false)
    .option('--serve', 'a round each --every until stopped, reported to --collector', false)
    .option('--every <duration>', 'time between rounds of a service', durationFlag('--every', 24 * 3_600_000), 60_000)
    .option('--collector <url>', 'report to this collector')
    .option('--token-file <file>', "file with the collector's token")
    .option('--service <name>', 'service label of what is reported', 'probe')
    .option('--instance <name>', "instance label (default: the host's name)")
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

async function run(
  options: Options,
  environment: { readonly config?: string | undefined; readonly tokenFile?: string | undefined },
): Promise<number> {
  const { routes: file, url, serve } = options
  if (file === undefined && url === undefined && options.import.length === 0)
    throw new UserError('ROUTES_MISSING', 'nothing to compare: give --routes, --url or --import')
  if (file !== undefined && url !== undefined)
    throw new UserError('FLAG_CONFLICT', '--routes and --url exclude each other')
  const prices = readPrices(options.prices)
  const routes = file !== undefined ? readRoutes(file, prices) : url !== undefined ? [routeOf(url, options)] : []
  const slos = loadSlos(options.config ?? environment.config)
  if (serve) return serveRoutes(routes, options, slos, options.tokenFile ?? environment.tokenFile)
  const stopping = new AbortController()
  stopRequested().then(() => stopping.abort())
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
    signal: stopping.signal,
    note: (line) => process.stderr.write(`route: ${line}\n`),
    progress: progress.show,
  }).finally(progress.end)
  process.stdout.write(`${options.json ? JSON.stringify(result) : routeText(result, process.stdout)}\n`)
  if (routes.length > 0 && !stopping.signal.aborted && !result.rows.some(({ status }) => status === 'measured'))
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
  tokenFile: string | undefined,
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
  const { collector, service, instance, venue, every } = options
  const token = tokenFile === undefined ? undefined : readFlagFile('--token-file', tokenFile).trim()
  const stopping = new AbortController()
  stopRequested().then(() => stopping.abort())
  const { signal } = stopping
  const note = (line: string) => process.stderr.write(`route: ${line}\n`)
  const watched: Watched[] = []
  let rounds = 0
  let acknowledged = true
  try {
    for (const route of routes) {
      const labels = { service, instance, venue, region: route.region ?? undefined, route: route.route }
      const reporter =
        collector === undefined
          ? SILENT_REPORTER
          : await createReporter('route', { collectorUrl: collector, token, ...labels, slos })
      const vantage = await openVantage(route, roundOf(options), { slos, signal, reporter, note: () => {} })
      watched.push({ route, reporter, vantage, up: true })
    }
    announce({ event: 'ready', probe: 'route', routes: routes.map(({ name }) => name) })
    while (!signal.aborted) {
      const startedAtNs = nowNs()
      for (const lane of watched) if (!signal.aborted) await watchRound(lane, note)
      rounds++
      await pause(every - (nowNs() - startedAtNs) / 1e6, signal)
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

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', end)
      resolve()
    }
    const timer = setTimeout(end, Math.max(0, ms))
    if (signal.aborted) end()
    else signal.addEventListener('abort', end)
  })
}
