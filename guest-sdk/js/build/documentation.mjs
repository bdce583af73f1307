// Doc comments: the documentation of a task and of its parameters, and constraints of values.

/** Tags of a doc comment that become keywords of a JSON Schema. */
const NUMBERS = ['minimum', 'maximum', 'minLength', 'maxLength', 'minItems', 'maxItems'];

/**
 * Returns the text of the doc comment of a task: that of the statement around the call of `task`, or that of the
 * function itself.
 *
 * @param {typeof import('typescript')} ts
 * @param {import('typescript').Node} call
 * @param {import('typescript').SignatureDeclaration | undefined} declaration
 */
export function documentationOf(ts, call, declaration) {
  for (const node of [...withParents(ts, call), declaration, declaration?.parent, declaration?.parent?.parent]) {
    if (node === undefined) continue;
    const text = ownText(ts, node);
    if (text !== '') return text;
  }
  return '';
}

// Up to the statement: further out, a comment belongs to something else.
function withParents(ts, call) {
  const nodes = [call];
  for (let node = call.parent; node !== undefined && !ts.isSourceFile(node) && !ts.isBlock(node); node = node.parent) {
    nodes.push(node);
    if (ts.isStatement(node)) break;
  }
  return nodes;
}

function ownText(ts, node) {
  const comments = ts.getJSDocCommentsAndTags(node).filter((each) => ts.isJSDoc(each) && each.parent === node);
  const last = comments[comments.length - 1];
  return last === undefined ? '' : (ts.getTextOfJSDocComment(last.comment) ?? '').trim();
}

/** Returns the `@param` texts and names of the doc comments around a call. */
export function parameterTags(ts, call, declaration) {
  const nodes = [...withParents(ts, call), declaration, declaration?.parent?.parent].filter((node) => node !== undefined);
  const tags = nodes.flatMap((node) => ts.getJSDocTags(node)).filter((tag) => ts.isJSDocParameterTag(tag));
  return [...new Set(tags)].map((tag) => ({
    name: ts.isIdentifier(tag.name) ? tag.name.text : undefined,
    text: (ts.getTextOfJSDocComment(tag.comment) ?? '').replace(/^\s*-\s*/, '').trim(),
  }));
}

/** Returns the keywords that the doc comment of a property or parameter gives: its description and its bounds. */
export function keywordsOf(ts, symbol, checker) {
  const keywords = {};
  const description = ts.displayPartsToString(symbol.getDocumentationComment(checker)).trim();
  if (description !== '') keywords.description = description;
  for (const tag of symbol.getJsDocTags(checker)) {
    const value = Number(ts.displayPartsToString(tag.text));
    if (NUMBERS.includes(tag.name) && Number.isFinite(value)) keywords[tag.name] = value;
  }
  return keywords;
}
