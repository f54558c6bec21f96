/** A limit on what swaps send and receive in a day. A day is this device's own, from midnight to midnight; the date comes in. */
export interface Traffic {
  /** 2026-11-24 */
  day: string
  /** Sent and received on it. */
  bytes: number
}

const MEGABYTE = 1_000_000

/** What was counted today: nothing yet where `kept` is of another day. */
export function trafficOn(date: Date, kept: Traffic | undefined): Traffic {
  const day = dayOf(date)
  return kept?.day === day ? kept : { day, bytes: 0 }
}

/** With so many more bytes, all of them counted as today's. */
export function countOn(date: Date, kept: Traffic | undefined, bytes: number): Traffic {
  const { day, bytes: before } = trafficOn(date, kept)
  return { day, bytes: before + bytes }
}

/** Whether nothing more may be sent or received today; a limit of 0 megabytes is none. */
export function isSpent({ bytes }: Traffic, megabytes: number): boolean {
  return megabytes > 0 && bytes >= megabytes * MEGABYTE
}

function dayOf(date: Date): string {
  const [year, month, day] = [date.getFullYear(), date.getMonth() + 1, date.getDate()]
  return [year, ...[month, day].map((part) => String(part).padStart(2, '0'))].join('-')
}
