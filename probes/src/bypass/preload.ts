/**
 * Network stacks that are preloaded under an unchanged program: OpenOnload, VMA, XLIO, or any library by its path.
 *
 * Present is not active: a stack that does not know the NIC passes everything on to the kernel. Onload can be asked
 * (`onload_is_present`, `onload_fd_stat`, both called weakly by the program); a stack that cannot be asked stays `inactive`.
 */
import { accessSync, constants, existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'

export interface Preload {
  readonly name: string
  /** A wrapper to run the program under, or undefined for LD_PRELOAD. */
  readonly command?: string
  readonly args: readonly string[]
  readonly env: NodeJS.ProcessEnv
  /** Why it cannot be used here. */
  readonly reason?: string
}

const LIBRARIES: { readonly [name: string]: readonly string[] } = {
  vma: ['libvma.so'],
  xlio: ['libxlio.so'],
}
const LIBRARY_FOLDERS = [
  '/usr/lib',
  '/usr/lib64',
  '/usr/local/lib',
  '/lib',
  '/usr/lib/x86_64-linux-gnu',
  '/usr/lib/aarch64-linux-gnu',
]

/** @param name `onload`, `vma`, `xlio`, or the path of a library */
export function detectPreload(name: string): Preload {
  const absent = (reason: string): Preload => ({ name, args: [], env: {}, reason })
  if (name === 'onload') {
    const command = (process.env.PATH ?? '')
      .split(delimiter)
      .map((folder) => join(folder, 'onload'))
      .find((path) => isExecutable(path))
    if (command === undefined)
      return absent('there is no onload on PATH; it needs its kernel modules and an AMD Solarflare NIC')
    return { name, command, args: ['--profile=latency'], env: {} }
  }
  const library = name.includes('/') ? name : findLibrary(LIBRARIES[name] ?? [`lib${name}.so`])
  if (library === undefined || !existsSync(library)) return absent(`there is no library ${name} here`)
  const shown = name.replace(/^.*\//, '').replace(/^lib|\.so.*$/g, '')
  return { name: shown, args: [], env: { LD_PRELOAD: library } }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

function findLibrary(names: readonly string[]): string | undefined {
  return LIBRARY_FOLDERS.flatMap((folder) => names.map((name) => join(folder, name))).find((path) => existsSync(path))
}
