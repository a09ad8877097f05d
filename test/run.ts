/**
 * `npm test`: everything this machine can run, and what it cannot and why.
 *
 *   npm test                    all
 *   npm test -- agent venue     the tests of these folders
 *
 * Installs the real servers that tests need (Debian packages, as root, after saying so). The folders' tests run two
 * files at a time; those of the whole chain one at a time, last, because they judge delays. With `CI=true` a skipped
 * test is a failure, save for what a machine may lack for good: a Docker engine, recorded market data, DPDK (200
 * packages for three rows of one probe), a checkout that other users may read.
 */
import { globSync } from 'node:fs'
import type { Transform } from 'node:stream'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'
import { fileURLToPath } from 'node:url'
import { EXIT, runMain, UserError } from '@tickscope/contract'
import { installServers } from './install.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const FOLDERS = ['contract', 'venue', 'agent', 'bot', 'probes', 'collector', 'dashboards', 'alerts', 'cli', 'test']
/** Reasons a skip is no failure with `CI=true`; they begin the skip message of a test. */
const MAY_LACK = /^(no Docker engine|no recorded data|libdpdk is not here|this checkout is not readable to others)/
/** Longest one test may take, ms: bringing up a container stack is the slowest. */
const TEST_TIMEOUT_MS = 600_000

interface Outcome {
  passed: number
  failed: number
  readonly skipped: { readonly name: string; readonly reason: string }[]
}

async function runFiles(files: string[], concurrency: number, outcome: Outcome): Promise<void> {
  if (files.length === 0) return
  const events = run({ files, concurrency, timeout: TEST_TIMEOUT_MS, cwd: ROOT })
  events.on('test:pass', ({ name, skip, details }) => {
    if (skip !== undefined) outcome.skipped.push({ name, reason: typeof skip === 'string' ? skip : 'no reason given' })
    else if (details.type !== 'suite') outcome.passed++
  })
  events.on('test:fail', ({ details }) => {
    if (details.type !== 'suite') outcome.failed++
  })
  const text = events.compose(new spec() as unknown as Transform)
  for await (const chunk of text) process.stdout.write(chunk as string)
}

await runMain('npm test', async () => {
  const wanted = process.argv.slice(2)
  for (const name of wanted) {
    if (!FOLDERS.includes(name)) {
      throw new UserError('FOLDER_UNKNOWN', `there are no tests of '${name}'; the folders are ${FOLDERS.join(', ')}`)
    }
  }
  const folders = wanted.length > 0 ? FOLDERS.filter((name) => wanted.includes(name)) : FOLDERS
  const howToHave = installServers()
  const outcome: Outcome = { passed: 0, failed: 0, skipped: [] }
  const parts = folders
    .filter((name) => name !== 'test')
    .flatMap((name) => globSync(`${name}/test/**/*.test.ts`, { cwd: ROOT }))
  await runFiles(parts, 2, outcome)
  if (folders.includes('test')) await runFiles(globSync('test/*.test.ts', { cwd: ROOT }), 1, outcome)

  for (const { name, reason } of outcome.skipped) console.log(`skipped: ${name}: ${reason}`)
  if (howToHave !== undefined && outcome.skipped.length > 0) console.log(howToHave)
  console.log(`${outcome.passed} passed, ${outcome.failed} failed, ${outcome.skipped.length} skipped`)
  const unexcused = process.env.CI === 'true' ? outcome.skipped.filter(({ reason }) => !MAY_LACK.test(reason)) : []
  if (unexcused.length > 0) console.log(`CI=true: ${unexcused.length} skipped tests could have run on this machine`)
  return outcome.failed > 0 || unexcused.length > 0 || outcome.passed === 0 ? EXIT.budget : EXIT.ok
})
