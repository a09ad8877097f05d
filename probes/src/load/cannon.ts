/**
 * autocannon's connections, fired by our schedule and timed by our clock.
 *
 * Why not its own rate: autocannon sends a second's worth of requests at once, then waits; and what it calls a correction
 * for coordinated omission takes every expected interval for 1 ms (`lib/run.js` passes `1 / rate`, seconds, beside a
 * latency in ms), so a server that always answers in 50 ms shows a median of 27. So only its clients are used: they
 * open connections, write requests, read answers, reconnect. The two calls in which a client sends by itself
 * (`_doRequest`, after connecting and after each answer) make the connection idle instead, and the schedule calls the
 * original when it says so. Its histograms are thrown away.
 *
 * A shot whose instant has come while every connection is busy waits for one, in order; that wait is the target's (or of
 * too few connections), so it is a series of its own and counts in the response time.
 *
 * Certificates are not checked: autocannon fixes that. So a load carries no key.
 *
 * The version is pinned, because `_doRequest` and `_connect` are not promised; the tests fail should they change.
 */
import autocannon from 'autocannon'
import { nowNs } from '../clock.ts'

/** Seconds, below the 2^31 ms that a timer can wait: autocannon ends nothing on its own. */
const NEVER_SECONDS = 2_000_000
/** How often autocannon looks whether it was stopped, ms. */
const SAMPLE_MS = 100
/** Between two attempts to connect that failed; autocannon has none. */
const RECONNECT_MS = 100
/** Longest wait for the first connections. */
const OPEN_TIMEOUT_MS = 5_000

/** What became of one request, instants in ns on the probe's clock. */
export interface Shot {
  /** `abandoned`: ended by the probe itself. */
  readonly outcome: 'answered' | 'timeout' | 'error' | 'abandoned'
  readonly reason: string | undefined
  readonly status: number
  /** Its connection was free and its bytes were written. */
  readonly sentAtNs: number
  /** The end of the answer's header fields was read from the socket. */
  readonly headAtNs: number
  /** The last byte of the answer was read from the socket; what parsing it takes is not the target's. */
  readonly endedAtNs: number
}

export interface Cannon {
  /** Connections open now. */
  readonly open: number
  /** Why the latest connection failed. */
  readonly failure: string | undefined
  /** Sends one request as soon as a connection is free. Never rejects. */
  fire(): Promise<Shot>
  /** Ends every request in flight as `abandoned`. */
  abandon(): void
  stop(): Promise<void>
}

interface Pending {
  readonly resolve: (shot: Shot) => void
  readonly timer: NodeJS.Timeout
  barrel: Barrel | undefined
  sentAtNs: number
  headAtNs: number
}

/** One client and what it is doing. */
interface Barrel {
  readonly client: autocannon.Client
  readonly shoot: () => void
  pending: Pending | undefined
  isOpen: boolean
  /** When its latest bytes were read. */
  readAtNs: number
}

export interface CannonOptions {
  readonly url: string
  readonly connections: number
  /** From `fire` to the whole answer, the wait for a connection included. */
  readonly timeoutMs: number
}

/** Resolves when all connections are open or were refused, after five seconds at the latest. */
export async function createCannon({ url, connections, timeoutMs }: CannonOptions): Promise<Cannon> {
  const barrels: Barrel[] = []
  /** Open and without a request, longest idle first. */
  const idle = new Set<Barrel>()
  const waiting = new Set<Pending>()
  let failure: string | undefined
  let stopped = false
  /** Connections that failed at first. */
  let refused = 0
  const opened = Promise.withResolvers<void>()

  const settle = (
    pending: Pending,
    outcome: Shot['outcome'],
    reason: string | undefined,
    status = 0,
    endedAtNs = nowNs(),
  ) => {
    clearTimeout(pending.timer)
    waiting.delete(pending)
    if (pending.barrel !== undefined) pending.barrel.pending = undefined
    pending.barrel = undefined
    const { sentAtNs, headAtNs } = pending
    pending.resolve({ outcome, reason, status, sentAtNs, headAtNs, endedAtNs })
  }
  const launch = (barrel: Barrel, pending: Pending) => {
    idle.delete(barrel)
    waiting.delete(pending)
    barrel.pending = pending
    pending.barrel = barrel
    pending.sentAtNs = nowNs()
    barrel.shoot()
  }
  /** The connection can take a request. */
  const ready = (barrel: Barrel) => {
    if (stopped) return
    barrel.isOpen = true
    const [next] = waiting
    if (next !== undefined) return launch(barrel, next)
    idle.add(barrel)
    if (idle.size === connections) opened.resolve()
  }

  const setupClient = (client: autocannon.Client) => {
    const { _doRequest: shoot, _connect: connect } = client
    const barrel: Barrel = { client, shoot: () => shoot.call(client), pending: undefined, isOpen: false, readAtNs: 0 }
    barrels.push(barrel)
    let failures = 0
    /** Of the connection at hand. */
    let error: string | undefined
    client._doRequest = () => {
      const { conn } = client
      if (!conn.connecting && barrel.isOpen) return ready(barrel)
      conn.once(client.secure ? 'secureConnect' : 'connect', () => {
        if (client.conn !== conn) return
        failures = 0
        error = undefined
        ready(barrel)
      })
    }
    client._connect = () => {
      idle.delete(barrel)
      barrel.isOpen = false
      // What it knew of the connection that ended must not be taken for part of the next one's answer.
      client.pipelinedRequests.clear()
      client.parser.reinitialize('RESPONSE')
      if (barrel.pending !== undefined) settle(barrel.pending, 'error', error ?? 'CLOSED')
      const open = () => {
        if (client.destroyed || stopped) return
        connect.call(client)
        client.conn.prependListener('data', () => {
          barrel.readAtNs = nowNs()
        })
      }
      if (failures > 0) setTimeout(open, RECONNECT_MS)
      else open()
    }
    client.on('headers', () => {
      if (barrel.pending !== undefined) barrel.pending.headAtNs = barrel.readAtNs
    })
    client.on('response', (status: number) => {
      if (barrel.pending !== undefined) settle(barrel.pending, 'answered', undefined, status, barrel.readAtNs)
    })
    client.on('connError', ({ code = 'SOCKET' }: NodeJS.ErrnoException) => {
      failures++
      error = failure = code.slice(0, 48)
      if (failures === 1 && idle.size + ++refused >= connections) opened.resolve()
    })
  }
  const ended = Promise.withResolvers<void>()
  const cannon = autocannon(
    {
      url,
      connections,
      duration: NEVER_SECONDS,
      timeout: NEVER_SECONDS,
      sampleInt: SAMPLE_MS,
      headers: { 'user-agent': 'tickscope-probe', accept: '*/*' },
      setupClient,
    },
    () => ended.resolve(),
  )
  const timer = setTimeout(() => opened.resolve(), OPEN_TIMEOUT_MS)
  await opened.promise
  clearTimeout(timer)
  failure = idle.size > 0 ? undefined : (failure ?? 'TIMEOUT')

  const abandon = () => {
    const busy = barrels.flatMap(({ pending }) => pending ?? [])
    for (const pending of [...waiting, ...busy]) settle(pending, 'abandoned', undefined)
  }
  return {
    get open() {
      return barrels.filter(({ isOpen }) => isOpen).length
    },
    get failure() {
      return failure
    },
    fire: () =>
      new Promise((resolve) => {
        const pending: Pending = {
          resolve,
          timer: setTimeout(() => {
            const { barrel } = pending
            settle(pending, 'timeout', 'TIMEOUT')
            barrel?.client._resetConnection()
          }, timeoutMs),
          barrel: undefined,
          sentAtNs: 0,
          headAtNs: 0,
        }
        waiting.add(pending)
        const [barrel] = idle
        if (barrel !== undefined) launch(barrel, pending)
      }),
    abandon,
    async stop() {
      stopped = true
      abandon()
      cannon.stop()
      await ended.promise
    },
  }
}
