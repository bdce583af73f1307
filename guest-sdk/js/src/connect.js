// The first import of a built module: connects the SDK with the imports of the component.

import * as host from 'fastworker:task/host@1.0.0';
import { subscribeDuration } from 'wasi:clocks/monotonic-clock@0.2.0';
import { getRandomBytes } from 'wasi:random/random@0.2.0';

import { connect } from './module.js';

const isSmall = globalThis[Symbol.for('fastworker.engine')] === 'small';

// QuickJS takes a u64 as a number, StarlingMonkey as a BigInt.
connect({ host, awaits: !isSmall, u64: isSmall ? Number : BigInt, getRandomBytes, subscribeDuration });
