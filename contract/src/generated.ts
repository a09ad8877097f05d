/** Files that a generator of ours writes and that are committed: written anew, or checked to be fresh. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { EXIT, UserError } from './process.ts'

/** Text of each generated file, by its path below a folder. */
export type GeneratedFiles = ReadonlyMap<string, string>

/** @throws UserError `OUT_UNWRITABLE` naming the file */
export function writeGenerated(folder: string, files: GeneratedFiles): void {
  for (const [name, text] of files) {
    const path = join(folder, name)
    try {
      mkdirSync(dirname(path), { recursive: true })
      writeFileSync(path, text)
    } catch (error) {
      throw new UserError(
        'OUT_UNWRITABLE',
        `${path} cannot be written: ${(error as NodeJS.ErrnoException).code}`,
        EXIT.environment,
      )
    }
  }
}

/** @throws UserError `GENERATED_STALE` naming the first file that is missing or not what would be written */
export function checkGenerated(folder: string, files: GeneratedFiles): void {
  for (const [name, text] of files) {
    const path = join(folder, name)
    if (readOrEmpty(path) !== text)
      throw new UserError('GENERATED_STALE', `${path} is not what its source says; run "npm run gen"`, EXIT.budget)
  }
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
