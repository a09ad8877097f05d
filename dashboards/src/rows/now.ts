/** The first line: is it fine right now? */
import type { Slos } from '@tickscope/contract'
import { number, type Panel } from '../panel.ts'
import { perSecond, quantileOf, series } from '../query.ts'

export function nowRow(slos: Slos): readonly Panel[] {
  return [
    number({
      title: 'Tick-to-trade p99',
      description:
        'Of the last 10 s, the slowest selected instance: from the first byte of a tick read to the bytes of the order it caused handed to the kernel. Exact, from the histogram of all orders.',
      unit: 's',
      width: 4,
      budget: { value: slos.processing.thresholdNs / 1e9 },
      queries: [{ expr: `max(${quantileOf('tickscope_tick_to_trade_seconds', '0.99')})`, legend: 'p99' }],
    }),
    number({
      title: 'API round trip p99',
      description:
        'Of the last 10 s, the slowest selected endpoint and instance: from request bytes handed to the kernel to the answer read.',
      unit: 's',
      width: 4,
      budget: { value: slos.api_rtt.thresholdNs / 1e9 },
      queries: [{ expr: `max(${quantileOf('tickscope_api_rtt_seconds', '0.99')})`, legend: 'p99' }],
    }),
    number({
      title: 'Highest utilisation',
      description:
        'The busiest of CPU, event loop and memory of the selected processes, over their last interval of 1 s.',
      unit: 'percentunit',
      width: 4,
      budget: { value: slos.utilization.thresholdRatio },
      queries: [{ expr: `max(${series('tickscope_utilization_ratio')})`, legend: 'highest' }],
    }),
    number({
      title: 'Ticks',
      description: 'Market-data ticks handled per second, whether or not they caused an order.',
      unit: 'cps',
      width: 4,
      queries: [{ expr: `sum(${perSecond(series('tickscope_ticks_total'))})`, legend: 'ticks' }],
    }),
    number({
      title: 'Orders',
      description: 'Orders sent per second: each is one measurement of tick-to-trade.',
      unit: 'cps',
      width: 4,
      queries: [{ expr: `sum(${perSecond(series('tickscope_tick_to_trade_seconds', '_count'))})`, legend: 'orders' }],
    }),
    number({
      title: 'Events over budget',
      description:
        'Of the time range shown: orders, API calls and intervals of utilisation over their budgets, all causes.',
      unit: 'short',
      width: 4,
      queries: [{ expr: `sum(increase(${series('tickscope_breaches_total')}[$__range]))`, legend: 'over budget' }],
    }),
  ]
}
