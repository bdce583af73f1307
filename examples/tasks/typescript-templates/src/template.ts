// The part of Mustache that most templates use.

/** A template that cannot be filled. */
export class TemplateError extends Error {}

type Scope = readonly unknown[];

/** Fills a template. Values are escaped for HTML, those in `{{{braces}}}` are not. */
export function render(template: string, data: Record<string, unknown>): string {
  return renderIn(template, [data]);
}

function renderIn(template: string, scope: Scope): string {
  let text = '';
  let rest = template;
  for (;;) {
    const tag = /\{\{\{\s*([\w.]+)\s*\}\}\}|\{\{\s*([#^/])?\s*([\w.]+)\s*\}\}/.exec(rest);
    if (tag === null) return text + rest;
    text += rest.slice(0, tag.index);
    rest = rest.slice(tag.index + tag[0].length);
    const [, unescaped, kind, name = ''] = tag;
    if (unescaped !== undefined) text += textOf(find(unescaped, scope));
    else if (kind === undefined) text += escape(textOf(find(name, scope)));
    else if (kind === '/') throw new TemplateError(`{{/${name}}} closes nothing`);
    else {
      const [inner, after] = split(rest, name);
      text += renderSection(kind === '#', inner, find(name, scope), scope);
      rest = after;
    }
  }
}

function renderSection(isPlain: boolean, inner: string, value: unknown, scope: Scope): string {
  const isEmpty = value === undefined || value === null || value === false || (Array.isArray(value) && value.length === 0);
  if (isEmpty !== !isPlain) return '';
  if (!isPlain) return renderIn(inner, scope);
  const values = Array.isArray(value) ? value : [value];
  return values.map((each) => renderIn(inner, [each, ...scope])).join('');
}

// Up to the tag that closes the section, and what follows it.
function split(text: string, name: string): [string, string] {
  let depth = 1;
  for (const tag of text.matchAll(/\{\{\s*([#^/])\s*([\w.]+)\s*\}\}/g)) {
    if (tag[2] !== name) continue;
    depth += tag[1] === '/' ? -1 : 1;
    if (depth === 0) return [text.slice(0, tag.index), text.slice(tag.index + tag[0].length)];
  }
  throw new TemplateError(`{{#${name}}} is not closed`);
}

function find(path: string, scope: Scope): unknown {
  if (path === '.') return scope[0];
  const [first = '', ...rest] = path.split('.');
  const holder = scope.find((each) => member(each, first) !== undefined);
  return rest.reduce(member, member(holder, first));
}

function member(value: unknown, name: string): unknown {
  return value !== null && typeof value === 'object' && Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined;
}

function textOf(value: unknown): string {
  return value === undefined || value === null ? '' : String(value);
}

const ESCAPES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ESCAPES[character] ?? character);
}
