/** The signed way into a venue, as the flags of a probe name it: where it is, whose key, and whose money. */
import { UserError } from '@tickscope/contract'
import { createSigner, type Environment, resolveEnvironment, type Signer } from '@tickscope/venue/kalshi'
import { readCertificates, readFlagFile } from './flag.ts'
import { isLoopbackHost } from './host.ts'

export interface AccessOptions {
  /** `prod`, `demo`, or the origin of a server that speaks both REST and the feed. */
  readonly url: string
  readonly keyId?: string
  readonly keyFile?: string
  readonly caFile?: string
}

export interface Access {
  readonly environment: Environment
  readonly signer: Signer
  readonly ca: string | undefined
  /** `live` is everything that is not known to be play money. */
  readonly money: 'simulator' | 'demo' | 'live'
}

/** @throws UserError when a flag is missing or wrong */
export function readAccess(probe: string, { url, keyId, keyFile, caFile }: AccessOptions): Access {
  if (keyId === undefined || keyFile === undefined)
    throw new UserError('KEY_INCOMPLETE', `probe ${probe} makes signed calls: --key-id and --key-file are needed`)
  const environment = resolveEnvironment(url)
  return {
    environment,
    signer: createSigner({
      keyId,
      privateKeyPem: readFlagFile('--key-file', keyFile),
      source: `--key-file ${keyFile}`,
    }),
    ca: caFile === undefined ? undefined : readCertificates('--ca-file', caFile),
    money: moneyAt(environment),
  }
}

export function moneyAt({ restOrigin }: Environment): Access['money'] {
  if (isLoopbackHost(new URL(restOrigin).hostname)) return 'simulator'
  return restOrigin === resolveEnvironment('demo').restOrigin ? 'demo' : 'live'
}
