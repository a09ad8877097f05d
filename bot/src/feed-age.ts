/**
 * Whether market data is old when it arrives: a feed that was held back, or a process that could not read, delivers
 * minutes of past in a moment, and none of it is the market any more.
 *
 * Age is the arrival on our clock less the venue's timestamp. The clocks are not the same, so only the excess over the
 * smallest age seen counts. That floor follows clocks that drift apart by up to 1 ms a second, hundreds of times what
 * quartz does; a feed that stays late is therefore forgiven in time, not at once. One subtraction and a compare.
 */

/** How fast the floor rises, ms a ms. */
const DRIFT_RATIO = 1e-3

export class FeedAge {
  readonly #maxMs: number
  readonly #originMs: number
  #floorMs = Number.POSITIVE_INFINITY
  #floorAtMs = 0

  /**
   * @param maxMs excess age above which data is late
   * @param originMs epoch ms of our clock's zero
   */
  constructor(maxMs: number, originMs: number) {
    this.#maxMs = maxMs
    this.#originMs = originMs
  }

  /** @param tsMs venue's time, epoch ms, and `receivedAtMs` when the message was read, on our clock */
  isLate(tsMs: number, receivedAtMs: number): boolean {
    const ageMs = this.#originMs + receivedAtMs - tsMs
    const floorMs = this.#floorMs + (receivedAtMs - this.#floorAtMs) * DRIFT_RATIO
    if (ageMs < floorMs) {
      this.#floorMs = ageMs
      this.#floorAtMs = receivedAtMs
      return false
    }
    return ageMs - floorMs > this.#maxMs
  }
}
