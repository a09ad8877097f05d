/**
 * Where the fast path's alerts go: Alertmanager's API, or a webhook that would otherwise hear from an Alertmanager.
 *
 * One post is one attempt of at most `POST_TIMEOUT_MS`; the detector decides about retries.
 */
import { createHash } from 'node:crypto'
import { Pool } from 'undici'

export interface Alert {
  readonly labels: { readonly [label: string]: string }
  readonly annotations: { readonly [annotation: string]: string }
  readonly startsAtMs: number
  /** When it ends unless renewed; when resolved, when it ended. */
  readonly endsAtMs: number
}

export interface Notifier {
  /**
   * Whether a posted alert ends by itself at `endsAtMs`. Then it is posted again while it lasts and its end is never
   * posted; else it is posted once, and its end is.
   */
  readonly expires: boolean
  /** Rejects when nobody took it. */
  post(status: 'firing' | 'resolved', alert: Alert): Promise<void>
  close(): Promise<void>
}

const POST_TIMEOUT_MS = 2000

/**
 * Posts to Alertmanager's API v2, where the rule of the same name and labels posts too, so that both are one alert.
 *
 * How Alertmanager merges two posts of one alert (`provider/mem/mem.go` Put, `types/types.go` Alert.Merge): when their
 * times overlap the earliest start and the latest end win, save that an end already reached (Prometheus says "resolved")
 * wins over a later one. So the end is never posted here: while Prometheus still sees the breach its own, later end
 * holds; when it resolves first, nothing of ours contradicts it; and without Prometheus the end we gave passes.
 */
export function alertmanagerNotifier(url: string): Notifier {
  return notifier(`${url.replace(/\/+$/, '')}/api/v2/alerts`, true, (_status, alert) => [
    {
      labels: alert.labels,
      annotations: alert.annotations,
      startsAt: new Date(alert.startsAtMs).toISOString(),
      endsAt: new Date(alert.endsAtMs).toISOString(),
    },
  ])
}

/** Posts what an Alertmanager's webhook receiver (version 4) gets: one group of one alert. */
export function webhookNotifier(url: string): Notifier {
  return notifier(url, false, (status, { labels, annotations, startsAtMs, endsAtMs }) => {
    const { severity: _severity, slo: _slo, ...groupLabels } = labels
    const group = Object.entries(groupLabels).map(([label, value]) => `${label}=${JSON.stringify(value)}`)
    const alert = {
      status,
      labels,
      annotations,
      startsAt: new Date(startsAtMs).toISOString(),
      endsAt: status === 'resolved' ? new Date(endsAtMs).toISOString() : '0001-01-01T00:00:00Z',
      generatorURL: '',
      fingerprint: createHash('sha256').update(JSON.stringify(labels)).digest('hex').slice(0, 16),
    }
    return {
      version: '4',
      groupKey: `{}:{${group.join(', ')}}`,
      truncatedAlerts: 0,
      status,
      receiver: 'pager',
      groupLabels,
      commonLabels: labels,
      commonAnnotations: annotations,
      externalURL: '',
      alerts: [alert],
    }
  })
}

function notifier(
  url: string,
  expires: boolean,
  payload: (status: 'firing' | 'resolved', alert: Alert) => unknown,
): Notifier {
  const { origin, pathname, search } = new URL(url)
  const pool = new Pool(origin, { connections: 4, keepAliveTimeout: 30_000 })
  return {
    expires,
    async post(status, alert) {
      const { statusCode, body } = await pool.request({
        method: 'POST',
        path: pathname + search,
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(payload(status, alert)),
        signal: AbortSignal.timeout(POST_TIMEOUT_MS),
      })
      await body.dump()
      if (statusCode < 200 || statusCode > 299) throw new Error(`${url} answered ${statusCode}`)
    },
    close: () => pool.destroy(),
  }
}
