/**
 * The files of a zip whose files are stored as they are, in their order. Throws where one is compressed.
 * Source: PKWARE APPNOTE 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16.
 */
export function unzip(zip: Uint8Array): Map<string, Uint8Array> {
  const view = new DataView(zip.buffer, zip.byteOffset, zip.byteLength)
  const short = (at: number) => view.getUint16(at, true)
  const long = (at: number) => view.getUint32(at, true)
  const end = zip.length - END_BYTES
  if (long(end) !== END) throw new Error('got no zip, expected its last record at its end')
  const files = new Map<string, Uint8Array>()
  let entry = long(end + 16)
  for (let i = 0; i < short(end + 10); i++) {
    const name = new TextDecoder().decode(zip.subarray(entry + 46, entry + 46 + short(entry + 28)))
    if (short(entry + 10) !== 0) throw new Error(`${name} is compressed, expected it as it is`)
    const local = long(entry + 42)
    const start = local + 30 + short(local + 26) + short(local + 28)
    files.set(name, zip.slice(start, start + long(entry + 24)))
    entry += 46 + short(entry + 28) + short(entry + 30) + short(entry + 32)
  }
  return files
}

const END = 0x06054b50
const END_BYTES = 22
