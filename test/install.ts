/**
 * The real servers that tests talk to: Prometheus with promtool, and Alertmanager with amtool. As root on Debian they
 * are installed from its packages; elsewhere the caller is told how to have them.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { findOnPath } from '@tickscope/contract'

const PACKAGES = ['prometheus', 'prometheus-alertmanager']
const COMMANDS = [['prometheus'], ['promtool'], ['alertmanager', 'prometheus-alertmanager'], ['amtool']]
const HOW_TO = `Real servers for those tests: apt-get install ${PACKAGES.join(' ')} (Debian), or put ${COMMANDS.map(
  ([name]) => name,
).join(', ')} on PATH.`

/** Debian starts a service when its package is installed, unless this file says no (exit status 101). */
const POLICY = '/usr/sbin/policy-rc.d'

function missing(): string[] {
  return COMMANDS.filter((names) => findOnPath(...names) === undefined).map(([name]) => name as string)
}

/** @returns how to have what is still missing, or undefined when nothing is */
export function installServers(): string | undefined {
  if (missing().length === 0) return undefined
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) return HOW_TO
  console.log(`Installing ${PACKAGES.join(' and ')} from Debian's packages: tests talk to the real servers.`)
  const guarded = !existsSync(POLICY)
  if (guarded) writeFileSync(POLICY, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  try {
    const aptGet = (...args: string[]) =>
      spawnSync('apt-get', ['-qq', ...args], {
        env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
        encoding: 'utf8',
      })
    aptGet('update')
    const { status, stderr } = aptGet('install', '-y', '--no-install-recommends', ...PACKAGES)
    if (status !== 0) console.log(`apt-get install failed: ${stderr.trim().split('\n').at(-1)}`)
  } finally {
    if (guarded) rmSync(POLICY)
  }
  return missing().length === 0 ? undefined : HOW_TO
}
