/**
 * What a probe that times requests to a target is to the frame around it (`command.ts`): its flags, and a run. A new one
 * is one file and one line there.
 */
import type { Slos } from '@tickscope/contract'
import type { Command } from 'commander'
import type { Reporter } from './reporter.ts'
import type { Measurement } from './result.ts'

/** Flags every such probe has. */
export interface CommonOptions {
  readonly url: string
  /** Requests per second; the probe's default when left out. */
  readonly rate?: number
}

/** What the frame gives a run. */
export interface ProbeContext {
  /** Length of the schedule, ms; `Infinity` for a service. */
  readonly durationMs: number
  /** A service keeps trying where a single run gives up. */
  readonly serve: boolean
  /** Aborted when the run should end early. */
  readonly signal: AbortSignal
  readonly slos: Slos
  readonly reporter: Reporter
  /** Called once, right before the first measured request: a good moment for what must not disturb it. */
  readonly measuring: () => void
  /** One line for people. */
  readonly note: (line: string) => void
  /** @param ratio of the run that is over */
  readonly progress: (ratio: number) => void
}

export interface LatencyProbe<Options extends CommonOptions> {
  readonly name: string
  readonly description: string
  /** What flags of the probe stand for when `--url` or `--venue` is left out. */
  defaults?(options: Options): { readonly url?: string; readonly venue?: string }
  /** Adds the probe's own flags and examples. */
  configure(command: Command): void
  /**
   * @throws UserError at once when an option is wrong, so that a service is never ready with it; as a rejection when the
   *   target cannot be measured at all
   */
  run(options: Options, context: ProbeContext): Promise<Measurement>
}
