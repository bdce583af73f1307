//! Plain HTTP/1.1 over a socket, for tests of the web interface: it sends exactly the bytes
//! written here.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;

use crate::TIMEOUT;

/// The response of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its status code.
    pub status: u16,
    /// Its headers, their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: String,
}

impl Response {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Checks the status code.
    ///
    /// # Panics
    /// When it is another one.
    #[must_use]
    #[track_caller]
    pub fn with_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

/// A request under construction.
#[derive(Clone, Debug)]
pub struct Request {
    address: String,
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// A GET request of a path at `http://HOST:PORT`.
    ///
    /// # Panics
    /// When the address is not valid.
    pub fn get(url: &str, path: &str) -> Self {
        let address = url.strip_prefix("http://").expect("an http address").to_owned();
        Self { headers: vec![("Host".into(), address.clone())], address, method: "GET", path: path.into() }
    }

    /// A POST request.
    pub fn post(url: &str, path: &str) -> Self {
        Self { method: "POST", ..Self::get(url, path) }
    }

    /// Sets this header, replacing one of the same name.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends it, and reads the whole response.
    ///
    /// # Panics
    /// When there is none.
    pub fn send(&self) -> Response {
        let mut stream = self.open("close");
        let (status, headers) = read_head(&mut stream);
        let mut body = Vec::new();
        if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            while let Some(chunk) = read_chunk(&mut stream) {
                body.extend(chunk);
            }
        } else {
            stream.read_to_end(&mut body).expect("body expected");
        }
        Response { status, headers, body: String::from_utf8_lossy(&body).into_owned() }
    }

    /// Sends it, and reads the response as a stream.
    ///
    /// # Panics
    /// When there is none.
    pub fn follow(&self) -> Stream {
        let mut stream = self.open("keep-alive");
        let (status, headers) = read_head(&mut stream);
        assert_eq!(status, 200, "{headers:?}");
        Stream { stream, rest: String::new() }
    }

    /// Sends it, and reads nothing.
    ///
    /// # Panics
    /// When the port is closed.
    pub fn open(&self, connection: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).expect("listener expected");
        stream.set_read_timeout(Some(TIMEOUT)).expect("read timeout set");
        let mut head = format!("{} {} HTTP/1.1\r\nConnection: {connection}\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).expect("request sent");
        BufReader::new(stream)
    }
}

/// A stream of server-sent events.
#[derive(Debug)]
pub struct Stream {
    stream: BufReader<TcpStream>,
    rest: String,
}

/// One server-sent event.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerEvent {
    /// Its `id:`.
    pub id: Option<u64>,
    /// Its `event:`; a comment, such as a heartbeat, has none.
    pub event: String,
    /// Its `data:`.
    pub data: Value,
}

impl Stream {
    /// The next event within `limit`. None if none arrives, or the stream ends.
    pub fn next(&mut self, limit: Duration) -> Option<ServerEvent> {
        self.stream.get_ref().set_read_timeout(Some(limit)).expect("read timeout set");
        loop {
            if let Some((frame, rest)) = self.rest.split_once("\n\n") {
                let sent = read_frame(frame);
                self.rest = rest.to_owned();
                if let Some(sent) = sent {
                    return Some(sent);
                }
                continue;
            }
            let chunk = read_chunk(&mut self.stream)?;
            self.rest.push_str(&String::from_utf8_lossy(&chunk));
        }
    }

    /// The next event with this name.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn next_named(&mut self, event: &str) -> ServerEvent {
        loop {
            let sent = self.next(TIMEOUT).unwrap_or_else(|| panic!("no {event} came"));
            if sent.event == event {
                return sent;
            }
        }
    }
}

fn read_frame(frame: &str) -> Option<ServerEvent> {
    let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let data = field("data")?;
    let data = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error} in {data}"));
    let id = field("id").map(|id| id.parse().expect("valid number"));
    Some(ServerEvent { id, event: field("event").unwrap_or_default().to_owned(), data })
}

fn read_head(stream: &mut BufReader<TcpStream>) -> (u16, BTreeMap<String, String>) {
    let mut line = String::new();
    let mut next = |stream: &mut BufReader<TcpStream>| {
        line.clear();
        stream.read_line(&mut line).expect("a line of the head");
        line.trim_end().to_owned()
    };
    let first = next(stream);
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("'{first}' is not a status line"));
    let mut headers = BTreeMap::new();
    loop {
        let line = next(stream);
        let Some((name, value)) = line.split_once(':') else { return (status, headers) };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
}

/// The next chunk; none after the last, or when none arrives within the timeout.
fn read_chunk(stream: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut size = String::new();
    stream.read_line(&mut size).ok()?;
    let size = usize::from_str_radix(size.trim(), 16).ok().filter(|size| *size > 0)?;
    let mut chunk = vec![0; size + 2];
    stream.read_exact(&mut chunk).ok()?;
    chunk.truncate(size);
    Some(chunk)
}
