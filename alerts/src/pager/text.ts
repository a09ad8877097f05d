/** A page as it reads on a phone: what broke, whose it is, how long ago, what to open. At most 60 columns. */
import type { Incident, Outcome } from './incidents.ts'

const WIDTH = 60

const STYLE = { page: '\x1b[1;31m', ticket: '\x1b[33m', resolved: '\x1b[32m', off: '\x1b[0m' } as const

/** Breaks text at spaces; a word longer than a line stays whole, so that a link can still be copied. */
function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(/\s+/)) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  return line === '' ? lines : [...lines, line]
}

function seconds(ms: number): string {
  const s = Math.max(0, ms) / 1000
  return s < 60 ? `${s.toFixed(1)} s` : `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`
}

function clock(epochMs: number): string {
  return new Date(epochMs).toISOString().slice(11, 23).concat('Z')
}

/** The lines to print for one notification, or none when it is no news. */
export function pageText(outcome: Outcome, incident: Incident, nowMs: number, color: boolean): string {
  if (outcome === 'known') return ''
  const kind = incident.severity === 'page' ? 'PAGE' : 'TICKET'
  const head = { new: kind, again: `${kind}, told ${incident.notifications} times`, resolved: 'RESOLVED' }[outcome]
  const style = outcome === 'resolved' ? STYLE.resolved : kind === 'PAGE' ? STYLE.page : STYLE.ticket
  const whose = [incident.service, incident.venue].filter((part) => part !== null).join(' → ')
  const body = [
    ...wrap(incident.summary || incident.alertname, WIDTH - 2),
    [incident.alertname, whose].filter((part) => part !== '').join(' · '),
    ...(outcome === 'new'
      ? [
          ...wrap(incident.description, WIDTH - 2),
          `${seconds(nowMs - incident.firstBreachAtMs)} after the first event, path ${incident.path ?? 'unknown'}`,
          ...(incident.runbookUrl === null ? [] : [incident.runbookUrl]),
        ]
      : []),
    ...(outcome === 'resolved' ? [`after ${seconds(nowMs - incident.firstBreachAtMs)}`] : []),
  ]
  const title = `┌─ ${head} `
  const lines = [
    `${title}${'─'.repeat(Math.max(2, WIDTH - title.length - 14))} ${clock(nowMs)}`,
    ...body.map((line) => `│ ${line}`),
    `└${'─'.repeat(WIDTH - 1)}`,
  ]
  return lines.map((line) => `${color ? `${style}${line}${STYLE.off}` : line}\n`).join('')
}
