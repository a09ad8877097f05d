/** `tickscope start`: the whole suite on this machine, without Docker. */
import { existsSync } from 'node:fs'
import { parseDurationMs, UserError } from '@tickscope/contract'
import { parseFault } from '@tickscope/venue/sim'
import { type Command, Option } from 'commander'
import { runStack } from './stack/stack.ts'

const port = (name: string, what: string) =>
  new Option(`--${name}-port <port>`, `port of ${what} (0: any free one)`).default(0).argParser((text) => {
    const value = Number(text)
    if (!Number.isInteger(value) || value < 0 || value > 65_535)
      throw new UserError('PORT_INVALID', `--${name}-port is '${text}', not a port from 0 to 65535`)
    return value
  })

const file = (flag: string) => (path: string) => {
  if (!existsSync(path)) throw new UserError('FILE_MISSING', `${flag}: there is no file ${path}`)
  return path
}

/** @param exit takes the exit code of the run */
export function addStartCommand(parent: Command, exit: (code: number) => void): void {
  parent
    .command('start')
    .description('Start simulator, bot, collector and probe; Prometheus and Alertmanager too when they are on PATH.')
    .option('--for <duration>', 'stop after this long, e.g. 30s (default: until Ctrl-C)', (text) =>
      parseDurationMs(text, '--for'),
    )
    .option('--json', 'print the summary as one JSON object, the last line of stdout', false)
    .option(
      '--fault <fault>',
      'inject a fault, e.g. api-delay=40ms@10s+5s: fault=value@start+duration; repeatable',
      (text: string, faults: string[]) => {
        parseFault(text)
        return [...faults, text]
      },
      [] as string[],
    )
    .option(
      '--replay <file>',
      'feed the simulator from a recording instead of the synthetic generator',
      file('--replay'),
    )
    .option('--replay-speed <speed>', "speed of the recording: a factor, or 'max'", '1')
    .option('--replay-max-gap <duration>', 'cut silences of the recording to this', (text) => {
      parseDurationMs(text, '--replay-max-gap')
      return text
    })
    .option('--venue-latency <file>', 'measured latency table for the simulated venue (CSV)', file('--venue-latency'))
    .option('--rate <messages>', 'average messages per second of the synthetic generator')
    .option('--seed <number>', 'seed of everything random', (text) => {
      const seed = Number(text)
      if (!Number.isInteger(seed) || seed < 0 || seed > 4_294_967_295)
        throw new UserError('SEED_INVALID', `--seed is '${text}', not a whole number from 0 to 4294967295`)
      return seed
    })
    .option('--config <file>', 'JSON file that overrides the SLOs', file('--config'))
    .option('--data <dir>', 'keep the journal and the configurations here (default: a temporary folder)')
    .addOption(port('venue', 'the simulated venue'))
    .addOption(port('collector', 'the collector'))
    .addOption(port('pager', 'the pager'))
    .addOption(port('prometheus', 'Prometheus'))
    .addOption(port('alertmanager', 'Alertmanager'))
    .option('--no-prometheus', 'do not start Prometheus and Alertmanager even when they are on PATH')
    .option('--no-probe', 'do not start the probe')
    .addHelpText(
      'after',
      `
Examples:
  npm start
  npm start -- --for 40s --fault api-delay=40ms@10s+10s --json
  npm start -- --replay recording.jsonl.zst --for 60s`,
    )
    .action(async (options) => exit(await runStack(options)))
}
