/**
 * Reads recorded feeds: JSON lines `{"t": unix ms, "c": connection, "raw": venue message}`, plain or zstd, told apart
 * by their first bytes. Streams; memory is bounded by one decompression window (128 MiB at most) and one line.
 *
 * Messages are those of a book, ticker or trade subscription without `use_yes_price`; others are passed over. What
 * cannot be read is one sentence with file, line and reason.
 */
import { closeSync, createReadStream, openSync, readSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'
import { constants, createZstdDecompress } from 'node:zlib'
import { UserError } from '@tickscope/contract'
import { formatDollars } from '../kalshi/decimal.ts'
import {
  type BookDelta,
  type BookSnapshot,
  isMarketData,
  parseMessage,
  type Ticker,
  type Trade,
} from '../kalshi/message.ts'
import { PRICE_MAX_TICKS, PRICE_MIN_TICKS } from './book.ts'

/** Longest line, characters: a snapshot of 10,000 levels a side is 0.5 MB. */
const LINE_CHARS_MAX = 16 * 1024 * 1024
/** 128 MiB, what `zstd` itself takes without being asked to. */
const WINDOW_LOG_MAX = 27
const ZSTD_MAGIC = Buffer.from([0x28, 0xb5, 0x2f, 0xfd])

export interface RecordedLine {
  /** Line of the file, from 1. */
  readonly line: number
  /** When the recorder received it, epoch ms. */
  readonly atMs: number
  readonly message: BookSnapshot | BookDelta | Ticker | Trade
  /** The venue's message as it was recorded. */
  readonly text: string
}

export interface RecordedMarket {
  readonly ticker: string
  readonly marketId: string
  /** Messages of this market in the recording. */
  messages: number
  hasTrades: boolean
  /** Whether any price is finer than a cent. */
  subCent: boolean
  /** Time of its last message since the start, without idle gaps, ms. */
  endMs: number
}

export interface Recording {
  readonly path: string
  readonly markets: ReadonlyMap<string, RecordedMarket>
  /** Market-data messages. */
  readonly messages: number
  /** From the first to the last, without idle gaps, ms. */
  readonly durationMs: number
}

function corrupt(path: string, line: number, why: string): UserError {
  return new UserError('RECORDING_CORRUPT', `recording ${path}: line ${line}: ${why}`)
}

/** @throws UserError `RECORDING_UNREADABLE` */
function openRecording(path: string): Readable {
  const magic = Buffer.alloc(ZSTD_MAGIC.length)
  try {
    const file = openSync(path, 'r')
    readSync(file, magic)
    closeSync(file)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new UserError('RECORDING_UNREADABLE', `recording ${path} cannot be read (${code})`)
  }
  const file = createReadStream(path, { highWaterMark: 256 * 1024 })
  if (!magic.equals(ZSTD_MAGIC)) return file
  const plain = createZstdDecompress({ params: { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG_MAX } })
  // An error may be emitted after the reader has left; `for await` hears it all the same.
  plain.on('error', () => {})
  file.on('error', (error) => plain.destroy(error))
  plain.once('close', () => file.destroy())
  return file.pipe(plain)
}

/**
 * The recording's market data, in chunks as they come off the disk.
 *
 * @throws UserError `RECORDING_CORRUPT` or `RECORDING_UNREADABLE`
 */
export async function* readRecording(path: string): AsyncGenerator<RecordedLine[]> {
  const source = openRecording(path)
  const decoder = new StringDecoder('utf8')
  let line = 0
  let rest = ''
  const parse = (texts: string[]) => {
    const lines: RecordedLine[] = []
    for (const text of texts) {
      line++
      const parsed = text === '' ? undefined : parseLine(path, line, text)
      if (parsed) lines.push(parsed)
    }
    return lines
  }
  try {
    for await (const chunk of source as AsyncIterable<Buffer>) {
      const texts = (rest + decoder.write(chunk)).split('\n')
      rest = texts.pop() as string
      if (rest.length > LINE_CHARS_MAX) throw corrupt(path, line + 1, `it is longer than ${LINE_CHARS_MAX} characters`)
      const lines = parse(texts)
      if (lines.length > 0) yield lines
    }
  } catch (error) {
    if (error instanceof UserError) throw error
    const { code, message } = error as NodeJS.ErrnoException
    throw corrupt(path, line + 1, code === 'Z_BUF_ERROR' ? 'the compressed file ends early' : lowerFirst(message))
  } finally {
    source.destroy()
  }
  const last = parse([rest + decoder.end()])
  if (last.length > 0) yield last
}

const lowerFirst = (text: string) => text.charAt(0).toLowerCase() + text.slice(1)

const ENVELOPE = /^\{"t":(\d+(?:\.\d+)?),.*?"raw":(\{.*\})\}$/

function parseLine(path: string, line: number, text: string): RecordedLine | undefined {
  // Lines as recorders write them are taken apart without parsing them twice.
  const match = ENVELOPE.exec(text)
  const [atMs, raw] = match ? [Number(match[1]), match[2] as string] : openEnvelope(path, line, text)
  const message = parseMessage(raw)
  if (message.type === 'malformed')
    throw corrupt(path, line, `it is no message of this venue (${message.error.message})`)
  if (!isMarketData(message)) return undefined
  const badTicks = pricesOf(message).find((ticks) => !(ticks >= PRICE_MIN_TICKS && ticks <= PRICE_MAX_TICKS))
  if (badTicks !== undefined)
    throw corrupt(path, line, `a price of ${formatDollars(badTicks)} is not between 0 and 1 dollar`)
  return { line, atMs, message, text: raw }
}

/** Prices that depth stands at; a ticker may well name none, or the ends of the scale. */
function pricesOf(message: RecordedLine['message']): number[] {
  if (message.type === 'orderbook_delta') return [message.priceTicks]
  if (message.type === 'trade') return [message.yesPriceTicks]
  if (message.type === 'orderbook_snapshot') return [...message.yes, ...message.no].map(({ priceTicks }) => priceTicks)
  return []
}

function openEnvelope(path: string, line: number, text: string): [atMs: number, raw: string] {
  let json: { readonly t?: unknown; readonly raw?: unknown }
  try {
    json = JSON.parse(text)
  } catch {
    throw corrupt(path, line, 'it is not JSON')
  }
  const { t, raw } = json ?? {}
  if (typeof t !== 'number' || !Number.isFinite(t)) throw corrupt(path, line, 'it has no time t in ms')
  if (typeof raw !== 'object' || raw === null) throw corrupt(path, line, 'it has no message raw')
  return [t, JSON.stringify(raw)]
}

/**
 * Reads the whole recording once: what markets it has, and that nothing in it is broken. About half a million messages
 * take three seconds.
 *
 * @param maxGapMs idle time between two messages that counts at most
 * @throws UserError
 */
export async function scanRecording(path: string, maxGapMs: number): Promise<Recording> {
  const markets = new Map<string, RecordedMarket>()
  let messages = 0
  let lastMs = Number.NaN
  let durationMs = 0
  for await (const lines of readRecording(path)) {
    for (const { atMs, message, text } of lines) {
      durationMs += Math.min(maxGapMs, Math.max(0, atMs - lastMs) || 0)
      lastMs = atMs
      messages++
      let market = markets.get(message.marketTicker)
      if (market === undefined) {
        const marketId = /"market_id":"([^"\\]*)"/.exec(text)?.[1] ?? ''
        market = { ticker: message.marketTicker, marketId, messages: 0, hasTrades: false, subCent: false, endMs: 0 }
        markets.set(market.ticker, market)
      }
      market.messages++
      market.endMs = durationMs
      if (message.type === 'trade') market.hasTrades = true
      else if (message.type === 'orderbook_delta') market.subCent ||= message.priceTicks % 100 !== 0
      else if (message.type === 'orderbook_snapshot')
        market.subCent ||= [...message.yes, ...message.no].some(({ priceTicks }) => priceTicks % 100 !== 0)
    }
  }
  if (messages === 0) throw new UserError('RECORDING_EMPTY', `recording ${path} holds no market data of this venue`)
  return { path, markets, messages, durationMs }
}
