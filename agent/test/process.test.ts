import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type Server } from 'node:net'
import { afterEach, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'

const BOT = fileURLToPath(new URL('fixtures/bot.ts', import.meta.url))
const servers: Server[] = []

afterEach(() => {
  for (const server of servers.splice(0)) server.close()
})

/** A port that takes connections and never says a word. */
async function silentPort(): Promise<number> {
  const server = createServer((socket) => void socket.on('error', () => {}).resume())
  servers.push(server)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as { port: number }).port
}

describe('an agent that is never stopped', () => {
  for (const drain of ['worker', 'inline']) {
    it(`lets the bot's process end by itself, though its collector never answers (${drain})`, async () => {
      const url = `http://127.0.0.1:${await silentPort()}`
      const child = spawn(process.execPath, [BOT, url, drain], { stdio: ['ignore', 'pipe', 'pipe'] })
      let out = ''
      child.stdout.on('data', (chunk) => (out += chunk))
      child.stderr.on('data', (chunk) => (out += chunk))
      const timer = setTimeout(() => child.kill('SIGKILL'), 30_000)
      const [code] = await once(child, 'exit')
      clearTimeout(timer)
      assert.deepEqual([code, out], [0, 'done, 0 dropped\n'])
    })
  }
})
