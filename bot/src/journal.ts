/**
 * The bot's own record of what it did: one JSON line for each change of an order and each fill, appended to a file.
 *
 * Kept off the hot path: `write` only remembers an object; lines are made and appended every `FLUSH_MS` by the event
 * loop's thread pool. Promises order, not durability: a crash loses the last `FLUSH_MS`; the venue and the collector
 * hold what counts. When the disk cannot keep up, lines beyond `QUEUE_MAX` are dropped and counted.
 */
import { closeSync, openSync, write } from 'node:fs'
import { promisify } from 'node:util'
import { EXIT, UserError } from '@tickscope/contract'

const FLUSH_MS = 50
/** About ten minutes of a busy bot, some 10 MB of objects. */
const QUEUE_MAX = 65_536
/** Lines joined for one write. */
const LINES_PER_WRITE = 1024

const writeFd = promisify(write)

export interface JournalEntry {
  /** Wall clock, epoch ms. */
  readonly atMs: number
  readonly event: string
  readonly [field: string]: unknown
}

export class Journal {
  dropped = 0
  written = 0
  readonly #path: string
  readonly #fd: number
  #queue: JournalEntry[] = []
  #timer: NodeJS.Timeout
  #flushing: Promise<void> | undefined
  #failed = ''

  /** @throws UserError `JOURNAL_UNWRITABLE` when the file cannot be opened for appending */
  constructor(path: string) {
    this.#path = path
    try {
      this.#fd = openSync(path, 'a', 0o600)
    } catch (error) {
      throw new UserError(
        'JOURNAL_UNWRITABLE',
        `journal ${path} cannot be opened for appending: ${(error as NodeJS.ErrnoException).code}`,
        EXIT.environment,
      )
    }
    this.#timer = setInterval(() => void this.#flush(), FLUSH_MS)
    this.#timer.unref()
  }

  /** Why the last write failed, empty when none did. */
  get failed(): string {
    return this.#failed
  }

  write(entry: JournalEntry): void {
    if (this.#queue.length >= QUEUE_MAX) this.dropped++
    else this.#queue.push(entry)
  }

  /** Writes what is queued and closes the file. */
  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#flushing
    await this.#flush()
    closeSync(this.#fd)
  }

  /** One flush at a time, so that lines stay in order. */
  #flush(): Promise<void> {
    this.#flushing ??= this.#drain().finally(() => {
      this.#flushing = undefined
    })
    return this.#flushing
  }

  async #drain(): Promise<void> {
    while (this.#queue.length > 0) {
      const entries = this.#queue.splice(0, LINES_PER_WRITE)
      const bytes = Buffer.from(`${entries.map((entry) => JSON.stringify(entry)).join('\n')}\n`)
      try {
        let offset = 0
        while (offset < bytes.length) offset += (await writeFd(this.#fd, bytes, offset)).bytesWritten
        this.written += entries.length
      } catch (error) {
        this.dropped += entries.length
        if (this.#failed === '') {
          this.#failed = (error as NodeJS.ErrnoException).code ?? String(error)
          process.stderr.write(`bot: journal ${this.#path} cannot be written: ${this.#failed}\n`)
        }
      }
    }
  }
}
