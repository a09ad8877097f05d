/**
 * Ships batches to the collector so that each is applied exactly once and none is lost.
 *
 * One batch is frozen and in flight; the same bytes are sent until they are acknowledged, and everything recorded
 * meanwhile merges into the next one. So an outage of any length costs one batch of memory and no count. A collector that
 * refuses a batch (4xx but 408 and 429) is told nothing twice: the batch is counted as refused, said once, and the next
 * goes on. Costs nothing on the bot's thread unless the drain is inline.
 */
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import type { Socket } from 'node:net'
import { nowMs } from './clock.ts'
import { listSpilled, readSpilled, removeSpilled, type SpilledBatch, spill } from './spill.ts'

/** A batch as it goes over the wire, until acknowledged. */
export interface FrozenBatch {
  readonly sequence: number
  readonly endMs: number
  readonly body: Buffer
}

export interface ShipperOptions {
  readonly collectorUrl: string
  readonly token: string | undefined
  readonly epoch: string
  readonly requestTimeoutMs: number
  readonly spillDir: string | undefined
  /** Whether sockets may keep the process alive before `stop`: false for an inline drain. */
  readonly holdProcess: boolean
  /** Freezes what was recorded since the last batch; `more` when not all of it fitted. */
  readonly freeze: (sequence: number) => Promise<{ batch: FrozenBatch; more: boolean }>
  readonly log: (message: string) => void
}

export interface ShipperResult {
  /** Everything frozen was acknowledged, and nothing refused. */
  readonly acknowledged: boolean
  /** Batches acknowledged. */
  readonly batches: number
  /** Batches the collector refused. */
  readonly refused: number
  /** Batches written to the spill directory. */
  readonly spilled: number
}

const BACKOFF_FIRST_MS = 100
const BACKOFF_MAX_MS = 1_000
/** A collector may ask for a longer pause than ours, up to this. */
const RETRY_AFTER_MAX_MS = 30_000
/** Bytes of an answer that are read, for the log. */
const ANSWER_BYTES_MAX = 4_096

type Answer =
  | { readonly kind: 'acknowledged' }
  | { readonly kind: 'refused'; readonly reason: string }
  | { readonly kind: 'retry'; readonly reason: string; readonly afterMs: number }

export class Shipper {
  readonly #options: ShipperOptions
  readonly #url: URL
  readonly #agent: HttpAgent | HttpsAgent
  #sequence = 1
  #frozen: FrozenBatch | undefined
  readonly #spilled: string[]
  #running: Promise<void> | undefined
  /** An interval ended while a batch was in flight. */
  #due = false
  #batches = 0
  #refused = 0
  #away = false
  #stopping = false
  /** `nowMs` after which nothing is sent any more. */
  #deadlineMs = Number.POSITIVE_INFINITY
  #wake: (() => void) | undefined
  #socket: Socket | undefined

  constructor(options: ShipperOptions) {
    this.#options = options
    this.#url = new URL(`${options.collectorUrl}/v1/batches`)
    const Agent = this.#url.protocol === 'https:' ? HttpsAgent : HttpAgent
    this.#agent = new Agent({ keepAlive: true, maxSockets: 1 })
    this.#spilled = options.spillDir === undefined ? [] : listSpilled(options.spillDir)
  }

  /** An interval has ended: its batch goes now, or merges behind the one in flight. */
  interval(): void {
    this.#due = true
    this.#start()
  }

  /** Ships what is left until it is acknowledged or the time is over; then spills what is not. */
  async stop(timeoutMs: number): Promise<ShipperResult> {
    this.#stopping = true
    this.#deadlineMs = nowMs() + timeoutMs
    this.#due = true
    this.#socket?.ref()
    this.#wake?.()
    // More than once: a run that was just ending may not have seen that another batch is due.
    while (this.#running !== undefined || (this.#due && nowMs() < this.#deadlineMs)) {
      this.#start()
      await this.#running
    }
    this.#agent.destroy()
    const left = this.#frozen === undefined ? [] : [this.#frozen]
    while (this.#due) left.push(await this.#freeze(this.#sequence + left.length))
    return {
      acknowledged: left.length === 0 && this.#refused === 0 && this.#spilled.length === 0,
      batches: this.#batches,
      refused: this.#refused,
      spilled: this.#spill(left),
    }
  }

  #start(): void {
    this.#running ??= this.#run()
      .catch((error: Error) => this.#options.log(`shipping failed: ${error.message}`))
      .finally(() => {
        this.#running = undefined
      })
  }

  /** Sends until nothing is due, or until the deadline. */
  async #run(): Promise<void> {
    let backoffMs = BACKOFF_FIRST_MS
    while (nowMs() < this.#deadlineMs) {
      const restored = this.#frozen === undefined ? this.#restored() : undefined
      if (this.#frozen === undefined && restored === undefined) {
        if (!this.#due) return
        this.#frozen = await this.#freeze(this.#sequence)
      }
      const body = restored?.body ?? (this.#frozen as FrozenBatch).body
      const answer = await this.#post(body)
      if (answer.kind === 'retry') {
        // Not the first time: a connection that was closed while idle is no news.
        if (backoffMs > BACKOFF_FIRST_MS) this.#report(answer.reason)
        await this.#sleep(Math.max(backoffMs * (0.8 + Math.random() * 0.4), answer.afterMs))
        backoffMs = Math.min(backoffMs * 2, BACKOFF_MAX_MS)
        continue
      }
      backoffMs = BACKOFF_FIRST_MS
      this.#settle(answer, restored)
    }
  }

  /** What becomes due while a batch is being frozen goes with the next. */
  async #freeze(sequence: number): Promise<FrozenBatch> {
    this.#due = false
    const { batch, more } = await this.#options.freeze(sequence)
    this.#due ||= more
    return batch
  }

  #restored(): SpilledBatch | undefined {
    while (this.#spilled.length > 0) {
      const batch = readSpilled(this.#spilled[0] as string)
      if (batch !== undefined) return batch
      this.#options.log(`spilled batch ${this.#spilled.shift()} cannot be read and is left there`)
    }
    return undefined
  }

  #settle(answer: Exclude<Answer, { kind: 'retry' }>, restored: SpilledBatch | undefined): void {
    if (answer.kind === 'acknowledged') {
      this.#batches++
      if (this.#away) this.#options.log(`collector ${this.#options.collectorUrl} takes batches again`)
    } else {
      this.#refused++
      // Said once: the reason is nearly always the same, and a bot's log is not the place to repeat it each second.
      if (this.#refused === 1)
        this.#options.log(`collector ${this.#options.collectorUrl} refused a batch: ${answer.reason}`)
    }
    this.#away = false
    if (restored === undefined) {
      this.#sequence++
      this.#frozen = undefined
      return
    }
    this.#spilled.shift()
    try {
      removeSpilled(restored)
    } catch (error) {
      this.#options.log(`spilled batch ${restored.path} was shipped and cannot be removed: ${(error as Error).message}`)
    }
  }

  /** Says that the collector is away, once an outage. */
  #report(reason: string): void {
    if (!this.#away)
      this.#options.log(
        `collector ${this.#options.collectorUrl} does not take batches: ${reason}; measurements are kept`,
      )
    this.#away = true
  }

  #spill(left: readonly FrozenBatch[]): number {
    const { spillDir, epoch, log } = this.#options
    if (left.length === 0) return 0
    if (spillDir === undefined) {
      log(
        `stopped before ${left.length === 1 ? 'a batch was' : `${left.length} batches were`} acknowledged, and no spillDir to keep it in`,
      )
      return 0
    }
    let spilled = 0
    try {
      for (const { endMs, sequence, body } of left) {
        spill(spillDir, endMs, epoch, sequence, body)
        spilled++
      }
    } catch (error) {
      log(
        `${left.length - spilled} batches not acknowledged cannot be written to ${spillDir}: ${(error as Error).message}`,
      )
    }
    return spilled
  }

  /** One attempt, whole within the request timeout. Never rejects. */
  #post(body: Buffer): Promise<Answer> {
    const { requestTimeoutMs, token, holdProcess } = this.#options
    const timeoutMs = Math.max(1, Math.min(requestTimeoutMs, this.#deadlineMs - nowMs()))
    const { promise, resolve } = Promise.withResolvers<Answer>()
    const retry = (reason: string, afterMs = 0) => resolve({ kind: 'retry', reason, afterMs })
    const request = (this.#url.protocol === 'https:' ? httpsRequest : httpRequest)(this.#url, {
      method: 'POST',
      agent: this.#agent,
      headers: {
        'content-type': 'application/json',
        'content-length': body.length,
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      },
    })
    const timer = setTimeout(() => {
      retry(`no answer within ${Math.round(timeoutMs)} ms`)
      request.destroy()
    }, timeoutMs)
    if (!holdProcess && !this.#stopping) timer.unref()
    request.on('socket', (socket) => {
      this.#socket = socket
      if (!holdProcess && !this.#stopping) socket.unref()
    })
    request.on('error', (error) => retry((error as NodeJS.ErrnoException).code ?? error.message))
    request.on('response', (response) => {
      readAnswer(response).then(
        (text) => resolve(answerOf(response, text)),
        (error: Error) => retry(error.message),
      )
    })
    request.end(body)
    return promise.finally(() => clearTimeout(timer))
  }

  /** Waits, but never past the deadline; `stop` ends a wait early. */
  async #sleep(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, Math.max(0, Math.min(ms, this.#deadlineMs - nowMs())))
    if (!this.#options.holdProcess && !this.#stopping) timer.unref()
    this.#wake = resolve
    await promise
    clearTimeout(timer)
    this.#wake = undefined
  }
}

async function readAnswer(response: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of response) if (text.length < ANSWER_BYTES_MAX) text += chunk
  return text.slice(0, 200)
}

function answerOf({ statusCode = 0, headers }: IncomingMessage, text: string): Answer {
  if (statusCode >= 200 && statusCode < 300) return { kind: 'acknowledged' }
  const reason = `${statusCode} ${text.replaceAll(/[\p{Cc}\s]+/gu, ' ')}`.trim()
  if (statusCode >= 300 && statusCode < 500 && statusCode !== 408 && statusCode !== 429)
    return { kind: 'refused', reason }
  const seconds = Number(headers['retry-after'])
  const afterMs = Number.isFinite(seconds) ? Math.min(Math.max(0, seconds * 1e3), RETRY_AFTER_MAX_MS) : 0
  return { kind: 'retry', reason, afterMs }
}
