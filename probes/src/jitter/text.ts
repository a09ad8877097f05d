/** What people read of a jitter run: rows, cores, what pinning took away, mistakes found, and the plan. */
import { styleText } from 'node:util'
import { formatNs, type LatencySummary } from '@tickscope/contract'
import { environmentText } from '../environment.ts'
import { planText } from './planner.ts'
import type { PinningVerdict } from './rows.ts'
import type { JitterResult } from './run.ts'

/** A change for the worse beyond ten times has no figure worth reading: the rounds had nothing in common. */
const LOW_SHOWN = -10
const STATUS_COLOUR = { found: 'yellow', clear: 'green', unknown: 'dim' } as const

export function jitterText(result: JitterResult, stream: NodeJS.WriteStream): string {
  const style = (format: Parameters<typeof styleText>[0], text: string) => styleText(format, text, { stream })
  const figures = (wake: LatencySummary) =>
    [wake.p50Ns, wake.p99Ns, wake.p999Ns, wake.maxNs].map((ns) => formatNs(ns).padStart(10)).join('')
  const wait = (ns: number | null) => (ns === null ? '-' : formatNs(ns)).padStart(11)
  const lines = [
    style(
      'bold',
      `jitter of ${result.target}, ${result.rounds} interleaved rounds, ${(result.durationMs / 1000).toFixed(0)} s`,
    ),
    'how late a thread wakes at an absolute time, timer→user, CLOCK_MONOTONIC; wait: ready and not running, per wake',
    '',
    style(
      'dim',
      `${''.padEnd(24)}${'p50'.padStart(10)}${'p99'.padStart(10)}${'p99.9'.padStart(10)}${'max'.padStart(10)}${'wait'.padStart(11)}${'involuntary'.padStart(13)}`,
    ),
  ]
  for (const row of result.rows) {
    const name = row.name.padEnd(24)
    if (row.wake === null) lines.push(`${name}  ${style('dim', `${row.status}: ${row.reason}`)}`)
    else
      lines.push(
        `${name}${figures(row.wake)}${wait(row.runQueueWaitPerWakeNs)}${String(row.involuntarySwitches).padStart(13)}${row.status === 'measured' ? '' : `  ${style('yellow', `${row.status}: ${row.reason}`)}`}`,
      )
  }
  for (const core of result.cores) {
    lines.push(
      core.wake === null
        ? `core ${core.cpu}: ${core.reason}`
        : `${`core ${core.cpu}`.padEnd(24)}${figures(core.wake)}${wait(core.runQueueWaitPerWakeNs)}  hiccups ${formatNs(core.hiccups?.p99Ns ?? Number.NaN)} p99, ${formatNs(core.hiccups?.maxNs ?? Number.NaN)} max, ${((core.stolenRatio ?? 0) * 100).toFixed(1)} % taken`,
    )
  }
  lines.push('', style('bold', 'what pinning took off the time a thread is ready and does not run (the claim: 95 %)'))
  for (const verdict of result.pinning) lines.push(`  ${verdict.surrounding}: ${pinningText(verdict)}`)
  lines.push('')
  for (const { id, status, evidence, advice } of result.footguns)
    lines.push(
      `${style(STATUS_COLOUR[status], status.padEnd(8))}${id}: ${evidence}${status === 'found' ? `. ${advice}` : ''}`,
    )
  lines.push('', planText(result.plan), '')
  for (const reason of result.contaminatedBy) lines.push(style('yellow', `contaminated: ${reason}`))
  lines.push(style('dim', environmentText(result.environment)))
  return lines.join('\n')
}

function pinningText({ verdict, removedRatio, lowRatio, highRatio }: PinningVerdict): string {
  if (removedRatio === null) return verdict
  const percent = (ratio: number | null) =>
    ratio === null || ratio < LOW_SHOWN ? 'much worse' : `${(ratio * 100).toFixed(0)} %`
  const interval = `99 % interval ${percent(lowRatio)} … ${percent(highRatio)}`
  if (verdict === 'no gain') return `no gain can be claimed (${interval})`
  return `${verdict === 'added' ? 'added' : 'removed'} ${percent(Math.abs(removedRatio))} (${interval}): ${verdict}`
}
