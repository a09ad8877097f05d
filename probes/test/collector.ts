import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { gunzipSync } from 'node:zlib'
import { type DecodedBatch, decodeBatch, LatencyHistogram } from '@tickscope/contract'

/** A collector that keeps what it is sent, decoded as the real one does. */
export async function startCollector() {
  const batches: DecodedBatch[] = []
  const arrived = new Set<() => void>()
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    const body = Buffer.concat(chunks)
    const text = request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body
    batches.push(decodeBatch(JSON.parse(text.toString())))
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    for (const wake of arrived) wake()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  // A test that failed before its stop must still end.
  server.unref()
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    get resource() {
      const { instance: _, ...resource } = batches[0]?.resource ?? {}
      return resource
    },
    /** Waits until `holds` after some batch; 20 s at most. */
    async until(holds: () => boolean): Promise<void> {
      const deadline = AbortSignal.timeout(20_000)
      while (!holds()) {
        await new Promise<void>((resolve, reject) => {
          arrived.add(resolve)
          deadline.addEventListener('abort', () => reject(new Error('waited 20 s for a batch')), { once: true })
        })
        arrived.clear()
      }
    },
    gauge: (metric: string) => batches.flatMap(({ gauges }) => gauges).findLast((g) => g.metric === metric)?.value,
    counters(metric: string, label: string) {
      const sums: { [value: string]: number } = {}
      for (const counter of batches.flatMap(({ counters }) => counters)) {
        const name = counter.labels[label] ?? ''
        if (counter.metric === metric) sums[name] = (sums[name] ?? 0) + counter.value
      }
      return sums
    },
    histograms(metric: string, label: string) {
      const merged: { [value: string]: LatencyHistogram } = {}
      for (const series of batches.flatMap(({ series }) => series)) {
        const name = series.labels[label] ?? ''
        if (series.metric !== metric) continue
        merged[name] ??= new LatencyHistogram()
        merged[name].add(series.histogram)
      }
      return merged
    },
    stop: () => new Promise<void>((resolve) => server.close(() => resolve())),
  }
}
