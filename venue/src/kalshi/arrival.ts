/**
 * When the first byte of each WebSocket message was read from the socket.
 *
 * A WebSocket library hands over a message when its last byte is there; a message that straddles two reads has waited
 * since the first. So this walks the framing (RFC 6455 §5.2) of the same bytes beside the library, in a listener that
 * runs before the library's: 2 bytes, then 0, 2 or 8 bytes of length, then the payload, skipped. Control frames and
 * continuations start no message.
 *
 * `take()` then gives the instants in message order. One entry per socket read, not per message: all messages that
 * start in one read share its instant. Costs some 10 ns a frame, allocates nothing.
 */

/** Reads with messages not yet taken. The library takes all whole messages of a read before the next: two would do. */
const ENTRIES = 64

const TEXT = 1
const BINARY = 2

/** Longest frame header: 2 bytes, 8 of length, 4 of mask. */
const HEADER_MAX_BYTES = 14

export class Arrivals {
  readonly #atMs = new Float64Array(ENTRIES)
  readonly #messages = new Uint32Array(ENTRIES)
  #newest = 0
  #oldest = 0
  readonly #header = new Uint8Array(HEADER_MAX_BYTES)
  #headerBytes = 0
  /** When the first byte of the header at hand was read. */
  #startedAtMs = 0
  /** Payload of the frame at hand still to come. */
  #payloadLeft = 0

  /** Notes bytes read from the socket at `atMs`, all of the stream after the upgrade, in order. */
  note(chunk: Uint8Array, atMs: number): void {
    const header = this.#header
    let at = 0
    while (at < chunk.length) {
      if (this.#payloadLeft > 0) {
        const skipped = Math.min(this.#payloadLeft, chunk.length - at)
        this.#payloadLeft -= skipped
        at += skipped
        continue
      }
      if (this.#headerBytes === 0) this.#startedAtMs = atMs
      header[this.#headerBytes++] = chunk[at++] as number
      if (this.#headerBytes < 2) continue
      const second = header[1] as number
      const length7 = second & 0x7f
      const lengthBytes = length7 === 126 ? 2 : length7 === 127 ? 8 : 0
      if (this.#headerBytes < 2 + lengthBytes + (second & 0x80 ? 4 : 0)) continue
      this.#headerBytes = 0
      let length = lengthBytes === 0 ? length7 : 0
      for (let index = 2; index < 2 + lengthBytes; index++) length = length * 256 + (header[index] as number)
      this.#payloadLeft = length
      const opcode = (header[0] as number) & 0x0f
      if (opcode === TEXT || opcode === BINARY) this.#push(this.#startedAtMs)
    }
  }

  /** @returns `performance.now()` of the read that brought the first byte of the next message; of the last read once out of messages */
  take(): number {
    const oldest = this.#oldest
    const left = this.#messages[oldest] as number
    if (left > 0) this.#messages[oldest] = left - 1
    if (left <= 1 && oldest !== this.#newest) this.#oldest = (oldest + 1) % ENTRIES
    return this.#atMs[oldest] as number
  }

  #push(atMs: number): void {
    const newest = this.#newest
    const messages = this.#messages[newest] as number
    if (messages === 0) {
      this.#atMs[newest] = atMs
      this.#messages[newest] = 1
      return
    }
    const next = (newest + 1) % ENTRIES
    // Out of entries, messages count for the read before theirs: they look older than they are, never younger.
    if (this.#atMs[newest] === atMs || next === this.#oldest) {
      this.#messages[newest] = messages + 1
      return
    }
    this.#newest = next
    this.#atMs[next] = atMs
    this.#messages[next] = 1
  }
}
