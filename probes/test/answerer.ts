/**
 * A server in a thread of its own whose times are known, so that what a probe says of it can be checked.
 *
 * - `constant`: every answer comes `delayMs` after its request was read, as well as a timer can
 * - `pause`: answers at once, but stands still once, for `pauseMs`, when the first message comes from its parent
 * - `slots`: answers `slots` requests at a time, each after `delayMs`: a capacity of slots / delay
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'

export type Answering =
  | { readonly kind: 'constant'; readonly delayMs: number }
  | { readonly kind: 'pause'; readonly pauseMs: number }
  | { readonly kind: 'slots'; readonly slots: number; readonly delayMs: number }

export interface Answerer {
  readonly url: string
  /** Stands still now. @returns for how long it did, ms */
  pause(): Promise<number>
  stop(): Promise<void>
}

export async function startAnswerer(answering: Answering): Promise<Answerer> {
  const worker = new Worker(new URL(import.meta.url), { workerData: answering })
  const next = <T>() =>
    new Promise<T>((resolve, reject) => {
      worker.once('error', reject)
      worker.once('message', (message) => {
        worker.off('error', reject)
        resolve(message)
      })
    })
  const port = await next<number>()
  return {
    url: `http://127.0.0.1:${port}/`,
    pause() {
      worker.postMessage('pause')
      return next<number>()
    },
    async stop() {
      await worker.terminate()
    },
  }
}

function answer(answering: Answering): void {
  const waiting: (() => void)[] = []
  let busy = 0
  const serve = (delayMs: number, end: () => void) => {
    busy++
    setTimeout(() => {
      end()
      busy--
      const next = waiting.shift()
      if (next) serve(delayMs, next)
    }, delayMs)
  }
  const server = createServer({ keepAliveTimeout: 60_000 }, (_, response) => {
    const end = () => response.end('ok')
    if (answering.kind === 'pause') end()
    else if (answering.kind === 'constant') setTimeout(end, answering.delayMs)
    else if (busy < answering.slots) serve(answering.delayMs, end)
    else waiting.push(end)
  })
  const still = new Int32Array(new SharedArrayBuffer(4))
  parentPort?.on('message', () => {
    if (answering.kind !== 'pause') return
    const fromMs = performance.now()
    Atomics.wait(still, 0, 0, answering.pauseMs)
    parentPort?.postMessage(performance.now() - fromMs)
  })
  server.listen(0, '127.0.0.1', () => parentPort?.postMessage((server.address() as AddressInfo).port))
}

if (!isMainThread && workerData?.kind !== undefined) answer(workerData as Answering)
