//! Prices of a shop: a component that knows nothing of fastworker. Its functions are tasks as they are.

#![cfg(target_family = "wasm")]
#![allow(missing_docs, missing_debug_implementations, unsafe_code, reason = "generated bindings")]

use std::cell::RefCell;

wit_bindgen::generate!({ path: "wit", world: "pricing" });

use exports::shop::pricing::{
    baskets::{Guest as Baskets, GuestBasket},
    labels::Guest as Labels,
    quotes::{Currency, Discount, Extras, Guest as Quotes, Item, Problem, Quote},
};

/// The price of each extra.
const EXTRA: f64 = 2.5;

struct Pricing;

impl Guest for Pricing {
    fn sales_tax() -> u8 {
        19
    }
}

impl Quotes for Pricing {
    fn price(
        items: Vec<Item>,
        discount: Discount,
        extras: Extras,
        currency: Option<Currency>,
    ) -> Result<Quote, Problem> {
        if items.is_empty() {
            return Err(Problem::EmptyOrder);
        }
        let lines: Vec<(String, f64)> = items
            .into_iter()
            .map(|item| {
                let note = item.note.map(|note| format!(" ({note})")).unwrap_or_default();
                (format!("{}{note}", item.name), item.unit_price * f64::from(item.count))
            })
            .collect();
        let sum: f64 = lines.iter().map(|(_, price)| price).sum();
        let total = match discount {
            Discount::None => sum,
            Discount::Percent(percent) if (0.0..=100.0).contains(&percent) => sum * (1.0 - f64::from(percent) / 100.0),
            Discount::Amount(amount) if (0.0..=sum).contains(&amount) => sum - amount,
            Discount::Percent(percent) => return Err(Problem::BadDiscount(format!("{percent} percent"))),
            Discount::Amount(amount) => return Err(Problem::BadDiscount(format!("{amount} of {sum}"))),
        };
        let extras = [Extras::GIFT_WRAP, Extras::EXPRESS].into_iter().filter(|extra| extras.contains(*extra));
        let total = extras.fold(total, |total, _| total + EXTRA);
        Ok(Quote { total, currency: currency.unwrap_or(Currency::Eur), lines })
    }
}

impl Labels for Pricing {
    fn reverse(mut label: Vec<u8>) -> Vec<u8> {
        label.reverse();
        label
    }

    fn checksum(label: Vec<u8>) -> u64 {
        label.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
    }
}

impl Baskets for Pricing {
    type Basket = Basket;
}

struct Basket(RefCell<Vec<String>>);

impl GuestBasket for Basket {
    fn new() -> Self {
        Self(RefCell::default())
    }

    fn add(&self, name: String) {
        self.0.borrow_mut().push(name);
    }
}

export!(Pricing);
