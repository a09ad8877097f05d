/** The errors of an agent's user: each is a sentence of `createAgent`, none is ever thrown later. */
import { EXIT, UserError } from '@tickscope/contract'

/** An option of `createAgent` is wrong. */
export function optionError(option: string, problem: string): UserError {
  return new UserError('AGENT_OPTION', `agent option ${option} ${problem}`)
}

/** The agent's thread did not start. Trying again may help when the machine was out of memory or threads. */
export function startError(problem: string): UserError {
  return new UserError('AGENT_START', `agent thread did not start: ${problem}`, EXIT.environment)
}
