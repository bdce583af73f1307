#![allow(dead_code, unused_variables)]

use fastworker_guest::task;

#[task]
fn no_such_type(order: Ordre) -> Reciept {
    loop {}
}

fn main() {}
