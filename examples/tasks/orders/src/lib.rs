//! Example: calls of a task whose types have a JSON Schema are checked before they are queued.

use fastworker_guest::schemars::{self, JsonSchema};
use fastworker_guest::{TaskError, task};
use serde::{Deserialize, Serialize};

/// An order of a customer.
#[derive(Deserialize, JsonSchema)]
struct Order {
    /// The items to send.
    items: Vec<Item>,
    /// The way of delivery; by default by post.
    #[serde(default)]
    delivery: Delivery,
}

#[derive(Deserialize, JsonSchema)]
struct Item {
    name: String,
    /// The price of one item, in euros.
    price: f64,
    /// The number of items; by default one.
    count: Option<u8>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(tag = "by", rename_all = "lowercase")]
enum Delivery {
    #[default]
    Post,
    Courier {
        /// The hour of the day by which it must arrive.
        until: u8,
    },
}

/// The price of an order.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Receipt {
    customer: String,
    total: f64,
}

/// Calculates the total of an order.
#[task]
fn total(customer: &str, order: &Order) -> Result<Receipt, TaskError> {
    let delivery = match order.delivery {
        Delivery::Post => 3.5,
        Delivery::Courier { until: 12.. } => 9.0,
        Delivery::Courier { until } => return Err(TaskError::failed(format!("no courier comes before {until}"))),
    };
    let mut total = delivery;
    for Item { name, price, count } in &order.items {
        if *price < 0.0 {
            return Err(TaskError::bad_arguments(format!("{name} has a price below zero")));
        }
        total += price * f64::from(count.unwrap_or(1));
    }
    Ok(Receipt { customer: customer.to_owned(), total })
}

#[cfg(test)]
mod tests {
    use fastworker_guest::testing;

    #[test]
    fn an_order_is_added_up() {
        let args = r#"["Ada", {"items": [{"name": "tea", "price": 4.25, "count": 2}, {"name": "pot", "price": 20}]}]"#;
        assert_eq!(testing::call("total", args, "{}").as_deref(), Ok(r#"{"customer":"Ada","total":32.0}"#));
        let late = r#"{"order": {"items": [], "delivery": {"by": "courier", "until": 9}}}"#;
        assert_eq!(
            testing::call("total", r#"["Ada"]"#, late).expect_err("it is early").message(),
            "no courier comes before 9"
        );
    }

    #[test]
    fn the_host_receives_the_schema_of_an_order() {
        let schema = &testing::tasks()[0].schema;
        let start = r#"{"parameters":[{"name":"customer","type":"&str","required":true},{"name":"order","type":"&Order","required":true,"schema":{"#;
        assert!(schema.starts_with(start), "{schema}");
        assert!(schema.contains(r#""result":{"type":"Receipt","schema":{"#), "{schema}");
    }
}
