/**
 * The fast path to a page: makes episodes of breaches and sees to it that each is posted.
 *
 * An episode begins with a breach and ends when nothing has been over budget for `PAGING.holdSeconds`; breaches in
 * between prolong it. It is posted at once, about a second after the first slow event (the agent's interval), and
 * again while it lasts where alerts expire by themselves. A post that fails is tried again every `RETRY_MS` until the
 * episode is over; its end, where it is posted at all, for `RESOLVE_FOR_MS` more.
 *
 * Memory: one open episode per (SLO, service, venue).
 */
import { ALERT_NAMES, PAGING, type SloId, type Slos } from '@tickscope/contract'
import type { Clock } from './clock.ts'
import type { Episode } from './episode.ts'
import { type Breach, Judge } from './judge.ts'
import type { AcceptedBatch } from './merge.ts'
import type { Alert, Notifier } from './notify.ts'

const RETRY_MS = 500
/** Least time between two posts that prolong an alert; its end is then at most this much early. */
const RENEW_MS = 1000
/** How long the end of an episode is tried to be delivered. */
const RESOLVE_FOR_MS = 60_000

export interface DetectorOptions {
  readonly slos: Slos
  readonly clock: Clock
  /** Without one, episodes are only kept. */
  readonly notifier: Notifier | undefined
  /** Prefix of `runbook_url`, without a slash at its end. */
  readonly runbookBase: string
  /** Dashboard that pages link to, without query string. */
  readonly dashboardUrl: string
  readonly log: (line: string) => void
  /** An episode began, was posted, or ended. */
  readonly onEpisode: (episode: Episode) => void
  readonly onPost: (outcome: 'ok' | 'failed') => void
}

type Status = 'firing' | 'resolved'

interface Tracked {
  episode: Episode
  /** Monotonic ms. */
  holdUntilMs: number
  /** What should be posted, if anything. */
  wanted: Status | undefined
  posting: Promise<void> | undefined
  notBeforeMs: number
}

export class Detector {
  readonly #options: DetectorOptions
  readonly #judge: Judge
  /** Open episodes by identity. */
  readonly #open = new Map<string, Tracked>()
  /** Episodes that are over and whose end is still to be posted. */
  readonly #ending = new Set<Tracked>()

  constructor(options: DetectorOptions) {
    this.#options = options
    this.#judge = new Judge(options.slos)
  }

  /** Takes up the episodes a former process left open: they end after the hold time unless the breach goes on. */
  restore(episodes: Iterable<Episode>): void {
    for (const episode of episodes) {
      if (episode.resolvedAtMs !== null) continue
      const tracked = this.#track(episode)
      if (episode.postedAtMs === null) tracked.wanted = 'firing'
    }
  }

  /** Judges a batch that was just applied. */
  observe(batch: AcceptedBatch, arrivedAtMonotonicMs: number): void {
    for (const breach of this.#judge.judge(batch, arrivedAtMonotonicMs)) this.#breached(breach)
  }

  /** To be called a few times a second: ends episodes, and posts what is due. */
  sweep(): void {
    const nowMs = this.#options.clock.monotonicMs()
    this.#judge.expire(nowMs)
    for (const [key, tracked] of this.#open) {
      // Not while a post is under way: what it comes to decides what its end needs.
      if (nowMs >= tracked.holdUntilMs && !tracked.posting) {
        this.#open.delete(key)
        this.#end(tracked)
      }
    }
    for (const tracked of this.#ending) {
      if (nowMs < tracked.holdUntilMs + RESOLVE_FOR_MS) continue
      this.#ending.delete(tracked)
      this.#options.log(`the end of an alert could not be delivered: ${describe(tracked.episode)}`)
    }
    for (const tracked of [...this.#open.values(), ...this.#ending]) this.#postIfDue(tracked)
  }

  /** Waits for the posts under way. */
  async stop(): Promise<void> {
    await Promise.all([...this.#open.values(), ...this.#ending].map(({ posting }) => posting))
  }

  #breached(breach: Breach): void {
    const { clock, notifier } = this.#options
    let tracked = this.#open.get(identity(breach))
    if (!tracked) {
      tracked = this.#track({ ...breach, postedAtMs: null, resolvedAtMs: null })
      tracked.wanted = 'firing'
      this.#options.onEpisode(tracked.episode)
    } else {
      const { summary, description } = breach
      tracked.episode = { ...tracked.episode, summary, description }
      tracked.holdUntilMs = clock.monotonicMs() + PAGING.holdSeconds * 1000
      if (notifier?.expires || tracked.episode.postedAtMs === null) tracked.wanted = 'firing'
    }
    this.#postIfDue(tracked)
  }

  #track(episode: Episode): Tracked {
    const tracked: Tracked = {
      episode,
      holdUntilMs: this.#options.clock.monotonicMs() + PAGING.holdSeconds * 1000,
      wanted: undefined,
      posting: undefined,
      notBeforeMs: Number.NEGATIVE_INFINITY,
    }
    this.#open.set(identity(episode), tracked)
    return tracked
  }

  #end(tracked: Tracked): void {
    const { notifier, clock, log, onEpisode } = this.#options
    tracked.episode = { ...tracked.episode, resolvedAtMs: clock.epochMs() }
    onEpisode(tracked.episode)
    tracked.wanted = undefined
    if (!notifier) return
    if (tracked.episode.postedAtMs === null) log(`an alert could not be delivered: ${describe(tracked.episode)}`)
    else if (!notifier.expires) {
      tracked.wanted = 'resolved'
      this.#ending.add(tracked)
    }
  }

  #postIfDue(tracked: Tracked): void {
    const { clock, notifier } = this.#options
    if (!notifier || !tracked.wanted || tracked.posting || clock.monotonicMs() < tracked.notBeforeMs) return
    const status = tracked.wanted
    tracked.wanted = undefined
    tracked.posting = this.#post(notifier, status, tracked).finally(() => {
      tracked.posting = undefined
    })
  }

  async #post(notifier: Notifier, status: Status, tracked: Tracked): Promise<void> {
    const { clock, onPost, onEpisode } = this.#options
    try {
      await notifier.post(status, this.#alert(tracked))
    } catch {
      onPost('failed')
      tracked.wanted ??= status
      tracked.notBeforeMs = clock.monotonicMs() + RETRY_MS
      return
    }
    onPost('ok')
    tracked.notBeforeMs = clock.monotonicMs() + RENEW_MS
    if (status === 'resolved') this.#ending.delete(tracked)
    else if (tracked.episode.postedAtMs === null) {
      tracked.episode = { ...tracked.episode, postedAtMs: clock.epochMs() }
      onEpisode(tracked.episode)
    }
  }

  /** The alert as the rule of the same name would raise it: same labels, absent ones absent. */
  #alert({ episode, holdUntilMs }: Tracked): Alert {
    const { clock, runbookBase, dashboardUrl } = this.#options
    const { slo, service, venue, summary, description, firstBreachAtMs, resolvedAtMs } = episode
    const alertname = ALERT_NAMES[slo]
    const nowMs = clock.epochMs()
    const variables = new URLSearchParams({
      from: 'now-15m',
      'var-service': service,
      ...(venue && { 'var-venue': venue }),
    })
    return {
      labels: { alertname, slo, severity: 'page', service, ...(venue && { venue }) },
      annotations: {
        summary,
        description,
        path: 'fast',
        first_breach_at_ms: `${firstBreachAtMs}`,
        runbook_url: `${runbookBase}/${alertname}.md`,
        dashboard: `${dashboardUrl}?${variables}`,
      },
      // An agent whose clock runs ahead must not date an alert into the future.
      startsAtMs: Math.min(firstBreachAtMs, nowMs),
      endsAtMs: resolvedAtMs ?? nowMs + Math.max(0, holdUntilMs - clock.monotonicMs()),
    }
  }
}

function identity({ slo, service, venue }: { slo: SloId; service: string; venue: string | undefined }): string {
  return JSON.stringify([slo, service, venue ?? null])
}

function describe({ slo, service, venue, firstBreachAtMs }: Episode): string {
  return `${ALERT_NAMES[slo]} of ${service}${venue ? ` at ${venue}` : ''}, first breach ${new Date(firstBreachAtMs).toISOString()}`
}
