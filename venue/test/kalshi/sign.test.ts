import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { test } from 'node:test'
import { UserError } from '@tickscope/contract'
import fc from 'fast-check'
import { AUTH_HEADERS, createSigner, loadPublicKey, verify } from '../../src/kalshi/index.ts'
import { ED25519_PRIVATE_PEM, ED25519_PUBLIC_PEM, rsaKeys } from './keys.ts'

const REQUEST = { timestamp: '1703123456789', method: 'GET', path: '/trade-api/v2/portfolio/balance' }
const VECTOR = 'vJUcfthJ5meU84OnbhOel90/jTKy39Nhr6CeR+W+zyd2mbME5hBkDKrB0IKOCoSv7jB85m9Ipq+sU2DRh70HDw=='
const rsa = rsaKeys()

test('the Ed25519 signature of the published vector is reproduced and verified', () => {
  const signer = createSigner({ keyId: 'key-1', privateKeyPem: ED25519_PRIVATE_PEM })
  assert.equal(signer.algorithm, 'ed25519')
  assert.equal(signer.sign(REQUEST.timestamp, REQUEST.method, REQUEST.path), VECTOR)
  const publicKey = loadPublicKey(ED25519_PUBLIC_PEM, 'the test key')
  assert.equal(
    publicKey.export({ format: 'jwk' }).x,
    Buffer.from('8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c', 'hex').toString('base64url'),
  )
  assert.ok(verify(publicKey, REQUEST, VECTOR))
})

test('RSA signatures differ from one another and are all verified', () => {
  const signer = createSigner({ keyId: 'key-2', privateKeyPem: rsa.privatePem })
  assert.equal(signer.algorithm, 'rsa-pss')
  const publicKey = loadPublicKey(rsa.publicPem, 'the test key')
  const [one, two] = [1, 2].map(() => signer.sign(REQUEST.timestamp, REQUEST.method, REQUEST.path)) as [string, string]
  assert.notEqual(one, two)
  for (const signature of [one, two]) {
    assert.ok(verify(publicKey, REQUEST, signature))
    assert.equal(Buffer.from(signature, 'base64').length, 256)
  }
})

test('a signature holds for its own timestamp, method, path and key only', () => {
  for (const [privatePem, publicPem] of [
    [ED25519_PRIVATE_PEM, ED25519_PUBLIC_PEM],
    [rsa.privatePem, rsa.publicPem],
  ] as const) {
    const signature = createSigner({ keyId: 'k', privateKeyPem: privatePem }).sign('1', 'GET', '/a')
    const publicKey = loadPublicKey(publicPem, 'the test key')
    assert.ok(verify(publicKey, { timestamp: '1', method: 'GET', path: '/a' }, signature))
    assert.ok(!verify(publicKey, { timestamp: '2', method: 'GET', path: '/a' }, signature))
    assert.ok(!verify(publicKey, { timestamp: '1', method: 'POST', path: '/a' }, signature))
    assert.ok(!verify(publicKey, { timestamp: '1', method: 'GET', path: '/a?x=1' }, signature))
    assert.ok(
      !verify(loadPublicKey(rsaKeys().publicPem, 'another'), { timestamp: '1', method: 'GET', path: '/a' }, signature),
    )
  }
})

test('verify answers no, and does not throw, whatever it is given as a signature', () => {
  const publicKey = loadPublicKey(ED25519_PUBLIC_PEM, 'the test key')
  const rsaPublicKey = loadPublicKey(rsa.publicPem, 'the test key')
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.base64String(), fc.string({ minLength: 1401 })), (signature) => {
      assert.equal(verify(publicKey, REQUEST, signature), false)
      assert.equal(verify(rsaPublicKey, REQUEST, signature), false)
    }),
  )
  assert.equal(verify(publicKey, REQUEST, VECTOR.replace('==', '')), false)
  assert.equal(verify(publicKey, REQUEST, VECTOR.replaceAll('/', '_')), false)
})

test('headers sign the path without its query', () => {
  const signer = createSigner({ keyId: 'key-1', privateKeyPem: ED25519_PRIVATE_PEM })
  assert.deepEqual(signer.headers('GET', `${REQUEST.path}?limit=5`, Number(REQUEST.timestamp)), {
    [AUTH_HEADERS.key]: 'key-1',
    [AUTH_HEADERS.timestamp]: REQUEST.timestamp,
    [AUTH_HEADERS.signature]: VECTOR,
  })
})

test('each unusable key is one sentence that names its source and shows nothing of the key', () => {
  const secret = 'MC4CAQAwBQYDK2VwBCIEIAEBAQEBAQEB'
  const encrypted = generateKeyPairSync('ed25519', {
    privateKeyEncoding: { format: 'pem', type: 'pkcs8', cipher: 'aes-256-cbc', passphrase: 'secret' },
    publicKeyEncoding: { format: 'pem', type: 'spki' },
  }).privateKey
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    .privateKey.export({ format: 'pem', type: 'pkcs8' })
    .toString()
  const cases: [string, RegExp][] = [
    ['', /^kalshi\.pem is not a PEM private key$/],
    [`-----BEGIN PRIVATE KEY-----\n${secret}\n-----END PRIVATE KEY-----`, /^kalshi\.pem is not a PEM private key$/],
    [ED25519_PUBLIC_PEM, /^kalshi\.pem is a public key; signing needs the private one$/],
    [encrypted, /^kalshi\.pem is encrypted; give it as a PEM without a passphrase$/],
    [ec, /^kalshi\.pem is of type ec; the venue takes ed25519 and rsa$/],
    [rsaKeys(1024).privatePem, /^kalshi\.pem has 1024 bits; RSA needs at least 2048$/],
  ]
  for (const [privateKeyPem, message] of cases) {
    assert.throws(
      () => createSigner({ keyId: 'k', privateKeyPem, source: 'kalshi.pem' }),
      (error: UserError) => {
        assert.ok(error instanceof UserError)
        assert.equal(error.code, 'KEY_INVALID')
        assert.match(error.message, message)
        assert.ok(!error.message.includes(secret))
        return true
      },
    )
  }
})

test('a key id that could end a header line is refused', () => {
  for (const keyId of ['', 'a b', 'a\r\nx: y', 'é', 'a'.repeat(129)])
    assert.throws(() => createSigner({ keyId, privateKeyPem: ED25519_PRIVATE_PEM }), UserError)
})

test('an RSA-PSS key bound to another digest is refused when loaded, not at the first order', () => {
  const { privateKey: privateKeyPem } = generateKeyPairSync('rsa-pss', {
    modulusLength: 2048,
    hashAlgorithm: 'sha512',
    mgf1HashAlgorithm: 'sha512',
    privateKeyEncoding: { format: 'pem', type: 'pkcs8' },
    publicKeyEncoding: { format: 'pem', type: 'spki' },
  })
  assert.throws(() => createSigner({ keyId: 'k', privateKeyPem, source: 'pss.pem' }), {
    message: 'pss.pem cannot make the signatures the venue takes',
  })
})

test('a public key that is none is refused by name', () => {
  assert.throws(() => loadPublicKey('nonsense', 'keys.json entry 1'), {
    message: 'keys.json entry 1 is not a PEM public key',
  })
})
