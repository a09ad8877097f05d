/**
 * FIX tag=value on the order path, in the venue's dialect (FIXT.1.1 carrying FIX 5.0 SP2, prices in dollars): written
 * straight into one preallocated buffer, read by integers where they lie. A full parse to a map of strings stands
 * beside it, because that is what a naive client does.
 *
 * | 35 | tags here |
 * | --- | --- |
 * | D new order | 11, 18=6 when post-only, 38, 40=2, 44, 54, 55, 59, 100 shard, 2964 self-trade prevention |
 * | 8 execution report | 6, 11, 14, 17, 31, 32, 37, 38, 39, 44, 54, 55, 60, 150, 151 |
 * | X book update | 268=1, 279=1, 269 0 bid 1 offer, 55, 270, 271, 272, 273 |
 *
 * One liberty, so that all codecs say the same: the venue's 271 is a level's new size, its WebSocket's `delta_fp` the
 * change; here 271 carries the change. Session matters (logon, heartbeats, resends) are not here. The session runs over
 * TLS; what that adds to a message is counted by the probe, not here.
 *
 * Cost: encoding and scanning allocate nothing, except the date once a day.
 */
import type { OrderStatus, OutcomeSide, SelfTradePrevention, TimeInForce } from '@tickscope/venue/kalshi'
import { FixError } from './error.ts'
import type { BookUpdate, ExecutionReport, NewOrder } from './message.ts'

const SOH = 1
const EQUALS = 61
const ZERO = 48
const POINT = 46
const MINUS = 45

/** Longest text value written: the venue allows 64 characters in 11. */
const TEXT_MAX = 64
const TAG_MAX = 999_999
/** Longest body read, bytes. */
const BODY_MAX = 65_536
const MS_PER_DAY = 86_400_000

const BILLION = 1e9
/** Powers of ten, by places. */
const SCALE = [1, 10, 100, 1_000, 10_000] as const

/** Decimal places of prices and counts, as everywhere in the suite. */
const PRICE_PLACES = 4
const COUNT_PLACES = 2

const BEGIN = Buffer.from('8=FIXT.1.1\x019=', 'latin1')
const BEGIN_SUM = BEGIN.reduce((sum, byte) => sum + byte, 0)
/** The body begins here; `8=…|9=…|` is written before it once its length is known, five digits at most. */
const BODY_AT = BEGIN.length + 6
/** Five texts of 64 at most (both ends, two ids, the ticker), the rest of the longest message is under 500 bytes. */
const CAPACITY = 1024

const ascii = (text: string) => Uint8Array.from(Buffer.from(text, 'latin1'))
/** A tag and its equals sign, by tag; one flat array, because an object of such keys would be a hash table. */
const TAGS = new Array<Uint8Array | undefined>(3_000).fill(undefined)
for (const tag of [
  6, 11, 14, 17, 31, 32, 37, 38, 39, 44, 52, 54, 55, 59, 60, 100, 150, 151, 269, 270, 271, 272, 273, 2964,
])
  TAGS[tag] = ascii(`${tag}=`)

const POST_ONLY = ascii('18=6\x01')
const LIMIT = ascii('40=2\x01')
const CHANGE_OF_ONE = ascii('268=1\x01279=1\x01')

const TIME_IN_FORCE: { readonly [value in TimeInForce]: number } = {
  good_till_canceled: 1,
  immediate_or_cancel: 3,
  fill_or_kill: 4,
}
const SELF_TRADE_PREVENTION: { readonly [value in SelfTradePrevention]: number } = { taker_at_cross: 1, maker: 2 }

/** The same, by code: what a reader needs. */
const TIMES_IN_FORCE: readonly (TimeInForce | undefined)[] = [
  undefined,
  'good_till_canceled',
  undefined,
  'immediate_or_cancel',
  'fill_or_kill',
]
const SELF_TRADE_PREVENTIONS: readonly (SelfTradePrevention | undefined)[] = [undefined, 'taker_at_cross', 'maker']
/** Of 39: new, partially filled, filled, (done for day,) cancelled. */
const STATUSES: readonly (OrderStatus | undefined)[] = ['resting', 'resting', 'executed', undefined, 'canceled']
const OUTCOMES: readonly (OutcomeSide | undefined)[] = ['yes', 'no']

export interface FixSession {
  /** SenderCompID. */
  readonly sender: string
  /** TargetCompID. */
  readonly target: string
}

/** Writes one message at a time: it stands in `bytes` from `start` to `end` until the next call. */
export class FixWriter {
  readonly bytes = Buffer.alloc(CAPACITY)
  start = 0
  end = 0
  readonly #order: Uint8Array
  readonly #report: Uint8Array
  readonly #update: Uint8Array
  #at = 0
  /** Unix ms at which the day written in `#date` began. */
  #dayMs = Number.NaN
  readonly #date = new Uint8Array(8)

  constructor({ sender, target }: FixSession) {
    for (const [name, text] of [
      ['sender', sender],
      ['target', target],
    ] as const)
      if (!/^[!-~]{1,64}$/.test(text))
        throw new FixError('VALUE', 0, `${name} must be 1 to ${TEXT_MAX} visible ASCII characters`)
    const prefix = (type: string) => ascii(`35=${type}\x0149=${sender}\x0156=${target}\x0134=`)
    this.#order = prefix('D')
    this.#report = prefix('8')
    this.#update = prefix('X')
  }

  /** @throws FixError `VALUE`; the message of an earlier call is then no longer there */
  order(order: NewOrder, sequence: number, sendingTimeMs: number): void {
    this.#open(this.#order, sequence, sendingTimeMs)
    this.#text(11, order.clientOrderId)
    if (order.postOnly) this.#fixed(POST_ONLY)
    this.#decimal(38, order.countHundredths, COUNT_PLACES, false)
    this.#fixed(LIMIT)
    this.#decimal(44, order.priceTicks, PRICE_PLACES, true)
    this.#integer(54, order.side === 'bid' ? 1 : 2)
    this.#text(55, order.ticker)
    this.#integer(59, TIME_IN_FORCE[order.timeInForce])
    this.#integer(100, order.exchangeIndex)
    this.#integer(2964, SELF_TRADE_PREVENTION[order.selfTradePrevention])
    this.#close()
  }

  /** The venue's side. */
  report(report: ExecutionReport, sequence: number, sendingTimeMs: number): void {
    const { filledHundredths, priceTicks } = report
    const code = report.status === 'executed' ? 2 : report.status === 'canceled' ? 4 : filledHundredths > 0 ? 1 : 0
    this.#open(this.#report, sequence, sendingTimeMs)
    this.#decimal(6, filledHundredths > 0 ? priceTicks : 0, PRICE_PLACES, true)
    this.#text(11, report.clientOrderId)
    this.#decimal(14, filledHundredths, COUNT_PLACES, false)
    // ExecID of the venue: engine clock and event.
    this.#tag(17)
    this.#digits(report.tsMs)
    this.bytes[this.#at++] = 59
    this.#digits(sequence)
    this.bytes[this.#at++] = SOH
    this.#decimal(31, filledHundredths > 0 ? priceTicks : 0, PRICE_PLACES, true)
    this.#decimal(32, filledHundredths, COUNT_PLACES, false)
    this.#text(37, report.orderId)
    this.#decimal(38, report.countHundredths, COUNT_PLACES, false)
    this.#integer(39, code)
    this.#decimal(44, priceTicks, PRICE_PLACES, true)
    this.#integer(54, report.side === 'bid' ? 1 : 2)
    this.#text(55, report.ticker)
    this.#tag(60)
    this.#timestamp(report.tsMs)
    this.bytes[this.#at++] = SOH
    // ExecType: F trade, 4 cancelled, 0 new.
    this.#tag(150)
    this.bytes[this.#at++] = code === 1 || code === 2 ? 70 : ZERO + code
    this.bytes[this.#at++] = SOH
    this.#decimal(151, report.remainingHundredths, COUNT_PLACES, false)
    this.#close()
  }

  /** The venue's side. The update's sequence is the message's. */
  update(update: BookUpdate): void {
    this.#open(this.#update, update.sequence, update.tsMs)
    this.#fixed(CHANGE_OF_ONE)
    this.#integer(269, update.side === 'yes' ? 0 : 1)
    this.#text(55, update.ticker)
    this.#decimal(270, update.priceTicks, PRICE_PLACES, true)
    this.#decimal(271, update.changeHundredths, COUNT_PLACES, false)
    this.#tag(272)
    this.#day(update.tsMs)
    this.bytes[this.#at++] = SOH
    this.#tag(273)
    this.#timeOfDay(update.tsMs)
    this.bytes[this.#at++] = SOH
    this.#close()
  }

  #open(prefix: Uint8Array, sequence: number, sendingTimeMs: number): void {
    this.start = 0
    this.end = 0
    this.#at = BODY_AT
    this.#fixed(prefix)
    this.#digits(sequence)
    this.bytes[this.#at++] = SOH
    this.#tag(52)
    this.#timestamp(sendingTimeMs)
    this.bytes[this.#at++] = SOH
  }

  /** Body length before the body, checksum behind it. */
  #close(): void {
    const { bytes } = this
    const bodyEnd = this.#at
    let at = BODY_AT - 1
    bytes[at] = SOH
    for (let rest = bodyEnd - BODY_AT; rest > 0; rest = (rest / 10) | 0) bytes[--at] = ZERO + (rest % 10)
    at -= BEGIN.length
    for (let index = 0; index < BEGIN.length; index++) bytes[at + index] = BEGIN[index] as number
    let sum = 0
    for (let index = at; index < bodyEnd; index++) sum += bytes[index] as number
    sum &= 0xff
    bytes[bodyEnd] = 49
    bytes[bodyEnd + 1] = ZERO
    bytes[bodyEnd + 2] = EQUALS
    bytes[bodyEnd + 3] = ZERO + ((sum / 100) | 0)
    bytes[bodyEnd + 4] = ZERO + (((sum / 10) | 0) % 10)
    bytes[bodyEnd + 5] = ZERO + (sum % 10)
    bytes[bodyEnd + 6] = SOH
    this.start = at
    this.end = bodyEnd + 7
  }

  #fixed(part: Uint8Array): void {
    const { bytes } = this
    const at = this.#at
    for (let index = 0; index < part.length; index++) bytes[at + index] = part[index] as number
    this.#at = at + part.length
  }

  #tag(tag: number): void {
    this.#fixed(TAGS[tag] as Uint8Array)
  }

  #text(tag: number, text: string): void {
    if (text.length === 0 || text.length > TEXT_MAX)
      throw new FixError('VALUE', tag, `the text is not 1 to ${TEXT_MAX} characters long`)
    this.#tag(tag)
    const { bytes } = this
    let at = this.#at
    for (let index = 0; index < text.length; index++) {
      const code = text.charCodeAt(index)
      // A SOH would end the field and begin another one of somebody's choosing.
      if (code < 0x20 || code > 0x7e) throw new FixError('VALUE', tag, 'the text is not printable ASCII')
      bytes[at++] = code
    }
    bytes[at++] = SOH
    this.#at = at
  }

  #integer(tag: number, value: number): void {
    this.#tag(tag)
    this.#digits(value)
    this.bytes[this.#at++] = SOH
  }

  /** @param full whether a whole number still shows its places, as prices do (`0.5600`) and counts do not (`10`) */
  #decimal(tag: number, value: number, places: number, full: boolean): void {
    if (!Number.isSafeInteger(value)) throw new FixError('VALUE', tag, `${value} is not a safe integer`)
    this.#tag(tag)
    if (value < 0) this.bytes[this.#at++] = MINUS
    const magnitude = value < 0 ? -value : value
    const scale = SCALE[places] as number
    const fraction = magnitude % scale
    this.#digits((magnitude - fraction) / scale)
    if (full || fraction > 0) {
      this.bytes[this.#at++] = POINT
      this.#padded(fraction, places)
    }
    this.bytes[this.#at++] = SOH
  }

  #digits(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0)
      throw new FixError('VALUE', 0, `${value} is not an integer from 0 to 2^53`)
    if (value < BILLION) {
      let width = 1
      for (let limit = 10; value >= limit; limit *= 10) width++
      this.#padded(value, width)
      return
    }
    const high = Math.floor(value / BILLION)
    this.#digits(high)
    this.#padded(value - high * BILLION, 9)
  }

  /** @param value below a billion: its digits come of integer divisions, which cost a fraction of others */
  #padded(value: number, width: number): void {
    const { bytes } = this
    const end = this.#at + width
    let rest = value | 0
    for (let at = end - 1; at >= this.#at; at--) {
      const higher = (rest / 10) | 0
      bytes[at] = ZERO + rest - higher * 10
      rest = higher
    }
    this.#at = end
  }

  /** `20260801-12:00:00.000` */
  #timestamp(atMs: number): void {
    this.#day(atMs)
    this.bytes[this.#at++] = MINUS
    this.#timeOfDay(atMs)
  }

  #day(atMs: number): void {
    // Also true at the first call, and for what is no number.
    if (!(atMs >= this.#dayMs && atMs < this.#dayMs + MS_PER_DAY)) this.#startDay(atMs)
    this.#fixed(this.#date)
  }

  #startDay(atMs: number): void {
    // Years of four digits only.
    if (!Number.isSafeInteger(atMs) || atMs < 0 || atMs >= 253_402_300_800_000)
      throw new FixError('VALUE', 0, `${atMs} is not an instant in unix ms`)
    this.#dayMs = atMs - (atMs % MS_PER_DAY)
    this.#date.set(ascii(new Date(this.#dayMs).toISOString().slice(0, 10).replaceAll('-', '')))
  }

  #timeOfDay(atMs: number): void {
    const { bytes } = this
    const ms = atMs - this.#dayMs
    const seconds = (ms / 1000) | 0
    this.#padded((seconds / 3600) | 0, 2)
    bytes[this.#at++] = 58
    this.#padded(((seconds / 60) | 0) % 60, 2)
    bytes[this.#at++] = 58
    this.#padded(seconds % 60, 2)
    bytes[this.#at++] = POINT
    this.#padded(ms % 1000, 3)
  }
}

/**
 * Whether a whole message starts at `start`: what a reader of a TCP stream asks first.
 *
 * @returns its length in bytes; 0 when more bytes are needed
 * @throws FixError `FRAME`, `BODY_LENGTH`
 */
export function frameLength(bytes: Uint8Array, start: number, end: number): number {
  for (let index = 0; index < BEGIN.length; index++) {
    if (start + index >= end) return 0
    if (bytes[start + index] !== BEGIN[index])
      throw new FixError('FRAME', 8, 'the message does not begin 8=FIXT.1.1|9=')
  }
  let length = 0
  for (let at = start + BEGIN.length; at < end; at++) {
    const byte = bytes[at] as number
    if (byte === SOH) {
      if (at === start + BEGIN.length) throw new FixError('BODY_LENGTH', 9, 'there is no body length')
      const whole = at + 1 - start + length + TRAILER_BYTES
      return start + whole <= end ? whole : 0
    }
    const digit = byte - ZERO
    if (digit < 0 || digit > 9) throw new FixError('BODY_LENGTH', 9, 'the body length is not a number')
    length = length * 10 + digit
    if (length > BODY_MAX) throw new FixError('BODY_LENGTH', 9, `the body is longer than ${BODY_MAX} bytes`)
  }
  return 0
}

/** `10=ddd|` */
const TRAILER_BYTES = 7

/**
 * Walks over the fields of one whole message, from 35 on. The frame (begin, body length, trailer) is checked by `open`,
 * the checksum by the `next` that finds no more fields, so that each byte is read once: until then nothing is to be
 * believed.
 */
export class FixReader {
  #bytes: Buffer = Buffer.alloc(0)
  #end = 0
  #sum = 0
  #statedSum = 0
  /** The last date read, as the number its digits make, and when it began. */
  #knownDate = 0
  #knownDayMs = 0
  tag = 0
  /** The current field's value: bytes from here … */
  valueStart = 0
  /** … to here. */
  valueEnd = 0

  /** @throws FixError `FRAME`, `BODY_LENGTH`, `CHECKSUM` */
  open(bytes: Buffer, start = 0, end = bytes.length): void {
    const length = frameLength(bytes, start, end)
    if (length === 0) throw new FixError('FRAME', 0, 'the message is cut short')
    if (length !== end - start) throw new FixError('BODY_LENGTH', 9, 'the body length is not the body’s')
    const bodyEnd = end - TRAILER_BYTES
    if (
      bytes[bodyEnd - 1] !== SOH ||
      bytes[bodyEnd] !== 49 ||
      bytes[bodyEnd + 1] !== ZERO ||
      bytes[bodyEnd + 2] !== EQUALS ||
      bytes[end - 1] !== SOH
    )
      throw new FixError('FRAME', 10, 'the message does not end in 10=ddd|')
    let stated = 0
    for (let at = bodyEnd + 3; at < end - 1; at++) {
      const digit = (bytes[at] as number) - ZERO
      if (digit < 0 || digit > 9) throw new FixError('CHECKSUM', 10, 'the checksum is not three digits')
      stated = stated * 10 + digit
    }
    let at = start + BEGIN.length
    let sum = BEGIN_SUM
    for (; bytes[at] !== SOH; at++) sum += bytes[at] as number
    this.#bytes = bytes
    this.#end = bodyEnd
    this.#sum = sum + SOH
    this.#statedSum = stated
    this.valueEnd = at
    if (!this.next() || this.tag !== 35) throw new FixError('FRAME', 35, 'the body does not begin with 35')
  }

  /** To the next field. @returns false behind the last one @throws FixError `TAG`, `VALUE`, `CHECKSUM` */
  next(): boolean {
    const bytes = this.#bytes
    let at = this.valueEnd + 1
    if (at >= this.#end) {
      if ((this.#sum & 0xff) !== this.#statedSum)
        throw new FixError('CHECKSUM', 10, `the checksum is ${this.#sum & 0xff}, not ${this.#statedSum}`)
      return false
    }
    // `| 0` keeps these in machine integers: a tenth of a scan.
    let byte = bytes[at++] as number
    let tag = (byte - ZERO) | 0
    let sum = (this.#sum + byte + EQUALS + SOH) | 0
    if (tag < 1 || tag > 9) throw new FixError('TAG', 0, 'a field does not begin with a tag')
    for (byte = bytes[at++] as number; byte !== EQUALS; byte = bytes[at++] as number) {
      const digit = (byte - ZERO) | 0
      if (digit < 0 || digit > 9) throw new FixError('TAG', 0, 'a tag is not a number')
      tag = (tag * 10 + digit) | 0
      if (tag > TAG_MAX) throw new FixError('TAG', 0, 'a tag has too many digits')
      sum = (sum + byte) | 0
    }
    const from = at
    // The body ends in SOH, so this ends inside it.
    for (byte = bytes[at] as number; byte !== SOH; byte = bytes[++at] as number) sum = (sum + byte) | 0
    if (at === from) throw new FixError('VALUE', tag, 'the value is empty')
    this.tag = tag
    this.valueStart = from
    this.valueEnd = at
    this.#sum = sum
    return true
  }

  /** The value as an integer ≥ 0 of at most 15 digits. */
  integer(): number {
    const bytes = this.#bytes
    if (this.valueEnd - this.valueStart > 15) throw this.#invalid('an integer of at most 15 digits')
    let value = 0
    for (let at = this.valueStart; at < this.valueEnd; at++) {
      const digit = (bytes[at] as number) - ZERO
      if (digit < 0 || digit > 9) throw this.#invalid('an integer of at most 15 digits')
      value = value * 10 + digit
    }
    return value
  }

  /** The value in units of 10^-places. */
  decimal(places: number): number {
    const bytes = this.#bytes
    const negative = bytes[this.valueStart] === MINUS
    let value = 0
    let digits = 0
    let fraction = -1
    for (let at = negative ? this.valueStart + 1 : this.valueStart; at < this.valueEnd; at++) {
      const byte = bytes[at] as number
      if (byte === POINT && fraction < 0) {
        fraction = 0
        continue
      }
      const digit = byte - ZERO
      if (digit < 0 || digit > 9) throw this.#invalid('a decimal')
      value = value * 10 + digit
      digits++
      if (fraction >= 0) fraction++
    }
    if (digits === 0 || digits > 15 || fraction > places) throw this.#invalid(`a decimal with at most ${places} places`)
    for (let place = Math.max(fraction, 0); place < places; place++) value *= 10
    if (value > Number.MAX_SAFE_INTEGER) throw this.#invalid('a decimal in range')
    return negative && value !== 0 ? -value : value
  }

  text(): string {
    return this.#bytes.toString('latin1', this.valueStart, this.valueEnd)
  }

  /** `20260801-12:00:00.000` as unix ms. */
  timestamp(): number {
    const at = this.valueStart
    if (this.valueEnd - at !== 21 || this.#bytes[at + 8] !== MINUS) throw this.#invalid('YYYYMMDD-HH:MM:SS.sss')
    return this.#dayMs(at) + this.#timeMs(at + 9)
  }

  /** `20260801` as unix ms. */
  date(): number {
    if (this.valueEnd - this.valueStart !== 8) throw this.#invalid('YYYYMMDD')
    return this.#dayMs(this.valueStart)
  }

  /** `12:00:00.000` as ms of the day. */
  timeOfDay(): number {
    if (this.valueEnd - this.valueStart !== 12) throw this.#invalid('HH:MM:SS.sss')
    return this.#timeMs(this.valueStart)
  }

  #dayMs(at: number): number {
    // Of a stream almost all messages are of one day, and the calendar costs more than the rest of the message.
    const date = this.#number(at, 8)
    if (date !== this.#knownDate) {
      this.#knownDayMs = this.#calendarMs(at)
      this.#knownDate = date
    }
    return this.#knownDayMs
  }

  #calendarMs(at: number): number {
    const year = this.#number(at, 4)
    const month = this.#number(at + 4, 2)
    const day = this.#number(at + 6, 2)
    const ms = Date.UTC(year, month - 1, day)
    // A day beyond its month's end would count on into the next one.
    if (year < 1970 || month < 1 || month > 12 || day < 1 || ms >= Date.UTC(year, month, 1))
      throw this.#invalid('a date')
    return ms
  }

  #timeMs(at: number): number {
    const bytes = this.#bytes
    const minute = this.#number(at + 3, 2)
    const hour = this.#number(at, 2)
    // 60 is a leap second.
    const second = this.#number(at + 6, 2)
    if (
      bytes[at + 2] !== 58 ||
      bytes[at + 5] !== 58 ||
      bytes[at + 8] !== POINT ||
      hour > 23 ||
      minute > 59 ||
      second > 60
    )
      throw this.#invalid('a time of day')
    return ((hour * 60 + minute) * 60 + second) * 1000 + this.#number(at + 9, 3)
  }

  #number(from: number, width: number): number {
    let value = 0
    for (let at = from; at < from + width; at++) {
      const digit = (this.#bytes[at] as number) - ZERO
      if (digit < 0 || digit > 9) throw this.#invalid('a date or time')
      value = value * 10 + digit
    }
    return value
  }

  /** The current value, read as a code into a table of meanings. */
  code<T>(meanings: readonly (T | undefined)[]): T {
    const meaning = meanings[this.integer()]
    if (meaning === undefined) throw this.#invalid('one of its codes')
    return meaning
  }

  #invalid(wanted: string): FixError {
    return new FixError('VALUE', this.tag, `the value is not ${wanted}`)
  }
}

/**
 * What a bot needs of an execution report at once: numbers, and where its own id lies. One object, filled again and
 * again; what a report does not say is 0.
 */
export class ExecutionScan {
  sequence = 0
  /** Tag 39. */
  status = 0
  /** Character code of tag 150. */
  execType = 0
  side = 0
  priceTicks = 0
  countHundredths = 0
  filledHundredths = 0
  remainingHundredths = 0
  lastPriceTicks = 0
  lastHundredths = 0
  /** Bytes of tag 11 in the message. */
  clientOrderIdStart = 0
  clientOrderIdEnd = 0

  /** Nothing of an earlier report may be taken for this one's. */
  clear(): void {
    this.sequence = 0
    this.status = 0
    this.execType = 0
    this.side = 0
    this.priceTicks = 0
    this.countHundredths = 0
    this.filledHundredths = 0
    this.remainingHundredths = 0
    this.lastPriceTicks = 0
    this.lastHundredths = 0
    this.clientOrderIdStart = 0
    this.clientOrderIdEnd = 0
  }
}

/** Tags without which a report says nothing: 34, 39, 14, 151. One bit each. */
const SCANNED = 0b1111

/**
 * Reads the integers of an execution report.
 *
 * @throws FixError also when 34, 39, 14 or 151 is not there
 */
export function scanExecution(reader: FixReader, bytes: Buffer, start: number, end: number, into: ExecutionScan): void {
  reader.open(bytes, start, end)
  if (reader.integer() !== 8 || reader.valueEnd - reader.valueStart !== 1)
    throw new FixError('VALUE', 35, 'not an execution report')
  into.clear()
  let seen = 0
  while (reader.next()) {
    switch (reader.tag) {
      case 34:
        into.sequence = reader.integer()
        seen |= 1
        break
      case 39:
        into.status = reader.integer()
        seen |= 2
        break
      case 14:
        into.filledHundredths = reader.decimal(COUNT_PLACES)
        seen |= 4
        break
      case 151:
        into.remainingHundredths = reader.decimal(COUNT_PLACES)
        seen |= 8
        break
      case 150:
        into.execType = bytes[reader.valueStart] as number
        break
      case 54:
        into.side = reader.integer()
        break
      case 44:
        into.priceTicks = reader.decimal(PRICE_PLACES)
        break
      case 38:
        into.countHundredths = reader.decimal(COUNT_PLACES)
        break
      case 31:
        into.lastPriceTicks = reader.decimal(PRICE_PLACES)
        break
      case 32:
        into.lastHundredths = reader.decimal(COUNT_PLACES)
        break
      case 11:
        into.clientOrderIdStart = reader.valueStart
        into.clientOrderIdEnd = reader.valueEnd
        break
    }
  }
  if (seen !== SCANNED) throw new FixError('MISSING', 0, 'the report lacks 34, 39, 14 or 151')
}

/**
 * The naive way: every field as a string by its tag.
 *
 * @throws FixError `TAG` also when a tag comes twice, as it may only in groups
 */
export function parseFix(reader: FixReader, bytes: Buffer, start = 0, end = bytes.length): Map<number, string> {
  reader.open(bytes, start, end)
  const fields = new Map<number, string>()
  do {
    if (fields.has(reader.tag)) throw new FixError('TAG', reader.tag, 'the tag comes twice')
    fields.set(reader.tag, reader.text())
  } while (reader.next())
  return fields
}

/** The venue's side. */
export function decodeOrder(reader: FixReader, bytes: Buffer, start = 0, end = bytes.length): NewOrder {
  openAs('D', reader, bytes, start, end)
  let clientOrderId: string | undefined
  let ticker: string | undefined
  let countHundredths: number | undefined
  let priceTicks: number | undefined
  let side = 0
  let timeInForce: TimeInForce | undefined
  let selfTradePrevention: SelfTradePrevention | undefined
  let postOnly = false
  let exchangeIndex = 0
  while (reader.next()) {
    switch (reader.tag) {
      case 11:
        clientOrderId = reader.text()
        break
      case 18:
        postOnly = reader.integer() === 6
        break
      case 38:
        countHundredths = reader.decimal(COUNT_PLACES)
        break
      case 40:
        if (reader.integer() !== 2) throw new FixError('VALUE', 40, 'only limit orders')
        break
      case 44:
        priceTicks = reader.decimal(PRICE_PLACES)
        break
      case 54:
        side = reader.integer()
        break
      case 55:
        ticker = reader.text()
        break
      case 59:
        timeInForce = reader.code(TIMES_IN_FORCE)
        break
      case 100:
        exchangeIndex = reader.integer()
        break
      case 2964:
        selfTradePrevention = reader.code(SELF_TRADE_PREVENTIONS)
        break
    }
  }
  return {
    ticker: needed(ticker, 55),
    side: sideOf(side),
    countHundredths: needed(countHundredths, 38),
    priceTicks: needed(priceTicks, 44),
    timeInForce: needed(timeInForce, 59),
    selfTradePrevention: needed(selfTradePrevention, 2964),
    clientOrderId: needed(clientOrderId, 11),
    postOnly,
    exchangeIndex,
  }
}

export function decodeReport(reader: FixReader, bytes: Buffer, start = 0, end = bytes.length): ExecutionReport {
  openAs('8', reader, bytes, start, end)
  let orderId: string | undefined
  let clientOrderId: string | undefined
  let ticker: string | undefined
  let side = 0
  let status: OrderStatus | undefined
  let priceTicks: number | undefined
  let countHundredths: number | undefined
  let filledHundredths: number | undefined
  let remainingHundredths: number | undefined
  let tsMs: number | undefined
  while (reader.next()) {
    switch (reader.tag) {
      case 11:
        clientOrderId = reader.text()
        break
      case 14:
        filledHundredths = reader.decimal(COUNT_PLACES)
        break
      case 37:
        orderId = reader.text()
        break
      case 38:
        countHundredths = reader.decimal(COUNT_PLACES)
        break
      case 39:
        status = reader.code(STATUSES)
        break
      case 44:
        priceTicks = reader.decimal(PRICE_PLACES)
        break
      case 54:
        side = reader.integer()
        break
      case 55:
        ticker = reader.text()
        break
      case 60:
        tsMs = reader.timestamp()
        break
      case 151:
        remainingHundredths = reader.decimal(COUNT_PLACES)
        break
    }
  }
  return {
    orderId: needed(orderId, 37),
    clientOrderId: needed(clientOrderId, 11),
    ticker: needed(ticker, 55),
    side: sideOf(side),
    status: needed(status, 39),
    priceTicks: needed(priceTicks, 44),
    countHundredths: needed(countHundredths, 38),
    filledHundredths: needed(filledHundredths, 14),
    remainingHundredths: needed(remainingHundredths, 151),
    tsMs: needed(tsMs, 60),
  }
}

export function decodeUpdate(reader: FixReader, bytes: Buffer, start = 0, end = bytes.length): BookUpdate {
  openAs('X', reader, bytes, start, end)
  let sequence: number | undefined
  let ticker: string | undefined
  let side: OutcomeSide | undefined
  let priceTicks: number | undefined
  let changeHundredths: number | undefined
  let dayMs: number | undefined
  let timeMs: number | undefined
  while (reader.next()) {
    switch (reader.tag) {
      case 34:
        sequence = reader.integer()
        break
      case 55:
        ticker = reader.text()
        break
      case 268:
        if (reader.integer() !== 1) throw new FixError('VALUE', 268, 'only one entry a message')
        break
      case 269:
        side = reader.code(OUTCOMES)
        break
      case 270:
        priceTicks = reader.decimal(PRICE_PLACES)
        break
      case 271:
        changeHundredths = reader.decimal(COUNT_PLACES)
        break
      case 272:
        dayMs = reader.date()
        break
      case 273:
        timeMs = reader.timeOfDay()
        break
    }
  }
  return {
    sequence: needed(sequence, 34),
    ticker: needed(ticker, 55),
    side: needed(side, 269),
    priceTicks: needed(priceTicks, 270),
    changeHundredths: needed(changeHundredths, 271),
    tsMs: needed(dayMs, 272) + needed(timeMs, 273),
  }
}

function openAs(type: string, reader: FixReader, bytes: Buffer, start: number, end: number): void {
  reader.open(bytes, start, end)
  if (reader.valueEnd - reader.valueStart !== 1 || bytes[reader.valueStart] !== type.charCodeAt(0))
    throw new FixError('VALUE', 35, `the message is not of type ${type}`)
}

function sideOf(code: number): NewOrder['side'] {
  if (code !== 1 && code !== 2) throw new FixError('VALUE', 54, 'the side is not 1 or 2')
  return code === 1 ? 'bid' : 'ask'
}

function needed<T>(value: T | undefined, tag: number): T {
  if (value === undefined) throw new FixError('MISSING', tag, 'not there')
  return value
}
