/**
 * Every metric tickscope exports: name, type, unit, labels and help. The only list. The collector exposes nothing that
 * is not here, rules and dashboards may name nothing else, and label values outside a closed set are refused.
 *
 * Latency histograms are recorded in integer ns and exposed in seconds.
 */
import { ORDER_STAGES } from './instant.ts'
import { SLO_IDS } from './slo.ts'

export type MetricType = 'histogram' | 'counter' | 'gauge'

export interface MetricDefinition {
  readonly type: MetricType
  /** Unit of the exposed value. */
  readonly unit: 'seconds' | 'bytes' | 'ratio' | 'count'
  readonly help: string
  /** Labels beside the resource labels; an array is the closed set of values, `null` leaves it open but bounded. */
  readonly labels: { readonly [label: string]: readonly string[] | null }
}

/** Labels that say whose measurement it is; every series of a batch carries those of the batch. */
export const RESOURCE_LABELS = ['service', 'instance', 'venue', 'region', 'route'] as const
export type ResourceLabel = (typeof RESOURCE_LABELS)[number]

/** Why a tick ran over budget. `unattributed` is an answer too: nothing recorded overlapped it. */
export const CAUSES = ['gc', 'event_loop', 'venue', 'resource', 'unattributed'] as const
export type Cause = (typeof CAUSES)[number]

export const DROP_REASONS = ['ring_full', 'clock', 'incomplete', 'series_limit'] as const
export type DropReason = (typeof DROP_REASONS)[number]

/** Probes that report to a collector. */
export const PROBES = ['http', 'feed', 'order', 'load', 'jitter', 'route'] as const
/** What a probe times; each probe documents its own. `total` is the response, from the intended send. */
export const PROBE_PHASES = [
  'dns',
  'tcp',
  'tls',
  'ttfb',
  'body',
  'behind_edge',
  'connect',
  'subscribe',
  'message_age',
  'inter_arrival',
  'silent_gap',
  'reconnect',
  'place_ack',
  'place_seen',
  'cancel_ack',
  'cancel_seen',
  'wake',
  'service',
  'slip',
  'total',
] as const
/** Ways a message can travel between two processes, as the bypass probe names them. */
export const BYPASS_PATHS = [
  'udp_blocking',
  'udp_epoll',
  'udp_spinning',
  'udp_busy_poll',
  'tcp_blocking',
  'tcp_spinning',
  'io_uring',
  'af_xdp_generic',
  'af_xdp_native',
  'dpdk_af_packet',
  'dpdk_af_xdp',
  'dpdk_memif',
] as const
/** Codecs, messages and operations as the codec probe names them. */
export const CODECS = ['rest', 'json', 'fix', 'fix-map', 'fast', 'sbe', 'jspurefix'] as const
export const CODEC_MESSAGES = ['order', 'executionReport', 'bookUpdate', 'bookBatch'] as const
export const CODEC_OPERATIONS = ['encode', 'decode', 'decode answer', 'scan', 'view'] as const

const definitions = {
  tickscope_ticks_total: {
    type: 'counter',
    unit: 'count',
    help: 'Market-data ticks handled, by whether they caused an order.',
    labels: { outcome: ['order', 'quiet'] },
  },
  tickscope_tick_to_trade_seconds: {
    type: 'histogram',
    unit: 'seconds',
    help: 'From the first byte of a tick read to the bytes of the order it caused handed to the kernel.',
    labels: {},
  },
  tickscope_tick_to_decision_seconds: {
    type: 'histogram',
    unit: 'seconds',
    help: 'From the first byte of a tick read to the decision to send no order.',
    labels: {},
  },
  tickscope_stage_seconds: {
    type: 'histogram',
    unit: 'seconds',
    help: 'Part of a tick that ends at the instant named; stages of outcome="order" sum to tick-to-trade.',
    labels: { stage: ORDER_STAGES, outcome: ['order', 'quiet'] },
  },
  tickscope_api_rtt_seconds: {
    type: 'histogram',
    unit: 'seconds',
    help: 'From request bytes handed to the kernel to the answer read.',
    labels: {
      endpoint: ['create_order', 'cancel_order', 'other'],
      outcome: ['ok', 'rejected', 'error', 'timeout'],
    },
  },
  tickscope_breaches_total: {
    type: 'counter',
    unit: 'count',
    help: 'Events over budget, by objective and cause.',
    labels: { slo: SLO_IDS, cause: CAUSES },
  },
  tickscope_event_loop_delay_seconds: {
    type: 'histogram',
    unit: 'seconds',
    help: "Delay of the bot's event loop beyond its sampling timer, one sample per turn of about 1 ms.",
    labels: {},
  },
  tickscope_gc_pause_seconds: {
    type: 'histogram',
    unit: 'seconds',
    help: 'Pauses of the garbage collector on the trading thread.',
    labels: { kind: ['minor', 'major', 'incremental', 'weakcb'] },
  },
  tickscope_context_switches_total: {
    type: 'counter',
    unit: 'count',
    help: 'Context switches of the process.',
    labels: { kind: ['voluntary', 'involuntary'] },
  },
  tickscope_utilization_ratio: {
    type: 'gauge',
    unit: 'ratio',
    help: 'Share of a resource in use over the last interval: CPU of the machine by the process, event loop, memory.',
    labels: { resource: ['cpu', 'event_loop', 'memory'] },
  },
  tickscope_resident_memory_bytes: {
    type: 'gauge',
    unit: 'bytes',
    help: 'Resident memory of the process.',
    labels: {},
  },
  tickscope_agent_dropped_total: {
    type: 'counter',
    unit: 'count',
    help: 'Measurements the agent had no room for or could not trust.',
    labels: { reason: DROP_REASONS },
  },
  tickscope_agent_spans_total: {
    type: 'counter',
    unit: 'count',
    help: 'Spans of ticks that matter, by what became of them.',
    labels: { outcome: ['exported', 'failed', 'dropped'] },
  },
  tickscope_agent_last_batch_timestamp_seconds: {
    type: 'gauge',
    unit: 'seconds',
    help: 'End of the last interval received from an agent, seconds since the epoch.',
    labels: {},
  },
  tickscope_probe_phase_seconds: {
    type: 'histogram',
    unit: 'seconds',
    help: 'Phases of a probe; total is from the intended send, slip is how late the probe itself was.',
    labels: { probe: PROBES, phase: PROBE_PHASES },
  },
  tickscope_probe_requests_total: {
    type: 'counter',
    unit: 'count',
    help: 'Requests of a probe, by outcome.',
    labels: { probe: PROBES, outcome: ['ok', 'error', 'timeout', 'dropped'] },
  },
  tickscope_probe_up: {
    type: 'gauge',
    unit: 'count',
    help: 'Whether the last request of the probe succeeded.',
    labels: { probe: PROBES },
  },
  tickscope_bypass_rtt_seconds: {
    type: 'histogram',
    unit: 'seconds',
    help: 'Round trip of one message between two processes of this machine, from its actual send, by path.',
    labels: { path: BYPASS_PATHS },
  },
  tickscope_bypass_gain_ratio: {
    type: 'gauge',
    unit: 'ratio',
    help: 'Time of a path as a share of the blocking kernel socket where the interval excludes 1, else 1: no gain.',
    labels: { path: BYPASS_PATHS, quantile: ['0.5'] },
  },
  tickscope_codec_operation_seconds: {
    type: 'gauge',
    unit: 'seconds',
    help: 'Time to encode or decode one message, by codec: the median of the last run.',
    labels: { codec: CODECS, message: CODEC_MESSAGES, operation: CODEC_OPERATIONS },
  },
  tickscope_codec_signature_seconds: {
    type: 'gauge',
    unit: 'seconds',
    help: 'Time to sign one request or order, by scheme: the median of the last run.',
    labels: { scheme: null },
  },
  tickscope_codec_message_bytes: {
    type: 'gauge',
    unit: 'bytes',
    help: 'Median size of a message on the wire, headers and signature included, by form.',
    labels: { form: null, message: CODEC_MESSAGES },
  },
  tickscope_runtime_order_seconds: {
    type: 'histogram',
    unit: 'seconds',
    help: 'One order against a simulated venue, by runtime: its own work, the wait, both, and from the intended send.',
    labels: { runtime: null, part: ['client', 'io', 'service', 'total'] },
  },
  tickscope_collector_batches_total: {
    type: 'counter',
    unit: 'count',
    help: 'Batches received, by what became of them.',
    labels: { outcome: ['applied', 'duplicate', 'refused'] },
  },
  tickscope_collector_traces_total: {
    type: 'counter',
    unit: 'count',
    help: 'OTLP trace requests passed on, by what became of them.',
    labels: { outcome: ['forwarded', 'failed', 'discarded'] },
  },
  tickscope_collector_alert_posts_total: {
    type: 'counter',
    unit: 'count',
    help: 'Alerts posted by the breach detector, by outcome.',
    labels: { outcome: ['ok', 'failed'] },
  },
  tickscope_collector_lost_batches_total: {
    type: 'counter',
    unit: 'count',
    help: 'Batches missing in the sequences of agents: sent once, and nobody has them.',
    labels: {},
  },
  tickscope_collector_left_out_total: {
    type: 'counter',
    unit: 'count',
    help: 'Additions left out: of sums that would pass 2^53, and of windows for want of memory.',
    labels: { from: ['sums', 'windows'] },
  },
  tickscope_collector_journal_sync_seconds: {
    type: 'histogram',
    unit: 'seconds',
    help: 'Writing and syncing a group of batches to disk, before they are acknowledged.',
    labels: {},
  },
  tickscope_collector_journal_bytes: {
    type: 'gauge',
    unit: 'bytes',
    help: 'Size of the journal on disk.',
    labels: {},
  },
} as const satisfies Record<string, MetricDefinition>

export type MetricName = keyof typeof definitions
export const METRICS: { readonly [name in MetricName]: MetricDefinition } = definitions
export const METRIC_NAMES = Object.keys(definitions) as MetricName[]

/** Histograms that also get exact quantile gauges, because people look at them. */
export const QUANTILE_METRICS = [
  'tickscope_tick_to_trade_seconds',
  'tickscope_tick_to_decision_seconds',
  'tickscope_stage_seconds',
  'tickscope_api_rtt_seconds',
  'tickscope_event_loop_delay_seconds',
  'tickscope_probe_phase_seconds',
] as const satisfies readonly MetricName[]

/** Quantiles of those gauges; 1 is the maximum. */
export const QUANTILES = [0.5, 0.9, 0.99, 0.999, 1] as const

/** Windows of those gauges, seconds: what a label `window="10s"` means. */
export const QUANTILE_WINDOWS_SECONDS = [10, 60] as const

/** `tickscope_stage_seconds` → `tickscope_stage_quantile_seconds`, the gauge with labels `quantile` and `window`. */
export function quantileMetricName(name: (typeof QUANTILE_METRICS)[number]): string {
  return name.replace(/_seconds$/, '_quantile_seconds')
}

/** Longest label value accepted, UTF-16 code units. */
export const LABEL_VALUE_MAX = 128

/** Control characters would break the text formats that carry labels; Unicode category Cc. */
const CONTROL = /\p{Cc}/u

/** @returns undefined when `labels` fit the metric, else one clause that says what does not */
export function labelsError(metric: MetricName, labels: { readonly [label: string]: string }): string | undefined {
  const declared = METRICS[metric].labels
  for (const [label, value] of Object.entries(labels)) {
    const allowed = Object.hasOwn(declared, label) ? declared[label] : undefined
    if (allowed === undefined) return `${metric} has no label '${label.slice(0, 64)}'`
    if (value.length > LABEL_VALUE_MAX) return `label ${label} is longer than ${LABEL_VALUE_MAX}`
    if (CONTROL.test(value)) return `label ${label} has a control character`
    if (allowed !== null && !allowed.includes(value)) return `label ${label} cannot be '${value.slice(0, 64)}'`
  }
  for (const label of Object.keys(declared)) {
    if (!Object.hasOwn(labels, label)) return `${metric} needs label '${label}'`
  }
  return undefined
}
