/**
 * The durable record: what is acknowledged is here first.
 *
 * `append` resolves once its record is on disk (one write and one fdatasync for all records that waited meanwhile), so
 * an acknowledged batch survives a killed process and a machine that loses power. `open` reads everything back. Files
 * and their format: `record.ts`, `recover.ts`.
 *
 * When a journal passes `rotateBytes` the next generation begins, and the finished one is folded into a snapshot in a
 * worker thread; older journals are kept up to `retainBytes`, as interval logs for people and tools.
 *
 * Failing to write (a full disk) refuses the records that waited and leaves the file as it was before them. Failing to
 * sync leaves unknown what is on disk, and later syncs would lie (the kernel reports such an error once): the journal is
 * then closed for good, `onFailed` is told, and only a restart, which reads what really is there, can help.
 */
import { constants, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { type FileHandle, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { JournalError, RequestError } from '../error.ts'
import type { State } from '../merge.ts'
import { compactInWorker, syncDirectory } from './compact.ts'
import { encodeGroup, encodeHead, fileName, GROUP_BYTES_MAX } from './file.ts'
import { lockDirectory } from './lock.ts'
import { generations, recover } from './recover.ts'

export interface JournalOptions {
  readonly dir: string
  /** Size at which the next journal begins; also about what a start reads. */
  readonly rotateBytes: number
  /** Size of all finished journals together beyond which the oldest are deleted. */
  readonly retainBytes: number
  /** Notes for people, one line each. */
  readonly log: (line: string) => void
  /** The journal can no longer be trusted to keep anything. */
  readonly onFailed: (error: JournalError) => void
  /** Duration of each write and sync, ns. */
  readonly onSync?: (durationNs: number) => void
}

/** Records that may wait for the disk, bytes. More are refused: their senders keep them. */
const QUEUE_BYTES_MAX = 32 * 1024 * 1024

interface Waiting {
  readonly record: Buffer
  readonly durable: () => void
  readonly refused: (error: RequestError) => void
}

export class Journal {
  readonly #options: JournalOptions
  readonly #unlock: () => void
  #file: FileHandle
  #generation: number
  /** End of the last durable group in the file. */
  #bytes: number
  #groups: number
  /** Files other than the current one. */
  #otherBytes = 0
  #queue: Waiting[] = []
  #queuedBytes = 0
  #writing: Promise<void> | undefined
  #compacting: Promise<void> | undefined
  #failed: JournalError | undefined
  #rotateAtBytes: number
  readonly #closing = new AbortController()

  private constructor(
    options: JournalOptions,
    unlock: () => void,
    file: FileHandle,
    at: { generation: number; bytes: number; groups: number },
  ) {
    this.#options = options
    this.#unlock = unlock
    this.#file = file
    this.#generation = at.generation
    this.#bytes = at.bytes
    this.#groups = at.groups
    this.#rotateAtBytes = options.rotateBytes
    this.#otherBytes = this.#measure()
  }

  /**
   * Takes the directory, reads it back, and is ready to append.
   *
   * @throws JournalError `DATA_DIR`, `JOURNAL_LOCKED`, `JOURNAL_CORRUPT`
   */
  static async open(options: JournalOptions): Promise<{ journal: Journal; state: State }> {
    const { dir, log } = options
    let unlock: (() => void) | undefined
    try {
      mkdirSync(dir, { recursive: true })
      unlock = lockDirectory(dir)
      const { state, generation = 1, snapshot = 1, end } = recover(dir)
      for (const name of readdirSync(dir)) if (name.endsWith('.hlog.tmp')) rmSync(join(dir, name))
      const path = join(dir, fileName('journal', generation))
      const file = await open(path, constants.O_RDWR | constants.O_CREAT)
      if (end.torn) await cutOff(file, path, end.bytes, log)
      const bytes = end.bytes === 0 ? await writeHead(file, dir, generation) : end.bytes
      const journal = new Journal(options, unlock, file, { generation, bytes, groups: end.groups })
      if (snapshot < generation) journal.#startCompaction()
      return { journal, state }
    } catch (error) {
      unlock?.()
      const { code, syscall } = error as NodeJS.ErrnoException
      if (error instanceof JournalError || syscall === undefined) throw error
      throw new JournalError('DATA_DIR', `data directory ${dir} cannot be used: ${syscall} failed with ${code}`)
    }
  }

  /** Size of all files on disk. */
  get bytes(): number {
    return this.#otherBytes + this.#bytes
  }

  /**
   * Resolves when the record is on disk.
   *
   * @param durable called then, in the order of the records in the file
   * @throws RequestError 503 when it cannot be kept now
   */
  append(record: Buffer, durable: () => void = () => {}): Promise<void> {
    if (this.#failed || this.#closing.signal.aborted)
      return Promise.reject(new RequestError(503, 'JOURNAL_CLOSED', 'the journal is closed', 1))
    if (this.#queuedBytes + record.length > QUEUE_BYTES_MAX)
      return Promise.reject(new RequestError(503, 'JOURNAL_BUSY', 'the disk is slower than what arrives', 1))
    return new Promise((resolve, reject) => {
      this.#queue.push({
        record,
        durable: () => {
          durable()
          resolve()
        },
        refused: reject,
      })
      this.#queuedBytes += record.length
      this.#writing ??= this.#drain()
    })
  }

  /** Writes what waits, then lets go of the directory. */
  async close(): Promise<void> {
    this.#closing.abort()
    await this.#writing
    await this.#compacting
    await this.#file.close()
    this.#unlock()
  }

  async #drain(): Promise<void> {
    // A turn of the event loop, so that batches that arrived together share a sync.
    await new Promise((resolve) => setImmediate(resolve))
    while (this.#queue.length > 0 && !this.#failed) {
      const group = this.#takeGroup()
      try {
        await this.#write(group)
      } catch (error) {
        const why = (error as NodeJS.ErrnoException).code ?? (error as Error).message
        const refusal = new RequestError(503, 'JOURNAL_WRITE', `the batch could not be written to disk: ${why}`, 1)
        // What waits behind is refused too: a later batch of an agent must not get in before an earlier one.
        for (const { refused } of [...group, ...this.#queue.splice(0)]) refused(refusal)
        this.#queuedBytes = 0
        continue
      }
      for (const { durable } of group) durable()
      if (this.#bytes >= this.#rotateAtBytes) await this.#rotate()
    }
    // In the same turn as the look at the queue: a record that comes now starts another drain.
    this.#writing = undefined
  }

  #takeGroup(): Waiting[] {
    let bytes = 0
    let n = 0
    for (const { record } of this.#queue) {
      if (n > 0 && bytes + record.length > GROUP_BYTES_MAX) break
      bytes += record.length
      n++
    }
    this.#queuedBytes -= bytes
    return this.#queue.splice(0, n)
  }

  async #write(group: readonly Waiting[]): Promise<void> {
    const startedAt = process.hrtime.bigint()
    const bytes = encodeGroup(
      this.#groups + 1,
      group.map(({ record }) => record),
    )
    try {
      await writeWhole(this.#file, bytes, this.#bytes)
    } catch (error) {
      this.#options.log(`journal: write failed (${(error as Error).message}); nothing of it is acknowledged`)
      await this.#file.truncate(this.#bytes).catch((e) => this.#fail(e))
      throw error
    }
    await this.#file.datasync().catch((error) => {
      this.#fail(error)
      throw error
    })
    this.#bytes += bytes.length
    this.#groups++
    this.#options.onSync?.(Number(process.hrtime.bigint() - startedAt))
  }

  #fail(error: Error): void {
    const path = join(this.#options.dir, fileName('journal', this.#generation))
    this.#failed ??= new JournalError('JOURNAL_FAILED', `${path} cannot be kept safe any more: ${error.message}`)
    this.#options.onFailed(this.#failed)
  }

  /** Begins the next generation; when that fails, the current file goes on and grows. */
  async #rotate(): Promise<void> {
    const { dir, log, rotateBytes } = this.#options
    const generation = this.#generation + 1
    const path = join(dir, fileName('journal', generation))
    let next: { file: FileHandle; bytes: number }
    try {
      next = await begin(path, dir, generation)
    } catch (error) {
      log(`journal: ${path} could not be begun (${(error as Error).message}); the current file goes on`)
      // A later file must not exist while this one is written: only the last may have a torn tail.
      await rm(path, { force: true }).catch((e) => this.#fail(e))
      this.#rotateAtBytes = this.#bytes + rotateBytes / 4
      return
    }
    const finished = this.#file
    this.#file = next.file
    this.#generation = generation
    this.#bytes = next.bytes
    this.#groups = 0
    this.#rotateAtBytes = rotateBytes
    this.#otherBytes = this.#measure()
    await finished.close().catch(() => {})
    this.#startCompaction()
  }

  #startCompaction(): void {
    this.#compacting ??= this.#compact(this.#generation).finally(() => {
      this.#compacting = undefined
    })
  }

  async #compact(generation: number): Promise<void> {
    const { dir, log, retainBytes } = this.#options
    try {
      await compactInWorker({ dir, generation }, this.#closing.signal)
      for (const old of generations(dir, 'snapshot')) if (old < generation) rmSync(join(dir, fileName('snapshot', old)))
      const finished = generations(dir, 'journal').filter((old) => old < generation)
      let bytes = 0
      for (const old of finished.toReversed()) {
        const path = join(dir, fileName('journal', old))
        bytes += statSync(path).size
        if (bytes > retainBytes) rmSync(path)
      }
      syncDirectory(dir)
    } catch (error) {
      if (this.#closing.signal.aborted) return
      log(`journal: compaction failed (${(error as Error).message}); it is tried again with the next file`)
    }
    this.#otherBytes = this.#measure()
  }

  #measure(): number {
    const { dir } = this.#options
    const current = fileName('journal', this.#generation)
    return readdirSync(dir)
      .filter((name) => name.endsWith('.hlog') && name !== current)
      .reduce((sum, name) => sum + statSync(join(dir, name)).size, 0)
  }
}

async function begin(path: string, dir: string, generation: number): Promise<{ file: FileHandle; bytes: number }> {
  const file = await open(path, 'w+')
  try {
    return { file, bytes: await writeHead(file, dir, generation) }
  } catch (error) {
    await file.close()
    throw error
  }
}

/** @returns bytes written, once they and the file's name are on disk */
async function writeHead(file: FileHandle, dir: string, generation: number): Promise<number> {
  const head = encodeHead('journal', generation, Date.now())
  await writeWhole(file, head, 0)
  await file.sync()
  syncDirectory(dir)
  return head.length
}

/** Sets a torn tail aside and cuts it off; none of it was ever acknowledged. */
async function cutOff(file: FileHandle, path: string, at: number, log: (line: string) => void): Promise<void> {
  const tail = readFileSync(path).subarray(at)
  const aside = await open(`${path}.torn`, 'w')
  await writeWhole(aside, tail, 0)
  await aside.sync()
  await aside.close()
  await file.truncate(at)
  await file.sync()
  log(
    `journal: ${path} ended in ${tail.length} bytes of a write cut off by a crash, never acknowledged; ` +
      `they were cut off at byte ${at} and set aside in ${path}.torn`,
  )
}

async function writeWhole(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, at, bytes.length - at, position + at)
    at += bytesWritten
  }
}
