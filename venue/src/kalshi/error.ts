/**
 * What can go wrong on this wire: `WireError` for text that is not what the venue's documents promise, `VenueError`
 * for a refusal in the venue's own words.
 *
 * The venue answers errors in four shapes (nested, flat, bare `msg`, plain string); all four become one `VenueError`.
 * Its codes are matched loosely: they have changed without notice.
 */

/** Longest piece of somebody else's text repeated in a message of ours, UTF-16 code units. */
const QUOTE_MAX = 200

/** Malformed wire text. A retry of the same text cannot help. */
export class WireError extends Error {
  readonly code = 'WIRE_INVALID'

  constructor(message: string) {
    super(message)
    this.name = 'WireError'
  }
}

/** @returns text of the other side, cut and in quotes, fit for a message of ours */
export function quote(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value))
  return `'${text.length > QUOTE_MAX ? `${text.slice(0, QUOTE_MAX)}…` : text}'`
}
