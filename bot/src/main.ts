/** The bot's process: environment, flags, signals, exit code. `--help` documents all of them. */
import { readFileSync } from 'node:fs'
import { announce, EXIT, loadSlos, parseDurationMs, runMain, stopRequested, UserError } from '@tickscope/contract'
import { Command, InvalidArgumentError, Option } from 'commander'
import { createBot, DEFAULTS } from './bot.ts'
import { KillSwitch } from './kill-switch.ts'

/** Keys and tokens are short; a larger file is the wrong one. */
const SECRET_FILE_MAX_BYTES = 64 * 1024

interface Flags {
  readonly venue: string
  readonly keyId: string
  readonly keyFile: string
  readonly collector: string
  readonly tokenFile?: string
  readonly config?: string
  readonly service: string
  readonly instance?: string
  readonly tickers?: readonly string[]
  readonly for?: number
  readonly seed?: number
  readonly maxPosition: number
  readonly maxNotional: number
  readonly orderRate: number
  readonly priceBand: number
  readonly staleAfter: number
  readonly breaker?: number
  readonly killFile?: string
  readonly journal?: string
}

/** A flag that the environment can give too, as `TICKSCOPE_<NAME>`. */
function flag(flags: string, description: string): Option {
  const option = new Option(flags, description)
  return option.env(`TICKSCOPE_${option.name().replaceAll('-', '_').toUpperCase()}`)
}

function number(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('It is not a number.')
  return value
}

const duration = (name: string) => (text: string) => parseDurationMs(text, name)

function readFlags(argv: readonly string[]): Flags {
  const command = new Command('bot')
    .description('Trades the open markets of a venue: quotes both sides and takes obvious edge, within limits.')
    .addOption(flag('--venue <venue>', 'prod, demo, or an origin such as http://127.0.0.1:8700').makeOptionMandatory())
    .addOption(flag('--key-id <id>', 'id of the API key').makeOptionMandatory())
    .addOption(flag('--key-file <file>', 'its private key, PEM, Ed25519 or RSA').makeOptionMandatory())
    .addOption(flag('--collector <url>', 'where measurements go').makeOptionMandatory())
    .addOption(flag('--token-file <file>', 'file with the bearer token of the collector'))
    .addOption(flag('--config <file>', 'JSON file that overrides the SLOs'))
    .addOption(flag('--service <name>', 'name of this bot in metrics and pages').default(DEFAULTS.service))
    .addOption(flag('--instance <name>', 'tells bots of one service apart (default: the host name)'))
    .addOption(
      flag('--tickers <list>', 'markets to trade, separated by commas (default: all open ones)').argParser((text) =>
        text.split(',').filter((ticker) => ticker !== ''),
      ),
    )
    .addOption(flag('--for <duration>', 'stop after this long, e.g. 30s').argParser(duration('--for')))
    .addOption(
      flag('--seed <number>', 'named in the summary, so that a run can be told; the bot draws nothing').argParser(
        number,
      ),
    )
    .addOption(
      flag('--max-position <contracts>', 'largest position of one market either way')
        .argParser(number)
        .default(DEFAULTS.maxPosition),
    )
    .addOption(
      flag('--max-notional <dollars>', 'most money at risk over all markets')
        .argParser(number)
        .default(DEFAULTS.maxNotionalDollars),
    )
    .addOption(
      flag('--order-rate <per second>', 'most orders a second; never above what the account may write')
        .argParser(number)
        .default(DEFAULTS.orderRate),
    )
    .addOption(
      flag('--price-band <dollars>', 'furthest an order may be from the mid')
        .argParser(number)
        .default(DEFAULTS.priceBand),
    )
    .addOption(
      flag('--stale-after <duration>', 'pull quotes when the feed was silent this long')
        .argParser(duration('--stale-after'))
        .default(DEFAULTS.staleAfterMs, '5s'),
    )
    .addOption(
      flag('--breaker <duration>', 'pull quotes for this long when a latency budget breaks (default: off)').argParser(
        duration('--breaker'),
      ),
    )
    .addOption(flag('--kill-file <file>', 'kill switch: engaged when this file exists, as by SIGUSR2'))
    .addOption(flag('--journal <file>', 'append orders and fills here, one JSON line each'))
    .addHelpText(
      'after',
      `
Each flag can be given by the environment variable beside it instead.
Signals: SIGTERM and SIGINT stop cleanly (cancel, wait for answers, ship the last measurements); SIGUSR2 is the kill
switch: everything is cancelled and nothing is sent until the process is started again.
Exit codes: 0 stopped when asked, 2 a flag or file is wrong, 3 the venue or the machine is.`,
    )
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
  try {
    return command.parse(argv).opts<Flags>()
  } catch (error) {
    const { code, message, exitCode } = error as Error & { code?: string; exitCode?: number }
    if (error instanceof UserError) throw error
    // Help was printed.
    if (exitCode === 0) process.exit(EXIT.ok)
    throw new UserError(code ?? 'FLAG_INVALID', message.replace(/^error: /, ''))
  }
}

/** @throws UserError naming the file, never its content */
function readSecret(path: string, name: string, code: string): string {
  try {
    const bytes = readFileSync(path)
    if (bytes.length <= SECRET_FILE_MAX_BYTES) return bytes.toString('utf8')
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code
    throw new UserError(code, `${name} ${path} cannot be read: ${reason}`, EXIT.environment)
  }
  throw new UserError(code, `${name} ${path} is larger than ${SECRET_FILE_MAX_BYTES} bytes`, EXIT.environment)
}

await runMain('bot', async () => {
  const flags = readFlags(process.argv)
  const slos = loadSlos(flags.config)
  const privateKeyPem = readSecret(flags.keyFile, 'key file', 'KEY_INVALID')
  const token = flags.tokenFile === undefined ? undefined : readSecret(flags.tokenFile, 'token file', 'TOKEN_INVALID')
  const stopping = stopRequested()
  const bot = await createBot({
    venue: flags.venue,
    keyId: flags.keyId,
    privateKeyPem,
    keySource: `key file ${flags.keyFile}`,
    collectorUrl: flags.collector,
    collectorToken: token?.trim(),
    service: flags.service,
    instance: flags.instance,
    slos,
    tickers: flags.tickers,
    maxPosition: flags.maxPosition,
    maxNotionalDollars: flags.maxNotional,
    orderRate: flags.orderRate,
    priceBand: flags.priceBand,
    staleAfterMs: flags.staleAfter,
    breakerMs: flags.breaker,
    journalFile: flags.journal,
  })
  const killSwitch = new KillSwitch({ file: flags.killFile, onEngaged: (why) => bot.kill(why) })
  announce({ event: 'ready', tickers: bot.tickers })
  const timeUp = new Promise<void>((resolve) => {
    // Not to keep a bot alive that was stopped earlier.
    if (flags.for !== undefined) setTimeout(resolve, flags.for).unref()
  })
  await Promise.race([stopping, timeUp])
  killSwitch.stop()
  const summary = await bot.stop()
  announce({ event: 'summary', ...(flags.seed === undefined ? {} : { seed: flags.seed }), ...summary })
  return EXIT.ok
})
