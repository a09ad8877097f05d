/** The real Prometheus and Alertmanager, where the machine has them; with CI=true it must. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { TestContext } from 'node:test'
import { findOnPath } from '@tickscope/contract'
import { runProgram } from '../../contract/test/program.ts'
import { eventually } from './fixture.ts'

/**
 * Path of the first of these programs; undefined, and the test skipped with its reason, when there is none.
 *
 * @throws when there is none and CI=true
 */
export function programOrSkip(t: TestContext, ...names: readonly string[]): string | undefined {
  const path = findOnPath(...names)
  if (path !== undefined) return path
  const reason = `${names[0]} is not on PATH (Debian: apt-get install prometheus prometheus-alertmanager)`
  if (process.env.CI === 'true') throw new Error(reason)
  t.skip(reason)
  return undefined
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

/** Starts a server and waits until `readyUrl` answers 200; ends it with the test. */
export async function startServer(t: TestContext, program: string, args: readonly string[], readyUrl: string) {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let errors = ''
  child.stderr.on('data', (text) => {
    errors = `${errors}${text}`.slice(-4000)
  })
  t.after(() => end(child))
  await eventually(`${program} answers`, async () => {
    if (child.exitCode !== null) throw new Error(`${program} ended with ${child.exitCode}: ${errors}`)
    const response = await fetch(readyUrl).catch(() => undefined)
    return response?.ok
  })
  return child
}

export async function end(child: ChildProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill(signal)
  await exited
}

/** What `promtool check metrics` says; empty when it has nothing to complain about. */
export function promtoolComplaints(promtool: string, metrics: string): string {
  const { status, output } = runProgram(promtool, ['check', 'metrics'], { input: metrics })
  return status === 0 ? '' : output || 'promtool failed'
}
