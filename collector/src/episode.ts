/** One incident of the breach detector: from its first breach until nothing has been over budget for a while. */
import type { SloId } from '@tickscope/contract'

export interface Episode {
  readonly slo: SloId
  readonly service: string
  readonly venue: string | undefined
  /** Epoch ms, the agent's clock. */
  readonly firstBreachAtMs: number
  /** One line for a person, and the figures, as of its latest breach. */
  readonly summary: string
  readonly description: string
  /** When somebody took the alert, epoch ms; null while nobody has. */
  readonly postedAtMs: number | null
  /** Epoch ms; null while it lasts. */
  readonly resolvedAtMs: number | null
}

/** What tells an episode from the others. */
export function episodeKey({ slo, service, venue, firstBreachAtMs }: Episode): string {
  return JSON.stringify([slo, service, venue ?? null, firstBreachAtMs])
}
