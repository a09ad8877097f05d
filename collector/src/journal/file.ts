/**
 * The frame of a journal file: its head, and groups of records with length and checksum. See `record.ts` for the whole
 * format. Reading decides between a tail cut off by a crash, which was never acknowledged, and damage.
 */
import { crc32 } from 'node:zlib'
import { JournalError } from '../error.ts'

export type FileKind = 'journal' | 'snapshot'

/** Most bytes of records in one group, unless one record alone is larger. */
export const GROUP_BYTES_MAX = 4 * 1024 * 1024

const LEGEND = '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"'
/** The date is for people: nothing depends on it. */
const HEAD = new RegExp(
  String.raw`^#\[tickscope (journal|snapshot) 1, generation (\d+)\]\n#\[Histogram log format version 1\.3\]\n#\[StartTime: [^\n]+\]\n${LEGEND}\n`,
)
const HEAD_BYTES_MAX = 512

const GROUP = /^#\[group (\d+), (\d+) bytes, crc ([0-9a-f]{8})\]\n/
const GROUP_HEADER_BYTES_MAX = 80
const GROUP_MARK = '#[group '

export function fileName(kind: FileKind, generation: number): string {
  return `${kind}-${`${generation}`.padStart(8, '0')}.hlog`
}

/** @returns undefined when the name is of another kind */
export function generationOf(kind: FileKind, name: string): number | undefined {
  const match = /^(journal|snapshot)-(\d{8,15})\.hlog$/.exec(name)
  return match?.[1] === kind ? Number(match[2]) : undefined
}

export function encodeHead(kind: FileKind, generation: number, nowMs: number): Buffer {
  return Buffer.from(
    `#[tickscope ${kind} 1, generation ${generation}]\n` +
      '#[Histogram log format version 1.3]\n' +
      `#[StartTime: ${(nowMs / 1000).toFixed(3)} (seconds since epoch), ${new Date(nowMs).toISOString()}]\n` +
      `${LEGEND}\n`,
  )
}

export function encodeGroup(number: number, records: readonly Buffer[]): Buffer {
  const body = Buffer.concat(records)
  const crc = checksum(number, body).toString(16).padStart(8, '0')
  return Buffer.concat([Buffer.from(`#[group ${number}, ${body.length} bytes, crc ${crc}]\n`), body])
}

function checksum(number: number, body: Buffer): number {
  return crc32(body, crc32(`${number} ${body.length}\n`))
}

/** Where a file's good part ends; `torn` when something follows it that a crash cut off. */
export interface FileEnd {
  readonly bytes: number
  readonly groups: number
  readonly torn: boolean
}

/**
 * Reads a file's groups in order, each checked before it is handed on.
 *
 * @param last whether the file is the one that was being written, so that its tail may be torn
 * @param visit gets the records of a group as text
 * @throws JournalError `JOURNAL_CORRUPT`
 */
export function readFile(
  file: { readonly path: string; readonly kind: FileKind; readonly generation: number; readonly last: boolean },
  bytes: Buffer,
  visit: (records: string, groupNumber: number) => void,
): FileEnd {
  const corrupt = (at: number, why: string) =>
    new JournalError('JOURNAL_CORRUPT', `${file.path} is damaged at byte ${at}: ${why}; it was left as it is`)
  const head = HEAD.exec(bytes.toString('latin1', 0, HEAD_BYTES_MAX))
  if (!head) {
    const unfinished = bytes.length < HEAD_BYTES_MAX && (lines(bytes) < 4 || bytes.includes(0))
    if (file.last && unfinished) return { bytes: 0, groups: 0, torn: bytes.length > 0 }
    throw corrupt(0, `it does not begin as a tickscope ${file.kind}`)
  }
  if (head[1] !== file.kind || Number(head[2]) !== file.generation)
    throw corrupt(0, `it says it is ${head[1]} ${head[2]}, not what its name says`)
  let at = head[0].length
  let groups = 0
  while (at < bytes.length) {
    const group = groupAt(bytes, at)
    if (typeof group === 'string' || group.number !== groups + 1) {
      const why = typeof group === 'string' ? group : `group ${group.number} stands where group ${groups + 1} should`
      if (file.last && typeof group === 'string' && isTorn(bytes, at)) return { bytes: at, groups, torn: true }
      throw corrupt(at, why)
    }
    visit(bytes.toString('utf8', group.start, group.end), group.number)
    at = group.end
    groups++
  }
  return { bytes: at, groups, torn: false }
}

interface Group {
  readonly number: number
  readonly start: number
  readonly end: number
}

/** @returns the group that begins at `at`, or what is wrong with it */
function groupAt(bytes: Buffer, at: number): Group | string {
  const header = GROUP.exec(bytes.toString('latin1', at, at + GROUP_HEADER_BYTES_MAX))
  if (!header) return 'no group begins there'
  const number = Number(header[1])
  const start = at + header[0].length
  const end = start + Number(header[2])
  if (end > bytes.length) return `group ${number} is longer than the file`
  if (checksum(number, bytes.subarray(start, end)) !== Number.parseInt(header[3] as string, 16))
    return `the checksum of group ${number} is wrong`
  return { number, start, end }
}

/**
 * Whether what begins at `at` is a write that a crash cut off, rather than damage to something acknowledged. The next
 * group is written only after the last one is on disk, so nothing good can follow a torn one; a killed process leaves
 * a beginning, and a machine that lost power may leave zeros where data never arrived.
 */
function isTorn(bytes: Buffer, at: number): boolean {
  for (let mark = at; mark >= 0; mark = bytes.indexOf(GROUP_MARK, mark + 1)) {
    if (typeof groupAt(bytes, mark) !== 'string') return false
  }
  const header = GROUP.exec(bytes.toString('latin1', at, at + GROUP_HEADER_BYTES_MAX))
  if (header) {
    const end = at + header[0].length + Number(header[2])
    if (end > bytes.length) return true
  } else if (bytes.length - at < GROUP_HEADER_BYTES_MAX && bytes.indexOf('\n', at) < 0) return true
  return bytes.indexOf(0, at) >= 0
}

function lines(bytes: Buffer): number {
  let n = 0
  for (let at = bytes.indexOf('\n'); at >= 0; at = bytes.indexOf('\n', at + 1)) n++
  return n
}
