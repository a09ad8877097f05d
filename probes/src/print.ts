/** The end of a run whose budgets are its own flags: what is printed, and the exit code. */
import { EXIT } from '@tickscope/contract'

export interface Judged {
  readonly ok: boolean
}

export interface Printed<Budget extends Judged> {
  readonly json: boolean
  /** For people. */
  readonly text: string
  readonly budgets: readonly Budget[]
  /** What a budget is of, such as `p99 of c within 1.00 ms`. */
  readonly budgetText: (budget: Budget) => string
}

/** @returns the exit code */
export function printResult<Budget extends Judged>(
  result: object,
  { json, text, budgets, budgetText }: Printed<Budget>,
): number {
  const lines = budgets.map((budget) => `budget ${budget.ok ? 'kept' : 'BROKEN'}: ${budgetText(budget)}`)
  process.stdout.write(`${json ? JSON.stringify({ ...result, budgets }) : [text, ...lines].join('\n')}\n`)
  return budgets.every(({ ok }) => ok) ? EXIT.ok : EXIT.budget
}
