// The task of `fastworker bench`, in TypeScript.
import { task } from 'fastworker';

/** Adds two numbers. */
export const add = task('add', (x: number, y: number): number => x + y);
