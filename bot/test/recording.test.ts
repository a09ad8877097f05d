/**
 * The book against a recorded feed: what the venue says its best bid is against what we rebuilt from its deltas.
 *
 * The recording is not part of the repository; where it is absent the test is skipped and says so.
 */
import assert from 'node:assert/strict'
import { createReadStream, existsSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { constants, createZstdDecompress } from 'node:zlib'
import { parseMessage } from '@tickscope/venue/kalshi'
import { Book } from '../src/book.ts'

const RECORDING = fileURLToPath(new URL('../../../shared/data/kalshi-kxbtc15m-ws.jsonl.zst', import.meta.url))

interface Line {
  readonly c: number
  readonly raw: unknown
}

test('a book rebuilt from a recorded feed never goes negative and agrees with the ticker', {
  skip: existsSync(RECORDING) ? false : 'no recorded data beside the project',
}, async () => {
  // Written with a window of 128 MiB, zstd's default limit.
  const params = { [constants.ZSTD_d_windowLogMax]: 27 }
  const file = createReadStream(RECORDING)
  const lines = createInterface({ input: file.pipe(createZstdDecompress({ params })) })
  const books = new Map<string, Book>()
  let connection = 0
  let seq = 0
  let deltas = 0
  let crossed = 0
  let tickers = 0
  let agreed = 0
  for await (const line of lines) {
    const { c, raw } = JSON.parse(line) as Line
    const message = parseMessage(JSON.stringify(raw))
    if (c !== connection) {
      connection = c
      seq = 0
      books.clear()
    }
    if (message.type === 'orderbook_snapshot' || message.type === 'orderbook_delta') {
      assert.equal(message.seq, ++seq)
      let book = books.get(message.marketTicker)
      if (!book) {
        book = new Book(message.marketTicker)
        books.set(message.marketTicker, book)
      }
      if (message.type === 'orderbook_snapshot') assert.ok(book.replace(message.yes, message.no))
      else {
        deltas++
        assert.equal(book.apply(message.side, message.priceTicks, message.deltaHundredths), 'applied')
        if (book.crossed) crossed++
      }
    } else if (message.type === 'ticker') {
      const book = books.get(message.marketTicker)
      if (book?.state !== 'live') continue
      tickers++
      if (book.bestBidTicks === message.yesBidTicks) agreed++
    } else assert.equal(message.type, 'subscribed')
  }
  assert.ok(deltas > 500_000, `${deltas} deltas`)
  assert.ok(tickers > 4000, `${tickers} tickers`)
  // The ticker trails the book: the recording's own notes find 4942 of 5428 equal.
  assert.ok(agreed / tickers > 0.9, `${agreed} of ${tickers} tickers agree with the book`)
  assert.ok(crossed / deltas < 0.001, `${crossed} of ${deltas} deltas left the book crossed`)
})
