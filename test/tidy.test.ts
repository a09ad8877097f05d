/** The state of the source itself: linter, types, generated files, and the boundaries between folders. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

/** Which folders the source of a folder may import from: data flows one way (docs/architecture.md). */
const MAY_IMPORT: { readonly [folder: string]: readonly string[] } = {
  contract: [],
  venue: ['contract'],
  agent: ['contract'],
  bot: ['contract', 'venue', 'agent'],
  probes: ['contract', 'venue', 'agent'],
  collector: ['contract'],
  dashboards: ['contract'],
  alerts: ['contract'],
  cli: ['contract', 'venue', 'agent', 'probes', 'alerts'],
}

describe('the source', () => {
  for (const script of ['lint', 'types', 'gen:check']) {
    it(`passes npm run ${script}`, () => {
      const { status, stdout, stderr } = spawnSync('npm', ['run', '--silent', script], { cwd: ROOT, encoding: 'utf8' })
      assert.equal(status, 0, `${stdout}\n${stderr}`.slice(-4000))
    })
  }

  it('imports across folders only as the data flows', () => {
    const files = Object.keys(MAY_IMPORT).flatMap((folder) => globSync(`${folder}/src/**/*.ts`, { cwd: ROOT }))
    assert.ok(files.length > 40)
    for (const file of files) {
      const folder = file.split('/')[0] as string
      const text = readFileSync(join(ROOT, file), 'utf8')
      for (const [, imported] of text.matchAll(/from '@tickscope\/([a-z]+)/g)) {
        assert.ok(MAY_IMPORT[folder]?.includes(imported as string), `${file} imports ${imported}`)
      }
    }
  })
})
