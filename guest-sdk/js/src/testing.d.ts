/**
 * A host for tests under Node (18 or newer): `node --test`.
 *
 *     import { load } from 'fastworker/testing';
 *
 *     const module = await load(new URL('../src/tasks.ts', import.meta.url));
 *     assert.equal(await module.call('add', [5, 3]), 8);
 *
 * @packageDocumentation
 */
import type { Duration, Priority } from './index.js';

/**
 * Loads a file with tasks as `fastworker build` does: TypeScript or JavaScript, with the signatures of its tasks.
 *
 * esbuild and typescript are those of the project, or those that `fastworker build --install` installed.
 */
export function load(entry: string | URL): Promise<TaskModule>;

/** The tasks of a file. */
export interface TaskModule {
  /** What the file exports: functions to call directly. */
  readonly exports: any;
  /** The tasks as the host receives them, in the order of their names. */
  readonly tasks: readonly Descriptor[];
  /** Calls a task through JSON, as a client does, and returns its result. It throws an error with the kind of the failure as its name. */
  call(name: string, args?: readonly unknown[], kwargs?: Record<string, unknown>): Promise<any>;
  /** Runs one attempt in a context that the test sets, and returns all that the host received. It does not throw if the task fails. */
  run(name: string, attempt?: AttemptOptions): Promise<Outcome>;
}

/** A task as the host receives it. */
export interface Descriptor {
  readonly name: string;
  readonly documentation: string;
  readonly schema: any;
  readonly policy: Readonly<Record<string, unknown>>;
}

/** The attempt in which a test runs a task. */
export interface AttemptOptions {
  /** Arguments by position. */
  args?: readonly unknown[];
  /** Arguments by name. */
  kwargs?: Record<string, unknown>;
  /** The id of the task. */
  taskId?: string;
  /** The number of the attempt, counted from 1. */
  attempt?: number;
  /** The time left until the deadline; by default 60 s. */
  remaining?: Duration;
  /** The metadata of the task. */
  metadata?: { priority?: Priority; parent?: string; tags?: string[]; traceparent?: string; [key: string]: unknown };
  /** The attempt is cancelled from the start. */
  cancelled?: boolean;
  /** The attempt is cancelled after it has called `isCancelled` this number of times. */
  cancelledAfter?: number;
}

/** What the host received. */
export interface Outcome {
  /** The result, if the task succeeded. */
  result?: any;
  /** The result as JSON text, in which big integers are exact. */
  resultText?: string;
  /** The failure, if the task failed. */
  error?: Failure;
  /** Lines of the log, also those of `console`. */
  logs: { level: string; message: string }[];
  progress: { done: number; total: number; message: string }[];
  followUps: { id: string; name: string; args: any[]; kwargs: any; options: any }[];
}

/** Why a task failed. */
export interface Failure {
  outcome: 'failed' | 'bad-arguments' | 'try-again-after' | 'give-up';
  message: string;
  /** The name of the error. */
  kind: string;
  details?: any;
  /** Seconds, of `Retry`. */
  delay?: number;
}
