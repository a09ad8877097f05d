/**
 * What the venues' signatures cost, beside what the codecs cost: a REST order pays one each time, a FIX session one at
 * its logon.
 *
 * The keys are made for the run and thrown away.
 */
import { constants, createHmac, generateKeyPair, sign } from 'node:crypto'
import { promisify } from 'node:util'
import { createSigner, type Signer } from '@tickscope/venue/kalshi'
import { domainSeparator, orderDigest, type PolymarketOrder, signDigest } from './eip712.ts'
import { type Operation, over } from './measure.ts'
import { ORDERS_PATH } from './rest.ts'

export interface SigningOperation {
  readonly name: string
  /** What it is needed for, and how it is made. */
  readonly description: string
  readonly side: Operation
}

export interface Signers {
  readonly rsa: Signer
  readonly ed25519: Signer
  /** PEM of the RSA key. */
  readonly rsaPem: string
}

const RSA_BITS = 2048

/** @param keyId as the venue knows the keys */
export async function createSigners(keyId: string): Promise<Signers> {
  const generate = promisify(generateKeyPair)
  const encoding = { privateKeyEncoding: { type: 'pkcs8', format: 'pem' } as const }
  const publicKeyEncoding = { type: 'spki', format: 'pem' } as const
  const rsa = await generate('rsa', { modulusLength: RSA_BITS, ...encoding, publicKeyEncoding })
  const ed25519 = await generate('ed25519', { ...encoding, publicKeyEncoding })
  return {
    rsa: createSigner({ keyId, privateKeyPem: rsa.privateKey }),
    ed25519: createSigner({ keyId, privateKeyPem: ed25519.privateKey }),
    rsaPem: rsa.privateKey,
  }
}

/** A well-known development key: its signatures can be compared with other makers'. */
const ETHEREUM_KEY = Buffer.from('ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80', 'hex')
const ETHEREUM_ADDRESS = 0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266n

/** @param stamps unix ms, so that no two signatures are over the same text */
export function createSigningOperations(
  { rsa, ed25519, rsaPem }: Signers,
  stamps: readonly number[],
): SigningOperation[] {
  const signed = (signer: Signer) => over(stamps, (atMs) => signer.sign(String(atMs), 'POST', ORDERS_PATH).length)
  const pss = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }
  const hmacKey = Buffer.alloc(32, 7)
  const body = `{"order":"${'x'.repeat(700)}"}`
  const separator = domainSeparator({
    name: 'Polymarket CTF Exchange',
    version: '2',
    chainId: 137,
    verifyingContract: 0xe111180000d2663c0091e4f400237545b87b996bn,
  })
  const order = (timestampMs: number): PolymarketOrder => ({
    salt: BigInt(timestampMs),
    maker: ETHEREUM_ADDRESS,
    signer: ETHEREUM_ADDRESS,
    tokenId: 2n ** 255n - 19n,
    makerAmount: 5_600_000n,
    takerAmount: 10_000_000n,
    side: 0,
    signatureType: 0,
    timestampMs,
    metadata: 0n,
    builder: 0n,
  })
  return [
    {
      name: 'rsa-pss-pem',
      description: 'RSA-2048 PSS of a request, the key parsed from its PEM each time',
      side: over(
        stamps,
        (atMs) =>
          sign('sha256', Buffer.from(`${atMs}POST${ORDERS_PATH}`), { key: rsaPem, ...pss }).toString('base64').length,
      ),
    },
    { name: 'rsa-pss', description: 'RSA-2048 PSS of a request, the key kept', side: signed(rsa) },
    { name: 'ed25519', description: 'Ed25519 of a request, the key kept', side: signed(ed25519) },
    {
      name: 'hmac-sha256',
      description: 'HMAC-SHA256 of a request and its body of 700 bytes',
      side: over(
        stamps,
        (atMs) => createHmac('sha256', hmacKey).update(`${atMs}POST/order${body}`).digest('base64url').length,
      ),
    },
    {
      name: 'eip712',
      description: 'EIP-712 of an order: Keccak in JavaScript, the nonce’s point by OpenSSL',
      side: over(stamps, (atMs) => signDigest(orderDigest(separator, order(atMs)), ETHEREUM_KEY)[0] as number),
    },
  ]
}
