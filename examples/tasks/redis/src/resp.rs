//! The protocol of Redis (RESP 2): a command is a list of strings, and has one reply.

use std::fmt::{self, Write as _};
use std::io::{self, BufRead, BufReader, Read, Write};

use serde::Serialize;

/// Maximum bytes of a string in a reply.
const STRING_MAX: usize = 16 << 20;
/// Maximum items of a list in a reply.
const ITEMS_MAX: usize = 100_000;
/// Maximum depth of lists in a reply.
const DEPTH_MAX: usize = 8;
/// Maximum bytes of a line.
const LINE_MAX: u64 = 64 << 10;

/// A reply, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Reply {
    /// There is no such value.
    None,
    /// A number.
    Integer(i64),
    /// A text. Bytes that are not UTF-8 are replaced.
    Text(String),
    /// A list.
    List(Vec<Reply>),
}

/// There is no reply.
#[derive(Debug)]
pub(crate) enum ReplyError {
    /// The server refused the command.
    Refused(String),
    /// The connection failed.
    Connection(io::Error),
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(message) => f.write_str(message),
            Self::Connection(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReplyError {}

impl From<io::Error> for ReplyError {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Connection<S: Read + Write> {
    stream: BufReader<S>,
}

impl<S: Read + Write> Connection<S> {
    /// Uses this stream.
    pub(crate) fn new(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// Sends a command, and returns its reply.
    ///
    /// # Errors
    /// [`ReplyError`] if the server refuses the command or the connection fails.
    pub(crate) fn command(&mut self, words: &[&str]) -> Result<Reply, ReplyError> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            // A string takes all.
            let _ = write!(request, "${}\r\n{word}\r\n", word.len());
        }
        let stream = self.stream.get_mut();
        stream.write_all(request.as_bytes())?;
        stream.flush()?;
        self.reply(0)
    }

    fn reply(&mut self, depth: usize) -> Result<Reply, ReplyError> {
        let line = self.line()?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| invalid("an empty line"))?;
        let number = || rest.parse::<i64>().map_err(|_| invalid("a number that is none"));
        match kind {
            "+" => Ok(Reply::Text(rest.to_owned())),
            "-" => Err(ReplyError::Refused(rest.to_owned())),
            ":" => Ok(Reply::Integer(number()?)),
            "$" | "*" if number()? < 0 => Ok(Reply::None),
            "$" => self.text(size(number()?, STRING_MAX)?),
            "*" if depth < DEPTH_MAX => {
                let count = size(number()?, ITEMS_MAX)?;
                (0..count).map(|_| self.reply(depth + 1)).collect::<Result<_, _>>().map(Reply::List)
            }
            _ => Err(invalid("a reply of an unknown kind").into()),
        }
    }

    fn line(&mut self) -> Result<String, ReplyError> {
        let mut line = String::new();
        self.stream.by_ref().take(LINE_MAX).read_line(&mut line)?;
        let line = line.strip_suffix("\r\n").ok_or_else(|| invalid("a line without an end"))?;
        Ok(line.to_owned())
    }

    fn text(&mut self, size: usize) -> Result<Reply, ReplyError> {
        let mut bytes = vec![0; size + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(size);
        Ok(Reply::Text(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

fn size(number: i64, max: usize) -> Result<usize, ReplyError> {
    usize::try_from(number).ok().filter(|size| *size <= max).ok_or_else(|| invalid("a reply that is too large").into())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server sent {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that has sent `replies`, and the bytes that it has received.
    struct Server {
        replies: io::Cursor<Vec<u8>>,
        received: Vec<u8>,
    }

    impl Read for Server {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.replies.read(buffer)
        }
    }

    impl Write for Server {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.received.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn connection(replies: &str) -> Connection<Server> {
        Connection::new(Server { replies: io::Cursor::new(replies.as_bytes().to_vec()), received: Vec::new() })
    }

    #[test]
    fn commands_are_written_and_replies_are_read() {
        let mut redis = connection("+OK\r\n:-3\r\n$3\r\na\r\n\r\n$-1\r\n*2\r\n*1\r\n:1\r\n$0\r\n\r\n-ERR no\r\n");
        let text = |text: &str| Reply::Text(text.to_owned());
        let expected = [
            text("OK"),
            Reply::Integer(-3),
            text("a\r\n"),
            Reply::None,
            Reply::List(vec![Reply::List(vec![Reply::Integer(1)]), text("")]),
        ];
        for reply in expected {
            assert_eq!(redis.command(&["GET", "ü"]).expect("a reply"), reply);
        }
        assert!(matches!(redis.command(&["GET"]), Err(ReplyError::Refused(message)) if message == "ERR no"));
        assert!(redis.stream.get_ref().received.starts_with("*2\r\n$3\r\nGET\r\n$2\r\nü\r\n".as_bytes()));
    }

    #[test]
    fn replies_that_are_wrong_or_too_large_are_errors() {
        for wrong in ["", "\r\n", "+OK", "!1\r\n", ":x\r\n", "$99999999999\r\n", "*99999999\r\n", "$5\r\nab\r\n"] {
            assert!(matches!(connection(wrong).command(&["PING"]), Err(ReplyError::Connection(_))), "{wrong}");
        }
        let deep = "*1\r\n".repeat(100);
        assert!(connection(&deep).command(&["PING"]).is_err());
    }
}
