/** Writes the generated files of this folder, or checks that the committed ones are fresh. */
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import {
  checkGenerated,
  EXIT,
  type GeneratedFiles,
  loadSlos,
  runMain,
  type Slos,
  UserError,
  writeGenerated,
} from '@tickscope/contract'
import { renderOverview } from './overview.ts'
import { renderDatasources, renderProvider } from './provisioning.ts'

const FOLDER = resolve(import.meta.dirname, '../grafana')

const HELP = `Usage: dashboards [options]

Generate Grafana dashboards and provisioning from the SLOs and the metric catalogue

Options:
  --config <file>  SLO overrides, JSON (environment: TICKSCOPE_CONFIG)
  --out <dir>      folder to write to (default: ${FOLDER})
  --check          write nothing; exit 1 when a file is not what would be written
  -h, --help       display help for command
`

/** Every generated file, by its path below the folder; URLs and paths are those inside docker compose. */
function generatedFiles(slos: Slos): GeneratedFiles {
  return new Map([
    ['dashboards/tickscope-overview.json', renderOverview(slos)],
    [
      'provisioning/datasources/tickscope.yaml',
      renderDatasources({ prometheusUrl: 'http://prometheus:9090', tempoUrl: 'http://tempo:3200' }),
    ],
    ['provisioning/dashboards/tickscope.yaml', renderProvider('/etc/grafana/dashboards')],
  ])
}

function flagsOf(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      options: {
        config: { type: 'string', default: process.env.TICKSCOPE_CONFIG ?? '' },
        out: { type: 'string', default: FOLDER },
        check: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }).values
  } catch (error) {
    throw new UserError('FLAG_UNKNOWN', (error as Error).message.split('. ')[0] as string)
  }
}

async function main(): Promise<number> {
  const flags = flagsOf(process.argv.slice(2))
  if (flags.help) {
    process.stdout.write(HELP)
    return EXIT.ok
  }
  const files = generatedFiles(loadSlos(flags.config))
  if (flags.check) checkGenerated(flags.out, files)
  else writeGenerated(flags.out, files)
  return EXIT.ok
}

await runMain('dashboards', main)
