/**
 * A collector for the agent's tests: a real HTTP server that decodes and applies batches as the product's does (each
 * (agent, epoch, sequence) once), keeps what it was sent, and misbehaves on request.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type DecodedBatch, decodeBatch, type Labels, LatencyHistogram, labelsKey } from '@tickscope/contract'

export interface ReceivedBatch {
  readonly body: string
  readonly headers: IncomingMessage['headers']
  readonly batch: DecodedBatch
  /** Whether it was new to the collector. */
  readonly applied: boolean
}

export interface OtlpSpan {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
  readonly status?: { readonly code?: number }
  readonly attributes: readonly { readonly key: string; readonly value: { readonly stringValue?: string } }[]
}

/** What to do with a request: answer this, or, when undefined, cut the connection without an answer. */
export type Behaviour = (received: ReceivedBatch) => Answer | undefined | Promise<Answer | undefined>

export interface Answer {
  readonly status: number
  readonly body?: string
  readonly headers?: { readonly [name: string]: string }
}

export class CollectorStandIn {
  readonly received: ReceivedBatch[] = []
  readonly spans: OtlpSpan[] = []
  readonly traceHeaders: IncomingMessage['headers'][] = []
  /** Resource attributes of the last trace request. */
  traceResource: { readonly [name: string]: string | undefined } = {}
  /** Answer to trace requests; only 200 keeps their spans. */
  tracesStatus = 200
  behaviour: Behaviour = () => ({ status: 200 })
  readonly #applied = new Map<string, number>()
  readonly #histograms = new Map<string, LatencyHistogram>()
  readonly #counters = new Map<string, number>()
  readonly #gauges = new Map<string, number>()
  #server: Server | undefined
  #port = 0
  readonly #waiters = new Set<() => void>()

  /** Listens on a free port of 127.0.0.1, or again on the port it had. */
  async start(): Promise<this> {
    this.#server = createServer((request, response) => this.#take(request, response))
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#server.once('error', reject).listen(this.#port, '127.0.0.1', resolve)
    await promise
    this.#port = (this.#server.address() as AddressInfo).port
    return this
  }

  /** As `kill -9`: nothing in flight is answered. What was applied stays. */
  async stop(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#server?.close(() => resolve())
    this.#server?.closeAllConnections()
    await promise
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  histogram(metric: string, labels: Labels = {}): LatencyHistogram {
    return this.#histograms.get(metric + labelsKey(labels)) ?? new LatencyHistogram()
  }

  counter(metric: string, labels: Labels = {}): number {
    return this.#counters.get(metric + labelsKey(labels)) ?? 0
  }

  gauge(metric: string, labels: Labels = {}): number | undefined {
    return this.#gauges.get(metric + labelsKey(labels))
  }

  /** Waits until `condition` holds, looking after each request. */
  async until(condition: () => boolean, timeoutMs = 10_000): Promise<void> {
    const deadline = performance.now() + timeoutMs
    while (!condition()) {
      const { promise, resolve } = Promise.withResolvers<void>()
      const timer = setTimeout(resolve, Math.max(0, deadline - performance.now()))
      this.#waiters.add(resolve)
      await promise
      clearTimeout(timer)
      this.#waiters.delete(resolve)
      if (performance.now() >= deadline && !condition()) {
        throw new Error(`not so within ${timeoutMs} ms, after ${this.received.length} batches: ${condition}`)
      }
    }
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    const body = Buffer.concat(chunks).toString()
    if (request.url?.endsWith('/v1/traces')) this.#trace(request, response, body)
    else await this.#batch(request, response, body)
    for (const wake of this.#waiters) wake()
  }

  async #batch(request: IncomingMessage, response: ServerResponse, body: string): Promise<void> {
    const batch = decodeBatch(JSON.parse(body))
    const name = `${batch.agent} ${batch.epoch}`
    const answer = await this.behaviour({ body, headers: request.headers, batch, applied: false })
    const applied = batch.sequence > (this.#applied.get(name) ?? 0)
    // A refused or failed batch is not applied; one whose answer is lost is.
    if (answer === undefined || answer.status < 300) {
      this.received.push({ body, headers: request.headers, batch, applied })
      if (applied) {
        this.#applied.set(name, batch.sequence)
        this.#apply(batch)
      }
    }
    if (answer === undefined) request.socket.destroy()
    else
      response
        .writeHead(answer.status, { 'content-type': 'application/json', ...answer.headers })
        .end(answer.body ?? '{}')
  }

  #apply(batch: DecodedBatch): void {
    for (const { metric, labels, histogram } of batch.series) {
      const key = metric + labelsKey(labels)
      const known = this.#histograms.get(key)
      if (known === undefined) this.#histograms.set(key, histogram)
      else known.add(histogram)
    }
    for (const { metric, labels, value } of batch.counters) {
      const key = metric + labelsKey(labels)
      this.#counters.set(key, (this.#counters.get(key) ?? 0) + value)
    }
    for (const { metric, labels, value } of batch.gauges) this.#gauges.set(metric + labelsKey(labels), value)
  }

  #trace(request: IncomingMessage, response: ServerResponse, body: string): void {
    this.traceHeaders.push(request.headers)
    for (const { resource, scopeSpans } of this.tracesStatus === 200 ? JSON.parse(body).resourceSpans : []) {
      this.traceResource = attributesOf(resource)
      for (const { spans } of scopeSpans) this.spans.push(...spans)
    }
    response.writeHead(this.tracesStatus, { 'content-type': 'application/json' }).end('{}')
  }
}

export function attributesOf({ attributes }: Pick<OtlpSpan, 'attributes'>): { [name: string]: string | undefined } {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, value.stringValue]))
}
