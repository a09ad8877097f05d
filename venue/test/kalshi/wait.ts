/** Waiting for events of real sockets, with a deadline instead of a sleep. */

/** Far above what any test needs on a busy machine. */
const DEADLINE_MS = 10_000

/** Polls until `read` gives something true. */
export async function until<T>(what: string, read: () => T): Promise<NonNullable<T>> {
  const deadlineMs = performance.now() + DEADLINE_MS
  for (;;) {
    const value = read()
    if (value) return value as NonNullable<T>
    if (performance.now() > deadlineMs) throw new Error(`waited ${DEADLINE_MS} ms in vain for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}
