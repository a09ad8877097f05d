#!/usr/bin/env node
/** The `tickscope` command: one file a subcommand. */
import { EXIT, runMain } from '@tickscope/contract'
import { Command, CommanderError } from 'commander'
import { startCommand } from './start.ts'

await runMain('tickscope', async () => {
  let exitCode: number = EXIT.ok
  const program = new Command('tickscope')
    .description('Latency observability and benchmarking for trading bots on event-contract exchanges.')
    .showHelpAfterError('(tickscope --help lists the commands and flags)')
  program.addCommand(startCommand((code) => (exitCode = code)))
  for (const command of [program, ...program.commands]) {
    command
      .exitOverride()
      .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'tickscope: ')) })
  }
  try {
    await program.parseAsync()
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
    throw error
  }
  return exitCode
})
