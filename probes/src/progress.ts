/** A progress bar on stderr, for people who wait: only on a terminal, and only when the run is worth one. */

/** Runs shorter than this are over before a bar is read, ms. */
const SHOWN_FROM_MS = 2_000
const WIDTH = 30

export interface Progress {
  /** @param ratio of the run that is over, 0 … 1 */
  show(ratio: number): void
  /** Removes the bar. */
  end(): void
}

export function startProgress(name: string, durationMs: number, stream: NodeJS.WriteStream = process.stderr): Progress {
  if (!stream.isTTY || !Number.isFinite(durationMs) || durationMs < SHOWN_FROM_MS) return { show() {}, end() {} }
  return {
    show(ratio) {
      const filled = Math.round(ratio * WIDTH)
      const leftSeconds = Math.ceil(((1 - ratio) * durationMs) / 1000)
      const bar = `${'█'.repeat(filled)}${'░'.repeat(WIDTH - filled)}`
      stream.write(`\r\u001b[K${name} ${bar} ${Math.round(ratio * 100)} %, ${leftSeconds} s left`)
    },
    end() {
      stream.write('\r\u001b[K')
    },
  }
}
