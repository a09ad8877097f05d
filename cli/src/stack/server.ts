/** Prometheus and Alertmanager, when they are on PATH: real servers, with the suite's rules, on loopback. */
import { spawn } from 'node:child_process'
import { openSync, readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { EXIT, findOnPath, listenError, UserError } from '@tickscope/contract'
import { stop } from './child.ts'

const READY_TIMEOUT_MS = 20_000

export const SERVERS_MISSING =
  'Prometheus or Alertmanager is not on PATH: pages go straight from the collector to the pager. ' +
  'On Debian: apt-get install prometheus prometheus-alertmanager'

export interface Server {
  readonly name: string
  readonly url: string
  stop(timeoutMs: number): Promise<void>
}

/** A port of this machine for a server that cannot say which one it took. */
export function freePort(wanted: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', (error) => reject(listenError(error, '127.0.0.1', wanted)))
    server.listen(wanted, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })
}

/**
 * Starts a server that is not ours and waits until `/-/ready` answers 200.
 *
 * @throws UserError with the last line of its log
 */
export async function startServer(
  name: string,
  command: string,
  args: readonly string[],
  port: number,
  logFile: string,
): Promise<Server> {
  const log = openSync(logFile, 'a')
  // setpriv (util-linux) ends the server with us even when we are killed; it cannot watch its stdin as our own do.
  const setpriv = process.platform === 'linux' ? findOnPath('setpriv') : undefined
  const [file, argv] = setpriv ? [setpriv, ['--pdeathsig', 'TERM', command, ...args]] : [command, [...args]]
  const child = spawn(file, argv, { stdio: ['ignore', log, log], detached: true })
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => resolve())
    child.once('error', () => resolve())
  })
  const url = `http://127.0.0.1:${port}`
  const deadline = performance.now() + READY_TIMEOUT_MS
  while (
    child.exitCode === null &&
    child.signalCode === null &&
    child.pid !== undefined &&
    performance.now() < deadline
  ) {
    const answer = await fetch(`${url}/-/ready`, { signal: AbortSignal.timeout(1_000) }).catch(() => undefined)
    if (answer?.ok) return { name, url, stop: (timeoutMs) => stop(child, exited, timeoutMs) }
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  if (child.pid !== undefined) await stop(child, exited, 2_000)
  const last = readFileSync(logFile, 'utf8').trimEnd().split('\n').at(-1) ?? ''
  throw new UserError(
    'SERVER_FAILED',
    `${name} (${command}) did not become ready; its log ends: ${last}`,
    EXIT.environment,
  )
}
