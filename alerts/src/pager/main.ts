/** The pager as a process: flags, environment, signals. */
import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { announce, EXIT, runMain, stopRequested, UserError } from '@tickscope/contract'
import { Command, CommanderError } from 'commander'
import { startPager } from './app.ts'

const DEFAULT_PORT = 9095
const TOKEN_CHARS_MIN = 16

function parsePort(text: string): number {
  const port = Number(text)
  if (!/^\d+$/.test(text) || port > 65_535)
    throw new UserError('PORT_INVALID', `--port is '${text}', not a port from 0 to 65535`)
  return port
}

function readToken(path: string): string {
  let token: string
  try {
    token = readFileSync(path, 'utf8').trim()
  } catch (error) {
    throw new UserError('TOKEN_INVALID', `token file ${path} cannot be read: ${(error as NodeJS.ErrnoException).code}`)
  }
  if (token.length < TOKEN_CHARS_MIN)
    throw new UserError('TOKEN_INVALID', `the token in ${path} is shorter than ${TOKEN_CHARS_MIN} characters`)
  return token
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))
}

async function main(): Promise<number> {
  const command = new Command('pager')
    .description('Receive Alertmanager notifications (webhook version 4) and print each page as a phone would show it')
    .option('--host <address>', 'address to listen on; one that is not loopback needs a token', '127.0.0.1')
    .option('--port <port>', 'port to listen on, 0 for any free one', parsePort, DEFAULT_PORT)
    .option('--token-file <file>', 'file with the bearer token senders must give', process.env.TICKSCOPE_TOKEN_FILE)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'pager: ')) })
  try {
    command.parse()
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
    throw error
  }
  const { host, port, tokenFile } = command.opts<{ host: string; port: number; tokenFile?: string }>()
  const token = tokenFile ? readToken(tokenFile) : undefined
  if (token === undefined && !isLoopback(host))
    throw new UserError('TOKEN_MISSING', `--host ${host} is not loopback: give a --token-file or listen on 127.0.0.1`)
  const stopping = stopRequested()
  const color = process.stderr.isTTY === true && !process.env.NO_COLOR
  const pager = await startPager({ host, port, token, color })
  announce({ event: 'ready', url: pager.url })
  await stopping
  await pager.stop()
  const { pages, tickets, notifications } = pager.incidents
  announce({ event: 'summary', pages, tickets, notifications })
  return EXIT.ok
}

await runMain('pager', main)
