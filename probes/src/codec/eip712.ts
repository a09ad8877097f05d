/**
 * The signature inside a Polymarket order: EIP-712 over the order, secp256k1, with the recovery byte, made with nothing
 * but Node. Measured here as the price of that venue's orders; a gateway will want a native signer.
 *
 * Node's ECDSA neither takes a digest that is already there nor tells the recovery bit, so the signature is put together
 * from its parts: the nonce by RFC 6979 (HMAC-SHA256), its point by OpenSSL (the public key of a private key that is
 * the nonce), the rest as arithmetic modulo the order of the curve.
 *
 * Not for keys that hold money: arithmetic with bigints takes a time that depends on the secret.
 */
import { createECDH, createHmac } from 'node:crypto'
import { keccak256 } from './keccak.ts'

/** Order of the curve (SEC 2 §2.4.1). */
const N = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n
const WORD_BYTES = 32

/** Version 2 of the venue's exchange contract. */
export const ORDER_TYPE =
  'Order(uint256 salt,address maker,address signer,uint256 tokenId,uint256 makerAmount,uint256 takerAmount,uint8 side,uint8 signatureType,uint256 timestamp,bytes32 metadata,bytes32 builder)'
const DOMAIN_TYPE = 'EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)'

/** All as the integers they are hashed as; addresses too. */
export interface PolymarketOrder {
  readonly salt: bigint
  readonly maker: bigint
  readonly signer: bigint
  readonly tokenId: bigint
  readonly makerAmount: bigint
  readonly takerAmount: bigint
  /** 0 buys, 1 sells. */
  readonly side: 0 | 1
  readonly signatureType: number
  readonly timestampMs: number
  readonly metadata: bigint
  readonly builder: bigint
}

export interface Domain {
  readonly name: string
  readonly version: string
  readonly chainId: number
  readonly verifyingContract: bigint
}

const text = (value: string) => keccak256(Buffer.from(value, 'utf8'))
const ORDER_TYPE_HASH = text(ORDER_TYPE)
const DOMAIN_TYPE_HASH = text(DOMAIN_TYPE)

function word(value: bigint): Buffer {
  return Buffer.from(value.toString(16).padStart(2 * WORD_BYTES, '0'), 'hex')
}

const number = (bytes: Uint8Array) => BigInt(`0x${Buffer.from(bytes).toString('hex')}`)

/** Once a contract, not once an order. */
export function domainSeparator({ name, version, chainId, verifyingContract }: Domain): Buffer {
  return keccak256(
    Buffer.concat([DOMAIN_TYPE_HASH, text(name), text(version), word(BigInt(chainId)), word(verifyingContract)]),
  )
}

export function structHash(order: PolymarketOrder): Buffer {
  return keccak256(
    Buffer.concat([
      ORDER_TYPE_HASH,
      ...[
        order.salt,
        order.maker,
        order.signer,
        order.tokenId,
        order.makerAmount,
        order.takerAmount,
        BigInt(order.side),
        BigInt(order.signatureType),
        BigInt(order.timestampMs),
        order.metadata,
        order.builder,
      ].map(word),
    ]),
  )
}

/** What is signed; the venue's order id is its hexadecimal form. */
export function orderDigest(separator: Buffer, order: PolymarketOrder): Buffer {
  return keccak256(Buffer.concat([Buffer.of(0x19, 0x01), separator, structHash(order)]))
}

/** @returns r, s (never in the upper half) and 27 or 28: 65 bytes */
export function signDigest(digest: Buffer, privateKey: Buffer): Buffer {
  const secret = number(privateKey)
  const message = number(digest)
  const curve = createECDH('secp256k1')
  const nextNonce = nonces(digest, privateKey)
  for (;;) {
    const nonce = nextNonce()
    curve.setPrivateKey(word(nonce))
    const point = curve.getPublicKey()
    const x = number(point.subarray(1, 1 + WORD_BYTES))
    const r = x % N
    const s = (invert(nonce) * ((message + r * secret) % N)) % N
    // Each of the three has a chance of about 2^-128 at most.
    if (x >= N || r === 0n || s === 0n) continue
    const odd = (point.at(-1) as number) & 1
    const low = s <= N / 2n
    return Buffer.concat([word(r), word(low ? s : N - s), Buffer.of(27 + (low ? odd : 1 - odd))])
  }
}

/** RFC 6979 §3.2: candidates for the nonce, the same for the same key and digest. */
function nonces(digest: Buffer, privateKey: Buffer): () => bigint {
  const hmac = (key: Buffer, ...parts: Buffer[]) => {
    const mac = createHmac('sha256', key)
    for (const part of parts) mac.update(part)
    return mac.digest()
  }
  const seed = Buffer.concat([privateKey, word(number(digest) % N)])
  let v: Buffer = Buffer.alloc(32, 1)
  let k: Buffer = Buffer.alloc(32, 0)
  for (const mark of [0, 1]) {
    k = hmac(k, v, Buffer.of(mark), seed)
    v = hmac(k, v)
  }
  return () => {
    for (;;) {
      v = hmac(k, v)
      const candidate = number(v)
      k = hmac(k, v, Buffer.of(0))
      v = hmac(k, v)
      if (candidate > 0n && candidate < N) return candidate
    }
  }
}

/** Modulo N, by Euclid. */
function invert(value: bigint): bigint {
  let [a, b, x, y] = [value, N, 1n, 0n]
  while (a > 1n) {
    const quotient = a / b
    ;[a, b] = [b, a - quotient * b]
    ;[x, y] = [y, x - quotient * y]
  }
  return ((x % N) + N) % N
}
