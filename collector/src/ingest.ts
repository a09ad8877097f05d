/**
 * `POST /v1/batches`: from the bytes of a request to an acknowledged batch.
 *
 * A batch is checked whole, put on disk, added to the state, judged, and only then acknowledged. (agent, epoch,
 * sequence) is applied once however often it is sent: a batch that was applied before is answered `duplicate`. A hole in
 * the sequence means batches that were lost for good; it is accepted, counted and noted.
 *
 *   200          {"status":"applied"} or {"status":"duplicate"}: the agent may forget the batch
 *   400 413 415  {"error","code"}: never, however often it is sent
 *   401          not without the token
 *   429 503      later, after Retry-After seconds: the collector is full, busy, or cannot write
 *
 * Work on bodies (inflate, parse, decode) runs one at a time, so the memory of ingest is that of one body beside the
 * compressed ones waiting. Batches of one agent take turns, so their order on disk is the order they were sent in.
 */
import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import { BATCH_LIMITS, BatchError, type DecodedBatch, decodeBatch } from '@tickscope/contract'
import type { Clock } from './clock.ts'
import { RequestError } from './error.ts'
import type { Journal } from './journal/journal.ts'
import { encodeBatch } from './journal/record.ts'
import { type AcceptedBatch, acceptBatch, type State } from './merge.ts'

const inflate = promisify(gunzip)

export interface IngestOptions {
  readonly state: State
  readonly journal: Journal
  readonly clock: Clock
  readonly log: (line: string) => void
  /** A batch was added to the state; `arrivedAtMonotonicMs` as given to the windows. */
  readonly onApplied: (batch: AcceptedBatch, arrivedAtMonotonicMs: number) => void
}

export type Verdict = { readonly status: 'applied' | 'duplicate' }

export class Ingest {
  readonly #options: IngestOptions
  /** End of the queue for work on bodies. */
  #bodyWork: Promise<unknown> = Promise.resolve()
  /** Per agent, the end of its queue. */
  readonly #turns = new Map<string, Promise<unknown>>()

  constructor(options: IngestOptions) {
    this.#options = options
  }

  /**
   * @param body as sent
   * @throws RequestError what is wrong with it, or why it cannot be kept now
   */
  async take(body: Buffer, gzip: boolean): Promise<Verdict> {
    const work = this.#bodyWork.then(() => this.#decode(body, gzip))
    this.#bodyWork = work.catch(() => {})
    const batch = await work
    const { agent } = batch
    const turn = (this.#turns.get(agent) ?? Promise.resolve()).then(() => this.#apply(batch))
    const settled = turn.catch(() => {})
    this.#turns.set(agent, settled)
    try {
      return await turn
    } finally {
      if (this.#turns.get(agent) === settled) this.#turns.delete(agent)
    }
  }

  async #decode(body: Buffer, gzip: boolean): Promise<AcceptedBatch> {
    const bytes = gzip ? await inflateBody(body) : body
    let json: unknown
    try {
      json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
    } catch {
      throw new RequestError(400, 'BATCH_INVALID', 'the body is not JSON in UTF-8')
    }
    try {
      const batch = decodeBatch(json)
      checkBatch(batch)
      const encoded = (json as { series: { histogram: string }[] }).series.map(({ histogram }) => histogram)
      return acceptBatch(batch, encoded, this.#options.clock.epochMs())
    } catch (error) {
      if (error instanceof BatchError) throw new RequestError(400, error.code, error.message)
      throw error
    }
  }

  async #apply(batch: AcceptedBatch): Promise<Verdict> {
    const { state, journal, clock, log, onApplied } = this.#options
    const { agent, epoch, sequence } = batch
    const place = state.place(agent, epoch, sequence)
    if (place === 'duplicate') return { status: 'duplicate' }
    state.checkRoom(batch)
    await journal.append(encodeBatch(batch), () => {
      if (place === 'gap')
        log(
          `agent ${agent} epoch ${epoch}: sequence ${sequence} follows ${state.lastSequence(agent, epoch)}; ` +
            'the batches between were lost, or another collector has them',
        )
      const arrivedAtMonotonicMs = clock.monotonicMs()
      state.apply(batch, arrivedAtMonotonicMs)
      onApplied(batch, arrivedAtMonotonicMs)
    })
    return { status: 'applied' }
  }
}

async function inflateBody(body: Buffer): Promise<Buffer> {
  try {
    return await inflate(body, { maxOutputLength: BATCH_LIMITS.bodyBytes })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE')
      throw new RequestError(413, 'BODY_TOO_LARGE', `the body inflates to more than ${BATCH_LIMITS.bodyBytes} bytes`)
    throw new RequestError(400, 'BATCH_INVALID', 'the body is not a whole gzip stream')
  }
}

/** What the schema of a batch leaves open and this collector cannot keep. @throws BatchError */
function checkBatch({ resource, series, counters, gauges }: DecodedBatch): void {
  for (const [label, value] of Object.entries(resource)) {
    if (value !== undefined && (/\p{Cc}/u.test(value) || !value.isWellFormed()))
      throw new BatchError(`batch: resource.${label} has a character that is not text`)
  }
  for (const { metric } of [...series, ...counters, ...gauges]) {
    if (metric.startsWith('tickscope_collector_')) throw new BatchError(`batch: ${metric} is the collector's own`)
  }
  for (const { metric, histogram } of series) {
    if (histogram.sumNs > Number.MAX_SAFE_INTEGER) throw new BatchError(`batch: sumNs of ${metric} is above 2^53 - 1`)
  }
}
