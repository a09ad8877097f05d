/** The runtimes in the collector: every order, by the runtime that sent it. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Agent } from '@tickscope/agent'
import type { Runtime } from './interpreter.ts'
import type { OrderTimes } from './run.ts'

/** Orders handed over at once, and the pause after them, ms: a pace the agent's ring keeps up with. */
const ORDERS = 512
const PAUSE_MS = 10
const PARTS = ['client', 'io', 'service', 'total'] as const

export async function reportOrders(agent: Agent, { name }: Runtime, orders: readonly OrderTimes[]): Promise<void> {
  const series = PARTS.map((part) => agent.series('tickscope_runtime_order_seconds', { runtime: name, part }))
  for (const [i, order] of orders.entries()) {
    for (const [index, part] of PARTS.entries()) agent.record(series[index] as number, order[`${part}Ns`])
    if (i % ORDERS === ORDERS - 1) await delay(PAUSE_MS)
  }
}
