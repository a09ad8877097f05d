/**
 * One collector per data directory.
 *
 * Node has no `flock`; SQLite, which Node carries, takes the kernel's own record lock on `lock.sqlite`. The kernel ends
 * it with the process however that dies, so there is no stale lock to judge and no pid to guess across containers.
 * `lock.pid` beside it only lets the refusal name the holder.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { JournalError } from '../error.ts'

/** SQLITE_BUSY: another connection holds the lock. */
const SQLITE_BUSY = 5

/**
 * @returns releases the lock
 * @throws JournalError `JOURNAL_LOCKED` when another collector, in whatever process, has the directory
 */
export function lockDirectory(dir: string): () => void {
  const pidFile = join(dir, 'lock.pid')
  let database: DatabaseSync | undefined
  try {
    database = new DatabaseSync(join(dir, 'lock.sqlite'))
    database.exec('BEGIN EXCLUSIVE')
  } catch (error) {
    database?.close()
    if ((error as { errcode?: number }).errcode !== SQLITE_BUSY)
      throw new JournalError('DATA_DIR', `data directory ${dir} cannot be locked: ${(error as Error).message}`)
    throw new JournalError('JOURNAL_LOCKED', `data directory ${dir} is in use by another collector${holder(pidFile)}`)
  }
  writeFileSync(pidFile, `${process.pid}\n`)
  const held = database
  return () => held.close()
}

function holder(pidFile: string): string {
  try {
    return ` (pid ${readFileSync(pidFile, 'utf8').trim().slice(0, 16)})`
  } catch {
    return ''
  }
}
