#!/usr/bin/env node
/** The probes as a process of their own: `node probes/src/main.ts <probe> --url URL …`, once or with `--serve`. */
import { EXIT, runMain } from '@tickscope/contract'
import { Command, CommanderError } from 'commander'
import { addProbeCommands } from './command.ts'

await runMain('probe', async () => {
  let exitCode: number = EXIT.ok
  const program = new Command('probe')
    .description('Active measurements of a venue and of this machine, without a bot.')
    .showHelpAfterError('(probe --help lists the probes, probe <name> --help its flags)')
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'probe: ')) })
  addProbeCommands(program, (code) => (exitCode = code), {
    config: process.env.TICKSCOPE_CONFIG,
    tokenFile: process.env.TICKSCOPE_TOKEN_FILE,
  })
  try {
    await program.parseAsync()
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
    throw error
  }
  return exitCode
})
