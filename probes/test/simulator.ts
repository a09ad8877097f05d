/** The simulated venue as the process it is, with one Ed25519 key registered. */
import { type ChildProcess, spawn } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { createRest, createSigner, type Rest } from '@tickscope/venue/kalshi'

const MAIN = fileURLToPath(new URL('../../venue/src/sim/main.ts', import.meta.url))

export interface Simulator {
  readonly url: string
  readonly tickers: readonly string[]
  readonly keyFile: string
  /** `--url`, `--key-id` and `--key-file` of it. */
  readonly access: readonly string[]
  /** Starts the flow and the clock of the faults. */
  start(): Promise<void>
  // biome-ignore lint/suspicious/noExplicitAny: the simulator documents its counters
  stats(): Promise<any>
  /** A second client of the same account. */
  client(): Rest
  stop(): Promise<void>
}

export async function startSimulator(...args: string[]): Promise<Simulator> {
  const folder = mkdtempSync(join(tmpdir(), 'tickscope-probe-'))
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const keyFile = join(folder, 'key.pem')
  const keysFile = join(folder, 'keys.json')
  writeFileSync(keyFile, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 })
  const publicKeyPem = publicKey.export({ type: 'spki', format: 'pem' })
  writeFileSync(keysFile, JSON.stringify([{ keyId: 'probe', publicKeyPem }]))
  const child: ChildProcess = spawn(
    process.execPath,
    [MAIN, '--port', '0', '--keys', keysFile, '--seed', '5', '--hold', ...args],
    { stdio: ['pipe', 'pipe', 'inherit'], env: { ...process.env, TICKSCOPE_CHILD: '1' } },
  )
  const exited = once(child, 'exit')
  const ready = await new Promise<{ url: string; tickers: string[] }>((resolve, reject) => {
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).once('line', (line) => resolve(JSON.parse(line)))
    child.once('exit', (code) => reject(new Error(`the simulator ended with ${code} before it was ready`)))
  })
  const clients: Rest[] = []
  return {
    ...ready,
    keyFile,
    access: ['--url', ready.url, '--key-id', 'probe', '--key-file', keyFile],
    start: async () => {
      await fetch(`${ready.url}/sim/start`, { method: 'POST' })
    },
    stats: async () => (await fetch(`${ready.url}/sim/stats`)).json(),
    client() {
      const signer = createSigner({ keyId: 'probe', privateKeyPem: readFileSync(keyFile, 'utf8') })
      const rest = createRest({ origin: ready.url, signer })
      clients.push(rest)
      return rest
    },
    async stop() {
      for (const rest of clients) await rest.stop()
      child.kill('SIGTERM')
      await exited
      rmSync(folder, { recursive: true })
    },
  }
}
