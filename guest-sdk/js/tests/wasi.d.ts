declare module 'wasi:clocks/monotonic-clock@0.2.0' {
  export function subscribeDuration(when: number | bigint): { block(): void };
}
declare module 'wasi:random/random@0.2.0' {
  export function getRandomBytes(len: number | bigint): Uint8Array;
}
