/**
 * Write fastworker tasks in TypeScript and JavaScript.
 *
 * A task is a function. `fastworker build` reads its parameters, types and documentation from the source:
 *
 *     import { task } from 'fastworker';
 *
 *     // Adds two numbers.
 *     task('add', (x: number, y: number): number => x + y);
 *
 * @packageDocumentation
 */

/** A duration: seconds, or text with units, such as `"500ms"`, `"1.5s"`, `"1h 30m"`, `"2d"`. */
export type Duration = number | string;

/** A size: bytes, or text with a unit (B, KiB, MiB, GiB, TiB), such as `"64 MiB"`. */
export type Size = number | string;

/** The name of a grant: `"env:NAME"`, `"secret:NAME"`, `"dir:/data:ro"`, `"http:api.example.com"`, `"tcp:db:5432"`. */
export type Need = `${'env' | 'secret' | 'dir' | 'http' | 'tcp'}:${string}`;

/** A number without a fraction: the host refuses others. A plain `number` may have one. */
export type integer = number;

/** The priority among the waiting tasks. */
export type Priority = 'critical' | 'high' | 'normal' | 'low';

/** The defaults of a task, which a client may override. */
export interface Policy {
  /** The priority among the waiting tasks. */
  priority?: Priority;
  /** Timeout of one attempt. */
  timeout?: Duration;
  /** Maximum number of attempts after the first one. */
  maxRetries?: number;
  /** The delay before the second attempt. */
  retryDelay?: Duration;
  /** The factor of the delay before each further attempt, at least 1. */
  retryBackoff?: number;
  /** Maximum delay between two attempts. */
  retryBackoffMax?: Duration;
}

/** The schedule of a task without required parameters: `every` or `cron`. */
export interface Schedule {
  /** The interval, at least `"100ms"`. */
  every?: Duration;
  /** Minute, hour, day of month, month, day of week: `"0 9 * * MON-FRI"`. Six fields begin with the second. */
  cron?: string;
  /** The time zone of `cron`, such as `"Europe/Paris"`; by default UTC. */
  tz?: string;
  /** If the previous task has not ended: skip this run (the default), or queue one run. */
  overlap?: 'skip' | 'queue';
  /** Maximum number of tasks. */
  count?: number;
  /** End time: `"2026-12-31T18:00:00Z"`, or a Date. */
  until?: string | Date;
}

/** The limits of one attempt. Those of the operator apply as well. */
export interface Limits {
  /** Linear memory. */
  maxMemory?: Size;
  /** CPU time. */
  maxCpuTime?: Duration;
  /** Time that it waits for the host: for the network, for files, and while it sleeps. */
  maxHostTime?: Duration;
  /** What it prints. */
  maxOutput?: Size;
  /** The lines of its log. */
  maxLog?: Size;
  /** Its result and its follow-ups. */
  maxResult?: Size;
  /** Connections at a time. */
  maxConnections?: number;
  /** What it receives through the network. */
  maxReceived?: Size;
  /** What it sends through the network. */
  maxSent?: Size;
}

/** The name of a type, or a JSON Schema. */
export type TypeDescription =
  | 'string' | 'number' | 'integer' | 'bigint' | 'boolean' | 'array' | 'object' | 'date' | 'bytes' | 'any'
  | { readonly [keyword: string]: unknown };

/** Options of {@link task}. */
export interface TaskOptions extends Policy, Schedule, Limits {
  /** The grants without which no worker runs the task. */
  needs?: readonly Need[];
  /** Replaces the doc comment. */
  documentation?: string;
  /** Replaces the types in the source: `{ x: 'integer', 'y?': 'string' }`. A name with `?` is optional. */
  parameters?: { readonly [name: string]: TypeDescription };
  /** Replaces the type of the result. */
  result?: TypeDescription;
}

/**
 * Makes a function a task, and returns the function.
 *
 * The name is what clients submit: 1 to 128 bytes. Without one it is that of the function, or of the constant to which
 * the result is assigned.
 */
export function task<F extends (...args: any[]) => unknown>(name: string, run: F): F;
export function task<F extends (...args: any[]) => unknown>(name: string, options: TaskOptions, run: F): F;
export function task<F extends (...args: any[]) => unknown>(options: TaskOptions, run: F): F;
export function task<F extends (...args: any[]) => unknown>(run: F): F;

/** The running attempt. */
export interface Attempt {
  /** The id of the task, the same for each of its attempts: an idempotency key. */
  readonly taskId: string;
  /** The task name. */
  readonly name: string;
  /** The number of this attempt, counted from 1. */
  readonly attempt: number;
  /** The time at which the host stops this attempt. */
  readonly deadline: Date;
  /** Returns the seconds left until the deadline. */
  remaining(): number;
  /** The priority of the task. */
  readonly priority: Priority;
  /** The id of the task that submitted this one. */
  readonly parent?: string;
  /** The tags that the client set. */
  readonly tags: readonly string[];
  /** The trace context, as a `traceparent` of W3C Trace Context. */
  readonly traceparent?: string;
  /** All metadata of the task. */
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** Returns the running attempt. */
export function current(): Attempt;

/** Reports progress: `done` of `total` steps, and the current step. A total of 0 means that it is unknown. */
export function progress(done: number, total?: number, message?: string): void;

/** Returns whether the attempt is about to be stopped: cancelled, or past its deadline. */
export function isCancelled(): boolean;

/** Blocks for a duration. */
export function sleep(duration: Duration): void;

/** Options of {@link submit}; those that are not set have the defaults of the named task. */
export interface FollowUpOptions extends Policy {
  /** Arguments by name. */
  kwargs?: { readonly [name: string]: unknown };
  /** The delay before the first attempt. */
  countdown?: Duration;
}

/**
 * Submits a follow-up task, and returns its id. It is queued when this attempt succeeds, and discarded if it fails.
 *
 * @param task its name, or what {@link task} returned
 * @param args its arguments by position
 */
export function submit(task: string | ((...args: any[]) => unknown), args?: readonly unknown[], options?: FollowUpOptions): string;

/** Adds lines to the log of the task. `console` does the same. */
export const log: {
  trace(...parts: unknown[]): void;
  debug(...parts: unknown[]): void;
  info(...parts: unknown[]): void;
  warn(...parts: unknown[]): void;
  error(...parts: unknown[]): void;
};

/** Options of {@link TaskError}. */
export interface TaskErrorOptions {
  /** A machine-readable name of the error, at most 128 bytes. */
  kind?: string;
  /** Machine-readable details: at most 2 KiB of JSON. */
  details?: unknown;
  /** The error that caused this one. */
  cause?: unknown;
}

/** A failure with a kind and details. The task's policy decides whether it is retried, as for any other error. */
export class TaskError extends Error {
  constructor(message: string, options?: TaskErrorOptions);
  readonly kind?: string;
  readonly details?: unknown;
}

/** The arguments do not match the parameters. Never retried. */
export class BadArguments extends TaskError {}

/** The task failed, and another attempt would fail too. Never retried, regardless of the policy. */
export class GiveUp extends TaskError {}

/** The task failed, and the next attempt must wait for `after`. */
export class Retry extends TaskError {
  constructor(message: string, options?: TaskErrorOptions & { after?: Duration });
  /** Seconds. */
  readonly after: number;
}
