#![allow(dead_code, unused_variables)]

use fastworker_guest::task;

struct Shop;

#[task]
fn generic<T>(x: T) {}

#[task]
fn bounded<T>(x: T)
where
    T: Copy,
{
}

#[task]
fn lifetime<'a>(x: &'a str) -> &'a str {
    x
}

#[task]
fn constant<const N: usize>(x: [u8; N]) {}

#[task]
fn hidden(x: impl Copy) {}

#[task]
unsafe fn dangerous() {}

#[task]
extern "C" fn foreign() {}

#[task]
fn pattern((a, b): (u8, u8)) {}

#[task]
fn nameless(_: u8) {}

#[task]
fn by_reference(ref x: u8) {}

#[task]
fn for_ever(x: &'static str) {}

#[task]
fn changed(x: &mut Vec<u8>) {}

#[task]
fn borrowed_inside(x: Vec<&str>) {}

#[task]
fn borrowed_items(x: &[&str]) {}

#[task]
fn attribute(#[allow(unused)] x: u8) {}

#[task]
fn a_name_that_is_too_long_a_name_that_is_too_long_a_name_that_is_too_long_a_name_that_is_too_long_a_name_that_is_too_long_a_name_that() {}

#[task]
const CONSTANT: u8 = 1;

#[task]
mod module {}

#[task]
impl Shop {}

fn main() {}
