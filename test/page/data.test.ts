import { expect, test } from 'vitest'
import {
  asCalled,
  type FoundFile,
  filesOfDrop,
  filesOfList,
  readFiles,
  readHeader,
  scaled,
  single,
  wantedColumns,
} from '../../browser/data.ts'
import type { Pixels } from '../../protocol/ports/preprocess.ts'
import { digits, flowers } from './manifests.ts'

const found = (path: string, shade = 0): FoundFile => ({
  path,
  file: new File([new Uint8Array([shade])], path.split('/').at(-1)!),
})

/** A picture whose every pixel is the file's one byte; `broken` cannot be read, `large` is of another size. */
async function decode(file: File): Promise<Pixels> {
  if (file.name.startsWith('broken')) throw new Error('no picture')
  const side = file.name.startsWith('large') ? 32 : 28
  const [shade] = new Uint8Array(await file.arrayBuffer())
  const data = new Uint8Array(side * side * 4).fill(shade!)
  for (let i = 3; i < data.length; i += 4) data[i] = 255
  return { width: side, height: side, channels: 4, data }
}

test('a picture is of the folder it lies in, however deep the folder was dropped', async () => {
  const files = [found('mine/digits/2/a.png', 10), found('3/b.png', 20)]
  const { examples, format, name } = await readFiles(files, digits, { decode })
  expect(format).toBe('imagefolder')
  expect(name).toBe('mine/')
  expect([...examples.labels]).toEqual([2, 3])
  expect(examples.inputs[0]).toBe(10)
})

test('files chosen for one label are of it, whatever they are called', async () => {
  const { examples } = await readFiles([found('a.png', 1), found('7/b.png', 2)], digits, {
    decode,
    label: '1',
  })
  expect([...examples.labels]).toEqual([1, 1])
})

test('what cannot be used is left out and named, and hidden files are not even mentioned', async () => {
  const files = [
    found('d/1/a.png', 1),
    found('d/1/copy of a.png', 1),
    found('d/1/broken.png', 2),
    found('d/1/large.png', 3),
    found('d/nine/b.png', 4),
    found('loose.png', 5),
    found('d/.DS_Store', 6),
    found('d/.git/1/c.png', 7),
  ]
  const { examples, skips } = await readFiles(files, digits, { decode })
  expect(examples.size).toBe(1)
  expect(skips.count).toBe(5)
  expect(skips.list).toEqual([
    { item: 'd/1/copy of a.png', reason: 'is the same picture as d/1/a.png' },
    { item: 'd/1/broken.png', reason: 'is no picture that this browser can read' },
    { item: 'd/1/large.png', reason: expect.stringContaining('32x32 pixels, expected 28x28') },
    { item: 'd/nine/b.png', reason: expect.stringContaining('the folder "nine"') },
    { item: 'loose.png', reason: 'is not in a folder named for its label' },
  ])
})

test('what is only tried needs no label, and a picture that came twice is tried twice', async () => {
  const loose = [found('a.png', 1), found('mine/b.png', 1), found('broken.png', 2)]
  const { examples, isLabelled, paths, skips } = await readFiles(loose, digits, {
    ...{ decode, toTry: true },
  })
  expect(isLabelled).toBe(false)
  expect(paths).toEqual(['a.png', 'mine/b.png'])
  expect(examples.size).toBe(2)
  expect(skips.list.map(({ item }) => item)).toEqual(['broken.png'])
})

test('where a folder is named for a label, what is tried is measured, and the rest left out', async () => {
  const files = [found('d/1/a.png', 1), found('d/1/b.png', 1), found('loose.png', 2)]
  const { examples, isLabelled, paths, skips } = await readFiles(files, digits, {
    ...{ decode, toTry: true },
  })
  expect(isLabelled).toBe(true)
  expect([...examples.labels]).toEqual([1, 1])
  expect(paths).toEqual(['d/1/a.png', 'd/1/b.png'])
  expect(skips.list.map(({ item }) => item)).toEqual(['loose.png'])
})

test('a text beside pictures is left out, and names no table', async () => {
  const { examples, skips } = await readFiles([found('1/a.png', 1), found('1/notes.txt')], digits, {
    decode: async (file) => (file.name.endsWith('.txt') ? Promise.reject() : decode(file)),
  })
  expect(examples.size).toBe(1)
  expect(skips.list[0]?.item).toBe('1/notes.txt')
})

test('nothing usable is a fault that names the first reason', async () => {
  await expect(readFiles([found('1/broken.png')], digits, { decode })).rejects.toMatchObject({
    detail: { kind: 'data', type: 'no-examples', message: expect.stringContaining('broken.png') },
  })
  await expect(readFiles([], digits, { decode })).rejects.toMatchObject({
    detail: { type: 'no-examples' },
  })
})

test('a picture for a table model, and a CSV file among pictures, are refused with what to do', async () => {
  await expect(readFiles([found('1/a.png')], flowers, { decode })).rejects.toMatchObject({
    detail: { type: 'wrong-format', hint: expect.stringContaining('.csv') },
  })
  await expect(
    readFiles([found('1/a.png'), found('rows.csv')], digits, { decode }),
  ).rejects.toMatchObject({ detail: { type: 'several-files' } })
})

test('a column chosen in the place of another is the only one of that name', () => {
  const chosen = { label: 'kind', length: 'length', width: 'w2' }
  expect(asCalled(['width', 'length', ' w2', 'kind'], chosen)).toEqual([
    '',
    'length',
    'width',
    'label',
  ])
  expect(asCalled(['width', 'length', 'label'], {})).toEqual(['width', 'length', 'label'])
  const swapped = { length: 'width', width: 'length' }
  expect(asCalled(['width', 'length'], swapped)).toEqual(['length', 'width'])
})

/** An entry of a drop: a file that opens or does not, or a folder of entries. */
function entry(name: string, inner?: object[]) {
  return {
    isFile: !inner,
    name,
    file: (resolve: (file: File) => void, reject: (error: Error) => void) =>
      name.startsWith('locked') ? reject(new Error('No permission.')) : resolve(new File([], name)),
    createReader: () => {
      const waiting = [inner, []]
      return { readEntries: (resolve: (some: unknown) => void) => resolve(waiting.shift()) }
    },
  }
}

test('a dropped folder is walked, and one that cannot be read says which and what to do', async () => {
  const drop = (...entries: object[]) =>
    filesOfDrop({
      items: entries.map((one) => ({ webkitGetAsEntry: () => one })),
    } as unknown as DataTransfer)
  const files = await drop(entry('mine', [entry('1', [entry('a.png')]), entry('b.png')]))
  expect(files.map(({ path }) => path)).toEqual(['mine/1/a.png', 'mine/b.png'])
  await expect(drop(entry('mine', [entry('locked.png')]))).rejects.toMatchObject({
    detail: {
      ...{ kind: 'data', type: 'unreadable' },
      message: 'mine/locked.png cannot be read: No permission',
    },
  })
})

test('a chosen folder gives its paths', () => {
  const file = new File(['x'], 'a.png')
  Object.defineProperty(file, 'webkitRelativePath', { value: 'mine/1/a.png' })
  expect(filesOfList([file])[0]!.path).toBe('mine/1/a.png')
})

test('pixels reach the model as its manifest scales them', () => {
  const inputs = scaled(single(new Uint8Array(784).fill(255)), digits)
  expect(inputs[0]).toBeCloseTo(1)
})

test('a file whose columns have other names tells them, and which ones the model wants', async () => {
  const file = new File(['b, kind ,"a, or so",\n2,virginica,1,\n'], 'mine.csv')
  expect(await readHeader(file)).toEqual(['b', 'kind', 'a, or so'])
  expect(wantedColumns(flowers)).toEqual(['label', 'length', 'width'])
  expect(wantedColumns(digits)).toEqual(['label'])
})
