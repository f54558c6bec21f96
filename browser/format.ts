import { locale } from './language.ts'

/** Figures as people read them, in the language of the sentences that they stand in. */

/** 1,000 of one are one of the next; beyond the last nothing here goes. */
const sizes = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte'] as const

/** `51 kB`, `1.2 MB`. */
export function bytes(count: number): string {
  const step = Math.min(Math.max(0, Math.floor(Math.log10(count) / 3)), sizes.length - 1)
  const maximumFractionDigits = count < 1e6 ? 0 : 1
  const digits = { maximumFractionDigits, roundingMode: 'trunc' } as const
  return measure(count / 1000 ** step, sizes[step]!, digits)
}

/** Always so many digits behind the point: what changes while it is looked at keeps its place. */
export function percent(share: number, digits = 1): string {
  return share.toLocaleString(locale, {
    ...{ style: 'percent', minimumFractionDigits: digits, maximumFractionDigits: digits },
  })
}

const threeDigits = { maximumSignificantDigits: 3 }

/** Three digits; what is smaller than a thousandth says so rather than a row of zeros. */
export function figure(value: number): string {
  if (value > 0 && value < 0.001) return `< ${(0.001).toLocaleString(locale)}`
  return value.toLocaleString(locale, threeDigits)
}

export function whole(value: number): string {
  return value.toLocaleString(locale)
}

/** `now`, `5 minutes ago`, `yesterday`; narrow `5m ago`, for a cell of a table. */
export function age(ms: number, style: Intl.RelativeTimeFormatStyle = 'long'): string {
  const seconds = Math.max(0, Math.round(ms / 1000))
  const unit = ages.find(([, size]) => seconds >= size) ?? ages.at(-1)!
  const relative = new Intl.RelativeTimeFormat(locale, { numeric: 'auto', style })
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
  if (ms > 0 && ms < 0.001) return `< ${measure(0.001, 'millisecond', threeDigits)}`
  if (ms < 1_000) return measure(ms, 'millisecond', threeDigits)
  return measure(ms / 1_000, 'second', threeDigits)
}

export function clock(ms: number): string {
  return new Date(ms).toLocaleTimeString(locale, { hour: 'numeric', minute: '2-digit' })
}

/** A figure and its unit's shortest sign, which some languages write close to it. */
function measure(value: number, unit: string, digits: Intl.NumberFormatOptions): string {
  const narrow = { style: 'unit', unit, unitDisplay: 'narrow', ...digits } as const
  const parts = new Intl.NumberFormat(locale, narrow).formatToParts(value)
  const sign = parts.find(({ type }) => type === 'unit')?.value ?? ''
  const rest = parts.filter(({ type }) => type !== 'unit' && type !== 'literal')
  return `${rest.map(({ value }) => value).join('')} ${sign}`
}
