/**
 * How far apart two clocks are, as an interval: without one, the age of a message is a guess, and none is shown.
 *
 * A bound may be vouched for (both sides keep to NTP or PTP), or measured against the venue's `Date` header. That header
 * has whole seconds, so a single answer says little; but the interval of every answer holds, so they are intersected, and
 * each further request is aimed at the venue's next full second as far as it is known: every answer halves the interval,
 * down to about the round trip. Assumed, and said in the result: the clock behind `Date` is the one behind the feed's
 * timestamps, and the header is at most `DATE_LATE_MS` old.
 */
import { once } from 'node:events'
import { Agent as HttpAgent, type IncomingMessage, request as requestHttp } from 'node:http'
import { Agent as HttpsAgent, request as requestHttps } from 'node:https'
import { setTimeout as wait } from 'node:timers/promises'
import { REST_BASE_PATH } from '@tickscope/venue/kalshi'

/** Servers write a cached date and refresh it by a timer once a second; a busy one is late, ms. */
const DATE_LATE_MS = 10
/** Halvings: from a second to 2 ms in nine. */
const TRIPS_MAX = 10
const TRIP_TIMEOUT_MS = 5_000
/** Ticks of the wall clock looked at, each up to 1 ms of turning; the sharpest counts. */
const TICKS = 3

/** What is to be added to this machine's wall clock to get the venue's, ms, and how wrong that may be. */
export interface ClockOffset {
  readonly offsetMs: number
  readonly boundMs: number
  readonly method: string
}

/** The wall clock (CLOCK_REALTIME) of an instant of `performance.now()`, to microseconds where `Date.now()` has whole ms. */
export class WallClock {
  #epochLessMonotonicMs = 0
  /** How wrong it may be. */
  errorMs = 0

  constructor() {
    this.calibrate()
  }

  epochMs(monotonicMs: number): number {
    return monotonicMs + this.#epochLessMonotonicMs
  }

  /** Follows the wall clock, which NTP steers. Turns for up to 3 ms. */
  calibrate(): void {
    let sharpestMs = Number.POSITIVE_INFINITY
    for (let tick = 0; tick < TICKS; tick++) {
      const startedAt = Date.now()
      let beforeMs = performance.now()
      let now = Date.now()
      while (now === startedAt) {
        beforeMs = performance.now()
        now = Date.now()
      }
      const afterMs = performance.now()
      if (afterMs - beforeMs >= sharpestMs) continue
      sharpestMs = afterMs - beforeMs
      this.#epochLessMonotonicMs = now - (beforeMs + afterMs) / 2
      this.errorMs = sharpestMs / 2
    }
  }
}

/** All that is known of venue clock minus this machine's, ms: it lies between the two. */
export interface OffsetInterval {
  readonly fromMs: number
  readonly toMs: number
}

/**
 * What one answer says.
 *
 * @param dateMs the header's whole second, epoch ms
 * @param sentAtMs and `readAtMs`: the request left and the answer was there, this machine's wall clock
 */
export function intervalOf(dateMs: number, sentAtMs: number, readAtMs: number): OffsetInterval {
  return { fromMs: dateMs - readAtMs, toMs: dateMs + 1_000 + DATE_LATE_MS - sentAtMs }
}

/** @returns undefined when they contradict each other */
export function intersect(a: OffsetInterval, b: OffsetInterval): OffsetInterval | undefined {
  const both = { fromMs: Math.max(a.fromMs, b.fromMs), toMs: Math.min(a.toMs, b.toMs) }
  return both.fromMs > both.toMs ? undefined : both
}

/** @returns the offset, or why there is none, as one clause */
export async function measureOffset(
  origin: string,
  clock: WallClock,
  { ca, signal }: { readonly ca: string | undefined; readonly signal: AbortSignal },
): Promise<ClockOffset | string> {
  const tls = origin.startsWith('https:')
  const keepAlive = { keepAlive: true, maxSockets: 1 }
  const agent = tls ? new HttpsAgent({ ...keepAlive, ...(ca === undefined ? {} : { ca }) }) : new HttpAgent(keepAlive)
  try {
    let known: OffsetInterval | undefined
    let tripMs = 0
    let trips = 0
    for (; trips < TRIPS_MAX; trips++) {
      if (known !== undefined) {
        if (known.toMs - known.fromMs < tripMs + DATE_LATE_MS + 1) break
        const middleMs = (known.fromMs + known.toMs) / 2
        const venueMs = clock.epochMs(performance.now()) + middleMs + tripMs / 2
        await wait(1_000 - (venueMs % 1_000), undefined, { signal })
      }
      const sentMs = performance.now()
      const request = (tls ? requestHttps : requestHttp)(`${origin}${REST_BASE_PATH}/exchange/status`, {
        agent,
        signal: AbortSignal.any([signal, AbortSignal.timeout(TRIP_TIMEOUT_MS)]),
      })
      request.end()
      const [answer] = (await once(request, 'response')) as [IncomingMessage]
      const readMs = performance.now()
      answer.resume()
      await once(answer, 'end')
      const dateMs = Date.parse(String(answer.headers.date))
      if (Number.isNaN(dateMs)) return `${origin} sends no Date header`
      const said = intervalOf(dateMs, clock.epochMs(sentMs), clock.epochMs(readMs))
      known = known === undefined ? said : intersect(known, said)
      if (known === undefined) return `the Date headers of ${origin} contradict each other`
      tripMs = tripMs === 0 ? readMs - sentMs : Math.min(tripMs, readMs - sentMs)
    }
    const { fromMs, toMs } = known as OffsetInterval
    return {
      offsetMs: (fromMs + toMs) / 2,
      boundMs: (toMs - fromMs) / 2,
      method: `measured in ${trips} round trips against the Date header of ${origin}, taken for the feed's clock`,
    }
  } catch (error) {
    return `the clock of ${origin} could not be measured: ${(error as Error).message}`
  } finally {
    agent.destroy()
  }
}
