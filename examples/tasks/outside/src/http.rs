//! HTTP requests.

use std::collections::BTreeMap;

use fastworker_guest::task;
use serde::{Deserialize, Serialize};
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions,
    Scheme,
};
use wasip2::io::streams::StreamError;

/// A request.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Request {
    method: Option<String>,
    scheme: Option<String>,
    authority: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Option<String>,
    /// In milliseconds.
    timeout: Option<u64>,
}

/// What a server replied.
#[derive(Debug, Serialize)]
struct Response {
    status: u16,
    headers: BTreeMap<String, String>,
    /// The first bytes of the body.
    text: String,
    /// The bytes of the body.
    size: u64,
    /// The error that ended the body early.
    error: Option<String>,
}

fn code(error: ErrorCode) -> String {
    format!("{error:?}")
}

fn send(request: &Request) -> Result<FutureIncomingResponse, String> {
    let headers = Fields::new();
    for (name, value) in &request.headers {
        headers.append(name, value.as_bytes()).map_err(|error| format!("{error:?}"))?;
    }
    let outgoing = OutgoingRequest::new(headers);
    let method = match request.method.as_deref() {
        None | Some("GET") => Method::Get,
        Some("POST") => Method::Post,
        Some("CONNECT") => Method::Connect,
        Some(other) => Method::Other(other.to_owned()),
    };
    outgoing.set_method(&method).map_err(|()| "method")?;
    let scheme = if request.scheme.as_deref() == Some("https") { Scheme::Https } else { Scheme::Http };
    outgoing.set_scheme(Some(&scheme)).map_err(|()| "scheme")?;
    outgoing.set_authority(Some(&request.authority)).map_err(|()| "authority")?;
    outgoing.set_path_with_query(Some(&request.path)).map_err(|()| "path")?;
    let options = RequestOptions::new();
    let timeout = request.timeout.map(|millis| millis * 1_000_000);
    options.set_connect_timeout(timeout).map_err(|()| "timeout")?;
    options.set_first_byte_timeout(timeout).map_err(|()| "timeout")?;
    options.set_between_bytes_timeout(timeout).map_err(|()| "timeout")?;
    let body = outgoing.body().map_err(|()| "body")?;
    let sent = outgoing_handler::handle(outgoing, Some(options)).map_err(code)?;
    if let Some(text) = &request.body {
        let stream = body.write().map_err(|()| "write")?;
        for part in text.as_bytes().chunks(4096) {
            stream.blocking_write_and_flush(part).map_err(|error| format!("{error:?}"))?;
        }
    }
    OutgoingBody::finish(body, None).map_err(code)?;
    Ok(sent)
}

fn receive(sent: &FutureIncomingResponse) -> Result<IncomingResponse, String> {
    sent.subscribe().block();
    sent.get().ok_or("not ready")?.map_err(|()| "taken")?.map_err(code)
}

fn read(response: &IncomingResponse) -> Result<Response, String> {
    let status = response.status();
    let entries = response.headers().entries();
    let headers =
        entries.into_iter().map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned())).collect();
    let body = response.consume().map_err(|()| "consumed")?;
    let stream = body.stream().map_err(|()| "stream")?;
    let (mut start, mut size, mut failed) = (Vec::new(), 0, None);
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(bytes) => {
                size += bytes.len() as u64;
                start.extend_from_slice(&bytes[..bytes.len().min(1000_usize.saturating_sub(start.len()))]);
            }
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                failed = Some(error.to_debug_string());
                break;
            }
        }
    }
    Ok(Response { status, headers, text: String::from_utf8_lossy(&start).into_owned(), size, error: failed })
}

/// Sends a request and reads the response.
#[task]
fn request(request: Request) -> Result<Response, String> {
    read(&receive(&send(&request)?)?)
}

/// Follows redirects, as a client library does, and returns the response at the end.
#[task]
fn request_with_redirects(request: Request) -> Result<Response, String> {
    let mut request = request;
    for _ in 0..10 {
        let response = read(&receive(&send(&request)?)?)?;
        let Some(location) = response.headers.get("location") else { return Ok(response) };
        let rest = location.split_once("://").map_or(location.as_str(), |(_, rest)| rest);
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        request.authority = authority.to_owned();
        request.path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
    }
    Err("too many redirects".to_owned())
}

/// Sends a request many times at once, and returns how many succeeded and the first error.
#[task]
fn request_often(request: Request, times: usize) -> (usize, Option<String>) {
    let sent: Vec<_> = (0..times).map(|_| send(&request)).collect();
    let results: Vec<_> = sent.iter().map(|sent| receive(sent.as_ref().map_err(Clone::clone)?)).collect();
    let error = results.iter().find_map(|result| result.as_ref().err().cloned());
    (results.iter().filter(|result| result.is_ok()).count(), error)
}

/// Sends a request many times at once, and returns the error of the last one.
#[task]
fn last_of_many(request: Request, times: usize) -> Option<String> {
    let sent: Vec<_> = (0..times).map(|_| send(&request)).collect();
    sent.last().and_then(|sent| receive(sent.as_ref().map_err(Clone::clone).ok()?).err())
}
