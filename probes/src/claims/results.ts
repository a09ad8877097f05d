/** Results of probes: read from a folder, or made by running each probe as its user would and keeping its last line. */
import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { UserError } from '@tickscope/contract'
import { OUTPUT_CHARS_MAX, PROBE_MAIN, runChild } from '../child.ts'
import { readFlagFile } from '../flag.ts'
import { CLAIM_PROBES } from './catalogue.ts'
import type { SavedResult } from './judge.ts'

/** Files looked at; a folder of results holds one a probe and machine. */
const FILES_MAX = 200
/** Longest run of one probe, ms. */
const RUN_TIMEOUT_MS = 15 * 60_000

/**
 * Every `*.json` in `folder` whose last line is a result, oldest first.
 *
 * @throws UserError `RESULTS_UNREADABLE`
 */
export function readResults(folder: string, note: (line: string) => void): SavedResult[] {
  let names: string[]
  try {
    names = readdirSync(folder).filter((name) => name.endsWith('.json'))
  } catch (error) {
    throw new UserError(
      'RESULTS_UNREADABLE',
      `--results ${folder} cannot be read: ${(error as NodeJS.ErrnoException).code}`,
    )
  }
  if (names.length > FILES_MAX)
    throw new UserError('RESULTS_UNREADABLE', `--results ${folder} has more than ${FILES_MAX} JSON files`)
  return names
    .map((name) => join(folder, name))
    .sort((a, b) => statSync(a).mtimeMs - statSync(b).mtimeMs)
    .flatMap((file) => {
      const result = parseResult(readFlagFile('--results', file, OUTPUT_CHARS_MAX), file)
      if (result === undefined) note(`${file} is no result of a probe: its last line is not one JSON object`)
      return result === undefined ? [] : [result]
    })
}

/** @returns undefined when the last line of `text` is not a JSON object */
export function parseResult(text: string, from: string): SavedResult | undefined {
  let body: unknown
  try {
    body = JSON.parse(text.trimEnd().split('\n').at(-1) ?? '')
  } catch {
    return undefined
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return undefined
  const { probe } = body as { probe?: unknown }
  return { probe: typeof probe === 'string' ? probe : 'start', from, body: body as SavedResult['body'] }
}

export interface ProbeRun {
  readonly result?: SavedResult
  /** What it said when it ended without a result. */
  readonly failure?: string
}

/** Runs one probe with the settings of the catalogue, as a process of its own. */
export async function runClaimProbe(probe: keyof typeof CLAIM_PROBES, signal: AbortSignal): Promise<ProbeRun> {
  const args = [PROBE_MAIN, probe, ...CLAIM_PROBES[probe], '--json']
  const end = await runChild(process.execPath, args, { timeoutMs: RUN_TIMEOUT_MS, signal, killSignal: 'SIGTERM' })
  const result = parseResult(end.lastLine, 'this run')
  return result === undefined ? { failure: end.said || 'it printed no result' } : { result }
}

/**
 * Runs one probe, and again when its own controls say that the machine disturbed it: chosen by the controls, never by
 * the figures. The last run counts when none was undisturbed.
 *
 * @param run in tests another one
 */
export async function runUndisturbed(
  probe: keyof typeof CLAIM_PROBES,
  attempts: number,
  signal: AbortSignal,
  note: (line: string) => void,
  run: typeof runClaimProbe = runClaimProbe,
): Promise<ProbeRun> {
  let last: ProbeRun = {}
  for (let attempt = 1; attempt <= attempts && !signal.aborted; attempt++) {
    const { result, failure } = await run(probe, signal)
    if (result === undefined) return last.result === undefined && failure !== undefined ? { failure } : last
    last = { result: { ...result, body: { ...result.body, attempts: attempt } } }
    if (result.body.contaminated !== true) break
    if (attempt < attempts) note(`probe ${probe}: run ${attempt} of at most ${attempts} was contaminated, once more`)
  }
  return last
}

/** Keeps a result beside those that are there. */
export function saveResult(folder: string, { probe, body }: SavedResult): void {
  try {
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, `${probe}.json`), `${JSON.stringify(body)}\n`)
  } catch (error) {
    throw new UserError(
      'RESULTS_UNWRITABLE',
      `--results ${folder} cannot be written: ${(error as NodeJS.ErrnoException).code}`,
    )
  }
}
