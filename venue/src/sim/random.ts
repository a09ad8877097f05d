/**
 * Seeded randomness. Everything the simulator draws comes from one seed through named streams, so that a second run
 * draws the same delays and the same flow, and a change in one part does not shift the draws of another.
 *
 * xoshiro128** (Blackman, Vigna 2018), seeded through splitmix32; not for anything secret.
 */
export class Random {
  readonly #state = new Uint32Array(4)
  #spareNormal = Number.NaN

  /** @param stream names the part that draws */
  constructor(seed: number, stream: string) {
    let mixed = seed >>> 0
    for (const char of stream) mixed = Math.imul(mixed ^ (char.codePointAt(0) as number), 0x01000193) >>> 0
    for (let i = 0; i < 4; i++) {
      mixed = (mixed + 0x9e3779b9) >>> 0
      let word = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b)
      word = Math.imul(word ^ (word >>> 13), 0xc2b2ae35)
      this.#state[i] = (word ^ (word >>> 16)) >>> 0
    }
    // All zero is the one state the generator never leaves.
    if (this.#state.every((word) => word === 0)) this.#state[0] = 1
  }

  /** 32 random bits. */
  bits(): number {
    const s = this.#state
    const s1 = s[1] as number
    const product = Math.imul(s1, 5)
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0
    s[2] = (s[2] as number) ^ (s[0] as number)
    s[3] = (s[3] as number) ^ s1
    s[1] = s1 ^ (s[2] as number)
    s[0] = (s[0] as number) ^ (s[3] as number)
    s[2] = (s[2] as number) ^ (s1 << 9)
    const s3 = s[3] as number
    s[3] = (s3 << 11) | (s3 >>> 21)
    return result
  }

  /** 0 ≤ x < 1, in steps of 2^-32. */
  unit(): number {
    return this.bits() / 4_294_967_296
  }

  /** A whole number, 0 … below - 1. */
  below(below: number): number {
    return Math.floor(this.unit() * below)
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T
  }

  exponential(mean: number): number {
    return -mean * Math.log(1 - this.unit())
  }

  /** Mean 0, standard deviation 1 (Marsaglia's polar method). */
  normal(): number {
    const spare = this.#spareNormal
    if (!Number.isNaN(spare)) {
      this.#spareNormal = Number.NaN
      return spare
    }
    for (;;) {
      const x = 2 * this.unit() - 1
      const y = 2 * this.unit() - 1
      const square = x * x + y * y
      if (square === 0 || square >= 1) continue
      const factor = Math.sqrt((-2 * Math.log(square)) / square)
      this.#spareNormal = y * factor
      return x * factor
    }
  }

  /** A version 4 UUID, as the venue names orders and trades. */
  uuid(): string {
    const hex = (word: number) => (word >>> 0).toString(16).padStart(8, '0')
    const b = hex((this.bits() & 0xffff0fff) | 0x4000)
    const c = hex((this.bits() & 0x3fffffff) | 0x80000000)
    return `${hex(this.bits())}-${b.slice(0, 4)}-${b.slice(4)}-${c.slice(0, 4)}-${c.slice(4)}${hex(this.bits())}`
  }
}
