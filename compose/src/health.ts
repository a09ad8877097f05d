/**
 * Health check of our containers, which have no HTTP client of their own.
 *
 *   node compose/src/health.ts http URL             healthy when URL answers 2xx
 *   node compose/src/health.ts agent URL SERVICE    healthy when the collector at URL has heard from SERVICE in the last
 *                                                   10 s: alive, measuring, and its measurements arrive
 *
 * Reads the bearer token from TICKSCOPE_TOKEN_FILE when that is set. One request, at most 2 s.
 */
import { readFileSync } from 'node:fs'

const AGENT_SILENT_SECONDS = 10

const [kind, url, service] = process.argv.slice(2)
const tokenFile = process.env.TICKSCOPE_TOKEN_FILE

async function get(target: string): Promise<string> {
  const headers = tokenFile ? { authorization: `Bearer ${readFileSync(tokenFile, 'utf8').trim()}` } : {}
  const answer = await fetch(target, { headers, signal: AbortSignal.timeout(2_000) })
  if (!answer.ok) throw new Error(`${target} answered ${answer.status}`)
  return answer.text()
}

try {
  if (kind === 'http' && url !== undefined) await get(url)
  else if (kind === 'agent' && url !== undefined && service !== undefined) {
    const lines = (await get(`${url}/metrics`)).split('\n')
    const seen = lines
      .filter((line) => line.startsWith('tickscope_agent_last_batch_timestamp_seconds{'))
      .filter((line) => line.includes(`service="${service}"`))
      .map((line) => Number(line.slice(line.lastIndexOf('}') + 1).trim()))
    const ageSeconds = Date.now() / 1000 - Math.max(...seen)
    if (!(ageSeconds < AGENT_SILENT_SECONDS)) throw new Error(`${service} was heard of ${ageSeconds.toFixed(0)} s ago`)
  } else throw new Error('usage: health.ts http URL | agent URL SERVICE')
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`)
  process.exit(1)
}
