#!/usr/bin/env node
/** The collector process: flags, environment, signals, exit code. */
import { announce, EXIT, loadSlos, runMain, stopRequested, UserError } from '@tickscope/contract'
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import { createCollector, DEFAULTS } from './app.ts'
import { loadToken } from './auth.ts'

interface Flags {
  host: string
  port: number
  data: string
  config?: string
  tokenFile?: string
  alertmanager?: string
  webhook?: string
  otlpBackend?: string
  runbookBase: string
  dashboardUrl: string
  journalRotateMib: number
  journalRetainMib: number
}

const MIB = 1024 * 1024

function integer(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN
    if (value >= least && value <= most) return value
    throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`)
  }
}

function httpUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return text
  throw new InvalidArgumentError('It must be a URL such as http://127.0.0.1:9093.')
}

function parseFlags(): Flags | undefined {
  const program = new Command('collector')
    .description('Takes batches and traces in, keeps, merges, judges, and exposes them.')
    .option('--host <address>', 'where to listen; anything but loopback needs a token', DEFAULTS.host)
    .option('--port <port>', 'port to listen on; 0 takes any free one', integer(0, 65_535), DEFAULTS.port)
    .requiredOption('--data <dir>', 'data directory: the journal; made when it is not there')
    .addOption(new Option('--config <file>', 'JSON file that overrides the budgets').env('TICKSCOPE_CONFIG'))
    .option('--token-file <file>', 'file with the token that requests must carry; or COLLECTOR_TOKEN')
    .option('--alertmanager <url>', 'Alertmanager that gets the alerts of the breach detector', httpUrl)
    .option('--webhook <url>', 'webhook that gets them when there is no Alertmanager', httpUrl)
    .option(
      '--otlp-backend <url>',
      'OTLP/HTTP backend that traces are passed on to; without it they are discarded',
      httpUrl,
    )
    .option('--runbook-base <url>', 'prefix of runbook links in alerts', DEFAULTS.runbookBase)
    .option('--dashboard-url <url>', 'dashboard that alerts link to', DEFAULTS.dashboardUrl)
    .option(
      '--journal-rotate-mib <n>',
      'size at which a new journal begins',
      integer(1, 512),
      DEFAULTS.journalRotateBytes / MIB,
    )
    .option(
      '--journal-retain-mib <n>',
      'size of finished journals to keep',
      integer(0, 1_000_000),
      DEFAULTS.journalRetainBytes / MIB,
    )
    .exitOverride()
    .configureOutput({ outputError: () => {} })
  try {
    program.parse()
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    if (error.exitCode === 0) return undefined
    throw new UserError('FLAG_INVALID', error.message.replace(/^error: /, '').split('\n')[0] as string)
  }
  if (program.args.length > 0) throw new UserError('FLAG_INVALID', `unexpected argument '${program.args[0]}'`)
  return program.opts<Flags>()
}

await runMain('collector', async () => {
  const flags = parseFlags()
  if (!flags) return EXIT.ok
  const stop = stopRequested()
  const collector = createCollector({
    dataDir: flags.data,
    host: flags.host,
    port: flags.port,
    slos: loadSlos(flags.config),
    token: loadToken(flags.tokenFile, process.env.COLLECTOR_TOKEN),
    alertmanagerUrl: flags.alertmanager,
    webhookUrl: flags.webhook,
    otlpBackendUrl: flags.otlpBackend,
    runbookBase: flags.runbookBase.replace(/\/+$/, ''),
    dashboardUrl: flags.dashboardUrl,
    journalRotateBytes: flags.journalRotateMib * MIB,
    journalRetainBytes: flags.journalRetainMib * MIB,
    log: (line) => void process.stderr.write(`collector: ${line}\n`),
  })
  await collector.start()
  announce({ event: 'ready', url: collector.url })
  const failure = await Promise.race([stop, collector.failed])
  const summary = await collector.stop()
  announce({ event: 'summary', ...summary })
  if (typeof failure !== 'string') throw failure
  process.stdin.destroy()
  return EXIT.ok
})
