/** Tick-to-trade: how long, how spread, and which stage takes it. */
import { leOf, ORDER_STAGES, type Slos } from '@tickscope/contract'
import { heat, lines, type Panel } from '../panel.ts'
import { perSecond, quantileLines, quantileOf, series, shareWithin } from '../query.ts'

const STAGES: { readonly [stage in (typeof ORDER_STAGES)[number]]: string } = {
  decoded: 'received → decoded',
  booked: 'decoded → booked',
  decided: 'booked → decided',
  checked: 'decided → checked',
  encoded: 'checked → encoded',
  sent: 'encoded → sent',
}

export function tickRow(slos: Slos): readonly Panel[] {
  const budget = { value: slos.processing.thresholdNs / 1e9 }
  const rateOf = (part: '_sum' | '_count', stage: string) =>
    `sum(${perSecond(series('tickscope_stage_seconds', part, { outcome: 'order', stage }))})`
  return [
    lines({
      title: 'Tick-to-trade',
      description:
        'From the first byte of a tick read (received) to the bytes of the order it caused handed to the kernel (sent), on the bot’s monotonic clock. Exact quantiles of the last 10 s, the slowest selected instance. Dashed: the budget.',
      unit: 's',
      width: 12,
      log: true,
      budget,
      queries: quantileLines('tickscope_tick_to_trade_seconds'),
    }),
    heat({
      title: 'Tick-to-trade, all orders',
      description:
        'Orders per second and bucket, received → sent. Every order is in it; dots are traces of single ticks, those over budget first.',
      unit: 's',
      width: 12,
      queries: [
        {
          expr: `sum by (le) (${perSecond(series('tickscope_tick_to_trade_seconds', '_bucket'))})`,
          legend: '{{le}}',
          exemplar: true,
        },
      ],
    }),
    lines({
      title: 'Where a tick’s time goes',
      description:
        'Average time of each stage of the ticks that caused an order, in the order they happen, on top of each other: the height is the average tick-to-trade, exactly, because the stages of one order sum to it.',
      unit: 's',
      width: 12,
      stacked: true,
      queries: ORDER_STAGES.map((stage) => ({
        expr: `${rateOf('_sum', stage)} / ${rateOf('_count', stage)}`,
        legend: STAGES[stage],
      })),
    }),
    lines({
      title: 'Stages, p99',
      description:
        'p99 of each stage of the last 10 s, the slowest selected instance. A stage ends at the instant it is named after. These do not add up: the slowest 1% of each stage are different ticks.',
      unit: 's',
      width: 12,
      log: true,
      queries: ORDER_STAGES.map((stage) => ({
        expr: `max(${quantileOf('tickscope_stage_seconds', '0.99', { outcome: 'order', stage })})`,
        legend: STAGES[stage],
      })),
    }),
    lines({
      title: 'Orders within budget',
      description: `Share of orders whose tick-to-trade was at most ${budget.value * 1e3} ms, counted at the bucket of exactly that bound. Dashed: the objective.`,
      unit: 'percentunit',
      width: 12,
      max: 1,
      budget: { value: slos.processing.objective, low: true },
      queries: [
        {
          expr: shareWithin('tickscope_tick_to_trade_seconds', leOf(slos.processing.thresholdNs)),
          legend: 'within budget',
        },
      ],
    }),
    lines({
      title: 'Tick-to-decision of quiet ticks',
      description:
        'From the first byte of a tick read (received) to the decision to send no order (decided). Quantiles of the last 10 s, the slowest selected instance. Never part of tick-to-trade.',
      unit: 's',
      width: 12,
      log: true,
      queries: quantileLines('tickscope_tick_to_decision_seconds'),
    }),
  ]
}
