/** The bot's process and the machine under it. */
import type { Slos } from '@tickscope/contract'
import { lines, type Panel } from '../panel.ts'
import { perSecond, quantileLines, series } from '../query.ts'

export function processRow(slos: Slos): readonly Panel[] {
  return [
    lines({
      title: 'Utilisation',
      description:
        'Share in use over the last interval of 1 s: CPU of the machine by the process, time the event loop was busy, memory against its limit. Dashed: the budget.',
      unit: 'percentunit',
      width: 12,
      max: 1,
      budget: { value: slos.utilization.thresholdRatio },
      queries: [
        {
          expr: `max by (service, instance, resource) (${series('tickscope_utilization_ratio')})`,
          legend: '{{service}} {{resource}}',
        },
      ],
    }),
    lines({
      title: 'Event loop delay',
      description:
        'How much later than asked a 1 ms timer of the trading thread ran. Quantiles of the last 10 s, the slowest selected instance: a tick that arrives meanwhile waits this long before it is read.',
      unit: 's',
      width: 12,
      log: true,
      queries: quantileLines('tickscope_event_loop_delay_seconds'),
    }),
    lines({
      title: 'Garbage collection',
      description:
        'Share of time the trading thread was paused by the garbage collector, by kind, from the exact sum of pauses.',
      unit: 'percentunit',
      width: 12,
      stacked: true,
      queries: [
        {
          expr: `sum by (service, kind) (${perSecond(series('tickscope_gc_pause_seconds', '_sum'))})`,
          legend: '{{service}} {{kind}}',
        },
      ],
    }),
    lines({
      title: 'Pauses of garbage collection',
      description: 'Pauses of the trading thread per second, by kind.',
      unit: 'cps',
      width: 12,
      queries: [
        {
          expr: `sum by (service, kind) (${perSecond(series('tickscope_gc_pause_seconds', '_count'))})`,
          legend: '{{service}} {{kind}}',
        },
      ],
    }),
    lines({
      title: 'Context switches',
      description: 'Per second, of the process. involuntary: the kernel took the CPU away while there was work to do.',
      unit: 'cps',
      width: 12,
      queries: [
        {
          expr: `sum by (service, kind) (${perSecond(series('tickscope_context_switches_total'))})`,
          legend: '{{service}} {{kind}}',
        },
      ],
    }),
    lines({
      title: 'Resident memory',
      description: 'Memory of the process that is in RAM, at the end of its last interval.',
      unit: 'bytes',
      width: 12,
      queries: [
        {
          expr: `max by (service, instance) (${series('tickscope_resident_memory_bytes')})`,
          legend: '{{service}} {{instance}}',
        },
      ],
    }),
  ]
}
