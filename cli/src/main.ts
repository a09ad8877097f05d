#!/usr/bin/env node
/** The `tickscope` command: one file a subcommand. */
import { EXIT, runMain } from '@tickscope/contract'
import { addClaimsCommand, addProbeCommands } from '@tickscope/probes'
import { Command, CommanderError } from 'commander'
import { addStartCommand } from './start.ts'

await runMain('tickscope', async () => {
  let exitCode: number = EXIT.ok
  const exit = (code: number) => {
    exitCode = code
  }
  // Set before the commands are added: they inherit it.
  const program = new Command('tickscope')
    .description('Latency observability and benchmarking for trading bots on event-contract exchanges.')
    .showHelpAfterError('(add --help for the commands and flags)')
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'tickscope: ')) })
  addStartCommand(program, exit)
  const probe = program.command('probe').description('One measurement of a venue or of this machine, without a bot.')
  addProbeCommands(probe, exit, {
    config: process.env.TICKSCOPE_CONFIG,
    tokenFile: process.env.TICKSCOPE_TOKEN_FILE,
  })
  addClaimsCommand(program, exit)
  try {
    await program.parseAsync()
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
    throw error
  }
  return exitCode
})
