/**
 * Makes the secrets of one compose stack, once: an Ed25519 key a client for the simulated venue, and the token that
 * collector and pager want. They live in volumes and die with them; the repository holds none.
 *
 *   node compose/src/keys.ts KEYS_DIR TOKEN_DIR
 *
 * What exists is kept, so that a restart changes nothing. The keys are readable by our own processes alone (mode 0400,
 * one user), the token by every container that mounts its volume: Prometheus and Alertmanager run as other users.
 */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { existsSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const CLIENTS = ['bot', 'probe']

const [keysDir, tokenDir] = process.argv.slice(2)
if (keysDir === undefined || tokenDir === undefined) {
  process.stderr.write('usage: keys.ts KEYS_DIR TOKEN_DIR\n')
  process.exit(2)
}

/** Whole or not at all: a reader never sees half a file, whenever the container is stopped. */
function write(path: string, text: string, mode: number): void {
  writeFileSync(`${path}.new`, text, { mode })
  renameSync(`${path}.new`, path)
}

// keys.json is written last, so its presence says that all of them are there.
const publicKeysPath = join(keysDir, 'keys.json')
if (!existsSync(publicKeysPath)) {
  const publicKeys = CLIENTS.map((client) => {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519')
    write(join(keysDir, `${client}.pem`), `${privateKey.export({ type: 'pkcs8', format: 'pem' })}`, 0o400)
    return { keyId: `${client}-key`, publicKeyPem: publicKey.export({ type: 'spki', format: 'pem' }) }
  })
  write(publicKeysPath, JSON.stringify(publicKeys), 0o444)
}
const tokenPath = join(tokenDir, 'token')
if (!existsSync(tokenPath)) write(tokenPath, randomBytes(32).toString('hex'), 0o444)
