/**
 * The probes' one clock: `performance.now()` of this process (CLOCK_MONOTONIC; steps of 40 ns where the kernel's
 * clocksource is the TSC). Instants are integer ns since process start, exact for 104 days; a read costs about 60 ns.
 */

/** Named in every result, so that figures of different clocks are never put side by side unawares. */
export const CLOCK = 'performance.now() (CLOCK_MONOTONIC)'

export function nowNs(): number {
  return Math.round(performance.now() * 1e6)
}
