import { createRequire } from 'node:module'
import type * as TypeScript from 'typescript-6'

const ts = createRequire(import.meta.url)('typescript-6') as typeof TypeScript

export interface MadeFault {
  type: string
  /** The function that makes it, as it is written. */
  maker: string
}

/**
 * The faults that a source can make: of each object with `kind`, `type`, `message` and `hint`, what its type may be. Where that is
 * a parameter of the function around it, what the source's calls of that function give for it; and what its calls of
 * pageFault() name (browser/faults.ts).
 */
export function faultsIn(source: string): MadeFault[] {
  const file = ts.createSourceFile('source.ts', source, ts.ScriptTarget.Latest, true)
  const ofPage = callsOf('pageFault').flatMap((call) => literalsIn(call.arguments[1]))
  return [...details(file).flatMap(madeBy), ...ofPage.map((type) => ({ type, maker: '' }))]

  function madeBy(detail: TypeScript.ObjectLiteralExpression): MadeFault[] {
    const maker = functionsAround(detail)[0]?.getText() ?? ''
    return typesOf(detail).map((type) => ({ type, maker }))
  }

  function typesOf(detail: TypeScript.ObjectLiteralExpression): string[] {
    const type = memberOf(detail, 'type')!
    if (ts.isPropertyAssignment(type)) return literalsIn(type.initializer)
    return functionsAround(detail).flatMap((around) => {
      const at = around.parameters.findIndex(({ name }) => name.getText() === 'type')
      if (at < 0) return []
      return callsOf(nameOf(around)).flatMap((call) => literalsIn(call.arguments[at]))
    })
  }

  function callsOf(name: string): TypeScript.CallExpression[] {
    return all(file).filter(
      (node) => ts.isCallExpression(node) && node.expression.getText() === name,
    ) as TypeScript.CallExpression[]
  }
}

/** From the inside out. */
function functionsAround(node: TypeScript.Node): TypeScript.SignatureDeclaration[] {
  if (!node.parent) return []
  const others = functionsAround(node.parent)
  return ts.isFunctionLike(node.parent) ? [node.parent, ...others] : others
}

function details(file: TypeScript.Node): TypeScript.ObjectLiteralExpression[] {
  const wanted = ['kind', 'type', 'message', 'hint']
  return all(file).filter(
    (node) => ts.isObjectLiteralExpression(node) && wanted.every((name) => memberOf(node, name)),
  ) as TypeScript.ObjectLiteralExpression[]
}

/** Also of an object that is spread in it. */
function memberOf(
  { properties }: TypeScript.ObjectLiteralExpression,
  name: string,
): TypeScript.ObjectLiteralElementLike | undefined {
  for (const property of properties) {
    if (property.name?.getText() === name) return property
    if (!ts.isSpreadAssignment(property)) continue
    const inner = ts.isAsExpression(property.expression)
      ? property.expression.expression
      : property.expression
    const found = ts.isObjectLiteralExpression(inner) ? memberOf(inner, name) : undefined
    if (found) return found
  }
}

function literalsIn(node: TypeScript.Node | undefined): string[] {
  return node ? all(node).flatMap((one) => (ts.isStringLiteral(one) ? [one.text] : [])) : []
}

function nameOf({ name, parent }: TypeScript.SignatureDeclaration): string {
  return (name ?? (parent as TypeScript.VariableDeclaration).name)?.getText() ?? ''
}

function all(node: TypeScript.Node): TypeScript.Node[] {
  const found = [node]
  node.forEachChild((child) => void found.push(...all(child)))
  return found
}
