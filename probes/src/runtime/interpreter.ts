/**
 * Which runtimes this machine has. Each interpreter is asked itself: a package of the distribution's Python is not there
 * for another Python on PATH, and one that is listed may still fail to load.
 */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { UserError } from '@tickscope/contract'
import { nativeProgram } from '../native.ts'

export const KINDS = ['c', 'node', 'uvloop', 'asyncio', 'pypy'] as const
export type Kind = (typeof KINDS)[number]

/** A way to run the order path, or why there is none. */
export interface Runtime {
  readonly kind: Kind
  readonly name: string
  readonly requestedMode: string
  readonly program: string
  readonly args: readonly string[]
  /** Why it cannot run, and how to have it. */
  readonly missing?: { readonly status: 'skipped' | 'unsupported'; readonly reason: string }
}

const SCRIPTS = fileURLToPath(new URL('../../runtimes/', import.meta.url))
const ASK_TIMEOUT_MS = 20_000
/** Prints the interpreter's own path, its implementation and version, and whether uvloop loads. */
const QUESTION = `import sys, platform
try:
    import uvloop
    loop = uvloop.__version__
except Exception:
    loop = ''
print('|'.join((sys.executable, platform.python_implementation(), sys.version.split()[0], loop)))`

interface Python {
  readonly executable: string
  readonly implementation: string
  readonly version: string
  readonly uvloop: string
}

/** @returns undefined when there is no such interpreter, or it does not answer */
async function askPython(program: string): Promise<Python | undefined> {
  try {
    const { stdout } = await promisify(execFile)(program, ['-c', QUESTION], { timeout: ASK_TIMEOUT_MS })
    const [executable = '', implementation = '', version = '', uvloop = ''] = stdout.trim().split('|')
    return executable === '' ? undefined : { executable, implementation, version, uvloop }
  } catch {
    return undefined
  }
}

/** @param more interpreters beside those of the distribution and of PATH */
export async function findRuntimes(kinds: readonly Kind[], more: readonly string[]): Promise<Runtime[]> {
  const runtimes: Runtime[] = []
  const wants = (kind: Kind) => kinds.includes(kind)
  if (wants('c')) runtimes.push(await cRuntime())
  if (wants('node'))
    runtimes.push({
      kind: 'node',
      name: 'node',
      requestedMode: 'node:net, node:crypto',
      program: process.execPath,
      args: [`${SCRIPTS}order.ts`],
    })
  if (wants('asyncio') || wants('uvloop') || wants('pypy')) runtimes.push(...(await pythonRuntimes(wants, more)))
  return runtimes
}

async function cRuntime(): Promise<Runtime> {
  const runtime = { kind: 'c', name: 'c', requestedMode: 'blocking socket, libcrypto', args: [] } as const
  try {
    return { ...runtime, program: await nativeProgram('order') }
  } catch (error) {
    if (!(error instanceof UserError)) throw error
    return {
      ...runtime,
      program: '',
      missing: {
        status: 'unsupported',
        reason: `${error.message}; signing needs libcrypto's headers: apt-get install libssl-dev gcc make`,
      },
    }
  }
}

async function pythonRuntimes(wants: (kind: Kind) => boolean, more: readonly string[]): Promise<Runtime[]> {
  const found = new Map<string, Python>()
  for (const program of ['/usr/bin/python3', 'python3', 'pypy3', ...more]) {
    const python = await askPython(program)
    if (python !== undefined) found.set(python.executable, python)
    else if (more.includes(program))
      throw new UserError('PYTHON_MISSING', `--python ${program} is not an interpreter that answers`)
  }
  const pythons = [...found.values()]
  const cpythons = pythons.filter(({ implementation }) => implementation !== 'PyPy')
  const pypys = pythons.filter(({ implementation }) => implementation === 'PyPy')
  const script = `${SCRIPTS}order.py`
  const runtime = (kind: Kind, name: string, program: string, loop: 'asyncio' | 'uvloop'): Runtime => ({
    kind,
    name,
    requestedMode: loop,
    program,
    args: [script, '--loop', loop],
  })
  const absent = (kind: Kind, name: string, reason: string): Runtime => ({
    ...runtime(kind, name, '', 'asyncio'),
    missing: { status: 'skipped', reason },
  })
  const runtimes: Runtime[] = []
  for (const { executable, version, uvloop } of cpythons) {
    if (wants('uvloop'))
      runtimes.push(
        uvloop === ''
          ? absent('uvloop', `uvloop ${executable}`, `uvloop does not load in it: ${howToUvloop(executable)}`)
          : runtime('uvloop', `uvloop ${executable} ${version}`, executable, 'uvloop'),
      )
    if (wants('asyncio')) runtimes.push(runtime('asyncio', `asyncio ${executable} ${version}`, executable, 'asyncio'))
  }
  if (cpythons.length === 0) {
    const reason = 'no python3 here: apt-get install python3 python3-uvloop python3-cryptography'
    for (const kind of ['uvloop', 'asyncio'] as const) if (wants(kind)) runtimes.push(absent(kind, kind, reason))
  }
  if (wants('pypy')) {
    for (const { executable, version } of pypys)
      runtimes.push(runtime('pypy', `pypy ${executable} ${version}`, executable, 'asyncio'))
    if (pypys.length === 0) runtimes.push(absent('pypy', 'pypy', 'no pypy3 on PATH: apt-get install pypy3'))
  }
  return runtimes
}

function howToUvloop(executable: string): string {
  return executable === '/usr/bin/python3' ? 'apt-get install python3-uvloop' : `${executable} -m pip install uvloop`
}
