/** UUIDs between their 36 characters and the 16 bytes that binary forms carry. Lower case, as the venue writes them. */

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))
const DASH = 45

/** Value of a hexadecimal digit by its character code; 255 for anything else, upper case included. */
const DIGIT = new Uint8Array(128).fill(255)
for (let digit = 0; digit < 16; digit++) DIGIT[digit.toString(16).charCodeAt(0)] = digit

/** Places of the dashes in the text. */
const isDash = (index: number) => index === 8 || index === 13 || index === 18 || index === 23

/**
 * Writes the 16 bytes of `text` at `at`.
 *
 * @returns whether it was a UUID in the one form that reads back as the same text
 */
export function writeUuid(text: string, into: Uint8Array, at: number): boolean {
  if (text.length !== 36) return false
  let target = at
  for (let index = 0; index < 36; index += 2) {
    if (isDash(index)) {
      if (text.charCodeAt(index) !== DASH) return false
      index++
    }
    const high = DIGIT[text.charCodeAt(index)] ?? 255
    const low = DIGIT[text.charCodeAt(index + 1)] ?? 255
    if (high > 15 || low > 15) return false
    into[target++] = (high << 4) | low
  }
  return true
}

export function readUuid(bytes: Uint8Array, at: number): string {
  let text = ''
  for (let index = 0; index < 16; index++) {
    text += HEX[bytes[at + index] as number]
    if (index === 3 || index === 5 || index === 7 || index === 9) text += '-'
  }
  return text
}
