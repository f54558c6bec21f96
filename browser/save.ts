/** Gives the person a file, made here. */
export function saveFile(name: string, content: BlobPart | Blob, type: string): void {
  const link = document.createElement('a')
  link.href = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }))
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), REVOKE_AFTER_MS)
}

/** The browser has opened the file by then. */
const REVOKE_AFTER_MS = 60_000

/** One line of CSV: cells with a comma, a quote or a line's end are quoted, and a formula is only text. */
export function csvLine(cells: readonly (string | number | undefined)[]): string {
  return cells
    .map((cell) => {
      const text =
        typeof cell === 'string' && /^[=+@-]/.test(cell) ? `'${cell}` : String(cell ?? '')
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
    })
    .join()
}
