/** What the bot's thread and the worker say to each other beside the ring. */
import type { Labels, MetricName } from '@tickscope/contract'
import type { Breach } from './judge.ts'
import type { ShipperResult } from './shipper.ts'

export type ToWorker =
  | { readonly type: 'define'; readonly id: number; readonly metric: MetricName; readonly labels: Labels }
  /** Somebody subscribed to breaches. */
  | { readonly type: 'watch' }
  | { readonly type: 'stop'; readonly timeoutMs: number; readonly open: number }

export type FromWorker =
  | { readonly type: 'ready' }
  | { readonly type: 'log'; readonly message: string }
  | { readonly type: 'breaches'; readonly breaches: readonly Breach[] }
  | { readonly type: 'stopped'; readonly result: ShipperResult }
