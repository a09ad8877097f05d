/**
 * Our processes as a user would start them, for tests and benchmarks: the simulated venue, the collector, the bot.
 *
 * Each is awaited until it says it is ready, and every one of them is stopped by `stopAll`, whatever happened.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const READY_TIMEOUT_MS = 20_000
const STOP_TIMEOUT_MS = 15_000

// biome-ignore lint/suspicious/noExplicitAny: lines and answers of our own processes, whose folders document them
export type Json = any

export interface Running {
  readonly process: ChildProcess
  readonly ready: Json
  /** All it wrote to stderr so far. */
  readonly stderr: () => string
  /** Its summary line, once it has ended. */
  readonly summary: Promise<Json>
  /** Asks it to stop and waits. @returns its summary line */
  stop(): Promise<Json>
}

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export class Processes {
  readonly folder = mkdtempSync(join(tmpdir(), 'bot-'))
  readonly #running: Running[] = []

  path(name: string): string {
    return join(this.folder, name)
  }

  /** Writes an Ed25519 key pair. @returns its entry for the venue's `keys.json` */
  createKey(keyId: string): { keyId: string; publicKeyPem: string } {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519')
    writeFileSync(this.path(`${keyId}.pem`), privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 })
    return { keyId, publicKeyPem: publicKey.export({ type: 'spki', format: 'pem' }).toString() }
  }

  async venue(...args: string[]): Promise<Running> {
    writeFileSync(this.path('keys.json'), JSON.stringify([this.createKey('bot-key')]))
    return await this.start('venue/src/sim/main.ts', [
      ...['--port', '0', '--keys', this.path('keys.json'), '--seed', '7', '--tier', 'premier', '--hold'],
      ...args,
    ])
  }

  async collector(): Promise<Running> {
    return await this.start('collector/src/main.ts', ['--port', '0', '--data', this.path('journal')])
  }

  botArgs(venueUrl: string, collectorUrl: string, ...args: string[]): string[] {
    return [
      ...['--venue', venueUrl, '--collector', collectorUrl],
      ...['--key-id', 'bot-key', '--key-file', this.path('bot-key.pem')],
      ...args,
    ]
  }

  async bot(venue: Running, collectorUrl: string, ...args: string[]): Promise<Running> {
    return await this.start('bot/src/main.ts', this.botArgs(venue.ready.url, collectorUrl, ...args))
  }

  /** Runs a process to its end. */
  run(script: string, args: readonly string[]): Promise<Ended> {
    return new Promise((resolve, reject) => {
      const child = spawn(process.execPath, [join(ROOT, script), ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
      let stdout = ''
      let stderr = ''
      child.stdout.on('data', (chunk) => {
        stdout += chunk
      })
      child.stderr.on('data', (chunk) => {
        stderr += chunk
      })
      const timer = setTimeout(() => child.kill('SIGKILL'), READY_TIMEOUT_MS)
      child.once('error', reject)
      child.once('close', (code) => {
        clearTimeout(timer)
        resolve({ code, stdout, stderr })
      })
    })
  }

  async start(script: string, args: readonly string[]): Promise<Running> {
    const child = spawn(process.execPath, [join(ROOT, script), ...args], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, TICKSCOPE_CHILD: '1' },
    })
    let stderr = ''
    child.stderr.on('data', (chunk) => {
      stderr += chunk
    })
    const ready = Promise.withResolvers<Json>()
    const closed = new Promise<void>((resolve) => child.once('close', () => resolve()))
    let summary: Json
    createInterface({ input: child.stdout }).on('line', (line) => {
      const json = JSON.parse(line)
      if (json.event === 'ready') ready.resolve(json)
      else summary = json
    })
    const timer = setTimeout(() => ready.reject(new Error(`${script} is not ready: ${stderr}`)), READY_TIMEOUT_MS)
    closed.then(() => ready.reject(new Error(`${script} ended: ${stderr}`)))
    const running = {
      process: child,
      ready: undefined as Json,
      stderr: () => stderr,
      summary: closed.then(() => summary),
      async stop() {
        child.kill('SIGTERM')
        const late = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS)
        await closed
        clearTimeout(late)
        return summary
      },
    }
    this.#running.push(running)
    running.ready = await ready.promise
    clearTimeout(timer)
    return running
  }

  async stopAll(): Promise<void> {
    for (const running of this.#running.toReversed()) await running.stop()
    rmSync(this.folder, { recursive: true, force: true })
  }
}

export async function getJson(url: string): Promise<Json> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(5_000) })
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}`)
  return await answer.json()
}

export async function post(url: string): Promise<void> {
  const answer = await fetch(url, { method: 'POST', signal: AbortSignal.timeout(5_000) })
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}`)
  await answer.text()
}

/** Polls until `done` says so. */
export async function until(what: string, timeoutMs: number, done: () => boolean | Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs
  while (!(await done())) {
    if (performance.now() > deadlineMs) throw new Error(`waited ${timeoutMs} ms in vain: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
