/**
 * Do comparisons on this machine claim what is not there, and do they find what is?
 *
 * Unit of work: the p50 of 15 round trips, 2 ms apart, on a warm connection to a server process on this machine, which
 * spins 300 µs before it answers, or, for the injected difference, 500. A comparison is five interleaved rounds of two
 * sides. A hundred of them compare a side with itself: at least 95 must claim nothing. A hundred compare it with the
 * slower one: the injected 200 µs must lie inside at least 95 intervals. The machine is part of this, so run it on a quiet one;
 * the arithmetic alone is tested in test/compare.test.ts.
 * Exit code 1 unless both hold.
 *
 * Usage: node probes/bench/comparison.bench.ts [comparisons=100]
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { EXIT, formatNs, runMain, UserError } from '@tickscope/contract'
import { nowNs } from '../src/clock.ts'
import { compareDifference, compareRatio } from '../src/compare.ts'
import { Connection } from '../src/connection.ts'

const COMPARISONS = Number(process.argv[2] ?? 100)
const ROUNDS = 5
const REQUESTS = 15
const SPACING_MS = 2
const BASE_US = 300
const INJECTED_US = 200
/** Of a hundred. */
const WANTED = 95
const TIMEOUT_MS = 5_000
const SERVE = 'serve'

/** Answers after spinning for as many µs as the path says. */
function serve(): void {
  const server = createServer((request, response) => {
    const untilNs = nowNs() + Number(request.url?.slice(1)) * 1e3
    while (nowNs() < untilNs);
    response.end('ok')
  })
  server.listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port))
  process.once('disconnect', () => process.exit())
}

async function startServer(): Promise<{ child: ChildProcess; port: number }> {
  const child = fork(fileURLToPath(import.meta.url), [SERVE])
  const [port] = (await once(child, 'message', { signal: AbortSignal.timeout(TIMEOUT_MS) })) as [number]
  return { child, port }
}

async function p50Ns(connection: Connection, port: number, spinUs: number): Promise<number> {
  const request = Buffer.from(`GET /${spinUs} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`)
  const times: number[] = []
  for (let i = 0; i < REQUESTS; i++) {
    await delay(SPACING_MS)
    const { outcome, instants } = await connection.exchange(request, nowNs(), TIMEOUT_MS)
    if (outcome !== 'answered') throw new Error(`the server ended with ${outcome}`)
    times.push(instants.endedAtNs - instants.startedAtNs)
  }
  times.sort((a, b) => a - b)
  return times[REQUESTS >> 1] as number
}

async function run(): Promise<number> {
  if (!Number.isInteger(COMPARISONS) || COMPARISONS < 1 || COMPARISONS > 10_000)
    throw new UserError('FLAG_INVALID', `comparisons is '${process.argv[2]}', not a whole number from 1 to 10000`)
  const { child, port } = await startServer()
  const connection = new Connection({ host: '127.0.0.1', port, tls: false })
  const measure = (spinUs: number) => p50Ns(connection, port, spinUs)
  for (let i = 0; i < 20; i++) await measure(BASE_US)
  let silent = 0
  let inside = 0
  let found = 0
  const widthsNs: number[] = []
  try {
    for (let run = 0; run < COMPARISONS; run++) {
      const same: [number[], number[]] = [[], []]
      const slower: [number[], number[]] = [[], []]
      for (let round = 0; round < ROUNDS; round++) {
        const sides = [
          [same[0], BASE_US],
          [same[1], BASE_US],
          [slower[0], BASE_US],
          [slower[1], BASE_US + INJECTED_US],
        ] as const
        // Each round starts with another side.
        for (let i = 0; i < sides.length; i++) {
          const [figures, spinUs] = sides[(i + round) % sides.length] as (typeof sides)[number]
          figures.push(await measure(spinUs))
        }
      }
      if (!compareRatio(...same).claimed) silent++
      const { low, high, claimed } = compareDifference(...slower)
      if (low <= INJECTED_US * 1e3 && high >= INJECTED_US * 1e3) inside++
      if (claimed) found++
      widthsNs.push(high - low)
      if (process.stderr.isTTY) process.stderr.write(`\r${run + 1} of ${COMPARISONS}`)
    }
  } finally {
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[K')
    connection.destroy()
    child.disconnect()
  }
  widthsNs.sort((a, b) => a - b)
  console.log(`${COMPARISONS} comparisons of ${ROUNDS} rounds each, 99 % intervals`)
  console.log(`a side against itself: nothing claimed in ${silent}`)
  console.log(
    `${INJECTED_US} µs injected: inside the interval in ${inside}, claimed in ${found}; median width ${formatNs(widthsNs[widthsNs.length >> 1] ?? 0)}`,
  )
  const enough = (count: number) => count >= (WANTED / 100) * COMPARISONS
  return enough(silent) && enough(inside) ? EXIT.ok : EXIT.budget
}

if (process.argv[2] === SERVE) serve()
else await runMain('comparison', run)
