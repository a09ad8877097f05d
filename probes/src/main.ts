#!/usr/bin/env node
/** The probes as a process of their own: `node probes/src/main.ts <probe> --url URL …`, once or with `--serve`. */
import { addProbeCommands } from './command.ts'
import { runCommandLine } from './command-line.ts'

await runCommandLine('probe', {
  description: 'Active measurements of a venue and of this machine, without a bot.',
  hint: '(probe --help lists the probes, probe <name> --help its flags)',
  add: (program, exit) =>
    addProbeCommands(program, exit, {
      config: process.env.TICKSCOPE_CONFIG,
      tokenFile: process.env.TICKSCOPE_TOKEN_FILE,
    }),
})
