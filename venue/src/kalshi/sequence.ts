/**
 * Sequence numbers of the feed: per subscription id (`sid`), all its markets together, from 1, one by one. Snapshots,
 * `ok` and `unsubscribed` take numbers too, so every message that has both fields must pass through here.
 */
export class Sequences {
  readonly #last = new Map<number, number>()

  /**
   * Takes note of a number.
   *
   * @returns whether it is the next one. If not, something was lost or came twice, and the count goes on from here
   */
  accept(sid: number, seq: number): boolean {
    const expected = (this.#last.get(sid) ?? 0) + 1
    this.#last.set(sid, seq)
    return seq === expected
  }

  /** The subscription ended; should its number come again, it starts at 1. */
  forget(sid: number): void {
    this.#last.delete(sid)
  }
}
