// Assigns the arguments of a call to the parameters of a task, by Python's rules and in the words of the other SDKs.

import { BadArguments } from './errors.js';
import { Mismatch, convert } from './json/convert.js';
import { fromJson } from './json/read.js';
import { pathText } from './json/path.js';

/**
 * Returns the arguments with which the function is called.
 *
 * @param {import('./signature.js').Task} task
 * @param {string} argsText a JSON array
 * @param {string} kwargsText a JSON object
 */
export function bind(task, argsText, kwargsText) {
  const args = parse(argsText, 'positional', 'array');
  const kwargs = parse(kwargsText, 'named', 'object');
  if (task.parameters === undefined) return bindUnknown(task, args, kwargs);
  const { values, paths } = assign(task, args, kwargs);
  const bound = [];
  task.parameters.forEach((parameter, index) => {
    if (parameter.rest) bound.push(...(values[index] ?? []).map((value, at) => read(parameter, value, paths[index](at))));
    else bound.push(values[index] === undefined ? undefined : read(parameter, values[index], paths[index]));
  });
  // So that `arguments.length` and defaults are as in a direct call.
  while (bound.length > 0 && bound[bound.length - 1] === undefined) bound.pop();
  return bound;
}

function assign(task, args, kwargs) {
  const { parameters } = task;
  const values = parameters.map(() => undefined);
  const paths = parameters.map(() => '');
  const restAt = parameters.findIndex((parameter) => parameter.rest);
  args.forEach((value, index) => {
    if (restAt >= 0 && index >= restAt) {
      (values[restAt] ??= []).push(value);
      paths[restAt] = (at) => `args[${restAt + at}]`;
    } else if (index < parameters.length) {
      values[index] = value;
      paths[index] = `args[${index}]`;
    }
  });
  for (const [name, value] of Object.entries(kwargs)) {
    const index = parameters.findIndex((parameter) => parameter.name === name);
    if (index < 0) throw new BadArguments(`${task.name}() got an unexpected keyword argument '${name}'`);
    if (values[index] !== undefined) throw new BadArguments(`${task.name}() got multiple values for argument '${name}'`);
    const path = `kwargs${pathText([name])}`;
    if (parameters[index].rest && !Array.isArray(value)) throw new BadArguments(`${path}: expected array, found ${typeof value}`);
    values[index] = value;
    paths[index] = parameters[index].rest ? (at) => `${path}[${at}]` : path;
  }
  if (restAt < 0 && args.length > parameters.length) throw tooMany(task, args.length);
  const missing = parameters.filter((parameter, index) => parameter.required && !parameter.rest && values[index] === undefined);
  if (missing.length > 0) throw missingArguments(task, missing.map((parameter) => `'${parameter.name}'`));
  return { values, paths };
}

// The task takes what it is given, but nothing may be rounded.
function bindUnknown(task, args, kwargs) {
  const [name] = Object.keys(kwargs);
  if (name !== undefined) {
    throw new BadArguments(`${task.name}() got an unexpected keyword argument '${name}': the names of its parameters are not known`);
  }
  return args.map((value, index) => read({ schema: {} }, value, `args[${index}]`));
}

function read(parameter, value, path) {
  if (value === null && parameter.required === false && !parameter.nullable) return undefined;
  try {
    return convert(hasContent(parameter.schema) ? parameter.schema : true, value);
  } catch (error) {
    if (!(error instanceof Mismatch)) throw error;
    throw new BadArguments(`${path}${pathText(error.steps)}: expected ${error.expected}, found ${error.found}`);
  }
}

function hasContent(schema) {
  return schema !== undefined && Object.keys(schema).length > 0;
}

function parse(text, which, expected) {
  let value;
  try {
    value = fromJson(text);
  } catch (error) {
    throw new BadArguments(`the ${which} arguments are not a JSON ${expected}: ${error.message}`);
  }
  const isRight = expected === 'array' ? Array.isArray(value) : value !== null && typeof value === 'object' && !Array.isArray(value);
  if (!isRight) throw new BadArguments(`the ${which} arguments are not a JSON ${expected}`);
  return value;
}

function tooMany(task, given) {
  const most = task.parameters.length;
  const least = task.parameters.filter((parameter) => parameter.required).length;
  const range = least < most ? `from ${least} to ${most}` : String(most);
  const were = given === 1 ? 'was' : 'were';
  return new BadArguments(`${task.name}() takes ${range} argument${most === 1 ? '' : 's'} but ${given} ${were} given`);
}

function missingArguments(task, names) {
  const listed = names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} and ${names[names.length - 1]}`;
  return new BadArguments(`${task.name}() missing ${names.length} required argument${names.length === 1 ? '' : 's'}: ${listed}`);
}
