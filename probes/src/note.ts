/** What a probe tells people while it runs: one line at a time, on stderr, and bounded when it runs for weeks. */
import { nowNs } from './clock.ts'

/** Lines that may come at once; then one each `REFILL_NS`. */
const BURST = 20
const REFILL_NS = 10e9

/** @returns a writer to stderr, bounded for a service */
export function createNotes(probe: string, serve: boolean): (line: string) => void {
  const write = (line: string) => void process.stderr.write(`${probe}: ${line}\n`)
  return serve ? boundedNotes(write) : write
}

/** @returns a writer that leaves lines out when there are too many, and says how many with the next one */
export function boundedNotes(write: (line: string) => void, now: () => number = nowNs): (line: string) => void {
  let room = BURST
  let filledAtNs = now()
  let leftOut = 0
  return (line) => {
    const refills = Math.floor((now() - filledAtNs) / REFILL_NS)
    room = Math.min(BURST, room + refills)
    filledAtNs += refills * REFILL_NS
    if (room === 0) {
      leftOut++
      return
    }
    room--
    write(leftOut === 0 ? line : `${line} (${leftOut} lines before this one left out)`)
    leftOut = 0
  }
}
