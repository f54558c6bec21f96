import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

/** PyTorch in a process of its own, asked for one measurement at a time. */
export interface Yardstick {
  version: string
  /** Multiply-adds per second of one core in a plain matrix product. */
  matmulPerSecond: number
  /** One training step. */
  measure(request: TorchRequest): Promise<Time>
  end(): void
}

/** Of one training step: CPU time of the whole process, and the clock's. */
export interface Time {
  cpuSeconds: number
  seconds: number
}

export interface TorchRequest {
  /** An expression over `nn`: what makes the model (yardstick.py has the blocks that nn lacks). */
  model: string
  /** Without the batch, as PyTorch has it: channels first. */
  input: number[]
  /** Inputs are whole numbers below this, for embeddings. */
  vocabulary?: number
  classes: number
  batch: number
  optimizer: 'sgd' | 'adam'
  threads: number
  seconds: number
}

/** The Python on the path, and the one that Debian's python3-torch is for. */
const pythons = ['python3', '/usr/bin/python3']
const program = fileURLToPath(new URL('./yardstick.py', import.meta.url))

/** Undefined where no Python has PyTorch. */
export async function startYardstick(): Promise<Yardstick | undefined> {
  for (const python of pythons) {
    const child = spawn(python, [program], { stdio: ['pipe', 'pipe', 'ignore'] })
    const answers = answersOf(child)
    const hello = await answers()
    if (!hello) continue
    return {
      version: hello.version as string,
      matmulPerSecond: hello.matmul as number,
      async measure(request) {
        child.stdin.write(`${JSON.stringify(request)}\n`)
        const answer = await answers()
        if (!answer) throw new Error(`PyTorch ended in the midst of ${request.model}`)
        return answer as unknown as Time
      },
      end: () => child.kill(),
    }
  }
  return undefined
}

/** One JSON line after another; undefined when the process is gone. */
function answersOf(child: ChildProcess): () => Promise<Record<string, unknown> | undefined> {
  const waiting: ((line: Record<string, unknown> | undefined) => void)[] = []
  const lines: Record<string, unknown>[] = []
  let isOver = false
  const over = () => {
    isOver = true
    for (const resolve of waiting.splice(0)) resolve(undefined)
  }
  child.on('error', over)
  child.on('close', over)
  createInterface({ input: child.stdout! }).on('line', (text) => {
    const line = JSON.parse(text) as Record<string, unknown>
    const next = waiting.shift()
    if (next) next(line)
    else lines.push(line)
  })
  return () =>
    new Promise((resolve) => {
      const line = lines.shift()
      if (line || isOver) resolve(line)
      else waiting.push(resolve)
    })
}
