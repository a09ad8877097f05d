/** What the `tickscope` command and later parts use of the probes. */
export { addClaimsCommand } from './claims/command.ts'
export { addProbeCommands } from './command.ts'
export { type CommandLineOptions, runCommandLine } from './command-line.ts'
export type { ControlReport, ControlSample } from './controls.ts'
export type { Environment } from './environment.ts'
export type { Budget, Figures, Measurement, Mode, ProbeResult } from './result.ts'
export type { ProbeEnvironment } from './service.ts'
