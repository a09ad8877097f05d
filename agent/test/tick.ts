/** Ticks as a bot makes them. */
import { type Agent, INSTANT, OUTCOME } from '../src/index.ts'

/** A tick that causes no order. */
export function quietTick(agent: Agent): void {
  const tick = agent.begin(performance.now())
  agent.mark(tick, INSTANT.decoded)
  agent.mark(tick, INSTANT.booked)
  agent.mark(tick, INSTANT.decided)
  agent.close(tick, OUTCOME.ok)
}

/** A tick and the order it causes, sent and not yet answered. @returns the order */
export function orderTick(agent: Agent): number {
  const tick = agent.begin(performance.now())
  agent.mark(tick, INSTANT.decoded)
  agent.mark(tick, INSTANT.booked)
  agent.mark(tick, INSTANT.decided)
  const order = agent.order(tick)
  agent.mark(order, INSTANT.checked)
  agent.mark(order, INSTANT.encoded)
  agent.mark(order, INSTANT.sent)
  agent.close(tick, OUTCOME.ok)
  return order
}

/** Its answer was read. */
export function answer(agent: Agent, order: number, outcome: number = OUTCOME.ok): void {
  agent.mark(order, INSTANT.acked)
  agent.close(order, outcome)
}

/**
 * An order whose instants are given, in ms, `received` … `acked`; undefined leaves one out. Its tick is closed before.
 */
export function orderAt(
  agent: Pick<Agent, 'begin' | 'markAt' | 'order' | 'close'>,
  instantsMs: readonly (number | undefined)[],
  outcome: number = OUTCOME.ok,
): void {
  const set = (handle: number, from: number, to: number) => {
    for (let i = from; i <= to; i++) {
      const at = instantsMs[i]
      if (at !== undefined) agent.markAt(handle, i, at)
    }
  }
  const tick = agent.begin(instantsMs[0] ?? 0)
  set(tick, INSTANT.decoded, INSTANT.decided)
  const order = agent.order(tick)
  set(order, INSTANT.checked, INSTANT.acked)
  agent.close(tick, OUTCOME.ok)
  agent.close(order, outcome)
}
