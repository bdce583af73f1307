#![allow(dead_code, unused_variables)]

use fastworker_guest::task;

#[task(max_retires = 3, timeout = "soon", priority = , name = "a" "b", retry_backoff = 0)]
unsafe fn everything<T>((a, b): (T, T), list: Vec<&str>, out: &mut u8, _: u8) {}

#[task(max_retry = 1, timeout = 30)]
struct NotAFunction;

fn main() {}
