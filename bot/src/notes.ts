/**
 * Sentences for people, on stderr, sparingly: a cause that repeats a hundred times a second is told once in a while,
 * with the number of times it was not.
 */

/** A sentence is not repeated within this time, ms. */
const REPEAT_MS = 10_000
/** Different sentences in one such time; more are only counted. */
const SENTENCES_MAX = 20

export class Notes {
  readonly #write: (message: string) => void
  readonly #said = new Set<string>()
  #withheld = 0
  #timer: NodeJS.Timeout

  constructor(write: (message: string) => void = (message) => process.stderr.write(`bot: ${message}\n`)) {
    this.#write = write
    this.#timer = setInterval(() => this.#forget(), REPEAT_MS)
    this.#timer.unref()
  }

  say(message: string): void {
    if (this.#said.has(message) || this.#said.size >= SENTENCES_MAX) {
      this.#withheld++
      return
    }
    this.#said.add(message)
    this.#write(message)
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#forget()
  }

  #forget(): void {
    this.#said.clear()
    if (this.#withheld > 0) this.#write(`${this.#withheld} further notes withheld`)
    this.#withheld = 0
  }
}
