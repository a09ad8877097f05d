/** The feed, and whether what is measured of it can be believed. */
import { lines, type Panel } from '../panel.ts'
import { perSecond, series } from '../query.ts'

export function feedRow(): readonly Panel[] {
  return [
    lines({
      title: 'Ticks by outcome',
      description: 'Market-data ticks handled per second. order: it caused one or more orders; quiet: it caused none.',
      unit: 'cps',
      width: 12,
      queries: [
        {
          expr: `sum by (service, outcome) (${perSecond(series('tickscope_ticks_total'))})`,
          legend: '{{service}} {{outcome}}',
        },
      ],
    }),
    lines({
      title: 'Agents last heard of',
      description:
        'Seconds since the end of the last interval an agent delivered, by its own clock against Prometheus’s. About 1 s is normal; a constant offset is the difference of the clocks.',
      unit: 's',
      width: 12,
      queries: [
        {
          expr: `time() - max by (service, instance) (${series('tickscope_agent_last_batch_timestamp_seconds')})`,
          legend: '{{service}} {{instance}}',
        },
      ],
    }),
    lines({
      title: 'Measurements dropped',
      description:
        'Measurements per second an agent had no room for or could not trust. Anything but zero is missing from the figures above.',
      unit: 'cps',
      width: 12,
      queries: [
        {
          expr: `sum by (service, reason) (${perSecond(series('tickscope_agent_dropped_total'))})`,
          legend: '{{service}} {{reason}}',
        },
      ],
    }),
    lines({
      title: 'Spans of ticks that matter',
      description: 'Spans per second that agents made of ticks over budget and of samples, by what became of them.',
      unit: 'cps',
      width: 12,
      queries: [
        {
          expr: `sum by (service, outcome) (${perSecond(series('tickscope_agent_spans_total'))})`,
          legend: '{{service}} {{outcome}}',
        },
      ],
    }),
    lines({
      title: 'Collector: batches, traces, alerts',
      description:
        'Per second: batches received (duplicate: sent again after an answer was lost, and counted once), trace requests passed on, alerts posted by the fast path.',
      unit: 'cps',
      width: 12,
      queries: [
        {
          expr: `sum by (outcome) (${perSecond(series('tickscope_collector_batches_total'))})`,
          legend: 'batches {{outcome}}',
        },
        {
          expr: `sum by (outcome) (${perSecond(series('tickscope_collector_traces_total'))})`,
          legend: 'traces {{outcome}}',
        },
        {
          expr: `sum by (outcome) (${perSecond(series('tickscope_collector_alert_posts_total'))})`,
          legend: 'alerts {{outcome}}',
        },
        {
          expr: `sum(${perSecond(series('tickscope_collector_lost_batches_total'))})`,
          legend: 'batches lost',
        },
        {
          expr: `sum by (from) (${perSecond(series('tickscope_collector_left_out_total'))})`,
          legend: 'left out of {{from}}',
        },
      ],
    }),
    lines({
      title: 'Collector: journal',
      description: 'Size of the journal on disk: every batch the collector acknowledged.',
      unit: 'bytes',
      width: 6,
      queries: [{ expr: `max(${series('tickscope_collector_journal_bytes')})`, legend: 'journal' }],
    }),
    lines({
      title: 'Collector: sync to disk',
      description: 'Average time a group of batches took to be written and synced, before they were acknowledged.',
      unit: 's',
      width: 6,
      queries: [
        {
          expr: `sum(${perSecond(series('tickscope_collector_journal_sync_seconds', '_sum'))}) / sum(${perSecond(series('tickscope_collector_journal_sync_seconds', '_count'))})`,
          legend: 'sync',
        },
      ],
    }),
  ]
}
