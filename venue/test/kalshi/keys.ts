/** Keys for tests. The Ed25519 seed is 32 bytes of 0x01, as in the published test vector; never use it anywhere else. */
import { createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto'

/** PKCS #8 header of an Ed25519 key, before the 32 bytes of seed (RFC 8410). */
const ED25519_PKCS8_HEADER = '302e020100300506032b657004220420'

export const ED25519_PRIVATE_PEM = createPrivateKey({
  key: Buffer.concat([Buffer.from(ED25519_PKCS8_HEADER, 'hex'), Buffer.alloc(32, 1)]),
  format: 'der',
  type: 'pkcs8',
})
  .export({ format: 'pem', type: 'pkcs8' })
  .toString()

export const ED25519_PUBLIC_PEM = createPublicKey(ED25519_PRIVATE_PEM)
  .export({ format: 'pem', type: 'spki' })
  .toString()

export function rsaKeys(bits = 2048): { readonly privatePem: string; readonly publicPem: string } {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: bits })
  return {
    privatePem: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
    publicPem: publicKey.export({ format: 'pem', type: 'spki' }).toString(),
  }
}
