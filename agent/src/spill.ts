/**
 * Batches that outlive their process: written by an agent that had to stop before the collector answered, shipped first,
 * under their own name, by the next agent given the same directory. One JSON file a batch, exactly the bytes of its body.
 *
 * A file goes only when the collector has answered for it. A crash in between sends it once more, and the collector
 * knows it by (agent, epoch, sequence).
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { BATCH_LIMITS } from '@tickscope/contract'

const NAME = /^tickscope-\d{13}-[0-9a-f]+-\d{9}\.json$/
/** Most files of a directory: 16 MiB at the usual 64 kB, 256 MiB at worst. */
const FILES_MAX = 256

export interface SpilledBatch {
  readonly path: string
  readonly body: Buffer
}

/** Makes the directory. @throws what `mkdir` throws */
export function openSpill(dir: string): void {
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  readdirSync(dir)
}

/** Paths of spilled batches, oldest first. */
export function listSpilled(dir: string): string[] {
  return readdirSync(dir)
    .filter((name) => NAME.test(name))
    .sort()
    .map((name) => join(dir, name))
}

/** @returns undefined when the file is gone or is no batch; such a file is left to its owner */
export function readSpilled(path: string): SpilledBatch | undefined {
  try {
    if (statSync(path).size > BATCH_LIMITS.wireBytes) return undefined
    return { path, body: readFileSync(path) }
  } catch {
    return undefined
  }
}

export function removeSpilled({ path }: SpilledBatch): void {
  rmSync(path, { force: true })
}

/**
 * @param epochMs when the batch ended; orders the files
 * @throws when the directory is full or cannot be written
 */
export function spill(dir: string, epochMs: number, epoch: string, sequence: number, body: Buffer): string {
  if (listSpilled(dir).length >= FILES_MAX) throw new Error(`${dir} holds ${FILES_MAX} batches already`)
  const path = join(dir, `tickscope-${epochMs}-${epoch}-${String(sequence).padStart(9, '0')}.json`)
  writeFileSync(`${path}.tmp`, body, { mode: 0o600, flush: true })
  renameSync(`${path}.tmp`, path)
  return path
}
