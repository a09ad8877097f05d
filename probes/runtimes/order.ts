/**
 * The order path of a Node bot, timed phase by phase: `order.py` says what is timed, and does the same.
 *
 * Parsing is `JSON.parse`, signing `node:crypto` with a cached key, the socket `node:net`.
 */
import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { parseArgs } from 'node:util'
import { AUTH_HEADERS, createSigner, encodeCreateOrder, REST_BASE_PATH, type Signer } from '@tickscope/venue/kalshi'

const PATH = `${REST_BASE_PATH}/portfolio/events/orders`
/** The loop turns without sleeping for this long before a send: timers have steps of a millisecond. */
const LEAD_NS = 2_000_000
const TIMEOUT_MS = 5_000
const LEVELS = 10
const CPU_BATCH = 200
const CPU_BATCH_SIGN = 10
const BODY_BYTES_MAX = 1024 * 1024

/** What each of the three programs prints; durations in ns. */
export interface OrderLine {
  readonly runtime: string
  readonly version: string
  readonly loop: string
  readonly signing: string
  readonly clock: string
  readonly sent: number
  readonly lost: number
  readonly reasons: { readonly [reason: string]: number }
  /** One entry an answered order and phase. */
  readonly samplesNs: { readonly [phase: string]: readonly number[] }
  /** An operation's time in a hot loop, one entry a batch. */
  readonly cpuNs: { readonly [work: string]: readonly number[] }
}

const nowNs = () => Math.round(performance.now() * 1e6)

class Book {
  readonly yes = new Float64Array(101)
  readonly no = new Float64Array(101)

  apply(line: string): void {
    const delta = JSON.parse(line).msg
    const levels = delta.side === 'yes' ? this.yes : this.no
    const cents = Math.round(Number(delta.price_dollars) * 100)
    levels[cents] = Math.max(0, (levels[cents] as number) + Number(delta.delta_fp))
  }

  /** The side with more contracts, weighted by distance, in its ten best levels. */
  decide(): 'bid' | 'ask' {
    return weight(this.yes) >= weight(this.no) ? 'bid' : 'ask'
  }
}

function weight(levels: Float64Array): number {
  let sum = 0
  let found = 0
  for (let cents = 99; cents > 0; cents--) {
    const contracts = levels[cents] as number
    if (contracts > 0) {
      sum += contracts / (1 + found)
      if (++found === LEVELS) break
    }
  }
  return sum
}

const { values } = parseArgs({
  options: Object.fromEntries(
    ['host', 'port', 'key-file', 'key-id', 'ticker', 'ticks', 'prefix', 'rate', 'count', 'warm-up', 'cpu-batches'].map(
      (name) => [name, { type: 'string' as const }],
    ),
  ),
})
const flag = (name: string): string => {
  const value = values[name]
  if (typeof value !== 'string') throw new Error(`--${name} is missing`)
  return value
}

const ticker = flag('ticker')
const prefix = flag('prefix')
const signer: Signer = createSigner({ keyId: flag('key-id'), privateKeyPem: readFileSync(flag('key-file'), 'utf8') })
const head = `POST ${PATH} HTTP/1.1\r\nhost: ${flag('host')}:${flag('port')}\r\nuser-agent: tickscope\r\naccept: application/json\r\ncontent-type: application/json\r\n${AUTH_HEADERS.key}: ${signer.keyId}\r\n${AUTH_HEADERS.timestamp}: `

function signed(): readonly [timestamp: string, signature: string] {
  const timestamp = String(Date.now())
  return [timestamp, signer.sign(timestamp, 'POST', PATH)]
}

/** Far from the market and immediate-or-cancel: nothing rests, nothing fills. */
function encode(side: 'bid' | 'ask', index: number, timestamp: string, signature: string): string {
  const body = encodeCreateOrder({
    ticker,
    side,
    countHundredths: 100,
    priceTicks: side === 'bid' ? 100 : 9_900,
    timeInForce: 'immediate_or_cancel',
    selfTradePrevention: 'taker_at_cross',
    clientOrderId: `${prefix}-${String(index).padStart(8, '0')}`,
  })
  return `${head}${timestamp}\r\n${AUTH_HEADERS.signature}: ${signature}\r\ncontent-length: ${body.length}\r\n\r\n${body}`
}

interface Answer {
  readonly status: number
  readonly body: string
}

/** One request at a time on one connection. */
class Wire {
  readonly #socket: Socket
  #text = ''
  #pending: { resolve: (answer: Answer) => void; reject: (error: Error) => void } | undefined

  constructor(socket: Socket) {
    this.#socket = socket
    socket.setNoDelay(true)
    socket.setEncoding('latin1')
    socket.on('data', (text) => this.#read(String(text)))
    socket.on('error', (error) => this.#fail(error))
    socket.on('close', () => this.#fail(Object.assign(new Error('closed'), { code: 'CLOSED' })))
  }

  exchange(request: string): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#fail(Object.assign(new Error('no answer'), { code: 'TIMEOUT' })), TIMEOUT_MS)
      this.#pending = {
        resolve: (answer) => {
          clearTimeout(timer)
          resolve(answer)
        },
        reject: (error) => {
          clearTimeout(timer)
          reject(error)
        },
      }
      this.#socket.write(request, 'latin1')
    })
  }

  end(): void {
    this.#socket.destroy()
  }

  #read(text: string): void {
    this.#text += text
    const end = this.#text.indexOf('\r\n\r\n')
    if (end < 0) {
      if (this.#text.length > BODY_BYTES_MAX) this.#fail(new Error('head too long'))
      return
    }
    const length = Number(/\r\ncontent-length: *(\d+)/i.exec(this.#text.slice(0, end))?.[1] ?? Number.NaN)
    if (!(length <= BODY_BYTES_MAX)) {
      this.#fail(new Error('no content-length'))
      return
    }
    if (this.#text.length < end + 4 + length) return
    const answer = { status: Number(this.#text.slice(9, 12)), body: this.#text.slice(end + 4, end + 4 + length) }
    this.#text = ''
    const pending = this.#pending
    this.#pending = undefined
    pending?.resolve(answer)
  }

  #fail(error: Error): void {
    const pending = this.#pending
    this.#pending = undefined
    pending?.reject(error)
  }
}

function waitUntil(atNs: number): Promise<void> {
  return new Promise((resolve) => {
    const step = () => {
      const leftNs = atNs - nowNs()
      if (leftNs <= 0) resolve()
      else if (leftNs > LEAD_NS + 1e6) setTimeout(step, Math.floor((leftNs - LEAD_NS) / 1e6))
      else setImmediate(step)
    }
    step()
  })
}

const PHASES = ['slip', 'parse', 'decide', 'sign', 'encode', 'io', 'answer'] as const
const ticks = readFileSync(flag('ticks'), 'utf8').split('\n').filter(Boolean)
const count = Number(flag('count'))
const warmUp = Number(flag('warm-up'))
const ratePerSecond = Number(flag('rate'))
const book = new Book()
const samples = Object.fromEntries(PHASES.map((name) => [name, [] as number[]]))
const reasons: Record<string, number> = {}
let sent = 0
let lost = 0

const socket = connect({ host: flag('host'), port: Number(flag('port')) })
await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject))
const wire = new Wire(socket)
let beginNs = 0
for (let index = 0; index < warmUp + count; index++) {
  const measured = index - warmUp
  if (measured === 0) beginNs = nowNs() + 5_000_000
  const intendedNs = measured < 0 ? nowNs() : beginNs + Math.round((measured * 1e9) / ratePerSecond)
  await waitUntil(intendedNs)
  const t0 = nowNs()
  book.apply(ticks[index % ticks.length] as string)
  const t1 = nowNs()
  const side = book.decide()
  const t2 = nowNs()
  const [timestamp, signature] = signed()
  const t3 = nowNs()
  const request = encode(side, index, timestamp, signature)
  const t4 = nowNs()
  let failed: string | undefined
  let answer: Answer = { status: 0, body: '' }
  try {
    answer = await wire.exchange(request)
  } catch (error) {
    failed = (error as NodeJS.ErrnoException).code ?? 'PROTOCOL'
  }
  const t5 = nowNs()
  if (failed === undefined) {
    const { order_id: orderId } = JSON.parse(answer.body)
    if (answer.status !== 201) failed = `STATUS_${answer.status}`
    else if (!orderId) failed = 'NO_ORDER_ID'
  }
  const t6 = nowNs()
  if (measured < 0) {
    if (failed !== undefined) {
      process.stderr.write(`order.ts: the venue answered ${failed} to the first orders: ${answer.body.slice(0, 200)}\n`)
      process.exit(1)
    }
    continue
  }
  sent++
  if (failed !== undefined) {
    lost++
    reasons[failed] = (reasons[failed] ?? 0) + 1
    if (answer.status === 0) break
    continue
  }
  const durations = [t0 - intendedNs, t1 - t0, t2 - t1, t3 - t2, t4 - t3, t5 - t4, t6 - t5]
  for (const [i, name] of PHASES.entries()) samples[name]?.push(durations[i] as number)
}
wire.end()

/** The same work in a hot loop without a venue: ns an operation, one figure a batch; warmed up by as many batches. */
function cpu(batches: number): Record<string, number[]> {
  const filler = 'x'.repeat(344)
  const work: Record<string, readonly [size: number, operation: (i: number) => unknown]> = {
    parse: [CPU_BATCH, (i) => book.apply(ticks[i % ticks.length] as string)],
    decide: [CPU_BATCH, () => book.decide()],
    encode: [CPU_BATCH, (i) => Buffer.from(encode('bid', i, '1700000000000', filler), 'latin1')],
    sign: [CPU_BATCH_SIGN, () => signed()],
  }
  const figures: Record<string, number[]> = {}
  for (const [name, [size, operation]] of Object.entries(work)) {
    const list: number[] = []
    for (let batch = 0; batch < 2 * batches; batch++) {
      const startedNs = nowNs()
      for (let i = 0; i < size; i++) operation(i)
      if (batch >= batches) list.push(Math.round((nowNs() - startedNs) / size))
    }
    figures[name] = list
  }
  return figures
}

const line: OrderLine = {
  runtime: 'Node',
  version: process.version.slice(1),
  loop: 'libuv',
  signing: `node:crypto (OpenSSL ${process.versions.openssl})`,
  clock: 'performance.now() (CLOCK_MONOTONIC)',
  sent,
  lost,
  reasons,
  samplesNs: samples,
  cpuNs: cpu(Number(flag('cpu-batches'))),
}
process.stdout.write(`${JSON.stringify(line)}\n`)
