//! Explains why a component's imports or exports do not fit: what is missing, what is near, and what to do.

use crate::nearest::did_you_mean;

/// The package of the contract.
const CONTRACT: &str = "fastworker:task";
/// The version of the contract, and of its interface with the tasks.
const CONTRACT_VERSION: &str = "1.0.0";
/// The functions of `fastworker:task/tasks`, with their types.
const CONTRACT_EXPORTS: [&str; 2] =
    ["register: func() -> list<descriptor>", "run: func(call: invocation) -> result<string, failure>"];
/// The version of WASI, without its last number.
const WASI_VERSION: &str = "0.2";
/// The interfaces that a component can import.
const INTERFACES: [&str; 29] = [
    "fastworker:task/host",
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
];

/// Splits `ns:pkg/interface@1.0.0` into its name and version; the version is empty if there is none.
fn split(interface: &str) -> (&str, &str) {
    interface.split_once('@').unwrap_or((interface, ""))
}

/// Whether this host provides an interface of that name in some version.
fn is_known(name: &str) -> bool {
    INTERFACES.contains(&name) || name == "wasi:sockets/udp-create-socket"
}

/// Whether this host provides an interface.
pub(super) fn is_provided(interface: &str) -> bool {
    let (name, version) = split(interface);
    let major_minor = if name.starts_with(CONTRACT) { "1." } else { "0.2." };
    is_known(name)
        && version.strip_prefix(major_minor).is_some_and(|patch| patch.starts_with(|c: char| c.is_ascii_digit()))
}

/// Why an interface that a component imports is not provided, and what to do.
pub(super) fn of_import(interface: &str) -> String {
    let (name, version) = split(interface);
    if is_known(name) {
        return if name.starts_with(CONTRACT) { other_contract(version) } else { other_wasi(version) };
    }
    if !name.contains(':') {
        return "it is no interface: a component imports from the host only interfaces, such as wasi:cli/environment"
            .to_owned();
    }
    match did_you_mean(name, INTERFACES) {
        Some(suggestion) => format!("nothing here provides it: {suggestion}"),
        None => "nothing here provides it: compose the module with a component that exports it, as with `wac plug`"
            .to_owned(),
    }
}

fn other_contract(version: &str) -> String {
    if is_newer(version, CONTRACT_VERSION) {
        format!(
            "it is a newer contract than {CONTRACT_VERSION}, which this fastworker has: update fastworker on this worker"
        )
    } else {
        format!(
            "it is an older contract than {CONTRACT_VERSION}, which this fastworker has: build the module with the present SDK"
        )
    }
}

fn other_wasi(version: &str) -> String {
    if is_newer(version, WASI_VERSION) && !version.starts_with("0.2") {
        format!(
            "it is a newer WASI than {WASI_VERSION}, which this fastworker has: build the module for WASI {WASI_VERSION}, such as wasm32-wasip2"
        )
    } else {
        format!(
            "it is an older or unreleased WASI than {WASI_VERSION}, which this fastworker has: build the module with a present toolchain"
        )
    }
}

/// Whether a version is newer than another, by its numbers.
fn is_newer(version: &str, than: &str) -> bool {
    let numbers = |text: &str| -> Vec<u64> {
        let release = text.split(['-', '+']).next().unwrap_or_default();
        release.split('.').map(|number| number.parse().unwrap_or(0)).collect()
    };
    numbers(version) > numbers(than)
}

/// Why exports of the contract are not those of this version: another version, or missing functions. None if nothing is
/// exported of the contract.
pub(super) fn of_exports(exports: &[String]) -> Option<String> {
    let tasks = exports.iter().find(|export| split(export).0 == format!("{CONTRACT}/tasks"))?;
    let version = split(tasks).1;
    Some(if version == CONTRACT_VERSION {
        format!("{tasks} must have {}", CONTRACT_EXPORTS.join(", and "))
    } else {
        format!("the module exports {tasks}, but {}", other_contract(version))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_of_this_host_are_provided_in_every_patch() {
        for provided in ["fastworker:task/host@1.0.0", "wasi:cli/stdout@0.2.3", "wasi:sockets/udp-create-socket@0.2.12"]
        {
            assert!(is_provided(provided), "{provided}");
        }
        for other in [
            "fastworker:task/host@2.0.0",
            "wasi:cli/stdout@0.3.0",
            "wasi:cli/stdout@0.2",
            "wasi:cli/out@0.2.0",
            "mine:own/thing",
        ] {
            assert!(!is_provided(other), "{other}");
        }
    }

    #[test]
    fn a_mismatch_names_what_is_near_and_what_to_do() {
        for (interface, words) in [
            ("fastworker:task/host@2.0.0", "a newer contract than 1.0.0"),
            ("fastworker:task/host@0.9.0", "it is an older contract than 1.0.0"),
            ("wasi:cli/stdout@0.3.0-rc-2025", "a newer WASI than 0.2"),
            ("wasi:cli/stdout@0.2.0-rc-2023-11-10", "an older or unreleased WASI"),
            ("wasi:cli/environmant@0.2.0", "did you mean 'wasi:cli/environment'"),
            ("mine:own/thing", "compose the module"),
            ("env", "it is no interface"),
        ] {
            let message = of_import(interface);
            assert!(message.contains(words), "{interface}: {message}");
        }
        let of = |export: &str| of_exports(&["x".to_owned(), export.to_owned()]);
        assert!(of("fastworker:task/tasks@1.0.0").is_some_and(|message| message.contains("register: func()")));
        assert!(of("fastworker:task/tasks@3.1.0").is_some_and(|message| message.contains("a newer contract")));
        assert_eq!(of("wasi:cli/run@0.2.0"), None);
    }
}
