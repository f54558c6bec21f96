import prettyBytes from 'pretty-bytes'

/** Figures as people read them, in this browser's language. */

export function bytes(count: number): string {
  return prettyBytes(count, { locale: true, maximumFractionDigits: count < 1e6 ? 0 : 1 })
}

/** Always so many digits behind the point: what changes while it is looked at keeps its place. */
export function percent(share: number, digits = 1): string {
  return share.toLocaleString(undefined, {
    ...{ style: 'percent', minimumFractionDigits: digits, maximumFractionDigits: digits },
  })
}

/** Three digits; what is smaller than a thousandth says so rather than a row of zeros. */
export function figure(value: number): string {
  if (value > 0 && value < 0.001) return `< ${(0.001).toLocaleString()}`
  return value.toLocaleString(undefined, { maximumSignificantDigits: 3 })
}

export function whole(value: number): string {
  return value.toLocaleString()
}

/** `now`, `5 minutes ago`, `yesterday`; narrow `5m ago`, for a cell of a table. */
export function age(ms: number, style: Intl.RelativeTimeFormatStyle = 'long'): string {
  const seconds = Math.max(0, Math.round(ms / 1000))
  const unit = ages.find(([, size]) => seconds >= size) ?? ages.at(-1)!
  const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto', style })
  return relative.format(-Math.floor(seconds / unit[1]), unit[0])
}

const ages: [Intl.RelativeTimeFormatUnit, number][] = [
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
  ['second', 1],
]

/** The two ends of a peer id or a CID: the middle tells nobody anything. */
export function short(id: string): string {
  return id.length <= 14 ? id : `${id.slice(0, 6)}…${id.slice(-5)}`
}

/** Time that something takes: `14 ms`, `3.2 s`. */
export function duration(ms: number): string {
  return ms < 1_000 ? `${figure(ms)} ms` : `${figure(ms / 1_000)} s`
}

export function clock(ms: number): string {
  return new Date(ms).toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit' })
}
