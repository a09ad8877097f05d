import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { UserError } from '@tickscope/contract'
import { readKeys } from '../../src/sim/member.ts'
import { KEYS } from './fixture.ts'

describe('a file of keys', () => {
  let folder = ''
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'tickscope-keys-'))
  })
  after(() => rmSync(folder, { recursive: true }))
  const file = (content: unknown) => {
    const path = join(folder, 'keys.json')
    writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content))
    return path
  }
  const entries = KEYS.map(({ keyId, publicKeyPem }) => ({ keyId, publicKeyPem }))

  it('may hold Ed25519 and RSA keys', () => {
    const keys = readKeys(file(entries))
    assert.deepEqual(
      keys.map(({ keyId, publicKey }) => [keyId, publicKey.asymmetricKeyType]),
      [
        ['alice', 'ed25519'],
        ['bob', 'rsa'],
      ],
    )
  })

  it('that is wrong is refused in one sentence that names it', () => {
    const [alice] = entries
    const curve = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ type: 'spki', format: 'pem' })
    const cases: [unknown, RegExp][] = [
      ['{', /keys\.json: it is not JSON$/],
      [[], /keys\.json: top level: /],
      [[{ keyId: 'x' }], /keys\.json: 0\.publicKeyPem: /],
      [[{ ...alice, privateKeyPem: 'x' }], /keys\.json: top level|keys\.json: 0: /],
      [[{ ...alice, publicKeyPem: 'x' }], /keys\.json: the key of 'alice' is not a PEM public key$/],
      [[{ ...alice, publicKeyPem: curve }], /keys\.json: the key of 'alice' is of type ec; the venue takes/],
      [[alice, alice], /keys\.json: keyId 'alice' is there twice$/],
    ]
    for (const [content, sentence] of cases) {
      assert.throws(
        () => readKeys(file(content)),
        (error) => error instanceof UserError && sentence.test(error.message),
        JSON.stringify(content),
      )
    }
  })
})
