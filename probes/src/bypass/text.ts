/** The ladder as people look at it: a bar a path, the gains that may be claimed, and what they are worth. */
import { styleText } from 'node:util'
import { formatNs } from '@tickscope/contract'
import { environmentText } from '../environment.ts'
import type { LadderRow } from './ladder.ts'
import type { BypassResult } from './run.ts'

const BAR = 24
const STATUS_COLOUR = { measured: 'green', inactive: 'yellow', unsupported: 'yellow', skipped: 'dim' } as const

export function bypassText(result: BypassResult, stream: NodeJS.WriteStream): string {
  const style = (format: Parameters<typeof styleText>[0], text: string) => styleText(format, text, { stream })
  const lines = [
    style('bold', `bypass over ${result.topology}, ${result.rounds} interleaved rounds`),
    ...(result.stopped ? [style('yellow', stoppedText(result))] : []),
    'round trip user→user, CLOCK_MONOTONIC, open loop; bars show p50 of the service time on a logarithmic scale',
    '',
    style(
      'dim',
      `${'path'.padEnd(20)}${'bytes'.padStart(6)}${'p50'.padStart(10)}${'p99'.padStart(10)}${'max'.padStart(10)}${'lost'.padStart(6)}${'sleeps'.padStart(8)}`,
    ),
  ]
  const p50s = result.rows.flatMap(({ service }) => (service ? [service.p50Ns] : []))
  const low = Math.log(Math.min(...p50s) / 1.5)
  const high = Math.log(Math.max(...p50s))
  const bar = (ns: number) => '█'.repeat(Math.max(1, Math.round(((Math.log(ns) - low) / (high - low || 1)) * BAR)))
  for (const row of result.rows) lines.push(rowText(row, bar, style))
  lines.push('')
  for (const { from, to, payloadBytes, ratio, low: lowest, high: highest, claimed } of result.gains) {
    const interval = `${lowest.toFixed(2)} … ${highest.toFixed(2)}`
    const verdict = !claimed
      ? style('dim', `no gain can be claimed (99 % interval of the ratio ${interval})`)
      : ratio < 1
        ? style(
            'green',
            `${((1 - ratio) * 100).toFixed(0)} % less (ratio ${ratio.toFixed(2)}, 99 % interval ${interval})`,
          )
        : style('red', `${ratio.toFixed(2)} times as long (99 % interval ${interval})`)
    lines.push(`${from} → ${to}, ${payloadBytes} B: ${verdict}`)
  }
  const { shares } = result
  if (shares)
    lines.push(
      '',
      `of a blocking round trip ${percent(shares.wakeUp)} is waking up, ${percent(shares.stack)} the kernel's stack, ${percent(shares.bypass)} is left under ${shares.bypassPath}`,
    )
  for (const { mode, appToTx, txToRx, rxToApp, missing, sent, hardwareStamps } of result.stamps) {
    lines.push(
      `stamps, ${mode}: send to driver ${formatNs(appToTx.p50Ns)}, wire and peer ${formatNs(txToRx.p50Ns)}, receive to user ${formatNs(rxToApp.p50Ns)} (p50; ${missing} of ${sent} without stamps, ${hardwareStamps ? 'hardware' : 'software'} stamps)`,
    )
  }
  for (const { from, to, savedNs, endToEndNs, ratio } of result.worth) {
    lines.push(
      `for a bot of ${formatNs(endToEndNs)} end to end, ${from} → ${to} saves ${formatNs(savedNs)}: ${percent(ratio)}`,
    )
  }
  for (const reason of result.contaminatedBy) lines.push(style('yellow', `contaminated: ${reason}`))
  if (result.contaminated && result.roundsContaminatedBy.length > 0)
    lines.push(
      style(
        'yellow',
        `controls round by round: ${result.roundsContaminatedBy.map(({ length }) => (length > 0 ? 'moved' : 'held')).join(', ')}; no round is left out of the gains for it`,
      ),
    )
  lines.push(
    style(
      'dim',
      'veth is not a NIC: no DMA, no interrupts, no wire; these shares do not carry over to hardware as they are',
    ),
  )
  lines.push(style('dim', environmentText(result.environment)))
  return lines.join('\n')
}

function stoppedText({ rounds, roundsRequested, rows }: BypassResult): string {
  const reached = rows.some(({ measuredRounds }) => measuredRounds.includes(rounds))
  return `stopped: ${rounds} of ${roundsRequested} rounds are whole${reached ? '; rows show what the unfinished one reached too, gains and shares do not' : ''}`
}

function percent(ratio: number): string {
  return `${(ratio * 100).toPrecision(2)} %`
}

function rowText(
  { path, payloadBytes, status, reason, service, lost, sleepsPerMessage }: LadderRow,
  bar: (ns: number) => string,
  style: (format: Parameters<typeof styleText>[0], text: string) => string,
): string {
  const head = `${path.padEnd(20)}${String(payloadBytes).padStart(6)}`
  if (service === null) return `${head}  ${style(STATUS_COLOUR[status], status)}: ${reason}`
  const figures = [service.p50Ns, service.p99Ns, service.maxNs].map((ns) => formatNs(ns).padStart(10)).join('')
  const shown = status === 'measured' ? style('cyan', bar(service.p50Ns)) : style('yellow', `${status}: ${reason}`)
  return `${head}${figures}${String(lost).padStart(6)}${(sleepsPerMessage ?? 0).toFixed(2).padStart(8)}  ${shown}`
}
