import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { loadData, readData, readEvalFiles } from '../../node/data.ts'
import { decodeImage } from '../../node/image.ts'
import { Fault } from '../../protocol/errors.ts'
import type { Manifest } from '../../protocol/manifest.ts'
import { splitRows } from '../../protocol/ports/examples.ts'
import { affineOf, fillInto, resize } from '../../protocol/ports/preprocess.ts'
import { allRows } from '../../protocol/ports/trainer/evaluate.ts'
import { randomFrom } from '../../protocol/random.ts'
import { testInit } from '../support/learners.ts'
import { denseJson, imageManifest, tableManifest } from '../support/models.ts'
import { png } from '../support/png.ts'

vi.mock('node:fs/promises', async (load) => {
  const real = await load<typeof import('node:fs/promises')>()
  return { ...real, readdir: vi.fn(real.readdir) }
})

let root = ''
let count = 0
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'mlstore-data-'))
})
afterAll(() => rm(root, { recursive: true }))

/** A folder with these files, by path. */
async function folder(files: Record<string, string | Uint8Array>): Promise<string> {
  const dir = join(root, String(count++))
  await mkdir(dir)
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(dir, path)), { recursive: true })
    await writeFile(join(dir, path), content)
  }
  return dir
}

async function csv(text: string): Promise<string> {
  return join(await folder({ 'data.csv': text }), 'data.csv')
}

const table = tableManifest(denseJson([2, 3]), { inputs: 2, classes: 3 })
const image = imageManifest(denseJson([4, 2]), [2, 2, 1])

/** The Fault that reading gives, checked to be one of exit code 5 with a hint. */
async function faultOf(
  path: string,
  manifest: Manifest,
): Promise<{ type: string; message: string }> {
  const thrown = await readData(path, manifest).catch((error) => error)
  expect(thrown).toBeInstanceOf(Fault)
  expect(thrown.exitCode).toBe(5)
  expect(thrown.message).not.toContain('\n')
  expect(thrown.detail.hint).toBeTruthy()
  return { type: thrown.detail.type, message: thrown.message }
}

const gray = (...shades: number[]) => shades.flatMap((shade) => [shade, shade, shade, 255])
const small = png(2, 2, gray(0, 50, 100, 255))

/** A 16 × 16 JPEG of one shade of gray, quality 90. */
const jpeg = async (): Promise<Uint8Array> => {
  const { default: encode, init } = await import('@jsquash/jpeg/encode.js')
  const { readFile } = await import('node:fs/promises')
  const wasm = await readFile(
    new URL(import.meta.resolve('@jsquash/jpeg/codec/enc/mozjpeg_enc.wasm')),
  )
  await (init as (module: WebAssembly.Module) => Promise<void>)(await WebAssembly.compile(wasm))
  const data = Uint8ClampedArray.from({ length: 4 * 256 }, (_, i) => (i % 4 === 3 ? 255 : 120))
  return new Uint8Array(await encode({ data, width: 16, height: 16 } as ImageData))
}

describe('a CSV file for a table', () => {
  test('is read by column name, in any order, others ignored', async () => {
    const path = await csv('x1,note,label,x0\n2,hello,b,1\n-4,"a, b",a,0.5\n\n')
    const { examples, format } = await readData(path, table)
    expect(format).toBe('csv')
    expect([...examples.inputs]).toEqual([1, 2, 0.5, -4])
    expect([...examples.labels]).toEqual([1, 0])
  })

  test('may have semicolons, a byte order mark and Windows line ends', async () => {
    const { examples } = await readData(await csv('\ufeffx0;x1;label\r\n1;2;c\r\n'), table)
    expect([...examples.inputs, ...examples.labels]).toEqual([1, 2, 2])
  })

  test.each([
    ['missing-column', 'x0,label\n1,a\n', ['x1', '"x0", "label"']],
    ['missing-column', 'x0,x1,class\n1,2,a\n', ['label', '"class"']],
    ['unknown-label', 'x0,x1,label\n1,2,a\n1,2,zebra\n', ['row 2', 'zebra', '"a", "b", "c"']],
    ['wrong-cell', 'x0,x1,label\n1,2,a\n3,many,b\n', ['row 2', 'x1', 'many', 'a number']],
    ['wrong-cell', 'x0,x1,label\n1,,a\n', ['row 1', 'x1', '""']],
    ['wrong-cell', 'x0,x1,label\n1,1e60,a\n', ['row 1', '1e60']],
    ['wrong-row', 'x0,x1,label\n1,2,a\n1,2\n', ['row 2', '2 cells', 'expected 3']],
    ['no-examples', 'x0,x1,label\n', ['a header and no rows']],
    ['no-examples', '', ['nothing']],
  ])('with a fault says what came and what was expected: %s', async (type, text, parts) => {
    const fault = await faultOf(await csv(text), table)
    expect(fault.type).toBe(type)
    for (const part of parts) expect(fault.message).toContain(part)
  })
})

describe('a CSV file for images', () => {
  test('has a label and one column a pixel, and is stored a byte each', async () => {
    const { examples } = await readData(await csv('p0,p1,label,p2,p3\n0,1,b,128,255\n'), image)
    expect(examples.inputs).toEqual(Uint8Array.of(0, 1, 128, 255))
    expect([...examples.labels]).toEqual([1])
  })

  test.each([
    ['wrong-columns', 'label,p0,p1\na,1,2\n', ['2 pixel columns', 'expected 4 (2x2x1)']],
    ['wrong-cell', 'label,a,b,c,d\na,1,2,3,256\n', ['256', 'a whole number 0 to 255']],
    ['wrong-cell', 'label,a,b,c,d\na,1,2,0.5,4\n', ['0.5']],
  ])('with a fault says what came and what was expected: %s', async (type, text, parts) => {
    const fault = await faultOf(await csv(text), image)
    expect(fault.type).toBe(type)
    for (const part of parts) expect(fault.message).toContain(part)
  })
})

describe('a folder of images', () => {
  test('is read label by label, PNG and JPEG, and what cannot be read is reported', async () => {
    const manifest = imageManifest(denseJson([4, 2]), [2, 2, 1], {
      preprocess: [{ op: 'grayscale' }, { op: 'resize', height: 2, width: 2 }],
    })
    const path = await folder({
      'a/1.png': small,
      'a/.hidden': 'x',
      'b/2.jpg': await jpeg(),
      'b/broken.png': small.slice(0, 60),
      'b/notes.txt': 'not an image',
      'stray.png': small,
    })
    const { examples, skips, format } = await readData(path, manifest)
    expect(format).toBe('imagefolder')
    expect([...examples.labels]).toEqual([0, 1])
    expect([...examples.inputs.subarray(0, 4)]).toEqual([0, 50, 100, 255])
    for (const shade of examples.inputs.subarray(4))
      expect(Math.abs(shade - 120)).toBeLessThanOrEqual(2)
    expect(skips.count).toBe(3)
    expect(skips.list.map(({ item }) => item).sort()).toEqual([
      'b/broken.png',
      'b/notes.txt',
      'stray.png',
    ])
    expect(skips.list.find(({ item }) => item === 'b/notes.txt')!.reason).toContain(
      'neither a PNG nor a JPEG',
    )
  })

  test('shows white where it is transparent', async () => {
    const path = await folder({ 'a/1.png': png(2, 2, [0, 0, 0, 0, 0, 0, 0, 255, ...gray(7, 8)]) })
    const { examples } = await readData(path, image)
    expect([...examples.inputs]).toEqual([255, 0, 7, 8])
  })

  test.each<[string, Record<string, string | Uint8Array>, string[]]>([
    [
      'wrong-image',
      { 'a/big.png': png(3, 2, gray(1, 2, 3, 4, 5, 6)) },
      ['a/big.png', '3x2', 'expected 2x2'],
    ],
    [
      'wrong-image',
      { 'a/red.png': png(2, 2, [255, 0, 0, 255, ...gray(1, 2, 3)]) },
      ['3 channels', 'expected 1'],
    ],
    ['unknown-label', { 'cat/1.png': small }, ['"cat"', 'expected one of "a", "b"']],
    ['no-examples', {}, ['no images']],
    ['no-examples', { 'a/readme.txt': 'x', 'b/x.png': 'y' }, ['2 files and none can be read']],
  ])('with a fault says what came and what was expected: %s', async (type, files, parts) => {
    const fault = await faultOf(await folder(files), image)
    expect(fault.type).toBe(type)
    for (const part of parts) expect(fault.message).toContain(part)
  })

  test('is no data for a table, and a file none for a model that takes folders', async () => {
    expect((await faultOf(await folder({}), table)).message).toContain(
      'the model takes a CSV file with a header',
    )
    const foldersOnly = { ...image, data: { accept: ['imagefolder' as const] } }
    expect((await faultOf(await csv('x\n'), foldersOnly)).message).toContain(
      'takes a folder of images',
    )
  })

  test('that does not exist, or may not be read, is said', async () => {
    expect((await faultOf(join(root, 'nowhere'), image)).type).toBe('no-such-data')
    const path = await csv('x0,x1,label\n1,2,a\n')
    await chmod(path, 0)
    if (process.getuid?.() !== 0) expect((await faultOf(path, table)).type).toBe('unreadable')
  })
})

test('a label that may not be opened is a data fault, and no label left out', async () => {
  const path = await folder({ 'a/x.png': small, 'b/y.png': small })
  const label = join(path, 'a')
  const message = `EACCES: permission denied, scandir '${label}'`
  const refused = Object.assign(new Error(message), { code: 'EACCES' })
  vi.mocked(readdir).mockResolvedValueOnce(['a', 'b'] as never)
  vi.mocked(readdir).mockRejectedValueOnce(refused)
  expect(await faultOf(path, image)).toEqual({
    type: 'unreadable',
    message: `${label} cannot be read: ${message}`,
  })
})

describe('an image', () => {
  test('that claims a billion pixels is refused before it is decoded', async () => {
    const bomb = png(2, 2, gray(1, 2, 3, 4))
    new DataView(bomb.buffer).setUint32(16, 40_000)
    new DataView(bomb.buffer).setUint32(20, 40_000)
    await expect(decodeImage(bomb as Uint8Array<ArrayBuffer>)).rejects.toThrow(
      'has 40000x40000 pixels',
    )
    const bytes = await jpeg()
    const at = bytes.findIndex((byte, i) => byte === 0xff && [0xc0, 0xc2].includes(bytes[i + 1]!))
    new DataView(bytes.buffer).setUint32(at + 5, 0xffffffff)
    await expect(decodeImage(bytes as Uint8Array<ArrayBuffer>)).rejects.toThrow(
      'has 65535x65535 pixels',
    )
  })

  test('cut short at any byte is refused, never decoded wrongly for ever', async () => {
    const whole = await jpeg()
    for (let length = 0; length < 40; length++) {
      await expect(decodeImage(whole.slice(0, length) as Uint8Array<ArrayBuffer>)).rejects.toThrow()
    }
  })
})

describe('preprocessing', () => {
  test('shrinks by averaging what it covers and enlarges in between', () => {
    const wide = { width: 4, height: 1, channels: 1, data: Uint8Array.of(0, 0, 200, 200) }
    expect([...resize(wide, 2, 1).data].map((x) => Math.round(x / 10))).toEqual([3, 17])
    const narrow = { width: 2, height: 1, channels: 1, data: Uint8Array.of(0, 100) }
    expect([...resize(narrow, 4, 1).data]).toEqual([0, 25, 75, 100])
  })

  test('makes the value steps one multiplication and addition, in their order', () => {
    const steps: Manifest['preprocess'] = [
      { op: 'invert' },
      { op: 'scale', multiply: 1 / 255 },
      { op: 'standardize', mean: [0.5], std: [0.25] },
    ]
    const affine = affineOf({ ...image, preprocess: steps })
    const later = affineOf({ ...image, preprocess: [steps[1]!, steps[0]!, steps[2]!] })
    for (const shade of [0, 100, 255]) {
      const expected = ((255 - shade) / 255 - 0.5) / 0.25
      expect(shade * affine.multiply[0]! + affine.add[0]!).toBeCloseTo(expected, 10)
      expect(shade * later.multiply[0]! + later.add[0]!).toBeCloseTo(expected, 10)
    }
  })

  test('standardizes each column by its own mean and deviation', async () => {
    const manifest = {
      ...table,
      preprocess: [{ op: 'standardize' as const, mean: [1, 10], std: [2, 5] }],
    }
    const { examples } = await readData(await csv('x0,x1,label\n3,0,a\n'), manifest)
    const batch = { inputs: new Float32Array(2), labels: new Int32Array(1) }
    fillInto(batch, examples, allRows(examples), 0, 1, affineOf(manifest))
    expect([...batch.inputs]).toEqual([1, -2])
  })
})

describe('loading', () => {
  const rows = Array.from({ length: 50 }, (_, i) => `${i},${-i},${'abc'[i % 3]}`).join('\n')

  test('splits by the seed, and reports what was read', async () => {
    const path = await csv(`x0,x1,label\n${rows}\n`)
    const init = testInit({ manifest: table, init: { data: { path } } })
    const [one, again, other] = [
      await loadData(init, 1),
      await loadData(init, 1),
      await loadData(init, 2),
    ]
    expect(one.report).toEqual({
      format: 'csv',
      read: 50,
      skipped: [],
      skippedCount: 0,
      labels: { a: 17, b: 17, c: 16 },
      train: 40,
      validation: 10,
    })
    expect(again.split).toEqual(one.split)
    expect(other.split).not.toEqual(one.split)
    expect(new Set([...one.split.train, ...one.split.validation]).size).toBe(50)
  })

  test('of too few examples is a fault', async () => {
    const path = await csv('x0,x1,label\n1,2,a\n')
    const manifest = { ...table, data: { ...table.data, minExamples: 10 } }
    const thrown = await loadData(testInit({ manifest, init: { data: { path } } }), 1).catch(
      (error) => error,
    )
    expect(thrown.detail).toMatchObject({ kind: 'data', type: 'too-few-examples' })
    expect(thrown.message).toMatch(/1 examples, expected at least 10/)
  })

  test('reads the evaluation data of a version through the same reader', async () => {
    const bytes = new TextEncoder().encode(`x0,x1,label\n${rows}\n`)
    const examples = await readEvalFiles([{ path: 'eval/table.csv', bytes }], table)
    expect(examples.size).toBe(50)
    const wrong = await readEvalFiles(
      [{ path: 'eval/table.csv', bytes: bytes.slice(0, 20) }],
      table,
    ).catch((error) => error)
    expect(wrong.exitCode).toBe(7)
  })
})

test('a split gives every row to one side, the validation side rounded down', () => {
  const { train, validation } = splitRows(11, 0.25, randomFrom(3))
  expect([train.length, validation.length]).toEqual([9, 2])
})
