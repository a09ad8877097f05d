import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { KillSwitch } from '../src/kill-switch.ts'

test('the kill switch engages when its file appears, once', { timeout: 5000 }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'kill-switch-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'kill')
  const reasons: string[] = []
  await new Promise<void>((resolve) => {
    const killSwitch = new KillSwitch({
      file,
      onEngaged: (why) => {
        reasons.push(why)
        resolve()
      },
    })
    t.after(() => killSwitch.stop())
    assert.deepEqual(reasons, [])
    writeFileSync(file, '')
    // The poll is unreferenced so that it never keeps a bot alive; something else must keep this test alive.
    const alive = setTimeout(() => {}, 4000)
    t.after(() => clearTimeout(alive))
  })
  assert.deepEqual(reasons, [`file ${file}`])
})

test('a kill file that cannot be looked at engages the switch', { timeout: 5000 }, async (t) => {
  const why = await new Promise<string>((resolve) => {
    const killSwitch = new KillSwitch({ file: '/dev/null/kill', onEngaged: resolve })
    t.after(() => killSwitch.stop())
  })
  assert.equal(why, 'file /dev/null/kill: ENOTDIR')
})

test('SIGUSR2 engages the kill switch', { timeout: 5000 }, async (t) => {
  // The test runner starts its children so that this signal writes a diagnostic report into the working folder.
  if (process.report) process.report.reportOnSignal = false
  const why = await new Promise<string>((resolve) => {
    const killSwitch = new KillSwitch({ onEngaged: resolve })
    t.after(() => killSwitch.stop())
    process.kill(process.pid, 'SIGUSR2')
    const alive = setTimeout(() => {}, 4000)
    t.after(() => clearTimeout(alive))
  })
  assert.equal(why, 'SIGUSR2')
})
