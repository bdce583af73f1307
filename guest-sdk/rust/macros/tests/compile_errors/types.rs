#![allow(dead_code, unused_variables)]

use std::collections::HashMap;
use std::rc::Rc;

use fastworker_guest::task;

struct Order;

struct Receipt;

struct Problem;

#[task]
fn unreadable(order: Order) {}

#[task]
fn unreadable_behind_a_reference(first: u8, order: &Order, more: Option<&Order>) {}

#[task]
fn unreadable_items(orders: Vec<Order>, more: Option<Order>, named: HashMap<String, Order>) {}

#[task]
fn a_function(call: fn(u8) -> u8) {}

#[task]
fn a_trait(call: Box<dyn Fn(u8) -> u8>) {}

#[task]
fn unwritable() -> Receipt {
    Receipt
}

#[task]
fn unwritable_items() -> Vec<Receipt> {
    Vec::new()
}

#[task]
fn unwritable_success() -> Result<Receipt, String> {
    Ok(Receipt)
}

#[task]
fn no_error() -> Result<u8, Problem> {
    Ok(1)
}

#[task]
fn several(order: Order, count: u8, problem: &Problem) -> Result<Receipt, Problem> {
    Ok(Receipt)
}

#[task]
async fn later(order: Order) -> Rc<Receipt> {
    Rc::new(Receipt)
}

fn main() {}
