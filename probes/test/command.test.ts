import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { UserError } from '@tickscope/contract'
import { Command, CommanderError } from 'commander'
import { addProbeCommands } from '../src/command.ts'

/** Parses a command line as the `tickscope` command does. @returns what it refused it with */
async function refusal(...args: string[]): Promise<string> {
  const said: string[] = []
  const program = new Command('tickscope').exitOverride().configureOutput({ outputError: (text) => said.push(text) })
  addProbeCommands(program, () => assert.fail('it ran'))
  try {
    await program.parseAsync(['http', ...args], { from: 'user' })
  } catch (error) {
    assert.ok(error instanceof UserError || error instanceof CommanderError, String(error))
    return error.message
  }
  return assert.fail('it was not refused')
}

describe('the flags of a probe', () => {
  for (const [args, message] of [
    [[], /^probe http needs its target: --url URL$/],
    [['--url', 'http://h', '--rate', '0'], /^--rate is '0', not a number of requests per second from 0.001 to 10000$/],
    [['--url', 'http://h', '--rate', ''], /^--rate is ''/],
    [['--url', 'http://h', '--for', '10'], /^--for is '10', not a duration/],
    [['--url', 'http://h', '--for', '25h'], /^--for is '25h', longer than 86400 s$/],
    [['--url', 'http://h', '--timeout', '2m'], /^--timeout is '2m', longer than 60 s$/],
    [['--url', 'http://h', '--connection', 'cold'], /argument 'cold' is invalid. Allowed choices are both, warm, new/],
    [['--url', 'http://h', '--warm-up', '0'], /^--warm-up is '0', not a whole number from 1 to 10000$/],
    [['--url', 'http://h', '--seed', '1.5'], /^--seed is '1.5', not a whole number/],
    [['--url', 'http://h', '--serve', '--json'], /^--serve runs until stopped and prints no result/],
    [['--url', 'http://h', '--serve', '--for', '1s'], /^--serve runs until stopped/],
  ] as const) {
    it(`refuse ${JSON.stringify(args.slice(2))}, naming the flag, the value and the limit`, async () => {
      assert.match(await refusal(...args), message)
    })
  }
})
