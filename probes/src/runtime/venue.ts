/**
 * The simulated venue the runtimes trade with: one of their own, or one that runs already. Their orders are
 * immediate-or-cancel, so they leave nothing behind; yet a real exchange is for the probe `order`, which has caps.
 *
 * A venue of one's own is a process beside the probe: its engine must not share an event loop with a client that is
 * timed. It ends with the probe, whatever ends the probe, and its keys live in a folder that goes with it.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { EXIT, UserError } from '@tickscope/contract'
import { createRest, createSigner, venueUserError } from '@tickscope/venue/kalshi'
import { readFlagFile } from '../flag.ts'
import { isLoopbackHost } from '../host.ts'

export const KEY_TYPES = ['rsa', 'ed25519'] as const
export type KeyType = (typeof KEY_TYPES)[number]

export interface OrderVenue {
  readonly url: URL
  readonly ticker: string
  readonly keyId: string
  readonly keyFile: string
  readonly keyType: string
  /** For files that should go with the venue. */
  readonly folder: string
  stop(): Promise<void>
}

const READY_TIMEOUT_MS = 15_000
const STOP_TIMEOUT_MS = 5_000

/**
 * @param keyType of the client's key; the venue issues RSA-2048
 * @throws UserError `VENUE_START`
 */
export async function startOwnVenue(keyType: KeyType): Promise<OrderVenue> {
  const folder = mkdtempSync(join(tmpdir(), 'tickscope-venue-'))
  const keyFile = join(folder, 'key.pem')
  const keysFile = join(folder, 'keys.json')
  const keyId = 'probe'
  const { publicKey, privateKey } =
    keyType === 'rsa' ? generateKeyPairSync('rsa', { modulusLength: 2048 }) : generateKeyPairSync('ed25519')
  writeFileSync(keyFile, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 })
  writeFileSync(keysFile, JSON.stringify([{ keyId, publicKeyPem: publicKey.export({ type: 'spki', format: 'pem' }) }]))
  const main = fileURLToPath(new URL('./main.ts', import.meta.resolve('@tickscope/venue/sim')))
  // Held: without flow its markets are quiet and every turn of its loop is an order's. The tier never limits a probe.
  const args = [main, '--port', '0', '--keys', keysFile, '--hold', '--tier', 'prestige']
  const child = spawn(process.execPath, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, TICKSCOPE_CHILD: '1' },
  })
  const clean = () => rmSync(folder, { recursive: true, force: true })
  try {
    const { url, tickers } = await ready(child)
    return {
      url: new URL(url),
      ticker: tickers[0] as string,
      keyId,
      keyFile,
      keyType,
      folder,
      async stop() {
        await end(child)
        clean()
      },
    }
  } catch (error) {
    await end(child)
    clean()
    throw error
  }
}

export interface GivenVenue {
  /** Origin of a simulator on this machine. */
  readonly url: string
  readonly keyId: string
  readonly keyFile: string
}

/** @throws UserError `VENUE_INVALID` for anything that is no simulator on this machine */
export async function joinVenue({ url: text, keyId, keyFile }: GivenVenue): Promise<OrderVenue> {
  const url = URL.parse(text)
  if (url?.protocol !== 'http:' || !isLoopbackHost(url.hostname))
    throw new UserError(
      'VENUE_INVALID',
      `--url is '${text}', not the http URL of a simulator on this machine: probe order measures a real venue`,
    )
  const signer = createSigner({
    keyId,
    privateKeyPem: readFlagFile('--key-file', keyFile),
    source: `--key-file ${keyFile}`,
  })
  const rest = createRest({ origin: url.origin, signer })
  try {
    const { items } = await rest.markets({ status: 'open', limit: 1 })
    const ticker = items[0]?.ticker
    if (ticker === undefined) throw new UserError('NO_MARKET', `${url.origin} has no open market`, EXIT.environment)
    const folder = mkdtempSync(join(tmpdir(), 'tickscope-venue-'))
    const stop = async () => rmSync(folder, { recursive: true, force: true })
    return { url, ticker, keyId, keyFile, keyType: signer.algorithm, folder, stop }
  } catch (error) {
    throw venueUserError(error, `reading the markets at ${url.origin}`)
  } finally {
    await rest.stop()
  }
}

function ready(child: ChildProcess): Promise<{ url: string; tickers: readonly string[] }> {
  return new Promise((resolve, reject) => {
    let said = ''
    const fail = (why: string) =>
      reject(new UserError('VENUE_START', `the simulated venue did not start: ${why}`, EXIT.environment))
    const timer = setTimeout(() => fail(`not ready within ${READY_TIMEOUT_MS / 1000} s`), READY_TIMEOUT_MS)
    if (child.stderr) createInterface({ input: child.stderr }).on('line', (line) => (said = line))
    if (child.stdout)
      createInterface({ input: child.stdout }).on('line', (line) => {
        if (!line.startsWith('{"event":"ready"')) return
        clearTimeout(timer)
        resolve(JSON.parse(line))
      })
    child.once('error', ({ message }) => fail(message))
    child.once('close', () => {
      clearTimeout(timer)
      fail(said)
    })
  })
}

function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return Promise.resolve()
  return new Promise((resolve) => {
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS)
    child.once('close', () => {
      clearTimeout(timer)
      resolve()
    })
    child.stdin?.end()
  })
}
