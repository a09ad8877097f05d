import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { EXIT, UserError } from '@tickscope/contract'
import { type AgentOptions, createAgent } from '../src/index.ts'

const GOOD: AgentOptions = { service: 'bot', collectorUrl: 'http://127.0.0.1:1' }

const WRONG: readonly (readonly [Partial<{ [option in keyof AgentOptions]: unknown }>, RegExp])[] = [
  [{ service: '' }, /option service is '', not a name of 1 to 63/],
  [{ service: 'two words' }, /option service is 'two words'/],
  [{ service: undefined }, /option service/],
  [{ instance: '-x' }, /option instance is '-x'/],
  [{ instance: 'x'.repeat(64) }, /option instance/],
  [{ venue: 'kal\nshi' }, /option venue is not a text of at most 128/],
  [{ region: 'r'.repeat(129) }, /option region/],
  [{ collectorUrl: 'localhost:4319' }, /option collectorUrl is 'localhost:4319', not an http or https URL/],
  [{ collectorUrl: undefined }, /option collectorUrl/],
  [{ collectorUrl: 'http://u:p@127.0.0.1:1' }, /option collectorUrl has a user name/],
  [{ token: '' }, /option token is empty/],
  [{ token: 'a\r\nx-evil: 1' }, /option token .* cannot go into an HTTP header/],
  [{ intervalMs: 9 }, /option intervalMs is 9, not a whole number from 10 to 60000/],
  [{ intervalMs: 1.5 }, /option intervalMs is 1.5/],
  [{ requestTimeoutMs: 50 }, /option requestTimeoutMs/],
  [{ loopSampleMs: -1 }, /option loopSampleMs/],
  [{ ringSlots: 32 }, /option ringSlots is 32, not a whole number from 64 to 131072/],
  [{ ringSlots: 1000 }, /option ringSlots is 1000, not a power of two/],
]

describe('the options of an agent', () => {
  for (const [wrong, message] of WRONG) {
    it(`are refused in one sentence: ${JSON.stringify(wrong).slice(0, 60)}`, async () => {
      await assert.rejects(createAgent({ ...GOOD, ...wrong } as AgentOptions), (error) => {
        assert.ok(error instanceof UserError)
        assert.equal(error.code, 'AGENT_OPTION')
        assert.equal(error.exitCode, EXIT.usage)
        assert.match(error.message, message)
        assert.ok(!error.message.includes('p@127'), 'a secret of the URL is not repeated')
        return true
      })
    })
  }

  it('refuse a spill directory that is a file', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'tickscope-agent-'))
    try {
      writeFileSync(join(dir, 'file'), '')
      await assert.rejects(
        createAgent({ ...GOOD, spillDir: join(dir, 'file') }),
        /option spillDir .*file cannot be used: /,
      )
    } finally {
      rmSync(dir, { recursive: true })
    }
  })

  it('have defaults: a service and a collector are enough', async () => {
    const agent = await createAgent({ ...GOOD, log: () => {} })
    const { acknowledged } = await agent.stop({ timeoutMs: 0 })
    assert.equal(acknowledged, false)
  })
})
