import { expect, test } from 'vitest'
import { readMarkdown, readSpans } from '../../browser/markdown.ts'

test('a card is headings, paragraphs, lists and code, without its front matter', () => {
  const card = `---
license: apache-2.0
---
# Digits

Reads one
digit.

- **Takes** pixels
  of gray
- \`label\` column

\`\`\`
# not a heading
\`\`\`
`
  expect(readMarkdown(card)).toEqual([
    { type: 'heading', level: 1, spans: [{ type: 'text', text: 'Digits' }] },
    { type: 'paragraph', spans: [{ type: 'text', text: 'Reads one digit.' }] },
    {
      type: 'list',
      items: [
        [
          { type: 'strong', text: 'Takes' },
          { type: 'text', text: ' pixels of gray' },
        ],
        [
          { type: 'code', text: 'label' },
          { type: 'text', text: ' column' },
        ],
      ],
    },
    { type: 'code', text: '# not a heading' },
  ])
})

test('markup of a stranger stays text, and only web addresses become links', () => {
  const html = '<img src=x onerror="alert(1)">'
  expect(readMarkdown(html)).toEqual([{ type: 'paragraph', spans: [{ type: 'text', text: html }] }])
  for (const address of ['javascript:alert(1)', 'data:text/html,x', '#/m/x', '//evil', 'ftp://x']) {
    expect(readSpans(`[here](${address})`)).toEqual([
      { type: 'text', text: 'here' },
      ...(address.includes('(1)') ? [{ type: 'text', text: ')' }] : []),
    ])
  }
  expect(readSpans('[here](https://example.org/a)')).toEqual([
    { type: 'link', text: 'here', href: 'https://example.org/a' },
  ])
})

test('an unclosed fence and an empty card end', () => {
  expect(readMarkdown('```\nx')).toEqual([{ type: 'code', text: 'x' }])
  expect(readMarkdown('')).toEqual([])
})
