/**
 * The kill switch's ways in: a file that appears, and SIGUSR2. (SIGUSR1 belongs to Node's inspector.)
 *
 * The file is looked for every `POLL_MS` rather than watched: a watch on a folder that is replaced, or on a network
 * file system, goes silent without saying so, and a kill switch that may be silent is none.
 */
import { stat } from 'node:fs'

const POLL_MS = 100

export interface KillSwitchOptions {
  /** Engaged when this exists; none when empty or left out. */
  readonly file?: string | undefined
  /** Called once, with what engaged it. */
  readonly onEngaged: (why: string) => void
}

export class KillSwitch {
  readonly #onEngaged: (why: string) => void
  readonly #file: string | undefined
  #timer: NodeJS.Timeout | undefined
  #engaged = false
  #onSignal = () => this.engage('SIGUSR2')

  constructor(options: KillSwitchOptions) {
    this.#onEngaged = options.onEngaged
    this.#file = options.file || undefined
    process.on('SIGUSR2', this.#onSignal)
    if (this.#file !== undefined) this.#look(this.#file)
  }

  engage(why: string): void {
    if (this.#engaged) return
    this.#engaged = true
    this.#onEngaged(why)
  }

  stop(): void {
    this.#engaged = true
    clearTimeout(this.#timer)
    process.off('SIGUSR2', this.#onSignal)
  }

  #look(file: string): void {
    stat(file, (error) => {
      if (this.#engaged) return
      // Only "no such file" means no. A file we may not look at is a reason to stop, not to go on.
      if (error?.code !== 'ENOENT') this.engage(error ? `file ${file}: ${error.code}` : `file ${file}`)
      else {
        this.#timer = setTimeout(() => this.#look(file), POLL_MS)
        this.#timer.unref()
      }
    })
  }
}
