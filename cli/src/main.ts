#!/usr/bin/env node
/** The `tickscope` command: one file a subcommand. */
import { addClaimsCommand, addProbeCommands, runCommandLine } from '@tickscope/probes'
import { addStartCommand } from './start.ts'

await runCommandLine('tickscope', {
  description: 'Latency observability and benchmarking for trading bots on event-contract exchanges.',
  hint: '(add --help for the commands and flags)',
  add: (program, exit) => {
    addStartCommand(program, exit)
    const probe = program.command('probe').description('One measurement of a venue or of this machine, without a bot.')
    addProbeCommands(probe, exit, {
      config: process.env.TICKSCOPE_CONFIG,
      tokenFile: process.env.TICKSCOPE_TOKEN_FILE,
    })
    addClaimsCommand(program, exit)
  },
})
