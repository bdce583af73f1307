//! A module must not register a task name twice.

use fastworker_guest::{task, testing};

#[task]
fn report() {}

mod weekly {
    use super::task;

    #[task(name = "report")]
    fn weekly() {}
}

#[test]
#[should_panic(expected = "two tasks are named 'report': one at guest-sdk/rust/tests/two_of_a_name.rs:")]
fn registration_names_both() {
    testing::tasks();
}
