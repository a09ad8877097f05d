/** The ladder of kernel bypass as the last runs left it: a run is a burst, so its figures stand until the next one. */
import { lines, type Panel } from '../panel.ts'
import { series } from '../query.ts'

export function bypassRow(): readonly Panel[] {
  return [
    lines({
      title: 'Bypass ladder: round trip',
      description:
        'Average round trip of one message between two processes, from its actual send to the read of its answer, by path, over all runs the collector holds. An average: one stall of a shared machine lifts it, so read the percentiles where the probe prints them.',
      unit: 's',
      width: 12,
      log: true,
      queries: [
        {
          expr: `sum by (path) (${series('tickscope_bypass_rtt_seconds', '_sum')}) / sum by (path) (${series('tickscope_bypass_rtt_seconds', '_count')})`,
          legend: '{{path}}',
        },
      ],
    }),
    lines({
      title: 'Bypass ladder: share of the blocking socket',
      description:
        'Median round trip of each path as a share of the blocking kernel socket, 0.2 meaning a fifth of its time. 100 % where the 99 % interval over paired rounds of the last run includes 1: no gain that may be claimed.',
      unit: 'percentunit',
      width: 12,
      queries: [
        {
          expr: `max by (path) (${series('tickscope_bypass_gain_ratio', '', { quantile: '0.5' })})`,
          legend: '{{path}}',
        },
      ],
    }),
  ]
}
