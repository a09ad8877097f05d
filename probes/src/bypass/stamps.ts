/** Where the time of a kernel UDP round trip goes, by the kernel's own stamps (SO_TIMESTAMPING). */
import { type LatencySummary, summarize } from '@tickscope/contract'
import { fromNative, type NativeHistogram, runNative } from '../native.ts'

interface StampLine {
  readonly kind: 'stamps'
  readonly mode: 'blocking' | 'spinning'
  readonly sent: number
  readonly missing: number
  readonly hardwareStamps: boolean
  readonly appToTx: NativeHistogram
  readonly txToRx: NativeHistogram
  readonly rxToApp: NativeHistogram
  readonly total: NativeHistogram
}

export interface Stamps {
  readonly mode: 'blocking' | 'spinning'
  readonly boundary: 'kernel rx→user'
  readonly clock: 'CLOCK_REALTIME'
  readonly sent: number
  /** Samples without all stamps, or with a step of the clock between them. */
  readonly missing: number
  /** Whether packets really carried stamps of the NIC. */
  readonly hardwareStamps: boolean
  /** From before the send call to the driver's transmit stamp. */
  readonly appToTx: LatencySummary
  /** From there to the receive stamp of the answer: wire and peer. */
  readonly txToRx: LatencySummary
  /** From there to the return of the receive call: wake-up and copy. */
  readonly rxToApp: LatencySummary
  readonly total: LatencySummary
}

const TIMEOUT_MS = 120_000

export async function runStamps(program: string, args: readonly string[], signal: AbortSignal): Promise<Stamps[]> {
  const result: Stamps[] = []
  const summary = (printed: NativeHistogram) => summarize(fromNative(printed))
  await runNative({
    program,
    args: ['stamps', ...args],
    timeoutMs: TIMEOUT_MS,
    signal,
    onLine: (line: StampLine) =>
      result.push({
        mode: line.mode,
        boundary: 'kernel rx→user',
        clock: 'CLOCK_REALTIME',
        sent: line.sent,
        missing: line.missing,
        hardwareStamps: line.hardwareStamps,
        appToTx: summary(line.appToTx),
        txToRx: summary(line.txToRx),
        rxToApp: summary(line.rxToApp),
        total: summary(line.total),
      }),
  })
  return result
}
