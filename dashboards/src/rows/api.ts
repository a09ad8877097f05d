/** The venue's API as the bot sees it. */
import { leOf, METRICS, type Slos } from '@tickscope/contract'
import { heat, lines, type Panel } from '../panel.ts'
import { perSecond, quantileOf, series, shareWithin } from '../query.ts'

export function apiRow(slos: Slos): readonly Panel[] {
  const budget = { value: slos.api_rtt.thresholdNs / 1e9 }
  const endpoints = METRICS.tickscope_api_rtt_seconds.labels.endpoint ?? []
  return [
    lines({
      title: 'API round trip by endpoint',
      description:
        'From request bytes handed to the kernel (sent) to the answer read (acked), on the bot’s monotonic clock. Exact p50, p99 and maximum of the last 10 s, the slowest selected instance and outcome. Dashed: the budget.',
      unit: 's',
      width: 12,
      log: true,
      budget,
      queries: endpoints.flatMap((endpoint) =>
        (
          [
            ['1', 'max'],
            ['0.99', 'p99'],
            ['0.5', 'p50'],
          ] as const
        ).map(([quantile, name]) => ({
          expr: `max(${quantileOf('tickscope_api_rtt_seconds', quantile, { endpoint })})`,
          legend: `${endpoint} ${name}`,
        })),
      ),
    }),
    heat({
      title: 'API round trip, all calls',
      description:
        'Calls per second and bucket, sent → acked, all endpoints and outcomes. Dots are traces of single orders.',
      unit: 's',
      width: 12,
      queries: [
        {
          expr: `sum by (le) (${perSecond(series('tickscope_api_rtt_seconds', '_bucket'))})`,
          legend: '{{le}}',
          exemplar: true,
        },
      ],
    }),
    lines({
      title: 'Calls by endpoint and outcome',
      description:
        'API calls answered per second. rejected: the venue refused the order; error: transport or server failed; timeout: no answer in time.',
      unit: 'cps',
      width: 12,
      queries: [
        {
          expr: `sum by (endpoint, outcome) (${perSecond(series('tickscope_api_rtt_seconds', '_count'))})`,
          legend: '{{endpoint}} {{outcome}}',
        },
      ],
    }),
    lines({
      title: 'Calls within budget',
      description: `Share of API calls answered within ${budget.value * 1e3} ms (sent → acked), counted at the bucket of exactly that bound. Dashed: the objective.`,
      unit: 'percentunit',
      width: 12,
      max: 1,
      budget: { value: slos.api_rtt.objective, low: true },
      queries: [
        { expr: shareWithin('tickscope_api_rtt_seconds', leOf(slos.api_rtt.thresholdNs)), legend: 'within budget' },
      ],
    }),
  ]
}
