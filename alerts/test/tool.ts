/** Real programs that tests run, when this machine has them. */
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

/** @returns the path of the first of `names` on PATH */
export function findTool(...names: string[]): string | undefined {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    for (const name of names) {
      try {
        accessSync(join(folder, name), constants.X_OK)
        return join(folder, name)
      } catch {
        // not in this folder
      }
    }
  }
  return undefined
}

/** The `skip` of a test that needs these tools: false, or why. */
export function skipWithout(tools: { readonly [name: string]: string | undefined }): string | false {
  const missing = Object.entries(tools).filter(([, path]) => path === undefined)
  return missing.length > 0 && `${missing.map(([name]) => name).join(' and ')} not on PATH`
}
