// The signatures of the tasks in the author's sources, which the build adds to the calls of `task`.

import { dirname } from 'node:path';

import { documentationOf, keywordsOf, parameterTags } from './documentation.mjs';
import { authorFiles, placeOf } from './program.mjs';
import { BuildError } from './report.mjs';
import { SchemaWriter, annotated, includesUndefined, isOfSdk } from './schema.mjs';

/**
 * @typedef {object} FoundTask
 * @property {import('typescript').SourceFile} file
 * @property {number} insertAt where the signature becomes the last argument of the call
 * @property {object} signature
 * @property {boolean} isAsync whether its result is a promise
 * @property {string} at `file:line:column`
 */

/**
 * Finds the calls of `task`.
 *
 * @param {typeof import('typescript')} ts
 * @param {import('typescript').Program} program
 * @param {{ warn(text: string, at?: string): void }} report
 * @returns {FoundTask[]}
 */
export function findTasks(ts, program, report) {
  const checker = program.getTypeChecker();
  const root = dirname(program.getRootFileNames()[0]);
  const found = [];
  for (const file of authorFiles(program)) {
    const visit = (node) => {
      if (ts.isCallExpression(node) && isTask(ts, checker, node.expression)) found.push(read(ts, checker, file, node, report, root));
      ts.forEachChild(node, visit);
    };
    visit(file);
  }
  return found;
}

/** Adds the signatures to the text of a file. */
export function withSignatures(text, tasks) {
  let result = text;
  for (const { insertAt, signature } of [...tasks].sort((a, b) => b.insertAt - a.insertAt)) {
    const argument = `, ${JSON.stringify(signature).replace(/"__proto__":/g, '["__proto__"]:')}`;
    result = result.slice(0, insertAt) + argument + result.slice(insertAt);
  }
  return result;
}

function isTask(ts, checker, callee) {
  const name = ts.isPropertyAccessExpression(callee) ? callee.name : callee;
  if (!ts.isIdentifier(name)) return false;
  let symbol = checker.getSymbolAtLocation(name);
  if (symbol !== undefined && symbol.flags & ts.SymbolFlags.Alias) symbol = checker.getAliasedSymbol(symbol);
  return symbol?.name === 'task' && (symbol.declarations ?? []).some(isOfSdk);
}

function read(ts, checker, file, call, report, root) {
  const at = placeOf(file, call.getStart());
  const run = call.arguments.find((argument) => checker.getTypeAtLocation(argument).getCallSignatures().length > 0) ?? call.arguments[call.arguments.length - 1];
  const signature = run === undefined ? undefined : checker.getTypeAtLocation(run).getCallSignatures()[0];
  // As places in stacks are: without the folders of the machine that builds.
  const place = placeOf(file, call.getStart(), root).replace(/^(\.\.\/)+|:\d+$/g, '');
  const derived = { name: nameOf(ts, call), at: place };
  let isAsync = false;
  if (signature !== undefined) {
    const declaration = signature.getDeclaration();
    const documentation = documentationOf(ts, call, declaration);
    if (documentation !== '') derived.documentation = documentation;
    try {
      Object.assign(derived, parametersOf(ts, checker, call, signature, declaration));
      const rest = derived.parameters?.find((parameter) => parameter.rest);
      if (rest !== undefined) report.warn(restText(rest.name), at);
      isAsync = Object.assign(derived, resultOf(ts, checker, call, signature, declaration)).isAsync;
      delete derived.isAsync;
    } catch (error) {
      if (error instanceof BuildError) error.at ??= at;
      throw error;
    }
  } else {
    report.warn('the parameters of this task are not known: pass the function itself', at);
  }
  const last = call.arguments[call.arguments.length - 1];
  return { file, insertAt: last === undefined ? call.getEnd() - 1 : last.getEnd(), signature: derived, isAsync, at };
}

function restText(name) {
  return `...${name} has no form in the contract: the task is listed without its parameters, and its arguments are checked when it runs, not before it is queued; take an array, ${name}, instead`;
}

// `const add = task(…)`: the constant; the name of a function is known when the module runs.
function nameOf(ts, call) {
  const { parent } = call;
  return ts.isVariableDeclaration(parent) && ts.isIdentifier(parent.name) ? parent.name.text : undefined;
}

function parametersOf(ts, checker, call, signature, declaration) {
  const symbols = signature.getParameters();
  // `(...args: any[]) => …` of a wrapper says nothing.
  if (symbols.length === 1 && isRest(ts, symbols[0]) && isOpenRest(ts, checker, symbols[0], call)) return {};
  const tags = parameterTags(ts, call, declaration);
  const writer = new SchemaWriter(ts, checker, 'argument');
  const parameters = symbols.flatMap((symbol, index) => {
    const node = symbol.valueDeclaration;
    const place = node ?? call;
    const type = parameterType(ts, checker, symbol, node, place);
    const rest = isRest(ts, symbol);
    if (rest && checker.isTupleType(type)) return tupleParameters(checker, writer, type, place, symbol);
    const name = parameterName(ts, node, symbol, tags, index, symbols);
    const description = tags.find((tag) => tag.name === name)?.text;
    const [itemType, itemNode] = rest ? [checker.getTypeArguments(type)[0] ?? type, undefined] : [type, node?.type];
    const schema = writer.write(itemType, itemNode, place);
    const keywords = { ...keywordsOf(ts, symbol, checker), ...(description ? { description } : {}) };
    const required = !rest && !isOptional(ts, checker, node, type);
    return [{
      name,
      ...(!(type.flags & ts.TypeFlags.Any) && { type: typeText(checker, node, type, ts) }),
      required,
      ...(hasContent(schema, keywords) && { schema: annotated(schema, keywords) }),
      ...(rest && { rest }),
      ...(includesNull(ts, type) && { nullable: true }),
    }];
  });
  return { parameters };
}

// A default says more than what the declaration of `task` allows.
function parameterType(ts, checker, symbol, node, place) {
  const type = checker.getTypeOfSymbolAtLocation(symbol, place);
  const isOpen = Boolean(type.flags & ts.TypeFlags.Any) && node !== undefined && ts.isParameter(node) && node.type === undefined;
  if (!isOpen || node.initializer === undefined) return type;
  return checker.getBaseTypeOfLiteralType(checker.getTypeAtLocation(node.initializer));
}

// A parameter without a type, in JavaScript, takes anything.
function hasContent(schema, keywords) {
  return Object.keys(schema).length > 0 || Object.keys(keywords).length > 0;
}

function isRest(ts, symbol) {
  const node = symbol.valueDeclaration;
  return node !== undefined && ts.isParameter(node) && node.dotDotDotToken !== undefined;
}

function isOpenRest(ts, checker, symbol, call) {
  const type = checker.getTypeOfSymbolAtLocation(symbol, symbol.valueDeclaration ?? call);
  if (checker.isTupleType(type)) return false;
  const item = checker.isArrayType(type) ? checker.getTypeArguments(type)[0] : undefined;
  return item === undefined || Boolean(item.flags & ts.TypeFlags.Any);
}

// `(...args: [x: number, y: number])`
function tupleParameters(checker, writer, type, place, symbol) {
  const { minLength, labeledElementDeclarations } = type.target;
  return checker.getTypeArguments(type).map((each, index) => ({
    name: labeledElementDeclarations?.[index]?.name?.text ?? `${symbol.name}${index}`,
    type: checker.typeToString(each),
    required: index < minLength,
    schema: writer.write(each, undefined, place),
  }));
}

// A parameter that is taken apart has the name of its `@param`, if there is one, or else the usual one of its kind.
function parameterName(ts, node, symbol, tags, index, symbols) {
  if (node === undefined || !ts.isParameter(node) || ts.isIdentifier(node.name)) return symbol.name;
  if (tags[index]?.name !== undefined) return tags[index].name;
  const usual = ts.isObjectBindingPattern(node.name) ? 'options' : 'items';
  const isPattern = ({ valueDeclaration: each }) => each !== undefined && ts.isParameter(each) && !ts.isIdentifier(each.name);
  let name = symbols.every((each) => each === symbol || !isPattern(each)) ? usual : `${usual}${index + 1}`;
  while (symbols.some((each) => each.name === name)) name += '_';
  return name;
}

function isOptional(ts, checker, node, type) {
  const isParameter = node !== undefined && ts.isParameter(node);
  // Arguments have names, so a default before a required parameter counts too.
  if (isParameter && (node.initializer !== undefined || checker.isOptionalParameter(node))) return true;
  return includesUndefined(ts, type) && !(type.flags & ts.TypeFlags.Any);
}

function includesNull(ts, type) {
  return type.isUnion() && type.types.some((each) => each.flags & ts.TypeFlags.Null);
}

function typeText(checker, node, type, ts) {
  if (node !== undefined && 'type' in node && node.type !== undefined) return oneLine(node.type.getText());
  const defined = checker.getNonNullableType(type);
  return oneLine(checker.typeToString(includesUndefined(ts, type) ? defined : checker.getBaseTypeOfLiteralType(type)));
}

function oneLine(text) {
  return text.replace(/\s+/g, ' ').trim();
}

function resultOf(ts, checker, call, signature, declaration) {
  const type = signature.getReturnType();
  const awaited = checker.getAwaitedType(type) ?? type;
  const isAsync = awaited !== type;
  if (awaited.flags & ts.TypeFlags.Any) return { isAsync };
  const written = declaration?.type;
  const inner = isAsync && written !== undefined && ts.isTypeReferenceNode(written) ? written.typeArguments?.[0] : written;
  const schema = new SchemaWriter(ts, checker, 'result').write(awaited, inner, call);
  const text = inner === undefined ? checker.typeToString(checker.getBaseTypeOfLiteralType(awaited)) : inner.getText();
  return { isAsync, result: { type: oneLine(text), ...(Object.keys(schema).length > 0 && { schema }) } };
}
