/** What broke a budget, and what was to blame. */
import { SLO_IDS, type Slos } from '@tickscope/contract'
import { lines, type Panel } from '../panel.ts'
import { series } from '../query.ts'

export function breachRow(slos: Slos): readonly Panel[] {
  return SLO_IDS.map((slo) =>
    lines({
      title: `${slos[slo].title} over budget, by cause`,
      description:
        'Events over budget per step, by what overlapped them on the bot’s machine: gc, event_loop (other work on the trading thread), resource (the process was kept from running), venue (nothing here), unattributed (nothing recorded).',
      unit: 'short',
      width: 8,
      bars: true,
      stacked: true,
      queries: [
        {
          expr: `sum by (cause) (increase(${series('tickscope_breaches_total', '', { slo })}[$__rate_interval]))`,
          legend: '{{cause}}',
        },
      ],
    }),
  )
}
