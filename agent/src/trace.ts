/**
 * Turns recorded ticks into OpenTelemetry spans and exports them over OTLP/HTTP. The only file that knows OpenTelemetry:
 * its 3.x line renames the packages.
 *
 * A tick is a root span `tick` with one child per stage, named after the instant that ends it, and, once sent, an
 * `api call`; start and end times are the recorded instants, exact to the nanosecond, so children tile their parent.
 * Building a span costs about 2 µs and exporting 256 of them 1 to 2 ms of the drain's thread, never the bot's. The
 * packages take 0.1 to 0.2 s to load: one by one, so that the drain gets its turns between.
 */
import type { ReadableSpan, SpanExporter, SpanProcessor } from '@opentelemetry/sdk-trace-node'
import { INSTANT, INSTANTS, type Resource } from '@tickscope/contract'
import type { Anchor } from './clock.ts'
import type { Trace } from './tail.ts'

/** Spans of one request: about 350 kB of JSON. */
const SPANS_PER_REQUEST = 256
/** Answer of the collector, with the exporter's own retries. */
const EXPORT_TIMEOUT_MS = 5_000

/** `ExportResultCode.SUCCESS` of @opentelemetry/core, whose only use this would be. */
const SUCCESS = 0

export interface TraceExporterOptions {
  readonly collectorUrl: string
  readonly token: string | undefined
  readonly agentId: string
  readonly resource: Resource
  readonly anchor: Anchor
}

export interface TraceExporter {
  /** Resolves when every span was answered for. */
  export(traces: readonly Trace[], report: (outcome: 'exported' | 'failed', spans: number) => void): Promise<void>
}

/** Keeps finished spans until they are exported; the spans of one call only, so it is as bounded as its caller. */
class Collected implements SpanProcessor {
  readonly spans: ReadableSpan[] = []

  onStart(): void {}

  onEnd(span: ReadableSpan): void {
    this.spans.push(span)
  }

  async forceFlush(): Promise<void> {}

  async shutdown(): Promise<void> {}
}

/** Loads OpenTelemetry, one package a turn of the event loop. */
async function load() {
  const turn = () => new Promise((resolve) => setImmediate(resolve))
  const { ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } = await import('@opentelemetry/api')
  await turn()
  const { ATTR_SERVICE_INSTANCE_ID, ATTR_SERVICE_NAME } = await import('@opentelemetry/semantic-conventions')
  await turn()
  const { resourceFromAttributes } = await import('@opentelemetry/resources')
  await turn()
  const { AlwaysOnSampler, BasicTracerProvider } = await import('@opentelemetry/sdk-trace-node')
  await turn()
  const { OTLPTraceExporter } = await import('@opentelemetry/exporter-trace-otlp-http')
  return {
    ROOT_CONTEXT,
    SpanKind,
    SpanStatusCode,
    trace,
    ATTR_SERVICE_INSTANCE_ID,
    ATTR_SERVICE_NAME,
    resourceFromAttributes,
    AlwaysOnSampler,
    BasicTracerProvider,
    OTLPTraceExporter,
  }
}

export async function createTraceExporter(options: TraceExporterOptions): Promise<TraceExporter> {
  const otel = await load()
  const { ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } = otel
  const { anchor, resource, token } = options
  const attributes: { [name: string]: string } = {
    [otel.ATTR_SERVICE_NAME]: resource.service,
    [otel.ATTR_SERVICE_INSTANCE_ID]: resource.instance,
    'tickscope.agent': options.agentId,
  }
  for (const label of ['venue', 'region', 'route'] as const) {
    const value = resource[label]
    if (value !== undefined) attributes[`tickscope.${label}`] = value
  }
  const collected = new Collected()
  const provider = new otel.BasicTracerProvider({
    resource: otel.resourceFromAttributes(attributes),
    sampler: new otel.AlwaysOnSampler(),
    spanProcessors: [collected],
  })
  const tracer = provider.getTracer('tickscope')
  const exporter: SpanExporter = new otel.OTLPTraceExporter({
    url: `${options.collectorUrl}/v1/traces`,
    headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    timeoutMillis: EXPORT_TIMEOUT_MS,
  })

  const build = ({ record, reason, breaches }: Trace) => {
    const at = (instantNs: number) => anchor.hrTimeOf(instantNs)
    const given = record.instantsNs
    const set = given.flatMap((ns, instant) => (ns === -1 ? [] : [{ instant, ns }]))
    const first = set[0]
    const last = set.at(-1)
    if (first === undefined || last === undefined) return
    const call = { kind: SpanKind.CLIENT, attributes: { 'tickscope.endpoint': record.endpoint } }
    const root = tracer.startSpan(
      record.kind === 'call' ? 'api call' : 'tick',
      { ...(record.kind === 'call' ? call : {}), startTime: at(first.ns), root: true },
      ROOT_CONTEXT,
    )
    root.setAttribute('tickscope.reason', reason)
    root.setAttribute('tickscope.kind', record.kind)
    root.setAttribute('tickscope.outcome', record.outcome)
    for (const { slo, cause } of breaches) root.setAttribute(`tickscope.breach.${slo}`, cause)
    if (record.outcome === 'error' || record.outcome === 'timeout') root.setStatus({ code: SpanStatusCode.ERROR })
    if (record.kind !== 'call') {
      const parent = trace.setSpan(ROOT_CONTEXT, root)
      for (const [i, { instant, ns }] of set.entries()) {
        const from = set[i - 1]
        if (from === undefined) continue
        const isCall = instant === INSTANT.acked
        const name = isCall ? 'api call' : (INSTANTS[instant] ?? 'stage')
        tracer.startSpan(name, { ...(isCall ? call : {}), startTime: at(from.ns) }, parent).end(at(ns))
      }
    }
    root.end(at(last.ns))
  }

  const send = async (spans: ReadableSpan[]) => {
    const { promise, resolve } = Promise.withResolvers<boolean>()
    try {
      exporter.export(spans, ({ code }) => resolve(code === SUCCESS))
    } catch {
      return false
    }
    return promise
  }

  return {
    async export(traces, report) {
      collected.spans.length = 0
      for (const it of traces) build(it)
      const spans = collected.spans.splice(0)
      for (let i = 0; i < spans.length; i += SPANS_PER_REQUEST) {
        const part = spans.slice(i, i + SPANS_PER_REQUEST)
        report((await send(part)) ? 'exported' : 'failed', part.length)
      }
    },
  }
}
