// Chooses the engine: the small one, unless the code needs what only the complete one has.

import { readFileSync } from 'node:fs';

import { ABSENT, COMPLETE } from './globals.mjs';
import { authorFiles, placeOf } from './program.mjs';

/**
 * Returns why the code needs the complete engine, if it does, and whether it fetches.
 *
 * @param {typeof import('typescript')} ts
 * @param {import('typescript').Program} program
 * @param {import('./signature.mjs').FoundTask[]} tasks
 * @param {Set<string>} bundled the files in the bundle
 * @param {{ warn(text: string, at?: string): void }} report
 * @returns {{ reason?: string, fetches: boolean }}
 */
export function needsOf(ts, program, tasks, bundled, report) {
  const reasons = tasks.filter((task) => task.isAsync).map((task) => `the task at ${task.at} is async`);
  const checker = program.getTypeChecker();
  let fetches = [...bundled].some(isFetchingPackage);
  for (const file of authorFiles(program)) {
    if (!bundled.has(file.fileName)) continue;
    const visit = (node) => {
      const at = () => placeOf(file, node.getStart());
      const what = whatIsAsync(ts, node);
      if (isComputedImport(ts, node)) report.warn('import() of a computed path finds nothing: a module contains only what it imports by a literal path', at());
      if (what !== undefined) reasons.push(`${at()} has ${what}`);
      else if (ts.isIdentifier(node) && isGlobalUse(ts, checker, node)) {
        fetches ||= node.text === 'fetch';
        if (COMPLETE.has(node.text)) reasons.push(`${at()} uses ${node.text}`);
        else if (ABSENT.has(node.text)) report.warn(ABSENT.get(node.text), at());
      }
      ts.forEachChild(node, visit);
    };
    visit(file);
  }
  return { reason: reasons[0], fetches };
}

function isFetchingPackage(path) {
  return path.includes('/node_modules/') && /\bfetch\s*\(/.test(readFileSync(path, 'utf8'));
}

function whatIsAsync(ts, node) {
  if (ts.isAwaitExpression(node)) return 'await';
  if (ts.isForOfStatement(node) && node.awaitModifier !== undefined) return 'for await';
  if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) return 'import()';
  if (ts.isFunctionLike(node) && ts.canHaveModifiers(node) && ts.getModifiers(node)?.some((each) => each.kind === ts.SyntaxKind.AsyncKeyword)) {
    return 'an async function';
  }
  const isSubtle = ts.isPropertyAccessExpression(node) && node.name.text === 'subtle' && node.expression.getText() === 'crypto';
  return isSubtle ? 'crypto.subtle' : undefined;
}

function isComputedImport(ts, node) {
  return ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword && !ts.isStringLiteralLike(node.arguments[0] ?? node);
}

// A name in the code, not in a type, that nothing in the author's files declares.
function isGlobalUse(ts, checker, node) {
  if (!COMPLETE.has(node.text) && !ABSENT.has(node.text)) return false;
  const { parent } = node;
  if (ts.isPropertyAccessExpression(parent) && parent.name === node) {
    return parent.expression.getText() === 'globalThis' && !ts.isTypeOfExpression(parent.parent);
  }
  if (ts.isTypeOfExpression(parent) || ts.isPropertyAssignment(parent) && parent.name === node) return false;
  if (ts.isPartOfTypeNode(node) || isInType(ts, node)) return false;
  if (ts.isImportSpecifier(parent) || ts.isExportSpecifier(parent) || ts.isJsxAttribute(parent)) return false;
  if ('name' in parent && parent.name === node) return false;
  const symbol = ts.isShorthandPropertyAssignment(parent) ? checker.getShorthandAssignmentValueSymbol(parent) : checker.getSymbolAtLocation(node);
  return (symbol?.declarations ?? []).every((declaration) => declaration.getSourceFile().isDeclarationFile);
}

function isInType(ts, node) {
  for (let each = node.parent; each !== undefined && !ts.isStatement(each); each = each.parent) {
    if (ts.isTypeNode(each) && !ts.isExpressionWithTypeArguments(each)) return true;
  }
  return false;
}
