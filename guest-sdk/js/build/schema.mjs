// Types as JSON Schema.

import { keywordsOf } from './documentation.mjs';
import { BuildError } from './report.mjs';

/** Maximum nesting of a type that is written out. */
const DEPTH_MAX = 24;

const BYTES = { type: ['string', 'array'], $js: 'bytes' };
const DATE = { type: 'string', format: 'date-time', $js: 'date' };

/** Classes of the language that have a JSON form; for each, how its type arguments become a schema. */
const CLASSES = {
  Date: () => DATE,
  Uint8Array: () => BYTES,
  Buffer: () => BYTES,
  Map: (schemas, each) => ({ type: 'object', additionalProperties: each(1), $js: 'map' }),
  ReadonlyMap: (schemas, each) => ({ type: 'object', additionalProperties: each(1), $js: 'map' }),
  Set: (schemas, each) => ({ type: 'array', items: each(0), $js: 'set' }),
  ReadonlySet: (schemas, each) => ({ type: 'array', items: each(0), $js: 'set' }),
};
const WITHOUT_JSON = new Set([
  'RegExp', 'Promise', 'PromiseLike', 'WeakMap', 'WeakSet', 'Function', 'Symbol', 'URL', 'ReadableStream', 'Response',
  'Request', 'Blob', 'File', 'Error', 'ArrayBuffer', 'DataView', 'Float32Array', 'Float64Array', 'Int8Array',
  'Int16Array', 'Int32Array', 'Uint16Array', 'Uint32Array', 'BigInt64Array', 'BigUint64Array',
]);

/** Creates the converter of one program. */
export class SchemaWriter {
  /**
   * @param {typeof import('typescript')} ts
   * @param {import('typescript').TypeChecker} checker
   * @param {'argument' | 'result'} use
   */
  constructor(ts, checker, use) {
    this.ts = ts;
    this.checker = checker;
    this.use = use;
  }

  /**
   * Returns the schema of a type; `{}` if it allows everything.
   *
   * @param {import('typescript').Type} type
   * @param {import('typescript').TypeNode | undefined} node the type as written: it keeps the alias `integer`
   * @param {import('typescript').Node} place of the parameter or function, for errors
   */
  write(type, node, place) {
    this.place = place;
    this.open = [];
    this.definitions = new Map();
    const schema = this.of(type, node, 0);
    const used = [...this.definitions.values()].filter((definition) => definition.schema !== undefined);
    if (used.length === 0) return schema;
    return { ...schema, $defs: Object.fromEntries(used.map(({ name, schema: each }) => [name, each])) };
  }

  of(type, node, depth) {
    const { ts, checker } = this;
    if (depth > DEPTH_MAX) return {};
    const written = node === undefined ? undefined : this.ofNode(node, depth);
    if (written !== undefined) return written;
    const { flags } = type;
    if (flags & (ts.TypeFlags.Any | ts.TypeFlags.Unknown)) return {};
    if (type.isStringLiteral() || type.isNumberLiteral()) return { const: type.value };
    if (flags & ts.TypeFlags.BooleanLiteral) return { const: checker.typeToString(type) === 'true' };
    if (flags & ts.TypeFlags.Null) return { type: 'null' };
    if (flags & (ts.TypeFlags.Undefined | ts.TypeFlags.Void)) return { type: 'null' };
    if (flags & ts.TypeFlags.Boolean) return { type: 'boolean' };
    if (type.isUnion()) return this.ofUnion(type, node, depth);
    if (flags & ts.TypeFlags.StringLike) return { type: 'string' };
    if (flags & ts.TypeFlags.BigIntLike) return { type: 'integer', $js: 'bigint' };
    if (flags & ts.TypeFlags.NumberLike) return { type: 'number' };
    if (flags & ts.TypeFlags.Never) return {};
    if (flags & ts.TypeFlags.ESSymbolLike) return this.refuse(type);
    if (flags & ts.TypeFlags.NonPrimitive) return { type: 'object' };
    if (type.isIntersection()) {
      const primitive = type.types.find((each) => !(each.flags & ts.TypeFlags.Object));
      if (primitive !== undefined) return this.of(primitive, undefined, depth);
    }
    if (flags & ts.TypeFlags.Instantiable) {
      const constraint = checker.getBaseConstraintOfType(type);
      return constraint === undefined || constraint === type ? {} : this.of(constraint, undefined, depth);
    }
    return this.ofObject(type, node, depth);
  }

  // `integer` of the SDK is an alias of `number`, which its type does not tell.
  ofNode(node, depth) {
    const { ts, checker } = this;
    if (ts.isParenthesizedTypeNode(node)) return this.ofNode(node.type, depth);
    if (!ts.isTypeReferenceNode(node)) return undefined;
    let symbol = checker.getSymbolAtLocation(node.typeName);
    if (symbol !== undefined && symbol.flags & ts.SymbolFlags.Alias) symbol = checker.getAliasedSymbol(symbol);
    const declaration = symbol?.declarations?.[0];
    if (declaration === undefined || !ts.isTypeAliasDeclaration(declaration)) return undefined;
    if (symbol.name === 'integer' && isOfSdk(declaration)) return { type: 'integer' };
    // An alias of an alias, `type Count = integer`.
    return declaration.typeParameters === undefined && ts.isTypeReferenceNode(declaration.type)
      ? this.ofNode(declaration.type, depth)
      : undefined;
  }

  ofUnion(type, node, depth) {
    const { ts } = this;
    const nodes = node !== undefined && ts.isUnionTypeNode(node) ? node.types : [];
    const defined = type.types.filter((each) => !(each.flags & ts.TypeFlags.Undefined));
    const constants = defined.filter((each) => each.isStringLiteral() || each.isNumberLiteral()).map((each) => each.value);
    const booleans = defined.filter((each) => each.flags & ts.TypeFlags.BooleanLiteral);
    const rest = defined.filter((each) => !each.isStringLiteral() && !each.isNumberLiteral() && !booleans.includes(each));
    const schemas = [];
    if (constants.length > 0) schemas.push(constants.length === 1 ? { const: constants[0] } : { enum: constants });
    if (booleans.length === 2) schemas.push({ type: 'boolean' });
    else schemas.push(...booleans.map((each) => this.of(each, undefined, depth)));
    schemas.push(...rest.map((each) => this.of(each, this.nodeIn(nodes, each), depth)));
    if (schemas.some((schema) => Object.keys(schema).length === 0)) return {};
    return schemas.length === 1 ? schemas[0] : { anyOf: schemas };
  }

  // The node of a member of a union, if exactly one fits: for `integer | null`.
  nodeIn(nodes, type) {
    const fitting = nodes.filter((node) => this.checker.getTypeFromTypeNode(node) === type);
    return fitting.length === 1 ? fitting[0] : undefined;
  }

  ofObject(type, node, depth) {
    const { ts, checker } = this;
    if (checker.isTupleType(type)) return this.ofTuple(type, node, depth);
    if (checker.isArrayType(type)) return this.ofArray(type, node, depth);
    const symbol = type.getSymbol();
    if (symbol !== undefined && isGlobal(symbol)) {
      const convert = Object.hasOwn(CLASSES, symbol.name) ? CLASSES[symbol.name] : undefined;
      if (convert !== undefined) return this.ofClass(type, node, symbol.name, convert, depth);
      if (WITHOUT_JSON.has(symbol.name)) return this.refuse(type);
    }
    if (type.getCallSignatures().length > 0 || type.getConstructSignatures().length > 0) return this.refuse(type);
    if (this.use === 'argument' && symbol !== undefined && symbol.flags & ts.SymbolFlags.Class) return this.refuse(type);
    return this.named(type, () => this.ofProperties(type, depth));
  }

  ofClass(type, node, name, convert, depth) {
    const { ts, checker } = this;
    const given = checker.getTypeArguments(type);
    const nodes = node !== undefined && ts.isTypeReferenceNode(node) ? (node.typeArguments ?? []) : [];
    if (/Map$/.test(name) && given[0] !== undefined && !(given[0].flags & ts.TypeFlags.StringLike) && !isStringUnion(ts, given[0])) {
      this.refuse(type, 'the keys of a JSON object are strings');
    }
    return convert(given, (index) => this.of(given[index] ?? checker.getAnyType(), nodes[index], depth + 1));
  }

  ofArray(type, node, depth) {
    const { ts, checker } = this;
    const [item] = checker.getTypeArguments(type);
    let itemNode;
    if (node !== undefined) {
      const inner = ts.isTypeOperatorNode(node) ? node.type : node;
      if (ts.isArrayTypeNode(inner)) itemNode = inner.elementType;
      else if (ts.isTypeReferenceNode(inner) && inner.typeArguments?.length === 1) [itemNode] = inner.typeArguments;
    }
    const items = this.of(item, itemNode, depth + 1);
    return Object.keys(items).length === 0 ? { type: 'array' } : { type: 'array', items };
  }

  ofTuple(type, node, depth) {
    const { ts, checker } = this;
    const { elementFlags, minLength } = type.target;
    const given = checker.getTypeArguments(type);
    const nodes = node !== undefined && ts.isTupleTypeNode(node) ? node.elements : [];
    const itemOf = (index) => {
      const element = nodes[index];
      const inner = element !== undefined && ts.isNamedTupleMember(element) ? element.type : element;
      return this.of(given[index], inner, depth + 1);
    };
    const restAt = elementFlags.findIndex((flag) => flag & (ts.ElementFlags.Rest | ts.ElementFlags.Variadic));
    const fixed = restAt < 0 ? given.length : restAt;
    const schema = { type: 'array', prefixItems: Array.from({ length: fixed }, (_, index) => itemOf(index)) };
    if (minLength > 0) schema.minItems = minLength;
    if (restAt < 0) schema.maxItems = fixed;
    // Items after the rest are not told apart from it.
    else if (restAt === given.length - 1) schema.items = this.of(given[restAt], undefined, depth + 1);
    return schema;
  }

  ofProperties(type, depth) {
    const { ts, checker } = this;
    const properties = {};
    const required = [];
    for (const property of checker.getPropertiesOfType(type)) {
      const declaration = property.valueDeclaration ?? property.declarations?.[0];
      if (this.isLeftOut(property, declaration)) continue;
      const propertyType = checker.getTypeOfSymbolAtLocation(property, declaration ?? this.place);
      const isOptional = Boolean(property.flags & ts.SymbolFlags.Optional) || includesUndefined(ts, propertyType);
      if (isFunction(propertyType, checker)) {
        if (this.use === 'argument' && !isOptional) this.refuse(type, `its ${property.name} is a function`);
        continue;
      }
      const node = declaration !== undefined && 'type' in declaration ? declaration.type : undefined;
      const schema = this.of(propertyType, node, depth + 1);
      // Not `properties[name] =`: a property may be named __proto__.
      Object.defineProperty(properties, property.name, { value: annotated(schema, keywordsOf(ts, property, checker)), enumerable: true });
      if (!isOptional) required.push(property.name);
    }
    const others = checker.getIndexInfosOfType(type).find((info) => info.keyType.flags & (ts.TypeFlags.StringLike | ts.TypeFlags.NumberLike));
    return {
      type: 'object',
      ...(Object.keys(properties).length > 0 && { properties }),
      ...(required.length > 0 && { required }),
      ...(others !== undefined && this.othersOf(others, depth)),
    };
  }

  othersOf(info, depth) {
    const schema = this.of(info.type, info.declaration?.type, depth + 1);
    return Object.keys(schema).length === 0 ? {} : { additionalProperties: schema };
  }

  // Symbols, and what is private to a class, are not in the JSON of an object.
  isLeftOut(property, declaration) {
    const { ts } = this;
    if (property.name.startsWith('__@') || property.name.startsWith('#')) return true;
    const flags = declaration === undefined ? 0 : ts.getCombinedModifierFlags(declaration);
    return Boolean(property.flags & ts.SymbolFlags.Method) && this.use === 'result'
      ? true
      : Boolean(flags & (ts.ModifierFlags.Private | ts.ModifierFlags.Protected | ts.ModifierFlags.Static));
  }

  // A type that contains itself becomes a definition.
  named(type, write) {
    const known = this.definitions.get(type);
    if (known !== undefined) return { $ref: `#/$defs/${known.name}` };
    if (this.open.includes(type)) {
      const name = this.definitionName(type);
      this.definitions.set(type, { name, schema: undefined });
      return { $ref: `#/$defs/${name}` };
    }
    this.open.push(type);
    const schema = write();
    this.open.pop();
    const definition = this.definitions.get(type);
    if (definition === undefined) return schema;
    definition.schema = schema;
    return { $ref: `#/$defs/${definition.name}` };
  }

  definitionName(type) {
    const symbol = type.aliasSymbol ?? type.getSymbol();
    const base = symbol === undefined || symbol.name.startsWith('__') ? 'Type' : symbol.name.replace(/\W/g, '_');
    const names = new Set([...this.definitions.values()].map((definition) => definition.name));
    let name = base;
    for (let count = 2; names.has(name); count += 1) name = `${base}${count}`;
    return name;
  }

  refuse(type, why) {
    const text = this.checker.typeToString(type);
    const problem = this.use === 'argument' ? 'cannot be an argument: it has no JSON form' : 'cannot be a result: it has no JSON form';
    throw new BuildError(`${text} ${problem}${why === undefined ? '' : ` (${why})`}`, {
      hint: 'use an interface of strings, numbers, booleans, arrays, objects, Date, Map, Set or Uint8Array',
    });
  }
}

/** Adds keywords to a schema; those beside a reference are allowed too. */
export function annotated(schema, keywords) {
  return Object.keys(keywords).length === 0 ? schema : { ...schema, ...keywords };
}

/** Whether a declaration is of the SDK's own types. */
export function isOfSdk(declaration) {
  return /\/src\/index\.d\.ts$/.test(declaration.getSourceFile().fileName)
    && declaration.getSourceFile().text.includes('Write fastworker tasks in TypeScript and JavaScript.');
}

/** Whether a type includes undefined. */
export function includesUndefined(ts, type) {
  return Boolean(type.flags & ts.TypeFlags.Undefined) || (type.isUnion() && type.types.some((each) => each.flags & ts.TypeFlags.Undefined));
}

function isFunction(type, checker) {
  const plain = checker.getNonNullableType(type);
  return plain.getCallSignatures().length > 0;
}

function isStringUnion(ts, type) {
  return type.isUnion() && type.types.every((each) => each.flags & ts.TypeFlags.StringLike);
}

// Declared by the language, or by types of Node.
function isGlobal(symbol) {
  const files = (symbol.declarations ?? []).map((declaration) => declaration.getSourceFile().fileName);
  return files.some((name) => /\/typescript\/lib\/lib\.[^/]*$|\/@types\/node\//.test(name));
}
