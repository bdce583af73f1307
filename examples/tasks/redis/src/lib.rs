//! Example: tasks that use a Redis server, over a TCP connection that the operator grants.
//!
//! ```sh
//! fastworker subworker --task-modules redis.wasm --allow-tcp 127.0.0.1:6379 --secret REDIS_PASSWORD=file:password
//! ```

mod resp;

use std::env;
use std::time::Duration;

use fastworker_guest::tcp::TcpStream;
use fastworker_guest::{TaskError, task};

use crate::resp::{Connection, Reply, ReplyError};

/// Timeout of connecting, and of each reply.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to the server at `REDIS_ADDRESS`, by default `127.0.0.1:6379`, with the password in `REDIS_PASSWORD`, if
/// there is one.
fn connect() -> Result<Connection<TcpStream>, TaskError> {
    let address = env::var("REDIS_ADDRESS").unwrap_or_else(|_| "127.0.0.1:6379".to_owned());
    let (host, port) = address.rsplit_once(':').unwrap_or((&address, "6379"));
    let port = port.parse().map_err(|_| TaskError::give_up(format!("{address} is no address of a server")))?;
    let mut redis = Connection::new(TcpStream::connect_timeout(host, port, TIMEOUT)?);
    if let Ok(password) = env::var("REDIS_PASSWORD") {
        redis.command(&["AUTH", &password]).map_err(failed)?;
    }
    Ok(redis)
}

/// A command that the server refuses will not succeed later, unlike one that did not reach it.
fn failed(error: ReplyError) -> TaskError {
    match error {
        ReplyError::Refused(message) => TaskError::give_up(message).with_kind("redis"),
        ReplyError::Connection(error) => error.into(),
    }
}

/// Sends one command, such as `["SET", "key", "value"]`, and returns the reply.
#[task(timeout = "30s")]
#[expect(clippy::needless_pass_by_value, reason = "the strings are parsed for this call")]
fn redis_command(command: Vec<String>) -> Result<Reply, TaskError> {
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    connect()?.command(&command).map_err(failed)
}

/// Counts a visit of a page, and returns the number of its visits.
#[task(timeout = "30s", max_retries = 3, retry_delay = "1s")]
fn count_visit(page: &str) -> Result<i64, TaskError> {
    match connect()?.command(&["INCR", &format!("visits:{page}")]).map_err(failed)? {
        Reply::Integer(visits) => Ok(visits),
        other => Err(TaskError::failed(format!("INCR should return a number: {other:?}"))),
    }
}
