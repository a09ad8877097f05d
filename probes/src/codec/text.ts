/** The table of `probe codec`. */
import { styleText } from 'node:util'
import { formatNs } from '@tickscope/contract'
import { environmentText } from '../environment.ts'
import type { CodecResult, CodecRow } from './run.ts'
import { type Size, TLS_RECORD_BYTES } from './sizes.ts'

const MESSAGES = {
  order: 'order',
  executionReport: 'execution report',
  bookUpdate: 'book update',
  bookBatch: 'batch of 9 book changes',
}

/** Coloured when `stream` is a terminal and NO_COLOR is unset. */
export function codecText(result: CodecResult, stream: NodeJS.WriteStream): string {
  const style = (format: Parameters<typeof styleText>[0], text: string) => styleText(format, text, { stream })
  const { settings, messages, rows, signing, claims, targets, controls } = result
  const lines = [
    style('bold', 'codec'),
    `${settings.rounds} interleaved rounds, ${settings.messages} messages of each kind, seed ${settings.seed}, peer ${settings.peer}`,
    `boundary ${result.boundary}, clock ${result.clock}; median of the rounds with its 99 % interval; heap: bytes of V8’s heap an operation`,
    '',
    style(
      'dim',
      `${'bytes on the wire'.padEnd(26)}${['bytes', 'first', 'head', 'body', 'signature', 'in TLS 1.3'].map(right(11)).join('')}`,
    ),
  ]
  for (const [message, title] of Object.entries(MESSAGES)) {
    lines.push(style('bold', title))
    for (const [form, size] of Object.entries(messages[message as keyof typeof messages]))
      lines.push(sizeLine(form, size))
  }
  lines.push(
    '',
    style(
      'dim',
      `${'time and heap'.padEnd(32)}${['median', 'low', 'high', 'p90', 'heap bytes'].map(right(11)).join('')}`,
    ),
  )
  for (const [message, title] of [['none', 'harness'], ...Object.entries(MESSAGES)] as const) {
    lines.push(style('bold', title))
    for (const row of rows.filter((each) => each.message === message))
      lines.push(timeLine(`  ${row.codec.padEnd(14)}${row.operation}`, row))
  }
  lines.push(style('bold', 'signing'))
  for (const row of signing) lines.push(`${timeLine(`  ${row.name}`, row)}  ${style('dim', row.description)}`)
  lines.push('')
  for (const { id, claim, verdict, parts, note } of claims) {
    const colour = verdict === 'holds' ? 'green' : verdict === 'does not hold' ? 'red' : 'yellow'
    lines.push(`${style('bold', id)} ${style(colour, verdict)}: ${claim}`)
    for (const { statement, measured, holds } of parts)
      lines.push(`  ${holds === null ? 'open' : holds ? 'yes ' : 'no  '}  ${statement.padEnd(72)} ${measured}`)
    lines.push(style('dim', `  ${note}`))
  }
  lines.push('')
  for (const { name, thresholdNs, medianNs, ok } of targets)
    lines.push(
      `target ${ok === null ? style('yellow', 'open') : ok ? style('green', 'met') : style('yellow', 'not met')}: ${name} ${formatNs(medianNs)}, at most ${formatNs(thresholdNs)} wanted`,
    )
  const { twice, same } = controls.positive
  lines.push(
    `control: the same work twice took ${twice.ratio.toFixed(2)} times as long, the same work again ${same.ratio.toFixed(2)}`,
  )
  for (const reason of controls.contaminatedBy) lines.push(style('yellow', `contaminated: ${reason}`))
  for (const note of result.notes) lines.push(style('dim', note))
  lines.push(style('dim', environmentText(result.environment)))
  return lines.join('\n')
}

const right = (width: number) => (text: string) => text.padStart(width)

function sizeLine(form: string, size: Size): string {
  const cells = [
    size.bytes,
    size.firstBytes,
    size.headBytes,
    size.bodyBytes,
    size.signatureBytes,
    size.bytes + TLS_RECORD_BYTES,
  ].map((bytes) => String(bytes ?? '-').padStart(11))
  return `${`  ${form}`.padEnd(26)}${cells.join('')}${size.note === undefined ? '' : `  ${size.note}`}`
}

function timeLine(
  name: string,
  { nsPerOp, bytesPerOp, status, reason }: Pick<CodecRow, 'nsPerOp' | 'bytesPerOp' | 'status' | 'reason'>,
): string {
  if (nsPerOp === null) return `${name.padEnd(32)}${status}: ${reason}`
  const { median, low, high, p90 } = nsPerOp
  const cells = [...[median, low, high, p90].map(formatNs), String(bytesPerOp)].map(right(11))
  return `${name.padEnd(32)}${cells.join('')}`
}
