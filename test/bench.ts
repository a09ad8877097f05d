/**
 * `npm run bench`: the benchmarks of every folder, one after the other, each in a fresh process.
 *
 *   npm run bench               all
 *   npm run bench -- agent      those of one folder
 */
import { spawnSync } from 'node:child_process'
import { globSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { EXIT, runMain, UserError } from '@tickscope/contract'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

await runMain('npm run bench', async () => {
  const wanted = process.argv.slice(2)
  const files = globSync('*/bench/*.bench.ts', { cwd: ROOT }).sort()
  const chosen = files.filter((file) => wanted.length === 0 || wanted.some((folder) => file.startsWith(`${folder}/`)))
  if (chosen.length === 0)
    throw new UserError('BENCH_UNKNOWN', `no benchmark in ${wanted.join(', ')}; there are ${files.join(', ')}`)
  let worst: number = EXIT.ok
  for (const file of chosen) {
    console.log(`\n== ${file}`)
    const { status } = spawnSync(process.execPath, ['--expose-gc', file], { cwd: ROOT, stdio: 'inherit' })
    worst = Math.max(worst, status ?? EXIT.internal)
  }
  return worst
})
