import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  domainSeparator,
  ORDER_TYPE,
  orderDigest,
  type PolymarketOrder,
  signDigest,
  structHash,
} from '../../src/codec/eip712.ts'
import { keccak256 } from '../../src/codec/keccak.ts'

describe('Keccak-256', () => {
  it('hashes the well-known texts', () => {
    assert.equal(
      keccak256(Buffer.alloc(0)).toString('hex'),
      'c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470',
    )
    assert.equal(
      keccak256(Buffer.from('abc')).toString('hex'),
      '4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45',
    )
  })

  it('is SHA3-256 with another padding, at every length', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (data) => {
        assert.deepEqual(keccak256(data, 0x06), createHash('sha3-256').update(data).digest())
      }),
    )
    for (const length of [134, 135, 136, 137, 271, 272]) {
      const data = Buffer.alloc(length, 7)
      assert.deepEqual(keccak256(data, 0x06), createHash('sha3-256').update(data).digest(), String(length))
    }
  })
})

describe('the EIP-712 signature of an order', () => {
  // A public development key, and an order whose hashes and signature the venue's own SDK makes alike.
  const key = Buffer.from('ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80', 'hex')
  const address = 0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266n
  const order: PolymarketOrder = {
    salt: 479249096354n,
    maker: address,
    signer: address,
    tokenId: 1234n,
    makerAmount: 100000000n,
    takerAmount: 50000000n,
    side: 0,
    signatureType: 0,
    timestampMs: 1710000000000,
    metadata: 0n,
    builder: 0n,
  }
  const separator = domainSeparator({
    name: 'Polymarket CTF Exchange',
    version: '2',
    chainId: 137,
    verifyingContract: 0xe111180000d2663c0091e4f400237545b87b996bn,
  })

  it('hashes type, domain and order as the venue does', () => {
    assert.equal(
      keccak256(Buffer.from(ORDER_TYPE)).toString('hex'),
      'bb86318a2138f5fa8ae32fbe8e659f8fcf13cc6ae4014a707893055433818589',
    )
    assert.equal(separator.toString('hex'), '3264e159346253e26a64e00b69032db0e7d32f94628de3e6eecb50304d7af3d2')
    assert.equal(structHash(order).toString('hex'), 'f6bf4212bfca4d6679afc2c54a54d814a91a6c7905de5ed193fe44f329c239f0')
    assert.equal(
      orderDigest(separator, order).toString('hex'),
      '10124949f84e9f7438c88d02bfd546ceb27ed6eb1fdb0175137af535b6e2513d',
    )
  })

  it('signs as the venue’s SDK does, byte for byte', () => {
    assert.equal(
      signDigest(orderDigest(separator, order), key).toString('hex'),
      '42c7b4857d51e344045fcfde17b37cf1290d784471ffe618c22aa56ea5ddcf0009015b87ffb299813f5597e86d4ad56f40d634558d915edb719e6fc71dbc0d891c',
    )
  })
})
