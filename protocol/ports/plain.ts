/**
 * Text that came from a peer, made safe for a terminal: no control characters, no bidirectional
 * overrides, at most `limit` characters.
 */
export function plain(text: string, limit = 200): string {
  const clean = text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, ' ').trim()
  return clean.length > limit ? `${clean.slice(0, limit - 1)}…` : clean
}
