/**
 * Writes the generated files of this folder, or checks that the committed ones are fresh.
 *
 * The committed configurations are those that docker compose mounts (its service names, its token files); `tickscope
 * start` renders its own for the ports of the run.
 */
import { resolve } from 'node:path'
import {
  checkGenerated,
  EXIT,
  type GeneratedFiles,
  loadSlos,
  runMain,
  type Slos,
  writeGenerated,
} from '@tickscope/contract'
import { Command, CommanderError } from 'commander'
import { renderAlertmanager } from './alertmanager.ts'
import { renderPrometheus } from './prometheus.ts'
import { type RuleOptions, renderRules } from './rules.ts'

const FOLDER = resolve(import.meta.dirname, '..')

/** Every generated file, by its path below the folder. */
function generatedFiles(slos: Slos, options: RuleOptions): GeneratedFiles {
  return new Map([
    ['rules/tickscope.rules.yml', renderRules(slos, options)],
    ['alertmanager.yml', renderAlertmanager({ pagerUrl: 'http://pager:9095/page', pagerTokenFile: '/token/token' })],
    [
      'prometheus.yml',
      renderPrometheus({
        collectorTarget: 'collector:9464',
        alertmanagerTarget: 'alertmanager:9093',
        rulesPath: 'rules/tickscope.rules.yml',
        collectorTokenFile: '/token/token',
      }),
    ],
  ])
}

async function main(): Promise<number> {
  const command = new Command('alerts')
    .description('Generate alert rules, Prometheus and Alertmanager configuration from the SLOs')
    .option('--config <file>', 'SLO overrides, JSON', process.env.TICKSCOPE_CONFIG)
    .option('--out <dir>', 'folder to write to', FOLDER)
    .option('--runbook-base <url>', 'prefix of runbook links')
    .option('--dashboard-url <url>', 'dashboard that pages link to')
    .option('--check', 'write nothing; exit 1 when a file is not what would be written')
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'alerts: ')) })
  try {
    command.parse()
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
    throw error
  }
  const flags = command.opts<{
    config?: string
    out: string
    runbookBase?: string
    dashboardUrl?: string
    check?: true
  }>()
  const files = generatedFiles(loadSlos(flags.config), {
    ...(flags.runbookBase !== undefined && { runbookBase: flags.runbookBase.replace(/\/+$/, '') }),
    ...(flags.dashboardUrl !== undefined && { dashboardUrl: flags.dashboardUrl }),
  })
  if (flags.check) checkGenerated(flags.out, files)
  else writeGenerated(flags.out, files)
  return EXIT.ok
}

await runMain('alerts', main)
