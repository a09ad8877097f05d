/** The venue as a probe sees it that shares nothing with the bot but the network. */
import type { Slos } from '@tickscope/contract'
import { lines, number, type Panel } from '../panel.ts'
import { perSecond, quantileOf, series } from '../query.ts'

/** Phases of one request in the order they happen; `service` and `total` contain others, `slip` comes before. */
const PHASES = ['dns', 'tcp', 'tls', 'ttfb', 'body'] as const

export function probeRow(slos: Slos): readonly Panel[] {
  const phase = (name: string) => ({ probe: 'http', phase: name })
  return [
    lines({
      title: 'HTTP probe: phases',
      description:
        'Average time of each phase, on top of each other: name resolution, TCP handshake, TLS handshake, request written → first byte of the answer (ttfb), rest of the answer. A kept-alive connection has no first three.',
      unit: 's',
      width: 10,
      stacked: true,
      queries: PHASES.map((name) => ({
        expr: `sum(${perSecond(series('tickscope_probe_phase_seconds', '_sum', phase(name)))}) / sum(${perSecond(series('tickscope_probe_phase_seconds', '_count', phase('total')))})`,
        legend: name,
      })),
    }),
    lines({
      title: 'HTTP probe: total',
      description:
        'total: from the moment a request was due to the end of its answer, so that a stalled venue cannot hide by delaying the next request. service: from the actual send. slip: how late the probe itself was. p99 and median of the last 10 s. Dashed: the budget of the API.',
      unit: 's',
      width: 10,
      log: true,
      budget: { value: slos.api_rtt.thresholdNs / 1e9 },
      queries: ['total', 'service', 'slip'].flatMap((name) =>
        (
          [
            ['0.99', 'p99'],
            ['0.5', 'p50'],
          ] as const
        ).map(([quantile, label]) => ({
          expr: `max(${quantileOf('tickscope_probe_phase_seconds', quantile, phase(name))})`,
          legend: `${name} ${label}`,
        })),
      ),
    }),
    number({
      title: 'Answers',
      description: 'Whether the last request of each selected probe was answered well; the worst of them.',
      unit: 'bool_on_off',
      width: 4,
      height: 8,
      budget: { value: 1, low: true },
      queries: [{ expr: `min(${series('tickscope_probe_up')})`, legend: 'up' }],
    }),
    lines({
      title: 'HTTP probe: requests',
      description:
        'Requests per second by outcome. dropped: due while too many were still under way, so never sent, and counted.',
      unit: 'cps',
      width: 24,
      height: 6,
      queries: [
        {
          expr: `sum by (service, outcome) (${perSecond(series('tickscope_probe_requests_total'))})`,
          legend: '{{service}} {{outcome}}',
        },
      ],
    }),
  ]
}
