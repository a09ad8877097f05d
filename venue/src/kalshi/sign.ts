/**
 * Request authentication: three headers over `timestamp_ms + METHOD + path`, body and query not included.
 *
 * The key is parsed once into a `KeyObject`: parsing the PEM for each request costs three times the signature. Signing
 * is synchronous, because it stands between a decision and the order; Ed25519 costs tens of microseconds, RSA-2048
 * hundreds. Keys never appear in messages, logs or errors.
 */
import { constants, createPrivateKey, createPublicKey, type KeyObject, sign, verify as verifyBytes } from 'node:crypto'
import { UserError } from '@tickscope/contract'

/** Names of the headers, as the venue writes them. */
export const AUTH_HEADERS = {
  key: 'KALSHI-ACCESS-KEY',
  timestamp: 'KALSHI-ACCESS-TIMESTAMP',
  signature: 'KALSHI-ACCESS-SIGNATURE',
} as const

/** Of a request that is signed: `timestamp` is a decimal string of unix ms, `path` has no query. */
export interface SignedRequest {
  readonly timestamp: string
  readonly method: string
  readonly path: string
}

export interface Signer {
  readonly keyId: string
  readonly algorithm: 'ed25519' | 'rsa-pss'
  /**
   * Hot path.
   *
   * @param timestamp unix ms as a decimal string, the same text that goes into the header
   * @param method upper case
   * @param path from `/trade-api/…`, without the query
   * @returns base64 of the signature
   */
  sign(timestamp: string, method: string, path: string): string
  /** The three headers for `path`; a query at its end is left out of the signature. */
  headers(method: string, path: string, nowMs?: number): Record<string, string>
}

/** RSASSA-PSS with SHA-256, MGF1 with the same digest, salt as long as the digest. */
const PSS = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }
const PSS_DIGEST = 'sha256'

/** Smallest RSA modulus accepted, bits: the venue issues 2048. */
const RSA_BITS_MIN = 2048

/** Header values: visible ASCII, so that a key id can never end a header line. */
const KEY_ID = /^[!-~]{1,128}$/

/** Standard alphabet, padded. */
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

/** Longest base64 text of a signature looked at: RSA-8192 makes 1368. */
const SIGNATURE_TEXT_MAX = 1400

/**
 * @param source where the key came from, e.g. its file name, for the error message
 * @throws UserError `KEY_INVALID`: not a PEM private key, encrypted, or of an algorithm the venue does not take
 */
export function createSigner(options: {
  readonly keyId: string
  readonly privateKeyPem: string
  readonly source?: string
}): Signer {
  const { keyId, privateKeyPem } = options
  if (!KEY_ID.test(keyId))
    throw new UserError('KEY_INVALID', 'the API key id must be 1 to 128 visible ASCII characters without blanks')
  const source = options.source ?? `the private key of API key id ${keyId}`
  const key = loadPrivateKey(privateKeyPem, source)
  const ed25519 = key.asymmetricKeyType === 'ed25519'
  const pssKey = { key, ...PSS }
  const signText = ed25519
    ? (text: string) => sign(null, Buffer.from(text, 'latin1'), key).toString('base64')
    : (text: string) => sign(PSS_DIGEST, Buffer.from(text, 'latin1'), pssKey).toString('base64')
  try {
    // A key can parse and still not sign this way (an RSA-PSS key bound to another digest): learn it now, not at the first order.
    signText('')
  } catch {
    throw new UserError('KEY_INVALID', `${source} cannot make the signatures the venue takes`)
  }
  return {
    keyId,
    algorithm: ed25519 ? 'ed25519' : 'rsa-pss',
    sign: (timestamp, method, path) => signText(timestamp + method + path),
    headers(method, path, nowMs = Date.now()) {
      const timestamp = String(nowMs)
      const query = path.indexOf('?')
      return {
        [AUTH_HEADERS.key]: keyId,
        [AUTH_HEADERS.timestamp]: timestamp,
        [AUTH_HEADERS.signature]: signText(timestamp + method + (query < 0 ? path : path.slice(0, query))),
      }
    },
  }
}

function loadPrivateKey(pem: string, source: string): KeyObject {
  if (/-----BEGIN (?:RSA )?PUBLIC KEY-----/.test(pem))
    throw new UserError('KEY_INVALID', `${source} is a public key; signing needs the private one`)
  if (/-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED/m.test(pem))
    throw new UserError('KEY_INVALID', `${source} is encrypted; give it as a PEM without a passphrase`)
  let key: KeyObject
  try {
    key = createPrivateKey(pem)
  } catch {
    throw new UserError('KEY_INVALID', `${source} is not a PEM private key`)
  }
  checkAlgorithm(key, source)
  return key
}

/**
 * Reads the public half of a key, as an account registers it.
 *
 * @throws UserError `KEY_INVALID`
 */
export function loadPublicKey(pem: string, source: string): KeyObject {
  let key: KeyObject
  try {
    key = createPublicKey(pem)
  } catch {
    throw new UserError('KEY_INVALID', `${source} is not a PEM public key`)
  }
  checkAlgorithm(key, source)
  return key
}

function checkAlgorithm(key: KeyObject, source: string): void {
  const type = key.asymmetricKeyType
  if (type === 'ed25519') return
  if (type !== 'rsa' && type !== 'rsa-pss')
    throw new UserError('KEY_INVALID', `${source} is of type ${type}; the venue takes ed25519 and rsa`)
  const bits = key.asymmetricKeyDetails?.modulusLength ?? 0
  if (bits < RSA_BITS_MIN)
    throw new UserError('KEY_INVALID', `${source} has ${bits} bits; RSA needs at least ${RSA_BITS_MIN}`)
}

/**
 * The venue's side: whether `signature` (base64) over `request` was made by the owner of `publicKey`. The algorithm
 * follows from the key. Never throws, whatever the text.
 */
export function verify(publicKey: KeyObject, request: SignedRequest, signature: string): boolean {
  if (signature.length > SIGNATURE_TEXT_MAX || !BASE64.test(signature)) return false
  const data = Buffer.from(request.timestamp + request.method + request.path, 'utf8')
  const bytes = Buffer.from(signature, 'base64')
  try {
    return publicKey.asymmetricKeyType === 'ed25519'
      ? verifyBytes(null, data, publicKey, bytes)
      : verifyBytes(PSS_DIGEST, data, { key: publicKey, ...PSS }, bytes)
  } catch {
    return false
  }
}
