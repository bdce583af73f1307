//! `--allow-http [SCHEME://]HOST[:PORT][/PATH][#METHODS]`

use std::{fmt, str::FromStr};

use super::host::{HostError, HostPattern, split_port};

/// Maximum characters of a path prefix.
const PATH_MAX: usize = 1024;

/// The scheme of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpScheme {
    /// Without encryption.
    Http,
    /// With TLS.
    Https,
}

impl HttpScheme {
    /// The port of a request that names none.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// HTTP requests to a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpGrant {
    /// The scheme; none for both.
    pub scheme: Option<HttpScheme>,
    /// The hosts.
    pub host: HostPattern,
    /// The port; none for the default port of the scheme.
    pub port: Option<u16>,
    /// Where paths start: `/v1` includes `/v1` and `/v1/users`, but not `/v10`. `/` includes all.
    pub path_prefix: String,
    /// The methods in upper case; none for all.
    pub methods: Vec<String>,
}

/// A text that grants no HTTP requests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The scheme is another one.
    #[error("the scheme is http:// or https://; without one, both are granted")]
    Scheme,
    /// The port is not one.
    #[error("a port is a number from 1 to 65535")]
    Port,
    /// The host is not one.
    #[error("{0}")]
    Host(#[from] HostError),
    /// The host is this machine.
    #[error("{0} is this machine: loopback addresses are granted only by number, so write 127.0.0.1 or [::1]")]
    Loopback(String),
    /// The path is not one.
    #[error("a path has no '.' or '..', no query, no spaces and at most {PATH_MAX} characters, such as /v1")]
    Path,
    /// The methods are not names.
    #[error("write methods behind a #, separated by commas, such as api.example.com/v1#GET,HEAD")]
    Methods,
}

impl HttpGrant {
    /// Whether it includes a request. `host` is a name, or an address with or without brackets; `path` is without the
    /// query.
    pub fn allows(&self, method: &str, scheme: HttpScheme, host: &str, port: u16, path: &str) -> bool {
        self.allows_origin(scheme, host, port)
            && starts_with_path(path, &self.path_prefix)
            && (self.methods.is_empty() || self.methods.iter().any(|it| it == method))
    }

    /// Whether it includes some request to this host and port.
    pub fn allows_origin(&self, scheme: HttpScheme, host: &str, port: u16) -> bool {
        self.scheme.is_none_or(|it| it == scheme)
            && self.port.unwrap_or_else(|| scheme.default_port()) == port
            && self.host.matches(host)
    }

    /// Whether it includes every request of `other`.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let schemes = |grant: &Self| match grant.scheme {
            Some(scheme) => vec![scheme],
            None => vec![HttpScheme::Http, HttpScheme::Https],
        };
        let port = |grant: &Self, scheme: HttpScheme| grant.port.unwrap_or_else(|| scheme.default_port());
        let includes = |scheme| schemes(self).contains(&scheme) && port(self, scheme) == port(other, scheme);
        let has_methods = match (self.methods.as_slice(), other.methods.as_slice()) {
            ([], _) => true,
            (_, []) => false,
            (own, others) => others.iter().all(|method| own.contains(method)),
        };
        schemes(other).into_iter().all(includes)
            && self.host.covers(&other.host)
            && starts_with_path(&other.path_prefix, &self.path_prefix)
            && has_methods
    }

    /// `http:api.example.com/v1#GET`
    pub fn name(&self) -> String {
        format!("http:{self}")
    }
}

/// Whether a path is `prefix` or below it. A path that a server could read as another one is below nothing but `/`.
fn starts_with_path(path: &str, prefix: &str) -> bool {
    if prefix == "/" {
        return true;
    }
    let rest = path.strip_prefix(prefix);
    let is_below = rest.is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'));
    is_below && !is_ambiguous(path)
}

/// Characters that some servers convert to a dot, a slash or a backslash: one and two dot leaders, ellipsis, fraction and
/// division slashes, and the small and full-width ones.
const LOOK_ALIKES: &str =
    "\u{2024}\u{2025}\u{2026}\u{2044}\u{2215}\u{2216}\u{29f5}\u{29f8}\u{fe52}\u{fe68}\u{ff0e}\u{ff0f}\u{ff3c}";

/// Whether a path has `.` or `..` as a part, also in percent-encoding, or a backslash or an encoded slash, which some
/// servers read as a slash, or bytes that are no text or look like these.
fn is_ambiguous(path: &str) -> bool {
    let is_text = path.is_ascii()
        && decoded(path).is_some_and(|text| text.chars().all(|char| !char.is_control() && !LOOK_ALIKES.contains(char)));
    let path = path.to_ascii_lowercase().replace("%2e", ".");
    let is_dots = |part: &str| matches!(part.split(';').next(), Some("." | ".."));
    !is_text
        || path.contains('\\')
        || path.contains("%5c")
        || path.contains("%2f")
        || path.contains("%25")
        || path.split('/').any(is_dots)
}

/// The text of a path in percent-encoding; none if it is not UTF-8.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.first_chunk::<2>().and_then(|hex| str::from_utf8(hex).ok());
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%') {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

impl FromStr for HttpGrant {
    type Err = HttpError;

    fn from_str(text: &str) -> Result<Self, HttpError> {
        let (url, methods) = text.split_once('#').map_or((text, Vec::new()), |(url, methods)| {
            (url, methods.split(',').map(|method| method.trim().to_ascii_uppercase()).collect())
        });
        let is_method =
            |method: &String| !method.is_empty() && method.chars().all(|c| c.is_ascii_alphabetic() || c == '-');
        if !methods.iter().all(is_method) {
            return Err(HttpError::Methods);
        }
        let (scheme, rest) = match url.split_once("://") {
            Some(("http", rest)) => (Some(HttpScheme::Http), rest),
            Some(("https", rest)) => (Some(HttpScheme::Https), rest),
            Some(_) => return Err(HttpError::Scheme),
            None => (None, url),
        };
        let (authority, path) = rest.find('/').map_or((rest, "/"), |start| rest.split_at(start));
        let is_path_char = |c: char| c.is_ascii_graphic() && !['?', '\\', '"', '<', '>'].contains(&c);
        if path.len() > PATH_MAX || !path.chars().all(is_path_char) || is_ambiguous(path) {
            return Err(HttpError::Path);
        }
        let (host, port) = split_port(authority).ok_or(HttpError::Port)?;
        let host: HostPattern = host.parse()?;
        match &host {
            HostPattern::Name(name) if name == "localhost" || name.ends_with(".localhost") => {
                return Err(HttpError::Loopback(name.clone()));
            }
            _ => {}
        }
        let port = port.filter(|port| scheme.is_none_or(|scheme| scheme.default_port() != *port));
        Ok(Self { scheme, host, port, path_prefix: path.to_owned(), methods })
    }
}

impl fmt::Display for HttpGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = self.scheme {
            write!(f, "{}://", scheme.name())?;
        }
        self.host.fmt(f)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        if self.path_prefix != "/" {
            f.write_str(&self.path_prefix)?;
        }
        if self.methods.is_empty() { Ok(()) } else { write!(f, "#{}", self.methods.join(",")) }
    }
}
