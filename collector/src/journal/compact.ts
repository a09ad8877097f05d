/**
 * Compaction: folds a snapshot and the complete journals after it into a newer snapshot, so that a start never reads
 * more than one snapshot and about `rotateBytes` of journal.
 *
 * It works from the files alone, in a worker thread, so the thread that answers requests neither waits nor copies its
 * state. The snapshot appears by rename once it is on disk whole; a crash before leaves the old files as they were.
 */
import { closeSync, fsyncSync, openSync, renameSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { encodeGroup, encodeHead, fileName, GROUP_BYTES_MAX } from './file.ts'
import { encodeSnapshot } from './record.ts'
import { recover } from './recover.ts'

export interface Task {
  readonly dir: string
  /** Generation of the snapshot to write: the state before the journal of that generation. */
  readonly generation: number
}

/** Compacts in a worker thread. Rejects with what went wrong, or when aborted; the old files are then all there. */
export function compactInWorker(task: Task, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./compact-thread.ts', import.meta.url), { workerData: task, name: 'compaction' })
    const stop = () => void worker.terminate()
    signal.addEventListener('abort', stop, { once: true })
    worker.once('message', () => resolve())
    worker.once('error', reject)
    worker.once('exit', (code) => {
      signal.removeEventListener('abort', stop)
      reject(new Error(`compaction ended early, code ${code}`))
    })
  })
}

export function compact({ dir, generation }: Task): void {
  const { state } = recover(dir, generation)
  const path = join(dir, fileName('snapshot', generation))
  const fd = openSync(`${path}.tmp`, 'w')
  try {
    writeWhole(fd, encodeHead('snapshot', generation, Date.now()))
    let group: Buffer[] = []
    let bytes = 0
    let groups = 0
    const flush = () => {
      if (group.length > 0) writeWhole(fd, encodeGroup(++groups, group))
      group = []
      bytes = 0
    }
    for (const record of encodeSnapshot(state)) {
      group.push(record)
      bytes += record.length
      if (bytes >= GROUP_BYTES_MAX) flush()
    }
    flush()
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
  renameSync(`${path}.tmp`, path)
  syncDirectory(dir)
}

function writeWhole(fd: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at)
}

/** Makes created, renamed and deleted names of a directory durable. */
export function syncDirectory(dir: string): void {
  const fd = openSync(dir, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
