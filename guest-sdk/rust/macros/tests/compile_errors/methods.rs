#![allow(dead_code, unused_variables)]

use fastworker_guest::task;

struct Shop;

impl Shop {
    #[task]
    fn method(&self, x: u8) {}

    #[task(timeout = "soon")]
    fn by_value(self) {}
}

fn main() {}
