/** The verdicts as a table for people, and as the page `docs/claims.md`. */
import { styleText } from 'node:util'
import type { Claim } from './catalogue.ts'
import type { ClaimPart, Judgement, Verdict } from './verdict.ts'

export interface JudgedClaim extends Claim, Judgement {
  /** Which result the verdict is of: its file, host and time; null when it is of none. */
  readonly of: {
    readonly from: string
    readonly host: string | null
    readonly startedAtMs: number | null
    readonly contaminated: boolean
    /** Runs it took; all before this one were contaminated. */
    readonly attempts: number
  } | null
}

const COLOUR: { readonly [verdict in Verdict]: Parameters<typeof styleText>[0] } = {
  holds: 'green',
  'does not hold': 'red',
  'holds in part': 'yellow',
  open: 'yellow',
  'not measured': 'dim',
  'cannot be measured here': 'dim',
}

const mark = ({ holds }: ClaimPart) => (holds === null ? '?' : holds ? '✓' : '✗')

export function claimsText(claims: readonly JudgedClaim[], stream: NodeJS.WriteStream): string {
  const style = (format: Parameters<typeof styleText>[0], text: string) => styleText(format, text, { stream })
  const lines: string[] = []
  for (const { id, claim, figures, verdict, parts, note, command, of } of claims) {
    lines.push(`${style('bold', id.padEnd(16))}${style(COLOUR[verdict], verdict)}`)
    lines.push(`  ${claim} (${figures === 'none' ? 'no figure' : figures})`)
    for (const part of parts) lines.push(`  ${mark(part)} ${part.statement}: ${part.measured}`)
    if (note !== '') lines.push(style('dim', `  ${note}`))
    if (of !== null && parts.length > 0) lines.push(style('dim', `  of ${ofText(of)}`))
    if (command !== '') lines.push(style('dim', `  $ ${command}`))
  }
  lines.push('', `✓ holds, ✗ does not, ? open: the interval is on both sides of the figure, or nothing was measured`)
  return lines.join('\n')
}

/** @param machine one line about where the results were measured */
export function claimsMarkdown(claims: readonly JudgedClaim[], machine: string): string {
  const cell = (text: string) => text.replaceAll('|', '\\|')
  const lines = [
    '# The claims, and what was measured',
    '',
    'This suite grew from an article on low-latency execution stacks for event contracts. Here is each of its claims in our words, how it',
    'is tested, and what came out on one machine. Yours decides for you: `npx tickscope claims --run` measures what can be measured where it',
    'runs, `npx tickscope claims --results DIR` judges results saved with `--json`, and `--markdown` writes this page.',
    '',
    `Measured on: ${machine}.`,
    '',
    'Verdicts: *holds*; *does not hold*; *holds in part*, the parts say which; *open*, measured, and the interval lies on both sides of the',
    'figure or the run was contaminated, so nothing is claimed; *not measured*; *cannot be measured here*, with the reason. ✓ a part that',
    'holds, ✗ one that does not, ? one that is open. Intervals are at 99 % over interleaved rounds.',
    '',
    '| id | claim | figures | verdict |',
    '|---|---|---|---|',
    ...claims.map(
      ({ id, claim, figures, verdict }) => `| [${id}](#${id}) | ${cell(claim)} | ${cell(figures)} | ${verdict} |`,
    ),
  ]
  for (const { id, claim, figures, how, command, verdict, parts, note, of } of claims) {
    lines.push('', `## ${id}`, '', `${capital(claim)}. Figures: ${figures}.`, '', `Tested by: ${how}.`)
    if (command !== '') lines.push('', `    ${command}`)
    const dirty = of === null ? '' : runText(of)
    lines.push('', `**${capital(verdict)}**${dirty === '' ? '' : `, ${dirty}`}.`, '')
    for (const part of parts) lines.push(`- ${mark(part)} ${part.statement}: ${part.measured}`)
    if (note !== '') lines.push(...(parts.length > 0 ? [''] : []), `${capital(note)}${/[.!?]$/.test(note) ? '' : '.'}`)
  }
  return `${lines.join('\n').replaceAll('\n\n\n', '\n\n')}\n`
}

/** Nothing for a run that was clean at once. */
function runText({ contaminated, attempts }: NonNullable<JudgedClaim['of']>): string {
  if (contaminated) return attempts > 1 ? `contaminated in each of ${attempts} runs` : 'a contaminated run'
  return attempts > 1 ? `in run ${attempts}, those before were contaminated` : ''
}

function ofText(of: NonNullable<JudgedClaim['of']>): string {
  const { from, host, startedAtMs } = of
  const at = startedAtMs === null ? null : new Date(startedAtMs).toISOString().slice(0, 16)
  return [from, host, at, runText(of)].filter((fact) => fact !== null && fact !== '').join(', ')
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}
