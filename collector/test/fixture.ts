/** A collector on loopback with a directory of its own, and batches to send it. */
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  BATCH_VERSION,
  type Batch,
  boundCells,
  bucketBoundsNs,
  DEFAULT_SLOS,
  encodeSeries,
  type Labels,
  LatencyHistogram,
  type MetricName,
} from '@tickscope/contract'
import { type Collector, type CollectorOptions, createCollector, type Summary } from '../src/app.ts'

const BOUNDS = boundCells(bucketBoundsNs(DEFAULT_SLOS))

export function temporaryDir(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'tickscope-collector-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

export interface Started {
  readonly collector: Collector
  readonly url: string
  readonly dir: string
  readonly notes: string[]
  /** Stops it now rather than at the end of the test. */
  stop(): Promise<Summary>
}

export async function startCollector(t: TestContext, options: Partial<CollectorOptions> = {}): Promise<Started> {
  const dir = options.dataDir ?? temporaryDir(t)
  const notes: string[] = []
  const collector = createCollector({ port: 0, log: (line) => notes.push(line), ...options, dataDir: dir })
  await collector.start()
  let stopped: Promise<Summary> | undefined
  const stop = () => (stopped ??= collector.stop())
  t.after(stop)
  return { collector, url: collector.url, dir, notes, stop }
}

/** Values recorded as an agent does: cells respect the bucket bounds. */
export function histogramOf(valuesNs: readonly number[]): LatencyHistogram {
  const histogram = new LatencyHistogram(BOUNDS)
  for (const value of valuesNs) histogram.record(value)
  return histogram
}

export function series(metric: MetricName, labels: Labels, valuesNs: readonly number[]) {
  return encodeSeries(metric, labels, histogramOf(valuesNs))
}

export const API_OK = { endpoint: 'create_order', outcome: 'ok' } as const

export type BatchInput = Partial<Omit<Batch, 'version'>>

export function batchOf(fields: BatchInput = {}): Batch {
  const endMs = fields.intervalEndMs ?? Date.now()
  return {
    version: BATCH_VERSION,
    agent: 'agent-1',
    epoch: 'epoch-1',
    sequence: 1,
    resource: { service: 'bot', instance: 'bot-1', venue: 'kalshi' },
    intervalStartMs: endMs - 1000,
    intervalEndMs: endMs,
    series: [],
    counters: [],
    gauges: [],
    firstBreachAtMs: {},
    ...fields,
  }
}

export async function postBatch(
  url: string,
  batch: unknown,
  headers: Record<string, string> = {},
): Promise<{ status: number; body: { status?: string; error?: string; code?: string }; headers: Headers }> {
  const body = typeof batch === 'string' || batch instanceof Uint8Array ? batch : JSON.stringify(batch)
  const response = await fetch(`${url}/v1/batches`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body,
    signal: AbortSignal.timeout(10_000),
  })
  return { status: response.status, body: (await response.json()) as { status?: string }, headers: response.headers }
}

export async function getSummary(url: string): Promise<Summary> {
  return (await (await fetch(`${url}/v1/summary`)).json()) as Summary
}

export async function getMetrics(url: string, accept?: string): Promise<string> {
  return (await fetch(`${url}/metrics`, accept === undefined ? {} : { headers: { accept } })).text()
}

/** The value of one sample line, labels in any order. */
export function sample(metrics: string, name: string, labels: Labels): number | undefined {
  for (const line of metrics.split('\n')) {
    const match = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line)
    if (match?.[1] !== name) continue
    const given = Object.fromEntries([...(match[2] ?? '').matchAll(/([a-z_]+)="([^"]*)"/g)].map((m) => [m[1], m[2]]))
    if (Object.entries(labels).every(([label, value]) => given[label] === value)) return Number(match[3])
  }
  return undefined
}

/** Polls until `check` gives something; fails with `what` after the deadline. */
export async function eventually<T>(
  what: string,
  check: () => Promise<T | undefined> | T | undefined,
  deadlineMs = 15_000,
) {
  const end = performance.now() + deadlineMs
  for (;;) {
    const result = await check()
    if (result !== undefined && result !== false) return result as T
    if (performance.now() > end) throw new Error(`not within ${deadlineMs} ms: ${what}`)
    await sleep(20)
  }
}

export interface Received {
  readonly method: string
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: Buffer
}

export interface Peer {
  readonly url: string
  readonly received: Received[]
  readonly server: Server
  /** What it answers, in turn; the last for ever. Default: 200 without a body. */
  answer: (request: Received, n: number) => { status: number; headers?: Record<string, string>; body?: string | Buffer }
}

/** An HTTP server that keeps what it gets. */
export async function startPeer(t: TestContext, port = 0): Promise<Peer> {
  const received: Received[] = []
  const server = createServer((request, response) => {
    const pieces: Buffer[] = []
    request.on('data', (piece) => pieces.push(piece))
    request.on('end', () => {
      const { method = '', url = '', headers } = request
      const got = { method, path: url, headers, body: Buffer.concat(pieces) }
      received.push(got)
      const { status, headers: answerHeaders, body } = peer.answer(got, received.length)
      response.writeHead(status, answerHeaders).end(body)
    })
  })
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  const peer: Peer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    received,
    server,
    answer: () => ({ status: 200 }),
  }
  return peer
}
