import assert from 'node:assert/strict'
import { readFileSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { after, before, describe, it } from 'node:test'
import { nowNs } from '../src/clock.ts'
import { Connection, type Endpoint, type Exchange } from '../src/connection.ts'
import { createCertificate, startTarget, type Target, type TlsFiles } from './target.ts'

const REQUEST = Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
const ANSWER = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'
const TIMEOUT_MS = 10_000

/** The instants that were reached must follow one another. */
function assertInOrder({ instants }: Exchange): void {
  const reached = [
    instants.startedAtNs,
    instants.lookedUpAtNs,
    instants.connectedAtNs,
    instants.securedAtNs,
    instants.firstByteAtNs,
    instants.endedAtNs,
  ].filter((atNs) => atNs !== null)
  for (const atNs of reached) assert.ok(Number.isInteger(atNs))
  assert.deepEqual(
    reached,
    reached.toSorted((a, b) => a - b),
  )
}

/** A server of raw bytes: `onRequest` is called once for each read. */
async function rawServer(onRequest: (socket: Socket) => void): Promise<{ server: Server; endpoint: Endpoint }> {
  const server = createServer((socket) => socket.on('error', () => {}).on('data', () => onRequest(socket)))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  return { server, endpoint: { host: '127.0.0.1', port, tls: false } }
}

async function exchangeOnce(endpoint: Endpoint, timeoutMs = TIMEOUT_MS): Promise<Exchange> {
  const connection = new Connection(endpoint)
  const exchange = await connection.exchange(REQUEST, nowNs(), timeoutMs)
  connection.destroy()
  return exchange
}

describe('a connection', () => {
  let tls: TlsFiles | undefined
  const targets: Target[] = []
  const servers: Server[] = []
  before(() => {
    tls = createCertificate()
  })
  after(async () => {
    for (const target of targets) await target.stop()
    for (const server of servers) server.close()
    if (tls) rmSync(tls.folder, { recursive: true })
  })

  it('times each step of its set-up once, and none of them on the next request', async () => {
    const target = await startTarget((_, response) => response.end('ok'))
    targets.push(target)
    const connection = new Connection({ host: 'localhost', port: target.port, tls: false })
    const first = await connection.exchange(REQUEST, nowNs(), TIMEOUT_MS)
    assert.equal(first.outcome, 'answered')
    assert.equal(first.status, 200)
    assert.equal(first.opened, true)
    assert.notEqual(first.instants.lookedUpAtNs, null)
    assert.notEqual(first.instants.connectedAtNs, null)
    assert.equal(first.instants.securedAtNs, null)
    assertInOrder(first)
    const second = await connection.exchange(REQUEST, nowNs(), TIMEOUT_MS)
    assert.equal(second.outcome, 'answered')
    assert.equal(second.opened, false)
    assert.equal(second.instants.lookedUpAtNs, null)
    assert.equal(second.instants.connectedAtNs, null)
    assertInOrder(second)
    assert.equal(target.accepted, 1)
    connection.destroy()
  })

  it('looks up no name for an address', async () => {
    const target = await startTarget((_, response) => response.end())
    targets.push(target)
    const exchange = await exchangeOnce({ host: '127.0.0.1', port: target.port, tls: false })
    assert.equal(exchange.instants.lookedUpAtNs, null)
    assert.notEqual(exchange.instants.connectedAtNs, null)
  })

  it('times the TLS handshake, and checks the certificate', async (t) => {
    if (!tls) return t.skip('no openssl on PATH to make a certificate with')
    const target = await startTarget((_, response) => response.end('ok'), { tls })
    targets.push(target)
    const endpoint = { host: 'localhost', port: target.port, tls: true }
    const trusted = await exchangeOnce({ ...endpoint, ca: readFileSync(tls.certFile, 'utf8') })
    assert.equal(trusted.outcome, 'answered', trusted.detail)
    assert.notEqual(trusted.instants.lookedUpAtNs, null)
    assert.notEqual(trusted.instants.connectedAtNs, null)
    assert.notEqual(trusted.instants.securedAtNs, null)
    assertInOrder(trusted)
    const untrusted = await exchangeOnce(endpoint)
    assert.equal(untrusted.outcome, 'error')
    assert.equal(untrusted.reason, 'DEPTH_ZERO_SELF_SIGNED_CERT')
    const misnamed = await exchangeOnce({ ...endpoint, host: '127.0.0.1', ca: readFileSync(tls.certFile, 'utf8') })
    assert.equal(misnamed.reason, 'ERR_TLS_CERT_ALTNAME_INVALID')
  })

  it('takes the first byte when it is read and the end when the last one is', async () => {
    const { server, endpoint } = await rawServer((socket) => {
      socket.write(ANSWER.slice(0, -1))
      setTimeout(() => socket.write(ANSWER.slice(-1)), 30)
    })
    servers.push(server)
    const { instants } = await exchangeOnce(endpoint)
    assert.ok(instants.endedAtNs - (instants.firstByteAtNs as number) >= 25e6)
  })

  it('gives up a request that is not answered in time, with its connection', async () => {
    const { server, endpoint } = await rawServer((socket) => socket.write('HTTP/1.1 200 OK\r\n'))
    servers.push(server)
    const connection = new Connection(endpoint)
    const exchange = await connection.exchange(REQUEST, nowNs(), 50)
    assert.equal(exchange.outcome, 'timeout')
    assert.ok(exchange.instants.endedAtNs - exchange.instants.startedAtNs >= 45e6)
    assert.equal(connection.usable, false)
  })

  it('tells apart a port nobody listens on, a name nobody knows, and a peer that hangs up', async () => {
    const { server, endpoint } = await rawServer((socket) => socket.destroy())
    assert.equal((await exchangeOnce(endpoint)).reason, 'CLOSED')
    await new Promise((resolve) => server.close(resolve))
    assert.equal((await exchangeOnce(endpoint)).reason, 'ECONNREFUSED')
    // A label of more than 63 characters: refused by the resolver here, asked of nobody.
    const unknown = await exchangeOnce({ ...endpoint, host: `${'x'.repeat(64)}.invalid` })
    assert.equal(unknown.reason, 'ENOTFOUND', unknown.detail)
    assert.equal(unknown.instants.lookedUpAtNs, null)
  })

  it('is used once only when the peer says so, speaks nonsense, or sends more than was asked for', async () => {
    for (const [answer, outcome] of [
      ['HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n', 'answered'],
      ['HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n', 'answered'],
      ['* OK IMAP4 ready\r\n\r\n', 'error'],
      [`${ANSWER}${ANSWER}`, 'error'],
    ] as const) {
      const { server, endpoint } = await rawServer((socket) => socket.write(answer))
      servers.push(server)
      const connection = new Connection(endpoint)
      const exchange = await connection.exchange(REQUEST, nowNs(), TIMEOUT_MS)
      assert.equal(exchange.outcome, outcome, answer)
      assert.equal(connection.usable, false, answer)
      connection.destroy()
    }
  })

  it('reads an answer that ends with its connection', async () => {
    const { server, endpoint } = await rawServer((socket) => socket.end('HTTP/1.1 200 OK\r\n\r\nall of it'))
    servers.push(server)
    assert.equal((await exchangeOnce(endpoint)).outcome, 'answered')
  })

  it('notices that an idle peer hung up', async () => {
    const { server, endpoint } = await rawServer((socket) => {
      socket.write(ANSWER, () => setTimeout(() => socket.end(), 10))
    })
    servers.push(server)
    const connection = new Connection(endpoint)
    await connection.exchange(REQUEST, nowNs(), TIMEOUT_MS)
    const deadline = Date.now() + 5_000
    while (connection.usable && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 5))
    assert.equal(connection.usable, false)
  })

  it('abandons what is in flight when it is destroyed', async () => {
    const { server, endpoint } = await rawServer(() => connection.destroy())
    servers.push(server)
    const connection: Connection = new Connection(endpoint)
    assert.equal((await connection.exchange(REQUEST, nowNs(), TIMEOUT_MS)).outcome, 'abandoned')
  })
})
