/** What the tests of the C probes need of a machine: a process of ours, its descendants, and what it left behind. */
import { spawn, spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

export const PROBE = join(import.meta.dirname, '../../src/main.ts')
export const isRoot = process.getuid?.() === 0

export function installed(command: string, ...args: string[]): boolean {
  const { error, status } = spawnSync(command, args, { stdio: 'ignore' })
  return error === undefined && status === 0
}

export const hasCompiler = installed('cc', '--version') && installed('make', '--version')
export const hasDpdk = installed('pkg-config', '--exists', 'libdpdk')

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program to its end, killed after a minute. */
export function run(
  command: string,
  args: readonly string[],
  options: { uid?: number; gid?: number; env?: NodeJS.ProcessEnv } = {},
): Promise<Ended> {
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 60_000,
    killSignal: 'SIGKILL',
    ...options,
  })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text) => (stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text) => (stderr += text))
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, stdout, stderr }))
  })
}

/** @returns the last line of stdout as an object */
export function lastLine<T>({ stdout, stderr }: Ended): T {
  const line = stdout.trimEnd().split('\n').at(-1) ?? ''
  if (!line.startsWith('{')) throw new Error(`no result on stdout; stderr: ${stderr}`)
  return JSON.parse(line) as T
}

/** Polls until `found` gives something, for at most 20 s. */
export async function until<T>(what: string, found: () => T | undefined | false): Promise<T> {
  const deadline = Date.now() + 20_000
  for (;;) {
    const value = found()
    if (value !== undefined && value !== false) return value
    if (Date.now() > deadline) throw new Error(`${what}: not within 20 s`)
    await delay(10)
  }
}

interface Process {
  readonly pid: number
  readonly parent: number
  readonly state: string
  readonly command: string
}

/** Children of a process, and theirs. */
export function descendantsOf(root: number): Process[] {
  const all = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name): Process[] => {
      try {
        const [head = '', rest = ''] = readFileSync(`/proc/${name}/stat`, 'utf8').split(') ')
        const [state = '', parent = '0'] = rest.split(' ')
        return [{ pid: Number(name), parent: Number(parent), state, command: head.slice(head.indexOf('(') + 1) }]
      } catch {
        return []
      }
    })
  const found: Process[] = []
  for (let parents = [root]; parents.length > 0; ) {
    const children = all.filter(({ parent }) => parents.includes(parent))
    found.push(...children)
    parents = children.map(({ pid }) => pid)
  }
  return found
}

/** A zombie whose parent has not looked yet has let go of everything. */
export function alive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

/** What a run could leave on a machine beside processes; its namespaces have no name and end with them. */
export function traces(): { readonly [place: string]: readonly string[] } {
  const names = (path: string, pattern: RegExp) => {
    try {
      return readdirSync(path).filter((name) => pattern.test(name))
    } catch {
      return []
    }
  }
  return {
    devices: names('/sys/class/net', /^ts(client|server)$/),
    dpdk: [...names('/var/run/dpdk', /^tickscope/), ...names('/run/dpdk', /^tickscope/)],
    files: ['/tmp', '/var/run', '/run'].flatMap((folder) => names(folder, /tickscope-memif/)),
    mounts: readFileSync('/proc/mounts', 'utf8')
      .split('\n')
      .filter((mount) => mount.startsWith('tickscope ')),
  }
}

export const NO_TRACES = { devices: [], dpdk: [], files: [], mounts: [] }
