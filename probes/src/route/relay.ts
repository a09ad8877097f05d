/**
 * A TCP relay that holds requests back: a rehearsal of a longer route on one machine, for kernels without netem. Never a
 * real route, and everything measured through it is labelled `relay with injected delay`.
 *
 * Bytes towards the target leave `delayMs` after they came, in order; answers pass at once, so a round trip takes
 * `delayMs` more. What it cannot delay is the handshake, which ends at the relay: exactly as at a CDN's edge, its delay
 * is behind the edge. The last 2 ms of each delay are turned through instead of slept, since timers have steps of 1 ms.
 */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { announce, EXIT, listenError, parseDurationMs, stopRequested, UserError } from '@tickscope/contract'
import type { Command } from 'commander'
import { nowNs } from '../clock.ts'
import { INJECT_DELAY_MAX_MS, INJECTED_LABEL, parseHostPort } from './routes.ts'

const LEAD_NS = 2_000_000
/** Bytes held of one connection before its sender is made to wait. */
const HELD_BYTES_MAX = 1024 * 1024
const CONNECTIONS_MAX = 512

export interface RelayOptions {
  readonly host: string
  readonly port: number
  readonly to: { readonly host: string; readonly port: number }
  readonly delayMs: number
}

export interface Relay {
  readonly port: number
  stop(): Promise<void>
}

export async function startRelay({ host, port, to, delayMs }: RelayOptions): Promise<Relay> {
  const sockets = new Set<Socket>()
  const server = createServer({ noDelay: true, allowHalfOpen: true }, (client) => {
    const target = connect({ ...to, noDelay: true, allowHalfOpen: true })
    for (const [socket, other] of [
      [client, target],
      [target, client],
    ] as const) {
      sockets.add(socket)
      socket.on('error', () => other.destroy())
      socket.on('close', () => {
        sockets.delete(socket)
        other.destroy()
      })
    }
    target.pipe(client)
    delayed(client, target, delayMs * 1e6)
  })
  server.maxConnections = CONNECTIONS_MAX
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(listenError(error, host, port)))
    server.listen(port, host, resolve)
  })
  return {
    port: (server.address() as AddressInfo).port,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        for (const socket of sockets) socket.destroy()
      }),
  }
}

/** Passes what `from` sends on to `into`, each piece `delayNs` after it came. */
function delayed(from: Socket, into: Socket, delayNs: number): void {
  const held: { readonly dueAtNs: number; readonly bytes: Buffer | null }[] = []
  let heldBytes = 0
  let waiting = false
  const release = () => {
    waiting = false
    for (let first = held[0]; first !== undefined && first.dueAtNs <= nowNs(); first = held[0]) {
      held.shift()
      if (first.bytes === null) into.end()
      else if (!into.destroyed) into.write(first.bytes)
      heldBytes -= first.bytes?.length ?? 0
    }
    if (heldBytes + into.writableLength < HELD_BYTES_MAX) from.resume()
    wait()
  }
  const wait = () => {
    const first = held[0]
    if (waiting || first === undefined) return
    waiting = true
    const leftNs = first.dueAtNs - nowNs()
    if (leftNs > LEAD_NS + 1e6) setTimeout(release, Math.floor((leftNs - LEAD_NS) / 1e6))
    else setImmediate(release)
  }
  const hold = (bytes: Buffer | null) => {
    held.push({ dueAtNs: nowNs() + delayNs, bytes })
    heldBytes += bytes?.length ?? 0
    if (heldBytes + into.writableLength >= HELD_BYTES_MAX) from.pause()
    wait()
  }
  from.on('data', hold)
  from.on('end', () => hold(null))
  from.on('close', () => {
    held.length = 0
  })
  into.on('drain', () => {
    if (heldBytes < HELD_BYTES_MAX) from.resume()
  })
}

/** @param exit takes the exit code of the run */
export function addRelayCommand(parent: Command, exit: (code: number) => void): void {
  parent
    .command('relay')
    .description('A TCP relay that holds requests back: rehearses a longer route for the probe route.')
    .requiredOption('--to <host:port>', 'target')
    .requiredOption('--delay <duration>', 'added to each round trip', (text) => parseDurationMs(text, '--delay'))
    .option('--listen <host:port>', 'where to listen; port 0 is any free one', '127.0.0.1:0')
    .action(async ({ to, delay, listen }: { to: string; delay: number; listen: string }) => {
      const flag = (name: string) => (why: string) => new UserError('FLAG_INVALID', `${name} ${why}`)
      if (delay > INJECT_DELAY_MAX_MS)
        throw new UserError('FLAG_INVALID', `--delay is longer than ${INJECT_DELAY_MAX_MS} ms`)
      const anyPort = /:0$/.test(listen)
      const address = parseHostPort(anyPort ? listen.replace(/:0$/, ':1') : listen, flag('--listen'))
      const stopping = stopRequested()
      const relay = await startRelay({
        host: address.host,
        port: anyPort ? 0 : address.port,
        to: parseHostPort(to, flag('--to')),
        delayMs: delay,
      })
      announce({ event: 'ready', host: address.host, port: relay.port, route: INJECTED_LABEL, delayMs: delay })
      await stopping
      await relay.stop()
      exit(EXIT.ok)
    })
}
