/** Puts text on the clipboard: false where the browser refuses. An insecure page has no clipboard, but may copy a selection. */
export async function copyText(what: string): Promise<boolean> {
  try {
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(what)
      return true
    }
  } catch {
    // Refused: a person may have said no for this page, and a selection is another question.
  }
  return copySelected(what)
}

function copySelected(what: string): boolean {
  const before = document.activeElement
  const area = Object.assign(document.createElement('textarea'), { value: what, readOnly: true })
  area.className = 'out-of-sight'
  const top = document.querySelector('dialog[open]') ?? document.body // beside an open dialog nothing can be selected
  top.append(area)
  area.select()
  const isCopied = document.execCommand('copy')
  area.remove()
  if (before instanceof HTMLElement) before.focus()
  return isCopied
}
