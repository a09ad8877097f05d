/**
 * The parser and the sequence rule against recorded traffic of the real venue.
 *
 * The recordings are not part of the repository; where they are absent the tests are skipped and say so.
 */
import assert from 'node:assert/strict'
import { createReadStream, existsSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { constants, createZstdDecompress } from 'node:zlib'
import { type FeedMessage, parseMessage } from '../../src/kalshi/index.ts'
import { Sequences } from '../../src/kalshi/sequence.ts'

function recording(name: string) {
  const file = fileURLToPath(new URL(`../../../../shared/data/${name}`, import.meta.url))
  return { file, skip: existsSync(file) ? false : 'no recorded data beside the project' }
}

/** Lines of a recording; written with a window of 128 MiB, zstd's default limit. */
function linesOf(file: string): AsyncIterable<string> {
  const params = { [constants.ZSTD_d_windowLogMax]: 27 }
  return createInterface({ input: createReadStream(file).pipe(createZstdDecompress({ params })) })
}

/** The message's own text, byte for byte: `raw` is the last field of a line. */
function rawOf(line: string): string {
  return line.slice(line.indexOf('"raw":') + 6, -1)
}

class Tally {
  readonly types: Record<string, number> = {}
  gaps = 0
  readonly #sequences = new Map<string, Sequences>()

  count(connection: string, message: FeedMessage): void {
    this.types[message.type] = (this.types[message.type] ?? 0) + 1
    const { sid, seq } = message as { sid?: number | undefined; seq?: number | undefined }
    if (sid === undefined || seq === undefined) return
    const sequences = this.#sequences.get(connection) ?? new Sequences()
    this.#sequences.set(connection, sequences)
    if (!sequences.accept(sid, seq)) this.gaps++
  }
}

const verbatim = recording('kalshi-verbatim-frames.jsonl.zst')

test('every verbatim frame of the venue is read, without a gap', { skip: verbatim.skip }, async (t: TestContext) => {
  const tally = new Tally()
  for await (const line of linesOf(verbatim.file)) {
    const { src } = JSON.parse(line) as { src: string }
    const message = parseMessage(rawOf(line))
    assert.ok(message.type !== 'malformed' && message.type !== 'unknown', line)
    tally.count(src, message)
  }
  assert.deepEqual(tally.types, { subscribed: 3, orderbook_snapshot: 13, orderbook_delta: 2946, error: 3, ok: 4 })
  assert.equal(tally.gaps, 0)
  t.diagnostic(JSON.stringify(tally.types))
})

const feed = recording('kalshi-kxbtc15m-ws.jsonl.zst')

test('half a million recorded messages are read, without a gap on any connection', {
  skip: feed.skip,
}, async (t: TestContext) => {
  const tally = new Tally()
  let messages = 0
  for await (const line of linesOf(feed.file)) {
    const connection = /"c":(\d+)/.exec(line)?.[1]
    assert.ok(connection !== undefined)
    const message = parseMessage(rawOf(line))
    assert.ok(message.type !== 'malformed' && message.type !== 'unknown', line)
    tally.count(connection, message)
    messages++
  }
  assert.equal(messages, 584_681)
  assert.equal(tally.gaps, 0)
  t.diagnostic(JSON.stringify(tally.types))
})
