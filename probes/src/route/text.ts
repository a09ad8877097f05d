/** Routes side by side: the edge, what is behind it and the age of events apart, then what a saved millisecond costs. */
import { styleText } from 'node:util'
import { formatNs, type LatencySummary } from '@tickscope/contract'
import { environmentText } from '../environment.ts'
import type { RouteResult } from './run.ts'

export function routeText(result: RouteResult, stream: NodeJS.WriteStream): string {
  const style = (format: Parameters<typeof styleText>[0], text: string) => styleText(format, text, { stream })
  const settings = Object.entries(result.settings).map(([name, value]) => `${name} ${value}`)
  const width = Math.max(8, ...result.rows.map(({ name }) => name.length)) + 2
  const columns = ['response', 'p99', 'edge RTT', 'behind', 'event age', 'lost', 'USD/month']
  const lines = [
    style('bold', `route ${result.target}`),
    `${(result.durationMs / 1000).toFixed(1)} s, ${settings.join(', ')}`,
    `boundary ${result.boundary}; p50 of warm requests, of TCP handshakes (edge RTT), of first byte minus handshake (behind)`,
    '',
    style('dim', `${''.padEnd(width)}${columns.map((name) => name.padStart(11)).join('')}`),
  ]
  const cell = (h: LatencySummary | null, of: (h: LatencySummary) => number) =>
    (h === null ? '-' : formatNs(of(h))).padStart(11)
  for (const row of result.rows) {
    const age = row.eventAge.status === 'measured' ? formatNs(row.eventAge.p50Ns) : '-'
    lines.push(
      [
        style('bold', row.name.padEnd(width)),
        cell(row.response, ({ p50Ns }) => p50Ns),
        cell(row.response, ({ p99Ns }) => p99Ns),
        cell(row.edgeRtt, ({ p50Ns }) => p50Ns),
        cell(row.behindEdge, ({ p50Ns }) => p50Ns),
        age.padStart(11),
        String(row.lost).padStart(11),
        (row.usdPerMonth === null ? '-' : row.usdPerMonth.toFixed(2)).padStart(11),
      ].join(''),
    )
    const facts = [
      row.requestedMode.startsWith(row.route) ? null : row.route,
      row.region,
      row.requestedMode,
      `from ${row.vantage}`,
      row.imported && 'imported',
    ]
    lines.push(style('dim', `  ${facts.filter(Boolean).join(', ')}`))
    if (row.eventAge.status === 'measured' && row.eventAge.uncertaintyNs !== null)
      lines.push(style('dim', `  event age ± ${formatNs(row.eventAge.uncertaintyNs)}: two clocks`))
    if (row.priceSource !== null) lines.push(style('dim', `  price: ${row.priceSource}`))
    if (row.reason !== undefined) lines.push(style('yellow', `  ${row.status}: ${row.reason}`))
    if (row.imported?.contaminated) lines.push(style('yellow', '  contaminated: its own controls moved'))
    for (const [reason, times] of Object.entries(row.reasons)) lines.push(style('red', `  ${reason} ${times}`))
  }
  lines.push('', 'edge RTT ends at whoever answers TCP, behind a CDN its edge; it is never the venue')
  const signed = (ns: number) => (ns < 0 ? `−${formatNs(-ns)}` : formatNs(ns))
  for (const { from, to, figure, meanNs, lowNs, highNs, claimed, reason, interleaved, rounds } of result.comparisons) {
    const interval =
      meanNs === null
        ? ''
        : ` (99 % interval ${signed(lowNs ?? 0)} … ${signed(highNs ?? 0)}, ${rounds} ${interleaved ? 'interleaved rounds' : 'rounds, measured apart'})`
    const says = claimed && meanNs !== null ? `${signed(meanNs)}` : style('dim', `no difference is claimed: ${reason}`)
    lines.push(`${from} → ${to}, ${figure}: ${says}${style('dim', interval)}`)
  }
  for (const { from, to, extraUsdPerMonth, savedMsPerUsd, says } of result.worth) {
    const cost = extraUsdPerMonth === null ? 'unpriced' : `${extraUsdPerMonth} USD a month more`
    const per = savedMsPerUsd === null ? '' : `, ${savedMsPerUsd} ms saved per dollar`
    lines.push(`${from} → ${to}: ${cost}${per}; ${says}`)
  }
  for (const { row, ok, withinRatio, thresholdMs, objectiveRatio } of result.budgets) {
    const verdict = ok ? style('green', 'kept') : style('red', 'BROKEN')
    const share = (ratio: number) => `${+(ratio * 100).toFixed(2)} %`
    lines.push(
      `budget api_rtt ${verdict}: ${share(withinRatio)} of requests on ${row} within ${thresholdMs} ms, ${share(objectiveRatio)} wanted`,
    )
  }
  for (const reason of result.contaminatedBy) lines.push(style('yellow', `contaminated: ${reason}`))
  lines.push(style('dim', environmentText(result.environment)))
  return lines.join('\n')
}
