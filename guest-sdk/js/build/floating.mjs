// Promises that nothing awaits: what they throw is lost, and they end with the task.

import { authorFiles, placeOf } from './program.mjs';

/**
 * Warns of each in the author's files.
 *
 * @param {typeof import('typescript')} ts
 * @param {import('typescript').Program} program
 * @param {Set<string>} bundled the files in the bundle
 * @param {{ warn(text: string, at?: string): void }} report
 */
export function warnOfFloating(ts, program, bundled, report) {
  const checker = program.getTypeChecker();
  for (const file of authorFiles(program)) {
    if (!bundled.has(file.fileName)) continue;
    const visit = (node) => {
      if (ts.isExpressionStatement(node) && isFloating(ts, checker, node.expression)) {
        report.warn('nothing awaits this promise: its error is lost, and it stops when the task ends; await it, or write void before it', placeOf(file, node.getStart()));
      }
      ts.forEachChild(node, visit);
    };
    visit(file);
  }
}

function isFloating(ts, checker, expression) {
  const inner = ts.skipPartiallyEmittedExpressions(expression);
  if (ts.isParenthesizedExpression(inner)) return isFloating(ts, checker, inner.expression);
  if (ts.isBinaryExpression(inner) && isLogical(ts, inner.operatorToken.kind)) return isFloating(ts, checker, inner.right);
  if (ts.isConditionalExpression(inner)) return [inner.whenTrue, inner.whenFalse].some((each) => isFloating(ts, checker, each));
  if (!ts.isCallExpression(inner) && !ts.isNewExpression(inner) && !ts.isIdentifier(inner)) return false;
  return isPromise(ts, checker, checker.getTypeAtLocation(inner)) && !handlesErrors(ts, inner);
}

function isLogical(ts, kind) {
  return [ts.SyntaxKind.AmpersandAmpersandToken, ts.SyntaxKind.BarBarToken, ts.SyntaxKind.QuestionQuestionToken, ts.SyntaxKind.CommaToken].includes(kind);
}

function isPromise(ts, checker, type) {
  if (type.isUnion()) return type.types.some((each) => isPromise(ts, checker, each));
  if (type.flags & ts.TypeFlags.Any) return false;
  const then = type.getProperty('then');
  return then !== undefined && checker.getTypeOfSymbol(then).getCallSignatures().length > 0;
}

// `p.catch(f)` and `p.then(f, g)`.
function handlesErrors(ts, node) {
  if (!ts.isCallExpression(node) || !ts.isPropertyAccessExpression(node.expression)) return false;
  const { name: { text }, expression } = node.expression;
  if (text === 'finally') return handlesErrors(ts, expression);
  return (text === 'catch' && node.arguments.length > 0) || (text === 'then' && node.arguments.length > 1);
}
