/** Real servers for the probe to measure, on 127.0.0.1 and a free port, and the probe as the process a user starts. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer as createHttpServer, type RequestListener } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export interface Target {
  readonly port: number
  readonly url: string
  /** Connections accepted so far. */
  readonly accepted: number
  stop(): Promise<void>
}

export interface TlsFiles {
  readonly folder: string
  readonly certFile: string
  readonly keyFile: string
}

export async function startTarget(
  listener: RequestListener,
  { port = 0, tls, host = '127.0.0.1' }: { port?: number; tls?: TlsFiles; host?: string } = {},
): Promise<Target> {
  const server = tls
    ? createHttpsServer({ cert: readFileSync(tls.certFile), key: readFileSync(tls.keyFile) }, listener)
    : createHttpServer(listener)
  server.keepAliveTimeout = 60_000
  let accepted = 0
  server.on('connection', () => accepted++)
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, host, resolve))
  const bound = (server.address() as AddressInfo).port
  return {
    port: bound,
    url: `${tls ? 'https' : 'http'}://${tls ? 'localhost' : host}:${bound}`,
    get accepted() {
      return accepted
    },
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

/** A self-signed certificate for localhost, or undefined where there is no `openssl` to make one. */
export function createCertificate(): TlsFiles | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'tickscope-tls-'))
  const certFile = join(folder, 'cert.pem')
  const keyFile = join(folder, 'key.pem')
  const { status } = spawnSync('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
    ...['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'],
    ...['-keyout', keyFile, '-out', certFile],
  ])
  if (status === 0) return { folder, certFile, keyFile }
  rmSync(folder, { recursive: true })
  return undefined
}

const MAIN = fileURLToPath(new URL('../src/main.ts', import.meta.url))

export interface Finished {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface Running {
  readonly child: ChildProcess
  /** Lines of stdout so far. */
  readonly lines: readonly string[]
  /** Resolves with the first line of stdout or stderr that matches; rejects when the process ends without it. */
  line(pattern: RegExp): Promise<string>
  readonly finished: Promise<Finished>
}

/** Starts `node probes/src/main.ts <args>`. */
export function startProbe(args: readonly string[], env: NodeJS.ProcessEnv = {}): Running {
  const child = spawn(process.execPath, [MAIN, ...args], { env: { ...process.env, NO_COLOR: '1', ...env } })
  const lines: string[] = []
  const all: string[] = []
  const waiting = new Set<{ pattern: RegExp; resolve: (line: string) => void; reject: (error: Error) => void }>()
  let stderr = ''
  const take = (text: string) => {
    all.push(text)
    for (const wait of waiting) {
      if (!wait.pattern.test(text)) continue
      waiting.delete(wait)
      wait.resolve(text)
    }
  }
  createInterface({ input: child.stdout }).on('line', (text) => {
    lines.push(text)
    take(text)
  })
  createInterface({ input: child.stderr }).on('line', (text) => {
    stderr += `${text}\n`
    take(text)
  })
  const finished = new Promise<Finished>((resolve) =>
    child.once('close', (code) => resolve({ code, stdout: lines.map((line) => `${line}\n`).join(''), stderr })),
  )
  finished.then(({ code }) => {
    for (const { pattern, reject } of waiting) reject(new Error(`ended with ${code} before ${pattern}: ${stderr}`))
  })
  return {
    child,
    lines,
    line: (pattern) =>
      new Promise((resolve, reject) => {
        const seen = all.find((text) => pattern.test(text))
        if (seen === undefined) waiting.add({ pattern, resolve, reject })
        else resolve(seen)
      }),
    finished,
  }
}

export function runProbe(args: readonly string[]): Promise<Finished> {
  return startProbe(args).finished
}

/** The last line of stdout as the object it is. */
// biome-ignore lint/suspicious/noExplicitAny: read as a script would read it
export function lastLine(finished: Finished): any {
  return JSON.parse(finished.stdout.trimEnd().split('\n').at(-1) as string)
}
