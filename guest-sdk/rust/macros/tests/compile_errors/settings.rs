use fastworker_guest::task;

#[task(max_retry = 3)]
fn nearly_a_key() {}

#[task(colour = "red")]
fn no_key() {}

#[task(type = 3)]
fn a_keyword() {}

#[task(timeout = "1s", timeout = "2s")]
fn twice() {}

#[task(timeout)]
fn no_value() {}

#[task(timeout = )]
fn an_empty_value() {}

#[task(timeout("30s"))]
fn in_parentheses() {}

#[task("30s")]
fn no_key_at_all() {}

#[task(timeout = "30s" priority = "high")]
fn no_comma() {}

#[task(timeout = 30)]
fn no_unit() {}

#[task(timeout = "30 parsecs")]
fn another_unit() {}

#[task(timeout = "0s")]
fn no_time() {}

#[task(retry_delay = "-5s")]
fn in_the_past() {}

#[task(retry_backoff_max = hour())]
fn not_a_text() {}

#[task(max_retries = "3")]
fn a_text() {}

#[task(max_retries = -1)]
fn below_zero() {}

#[task(max_retries = 2.5)]
fn a_half() {}

#[task(retry_backoff = 0.5)]
fn sooner_each_time() {}

#[task(priority = "urgent")]
fn no_such_priority() {}

#[task(priority = High)]
fn no_text() {}

#[task(name = "")]
fn an_empty_name() {}

#[task(name = "two\nlines")]
fn two_lines() {}

#[task(name = 7)]
fn a_number() {}

#[task(max_memory = "64MB")]
fn no_such_unit() {}

#[task(max_output = true)]
fn no_size() {}

#[task(max_cpu_time = "0s")]
fn no_time_at_all() {}

#[task(max_connections = 1.5)]
fn a_connection_and_a_half() {}

#[task(needs = "http:api.example.com")]
fn no_list() {}

#[task(needs = ["http:api.example.com", "disk", 7])]
fn no_grants() {}

fn main() {}
