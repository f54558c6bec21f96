import { activationCode } from './layers/activation.ts'
import type { ActivationName } from './layers/settings.ts'
import type { Planner } from './planner.ts'

/** Activations that the gemm's last pass applies. */
export const isFused = (name: ActivationName): boolean =>
  name === 'linear' || name === 'relu' || name === 'relu6'

/** to[rows, columns] = a[rows, depth] · b[depth, columns]; row and column strides in floats, 1 and more. */
export interface Multiply {
  a: number
  aRow: number
  aColumn: number
  b: number
  bRow: number
  bColumn: number
  to: number
  /** Stride of `to`; the number of columns unless given. Its columns lie side by side. */
  toRow?: number
  rows: number
  columns: number
  depth: number
  /** Adds to what is there, for sums over several products. */
  add?: boolean
  /** One value a column, 0 for none. */
  bias?: number
  /** One that `isFused` names. */
  activation?: ActivationName
}

/** Floats of scratch that one gemm needs: its packed panels of b, and of 64 rows of a (kernels/gemm.ts). */
export const gemmScratch = ({ depth, columns }: Pick<Multiply, 'depth' | 'columns'>): number =>
  Math.min(depth, GEMM_DEPTH) * (Math.min(Math.ceil(columns / 8) * 8, GEMM_COLUMNS) + GEMM_ROWS)

/** Blocks of kernels/gemm.ts. */
const GEMM_DEPTH = 384
const GEMM_COLUMNS = 512
const GEMM_ROWS = 64

/** Emits one matrix product. */
export function multiplyInto(
  planner: Planner,
  direction: 'forward' | 'backward',
  product: Multiply,
): void {
  const { a, aRow, aColumn, b, bRow, bColumn, to, rows, columns, depth } = product
  const { toRow = columns, add = false, bias = 0, activation = 'linear' } = product
  planner[direction](
    'gemm',
    ...[rows, columns, depth],
    ...[a, aRow, aColumn],
    ...[b, bRow, bColumn],
    ...[to, toRow, add ? 1 : 0],
    ...[bias, activationCode(activation), planner.scratch(gemmScratch(product))],
  )
}
