import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { type AddressInfo, connect, createServer, type Server } from 'node:net'
import { after, before, describe, it } from 'node:test'
import { type Relay, startRelay } from '../../src/route/relay.ts'

const DELAY_MS = 20

describe('a relay with injected delay', () => {
  let echo: Server
  let relay: Relay
  before(async () => {
    echo = createServer({ allowHalfOpen: true }, (socket) => {
      socket.pipe(socket)
      socket.on('error', () => {})
    })
    await new Promise<void>((resolve) => echo.listen(0, '127.0.0.1', resolve))
    const to = { host: '127.0.0.1', port: (echo.address() as AddressInfo).port }
    relay = await startRelay({ host: '127.0.0.1', port: 0, to, delayMs: DELAY_MS })
  })
  after(async () => {
    await relay.stop()
    await new Promise((resolve) => echo.close(resolve))
  })

  it('passes more bytes than it may hold, unchanged and in order, and then the end', async () => {
    const bytes = randomBytes(3 * 1024 * 1024)
    const socket = connect({ port: relay.port, host: '127.0.0.1', allowHalfOpen: true })
    const received: Buffer[] = []
    socket.on('data', (chunk: Buffer) => received.push(chunk))
    socket.end(bytes)
    await new Promise((resolve) => socket.once('end', resolve))
    socket.destroy()
    assert.ok(Buffer.concat(received).equals(bytes))
  })

  it('never answers sooner than its delay', async () => {
    const socket = connect({ port: relay.port, host: '127.0.0.1', noDelay: true })
    await new Promise((resolve) => socket.once('connect', resolve))
    for (let i = 0; i < 5; i++) {
      const startedAt = performance.now()
      socket.write('x')
      await new Promise((resolve) => socket.once('data', resolve))
      assert.ok(performance.now() - startedAt >= DELAY_MS)
    }
    socket.destroy()
  })

  it('ends a connection whose target refuses', async () => {
    const refusing = await startRelay({ host: '127.0.0.1', port: 0, to: { host: '127.0.0.1', port: 1 }, delayMs: 1 })
    const socket = connect({ port: refusing.port, host: '127.0.0.1' })
    socket.on('error', () => {})
    await new Promise((resolve) => socket.once('close', resolve))
    await refusing.stop()
  })
})
