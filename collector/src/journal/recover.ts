/**
 * Reads a data directory back into a state: the newest snapshot, then every journal from its generation on.
 *
 *   snapshot-00000007.hlog   the state before journal 7
 *   journal-00000007.hlog    what was acknowledged since
 *   journal-00000006.hlog    older intervals, kept for people and tools until `retainBytes` are exceeded
 *
 * Nothing is written here.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { JournalError } from '../error.ts'
import { State } from '../merge.ts'
import { type FileEnd, type FileKind, fileName, generationOf, readFile } from './file.ts'
import { replay } from './record.ts'

export interface Recovered {
  readonly state: State
  /** Generation of the journal that was being written; undefined in a new directory. */
  readonly generation: number | undefined
  readonly snapshot: number | undefined
  /** Where the good part of that journal ends. */
  readonly end: FileEnd
}

/** Generations of the files of a kind, ascending. */
export function generations(dir: string, kind: FileKind): number[] {
  return readdirSync(dir)
    .map((name) => generationOf(kind, name))
    .filter((generation) => generation !== undefined)
    .sort((a, b) => a - b)
}

/**
 * @param before read journals below this generation only, which are all complete
 * @throws JournalError `JOURNAL_CORRUPT`
 */
export function recover(dir: string, before = Number.POSITIVE_INFINITY): Recovered {
  const state = new State()
  const read = (kind: FileKind, generation: number, last: boolean): FileEnd => {
    const path = join(dir, fileName(kind, generation))
    return readFile({ path, kind, generation, last }, readFileSync(path), (records, number) => {
      try {
        replay(records, state)
      } catch (error) {
        throw new JournalError(
          'JOURNAL_CORRUPT',
          `${path} has a record in group ${number} that this version cannot read (${(error as Error).message}); it was left as it is`,
        )
      }
    })
  }
  const snapshot = generations(dir, 'snapshot').findLast((generation) => generation <= before)
  if (snapshot !== undefined) read('snapshot', snapshot, false)
  const journals = generations(dir, 'journal').filter((generation) => generation >= (snapshot ?? 0))
  const wanted = journals.filter((generation) => generation < before)
  let end: FileEnd = { bytes: 0, groups: 0, torn: false }
  for (const [i, generation] of wanted.entries()) {
    const expected = (snapshot ?? 1) + i
    if (generation !== expected)
      throw new JournalError('JOURNAL_CORRUPT', `${join(dir, fileName('journal', expected))} is missing`)
    end = read('journal', generation, generation === journals.at(-1))
  }
  if (snapshot !== undefined && wanted.length === 0 && before === Number.POSITIVE_INFINITY)
    throw new JournalError('JOURNAL_CORRUPT', `${join(dir, fileName('journal', snapshot))} is missing`)
  return { state, generation: wanted.at(-1), snapshot, end }
}
