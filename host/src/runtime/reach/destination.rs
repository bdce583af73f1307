//! The destination of an HTTP request, read so strictly that no server or resolver can understand another one.

use std::{fmt, net::IpAddr};

use http::{Uri, uri::Scheme};

use super::super::grants::HttpScheme;

/// Maximum characters of a host name.
const NAME_MAX: usize = 253;
/// Maximum characters of a path and query.
const PATH_MAX: usize = 8 << 10;

/// A host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// A name in lower case, without a dot at its end.
    Name(String),
    /// An address.
    Ip(IpAddr),
}

impl Host {
    /// Reads a name or an address; an IPv6 address may be in brackets. None if it is neither, or could also be read as
    /// something else, such as `0x7f.1`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix('[') {
            return Some(Self::Ip(IpAddr::V6(rest.strip_suffix(']')?.parse().ok()?)));
        }
        if let Ok(ip) = text.parse() {
            return Some(Self::Ip(ip));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let is_label = |label: &str| {
            let is_label_char = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            (1..=63).contains(&label.len()) && label.chars().all(is_label_char)
        };
        // Resolvers read names that end in a number as addresses.
        let is_number = |label: &str| label.starts_with(|c: char| c.is_ascii_digit());
        let is_name = name.len() <= NAME_MAX && name.split('.').all(is_label);
        (is_name && !name.rsplit('.').next().is_some_and(is_number)).then_some(Self::Name(name))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) scheme: HttpScheme,
    pub(super) host: Host,
    pub(super) port: u16,
    /// The path, without the query.
    pub(super) path: String,
}

impl Destination {
    /// Reads the destination of a URL. None if it has no host, names a user, or can be read in two ways.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let scheme = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => HttpScheme::Http,
            Some(scheme) if *scheme == Scheme::HTTPS => HttpScheme::Https,
            _ => return None,
        };
        let authority = uri.authority()?.as_str();
        // Parsed here as a whole, as `Authority` ignores what it does not understand.
        let end_of_host = authority.rfind(']').map_or(0, |end| end + 1);
        let (host, port) = match authority[end_of_host..].split_once(':') {
            Some((rest, port)) => (&authority[..end_of_host + rest.len()], Some(port)),
            None => (authority, None),
        };
        let port = match port {
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                port.parse().ok().filter(|port| *port > 0)?
            }
            Some(_) => return None,
            None => scheme.default_port(),
        };
        let is_too_long = uri.path_and_query().is_some_and(|path| path.as_str().len() > PATH_MAX);
        let path = if uri.path().is_empty() { "/" } else { uri.path() };
        (!is_too_long).then_some(())?;
        Some(Self { scheme, host: Host::parse(host)?, port, path: path.to_owned() })
    }

    /// `host`, or `host:port` if the port is not the scheme's.
    pub(super) fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            return self.host.to_string();
        }
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            HttpScheme::Http => "http",
            HttpScheme::Https => "https",
        };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(uri: &str) -> Option<String> {
        Destination::of(&uri.parse().ok()?).map(|destination| destination.to_string())
    }

    #[test]
    fn destinations_are_read_in_one_way() {
        let cases = [
            ("http://Example.COM", "http://example.com/"),
            ("https://example.com.:443/a?b=c", "https://example.com/a"),
            ("http://example.com:443/", "http://example.com:443/"),
            ("http://xn--bcher-kva.example/", "http://xn--bcher-kva.example/"),
            ("http://127.0.0.1:8080/x", "http://127.0.0.1:8080/x"),
            ("http://[::1]:8080/x", "http://[::1]:8080/x"),
            ("http://[0:0::1]/x", "http://[::1]/x"),
        ];
        for (uri, expected) in cases {
            assert_eq!(destination(uri).as_deref(), Some(expected), "{uri}");
        }
    }

    #[test]
    fn destinations_that_can_be_read_in_two_ways_are_refused() {
        let refused = [
            "http://user@example.com/",
            "http://good.example@evil.example/",
            "http://user:password@example.com/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://1.2.3.4.5/",
            "http://127.0.0.1./",
            "http://example..com/",
            "http://.example.com/",
            "http://example.com:0/",
            "http://example.com:65536/",
            "http://example.com:+80/",
            "http://example.com:/",
            "http://[::1/",
            "http://[fe80::1%25eth0]/",
            "http://[::1]x/",
            "http://%31.example/",
            "ftp://example.com/",
            "/relative",
            "*",
            "http://example.com:80:80/",
            "http://a b/",
        ];
        for uri in refused {
            assert_eq!(destination(uri), None, "{uri}");
        }
        assert_eq!(destination(&format!("http://example.com/{}", "x".repeat(PATH_MAX))), None);
    }
}
