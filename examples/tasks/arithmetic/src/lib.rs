//! Example: tasks are plain functions with the attribute `#[task]`.

use fastworker_guest::{TaskError, task};

/// Adds two numbers.
#[task]
fn add(x: i64, y: i64) -> Result<i64, TaskError> {
    x.checked_add(y).ok_or_else(|| TaskError::bad_arguments(format!("{x} + {y} does not fit into 64 bits")))
}

/// Multiplies two numbers.
#[task]
fn multiply(x: i64, y: i64) -> Result<i64, TaskError> {
    x.checked_mul(y).ok_or_else(|| TaskError::bad_arguments(format!("{x} * {y} does not fit into 64 bits")))
}

#[cfg(test)]
mod tests {
    use fastworker_guest::testing;

    use super::*;

    #[test]
    fn a_task_is_a_function() {
        assert_eq!(add(5, 3), Ok(8));
        assert_eq!(multiply(5, -3), Ok(-15));
    }

    #[test]
    fn clients_call_it_through_json() {
        assert_eq!(testing::call("add", "[5, 3]", "{}").as_deref(), Ok("8"));
        assert_eq!(testing::call("multiply", "[5]", r#"{"y": 3}"#).as_deref(), Ok("15"));
    }

    #[test]
    fn an_overflow_is_an_error_that_shows_the_sum() {
        let sum = format!("{} + 1 does not fit into 64 bits", i64::MAX);
        assert_eq!(add(i64::MAX, 1), Err(TaskError::bad_arguments(sum)));
    }
}
