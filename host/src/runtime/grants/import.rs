//! Which grants an imported interface uses.

use super::GrantKind;

/// What an interface that a module imports lets its guests do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportAccess {
    /// Nothing outside of the sandbox.
    Nothing,
    /// What the grants of these kinds name.
    Granted(&'static [GrantKind]),
    /// Something that is never granted.
    Denied,
}

impl ImportAccess {
    /// The access of an interface, with or without its version.
    pub fn of(import: &str) -> Self {
        match import.split_once('@').map_or(import, |(name, _)| name) {
            "wasi:cli/environment" => Self::Granted(&[GrantKind::Env, GrantKind::Secret]),
            "wasi:filesystem/preopens" | "wasi:filesystem/types" => Self::Granted(&[GrantKind::Dir]),
            "wasi:http/outgoing-handler" => Self::Granted(&[GrantKind::Http]),
            "wasi:sockets/tcp" | "wasi:sockets/tcp-create-socket" | "wasi:sockets/ip-name-lookup" => {
                Self::Granted(&[GrantKind::Tcp])
            }
            "wasi:sockets/udp" | "wasi:sockets/udp-create-socket" => Self::Denied,
            "wasi_snapshot_preview1" => Self::Granted(&[GrantKind::Env, GrantKind::Secret, GrantKind::Dir]),
            _ => Self::Nothing,
        }
    }
}

impl GrantKind {
    /// The start of the names of its grants, such as `http:`.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Env => "env:",
            Self::Secret => "secret:",
            Self::Dir => "dir:",
            Self::Http => "http:",
            Self::Tcp => "tcp:",
        }
    }

    /// The option with a value to complete.
    pub fn example(self) -> &'static str {
        match self {
            Self::Env => "--allow-env NAME",
            Self::Secret => "--secret NAME=file:PATH",
            Self::Dir => "--allow-dir FOLDER::/GUEST",
            Self::Http => "--allow-http HOST",
            Self::Tcp => "--allow-tcp HOST:PORT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_uses_the_grants_of_its_kind() {
        assert_eq!(ImportAccess::of("wasi:http/outgoing-handler@0.2.6"), ImportAccess::Granted(&[GrantKind::Http]));
        assert_eq!(ImportAccess::of("wasi:io/poll@0.2.6"), ImportAccess::Nothing);
        assert_eq!(ImportAccess::of("wasi:sockets/udp@0.2.0"), ImportAccess::Denied);
    }
}
