/**
 * Which notifications are one incident: the difference between one page and a phone that rings three times.
 *
 * Alertmanager sends a firing notification when an incident begins, again each `repeat_interval`, and again when one of
 * the two paths renews an alert that the other has just ended. All of these are one incident as long as the alert's
 * identity (its labels) is the same and the new notification does not start after the incident ended. Only the first
 * is a page; the others are counted on it.
 *
 * Holds the last `capacity` incidents; resolved ones are forgotten first.
 */

/** One alert of an Alertmanager webhook payload, version 4. */
export interface Notification {
  readonly status: 'firing' | 'resolved'
  readonly labels: { readonly [label: string]: string }
  readonly annotations?: { readonly [annotation: string]: string }
  /** RFC 3339 */
  readonly startsAt: string
  /** RFC 3339; of a firing alert the year 1 or a time to come */
  readonly endsAt?: string
  readonly fingerprint?: string
}

export interface Incident {
  readonly alertname: string
  readonly severity: string
  readonly slo: string | null
  readonly service: string | null
  readonly venue: string | null
  /** Which path's notification arrived first. */
  readonly path: string | null
  readonly summary: string
  readonly description: string
  readonly runbookUrl: string | null
  /** First event over budget, epoch ms: as the alert says, else when it began to fire. */
  readonly firstBreachAtMs: number
  readonly startsAtMs: number
  /** Arrival of the first notification, epoch ms. */
  readonly deliveredAtMs: number
  /** Arrival of the news of its end, epoch ms; null while it lasts. */
  resolvedAtMs: number | null
  /** Firing notifications of this incident that arrived, the first included. */
  notifications: number
}

export type Outcome = 'new' | 'again' | 'resolved' | 'known'

/** Longest text kept of a label or annotation, UTF-16 code units. */
const TEXT_MAX = 1024

/** Text for a terminal: no control characters, so that an alert can draw nothing but letters; bounded. */
function clean(text: string | undefined): string {
  return (text ?? '')
    .slice(0, TEXT_MAX)
    .replaceAll(/\p{C}+/gu, ' ')
    .trim()
}

function cleanOrNull(text: string | undefined): string | null {
  return clean(text) || null
}

/** Labels in one order: Alertmanager's fingerprint is a hash of just these, and other senders have none. */
function identityOf(labels: { readonly [label: string]: string }): string {
  return JSON.stringify(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))
}

interface Entry {
  readonly identity: string
  readonly incident: Incident
  /** End as the sender gave it, epoch ms: a notification that starts later is another incident. */
  endsAtMs: number
}

export class Incidents {
  readonly #capacity: number
  #entries: Entry[] = []
  /** Incidents of severity "page" since the start, forgotten ones included. */
  pages = 0
  /** All other incidents since the start. */
  tickets = 0
  notifications = 0

  constructor(capacity = 1000) {
    this.#capacity = capacity
  }

  /** @returns what the notification is, and its incident; none for the end of an incident that was never seen */
  receive(notification: Notification, nowMs: number): { outcome: Outcome; incident: Incident } | undefined {
    this.notifications++
    const identity = identityOf(notification.labels)
    const known = this.#entries.findLast((entry) => entry.identity === identity)
    const startsAtMs = Date.parse(notification.startsAt)
    const same = known !== undefined && (known.incident.resolvedAtMs === null || startsAtMs <= known.endsAtMs)
    if (notification.status === 'resolved') {
      if (!same) return undefined
      if (known.incident.resolvedAtMs !== null) return { outcome: 'known', incident: known.incident }
      known.incident.resolvedAtMs = nowMs
      known.endsAtMs = Math.min(Date.parse(notification.endsAt ?? '') || nowMs, nowMs)
      return { outcome: 'resolved', incident: known.incident }
    }
    if (same) {
      known.incident.notifications++
      known.incident.resolvedAtMs = null
      return { outcome: 'again', incident: known.incident }
    }
    const incident = incidentOf(notification, startsAtMs, nowMs)
    if (incident.severity === 'page') this.pages++
    else this.tickets++
    this.#entries.push({ identity, incident, endsAtMs: Number.POSITIVE_INFINITY })
    if (this.#entries.length > this.#capacity) {
      const resolved = this.#entries.findIndex((entry) => entry.incident.resolvedAtMs !== null)
      this.#entries.splice(Math.max(resolved, 0), 1)
    }
    return { outcome: 'new', incident }
  }

  /** Oldest first. */
  list(): readonly Incident[] {
    return this.#entries.map((entry) => entry.incident)
  }
}

function incidentOf(notification: Notification, startsAtMs: number, nowMs: number): Incident {
  const { labels, annotations = {} } = notification
  const firstBreachAtMs = Number(annotations.first_breach_at_ms)
  return {
    alertname: clean(labels.alertname) || 'unnamed alert',
    severity: clean(labels.severity) || 'page',
    slo: cleanOrNull(labels.slo),
    service: cleanOrNull(labels.service),
    venue: cleanOrNull(labels.venue),
    path: cleanOrNull(annotations.path),
    summary: clean(annotations.summary),
    description: clean(annotations.description),
    runbookUrl: cleanOrNull(annotations.runbook_url),
    firstBreachAtMs: firstBreachAtMs > 0 ? firstBreachAtMs : startsAtMs,
    startsAtMs,
    deliveredAtMs: nowMs,
    resolvedAtMs: null,
    notifications: 1,
  }
}
