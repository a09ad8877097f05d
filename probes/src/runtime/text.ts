/** The runtimes side by side: what is the client's own, what is waiting, and what may be said of the difference. */
import { styleText } from 'node:util'
import { formatNs } from '@tickscope/contract'
import { environmentText } from '../environment.ts'
import { CPU_WORK, ORDER_PHASES, type RuntimeResult, type RuntimeRow } from './run.ts'

const COLUMNS = ['service', 'p99', 'client', 'io', ...ORDER_PHASES.filter((phase) => phase !== 'io')] as const

export function runtimeText(result: RuntimeResult, stream: NodeJS.WriteStream): string {
  const style = (format: Parameters<typeof styleText>[0], text: string) => styleText(format, text, { stream })
  const settings = Object.entries(result.settings).map(([name, value]) => `${name} ${value}`)
  const width = Math.max(...result.rows.map(({ name }) => name.length)) + 2
  const lines = [
    style('bold', 'runtime: one order path in several runtimes, against a simulated venue on loopback'),
    settings.join(', '),
    'boundary user→user; p50 of each figure, and p99 of the service time; client = parse + decide + sign + encode + answer',
    '',
    style('dim', `${''.padEnd(width)}${COLUMNS.map((name) => name.padStart(9)).join('')}   lost`),
  ]
  for (const row of result.rows) lines.push(...rowText(row, width, style))
  lines.push(
    '',
    style('dim', `${'hot loop, ns an op'.padEnd(width)}${CPU_WORK.map((work) => work.padStart(9)).join('')}`),
  )
  for (const { name, status, cpuRoundsNs } of result.rows) {
    if (status !== 'measured') continue
    const cells = CPU_WORK.map((work) => {
      const values = cpuRoundsNs[work].filter((value) => value !== null).sort((a, b) => a - b)
      return formatNs(values[values.length >> 1] ?? Number.NaN).padStart(9)
    })
    lines.push(`${name.padEnd(width)}${cells.join('')}`)
  }
  lines.push('')
  for (const { from, to, quantity, as, mean, low, high, claimed, rounds } of result.comparisons) {
    if (!['client', 'cpu:decide'].includes(quantity)) continue
    const value = (x: number) => (as === 'ratio' ? x.toFixed(2) : x < 0 ? `−${formatNs(-x)}` : formatNs(x))
    const interval = `99 % interval ${value(low)} … ${value(high)}, ${rounds} rounds`
    const text = as === 'ratio' ? `${value(mean)} times the time` : `${value(mean)} more`
    lines.push(
      `${from} → ${to}, ${quantity}: ${claimed ? `${text} (${interval})` : style('dim', `no difference can be claimed (${interval})`)}`,
    )
  }
  lines.push('')
  for (const { id, verdict, parts, note } of result.claims) {
    lines.push(`${style('bold', id)}: ${verdict}`)
    for (const { statement, measured, holds } of parts)
      lines.push(`  ${holds === null ? '?' : holds ? '✓' : '✗'} ${statement}: ${measured}`)
    lines.push(style('dim', `  ${note}`))
  }
  for (const reason of result.contaminatedBy) lines.push(style('yellow', `contaminated: ${reason}`))
  lines.push(style('dim', environmentText(result.environment)))
  return lines.join('\n')
}

function rowText(
  row: RuntimeRow,
  width: number,
  style: (format: Parameters<typeof styleText>[0], text: string) => string,
): string[] {
  const head = row.name.padEnd(width)
  const { service, client, io } = row
  if (service === null || client === null || io === null)
    return [`${head} ${style(row.status === 'skipped' ? 'dim' : 'yellow', `${row.status}: ${row.reason ?? ''}`)}`]
  const figures = [service.p50Ns, service.p99Ns, client.p50Ns, io.p50Ns]
  const phases = COLUMNS.slice(4).map((phase) => row.phases[phase]?.p50Ns ?? Number.NaN)
  const cells = [...figures, ...phases].map((ns) => formatNs(ns).padStart(9)).join('')
  const lines = [`${head}${cells}${String(row.lost).padStart(7)}`]
  lines.push(style('dim', `  ${row.effectiveMode}, signing: ${row.signing}${row.reason ? `, ${row.reason}` : ''}`))
  for (const [reason, times] of Object.entries(row.reasons)) lines.push(style('red', `  ${reason} ${times}`))
  return lines
}
