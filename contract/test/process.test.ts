/** A process at its edges: what it says and how it ends when somebody stops listening or asks it to stop. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, openSync } from 'node:fs'
import { text } from 'node:stream/consumers'
import { describe, it } from 'node:test'

const PROCESS = new URL('../src/process.ts', import.meta.url).href

/** Starts a process whose `runMain` runs `body`. */
function start(body: string, stdout: 'pipe' | number = 'pipe'): ChildProcess {
  const program = `import { announce, EXIT, runMain, stopRequested, UserError } from '${PROCESS}'
await runMain('it', async () => { ${body} })`
  return spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', stdout, 'pipe'] })
}

const stderrOf = ({ stderr }: ChildProcess) => text(stderr as NonNullable<typeof stderr>)
const codeOf = async (child: ChildProcess) => (await once(child, 'exit'))[0]

describe('a process', () => {
  it('says a user error in one sentence and ends with its code, and calls anything else its own mistake', async () => {
    const user = start("throw new UserError('X', 'the flag is wrong', EXIT.usage)")
    assert.deepEqual(await Promise.all([codeOf(user), stderrOf(user)]), [2, 'it: the flag is wrong\n'])
    const own = start("throw new Error('oops')")
    assert.deepEqual(await Promise.all([codeOf(own), stderrOf(own)]), [70, 'it: internal error: oops\n'])
  })

  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    it(`is asked to stop by ${signal}, and finishes what it does`, async () => {
      const child = start(`const asked = stopRequested(); const alive = setInterval(() => {}, 1000)
process.stdout.write('ready\\n'); const by = await asked; clearInterval(alive); return by === '${signal}' ? 5 : 6`)
      await once(child.stdout as NonNullable<typeof child.stdout>, 'data')
      child.kill(signal)
      assert.equal(await codeOf(child), 5)
    })
  }

  it('goes on when nobody reads what it says', async () => {
    const child = start(`const asked = stopRequested(); const alive = setInterval(() => {}, 1000)
process.stdout.write('ready\\n'); await asked; clearInterval(alive)
for (let i = 0; i < 20; i++) {
  process.stdout.write('a line\\n'); process.stderr.write('a note\\n'); await new Promise((r) => setTimeout(r, 5))
}
announce({ event: 'summary' })
return 5`)
    const { stdout, stderr } = child as {
      stdout: NonNullable<ChildProcess['stdout']>
      stderr: NonNullable<ChildProcess['stderr']>
    }
    await once(stdout, 'data')
    stdout.destroy()
    stderr.destroy()
    child.kill('SIGTERM')
    assert.equal(await codeOf(child), 5)
  })

  it('says that its result could not be written', { skip: !existsSync('/dev/full') }, async () => {
    const child = start("process.stdout.write('result')", openSync('/dev/full', 'w'))
    const [code, said] = await Promise.all([codeOf(child), stderrOf(child)])
    assert.equal(code, 3)
    assert.match(said, /^it: stdout cannot be written: ENOSPC.*\n$/)
  })
})
