import assert from 'node:assert/strict'
import { createPublicKey } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { parseMessage, verify } from '@tickscope/venue/kalshi'
import type { OrderLine } from '../../runtimes/order.ts'
import { runNative } from '../../src/native.ts'
import { findRuntimes, KINDS, type Runtime } from '../../src/runtime/interpreter.ts'
import { createTicks } from '../../src/runtime/run.ts'
import { KEY_TYPES, type OrderVenue, startOwnVenue } from '../../src/runtime/venue.ts'

const ORDERS = 4

/** A venue that keeps the bytes of each request and takes every order. */
async function startListener() {
  const requests: string[] = []
  const server = createServer((socket) => {
    let text = ''
    socket.on('data', (bytes) => {
      text += bytes.toString('latin1')
      for (;;) {
        const end = text.indexOf('\r\n\r\n')
        const length = Number(/content-length: (\d+)/.exec(text)?.[1])
        if (end < 0 || text.length < end + 4 + length) return
        requests.push(text.slice(0, end + 4 + length))
        text = text.slice(end + 4 + length)
        socket.write('HTTP/1.1 201 Created\r\nContent-Length: 18\r\n\r\n{"order_id":"abc"}')
      }
    })
    socket.on('error', () => {})
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const stop = () => new Promise((resolve) => server.close(resolve))
  return { port: (server.address() as AddressInfo).port, requests, stop }
}

async function runProgram(runtime: Runtime, venue: OrderVenue, port: number) {
  let line: OrderLine | undefined
  const ticks = join(venue.folder, 'ticks.jsonl')
  writeFileSync(ticks, createTicks(venue.ticker).join('\n'))
  const flags = [
    ...['--host', '127.0.0.1', '--port', `${port}`, '--key-file', venue.keyFile, '--key-id', venue.keyId],
    ...['--ticker', venue.ticker, '--ticks', ticks, '--prefix', 'run', '--rate', '200'],
    ...['--count', `${ORDERS}`, '--warm-up', '1', '--cpu-batches', '1'],
  ]
  const { code, said } = await runNative({
    program: runtime.program,
    args: [...runtime.args, ...flags],
    timeoutMs: 30_000,
    onLine: (printed) => (line = printed),
  })
  assert.equal(code, 0, said)
  assert.ok(line, 'it printed no line')
  return line
}

for (const keyType of KEY_TYPES) {
  describe(`an order signed with ${keyType}`, () => {
    let venue: OrderVenue
    before(async () => {
      venue = await startOwnVenue(keyType)
    })
    after(() => venue.stop())

    it('leaves every runtime as the same bytes, with a signature the venue takes', async (t) => {
      const runtimes = (await findRuntimes(KINDS, [])).filter(({ missing }) => missing === undefined)
      assert.ok(runtimes.some(({ kind }) => kind === 'node'))
      const publicKey = createPublicKey(readFileSync(venue.keyFile))
      const seen = new Map<string, string[]>()
      for (const runtime of runtimes) {
        const listener = await startListener()
        const line = await runProgram(runtime, venue, listener.port).finally(listener.stop)
        assert.equal(line.sent, ORDERS)
        assert.equal(line.lost, 0)
        assert.equal(listener.requests.length, ORDERS + 1)
        for (const name of ['slip', 'parse', 'decide', 'sign', 'encode', 'io', 'answer'])
          assert.equal(line.samplesNs[name]?.length, ORDERS, name)
        const masked = listener.requests.map((request) => {
          const header = (name: string) => new RegExp(`${name}: (.*)\r\n`).exec(request)?.[1] as string
          const timestamp = header('KALSHI-ACCESS-TIMESTAMP')
          const path = request.split(' ')[1] as string
          const signed = { timestamp, method: 'POST', path }
          assert.ok(verify(publicKey, signed, header('KALSHI-ACCESS-SIGNATURE')), `${runtime.name}: signature`)
          return request
            .replace(timestamp, 'T')
            .replace(header('KALSHI-ACCESS-SIGNATURE'), 'S')
            .replace(`127.0.0.1:${listener.port}`, 'H')
        })
        seen.set(runtime.name, masked)
      }
      const [first, ...others] = [...seen]
      for (const [name, masked] of others) assert.deepEqual(masked, first?.[1], `${name} against ${first?.[0]}`)
      t.diagnostic(`compared: ${[...seen.keys()].join(', ')}`)
    })
  })
}

describe('the ticks every runtime reads', () => {
  it("are messages the venue's own client parses, and the same each time", () => {
    const ticks = createTicks('KXTEST-1')
    for (const tick of ticks.slice(0, 50)) assert.equal(parseMessage(tick).type, 'orderbook_delta')
    assert.deepEqual(createTicks('KXTEST-1'), ticks)
  })
})
