/** Durations as people type and read them: `500ns`, `250us`, `40ms`, `10s`, `5m`. */
import { UserError } from './process.ts'

const UNIT_MS = { ns: 1e-6, us: 1e-3, ms: 1, s: 1e3, m: 6e4, h: 3.6e6 } as const

/**
 * @param what named in the error, e.g. `--for`
 * @returns milliseconds, > 0, at most a week
 * @throws UserError `DURATION_INVALID`
 */
export function parseDurationMs(text: string, what: string): number {
  const match = /^(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)$/.exec(text)
  const ms = match ? Number(match[1]) * UNIT_MS[match[2] as keyof typeof UNIT_MS] : Number.NaN
  if (!(ms > 0 && ms <= 7 * 24 * 3.6e6))
    throw new UserError(
      'DURATION_INVALID',
      `${what} is '${text}', not a duration above 0 and up to 168h such as 250us, 40ms, 10s or 5m`,
    )
  return ms
}

/** Nanoseconds for people: three significant digits and the unit that fits, e.g. `812 ns`, `4.21 ms`. */
export function formatNs(ns: number): string {
  if (!Number.isFinite(ns)) return '-'
  const [value, unit] =
    ns < 1e3 ? [ns, 'ns'] : ns < 1e6 ? [ns / 1e3, 'µs'] : ns < 1e9 ? [ns / 1e6, 'ms'] : [ns / 1e9, 's']
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2
  return `${unit === 'ns' ? Math.round(value) : value.toFixed(digits)} ${unit}`
}
