//! Ports that no other test uses, below the range of ephemeral ports.

use std::{
    env, fs,
    net::{Ipv4Addr, TcpStream},
    process,
    sync::atomic::{AtomicU16, Ordering},
};

/// Number of ports of a test.
const BLOCK: u16 = 16;
/// The first port that a test may get.
pub(crate) const FIRST: u16 = 10_000;
/// Exclusive upper limit of the ports of tests.
pub(crate) const LAST: u16 = 32_000;

/// Consecutive ports, reserved for this test until dropped.
#[derive(Debug)]
pub struct Ports {
    first: u16,
    /// Locked: the system unlocks it when the process ends, however it ends.
    _claim: fs::File,
}

impl Ports {
    /// Claims free ports.
    ///
    /// # Panics
    /// When all are in use.
    pub fn claim() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let directory = env::temp_dir().join("fastworker-test-ports");
        fs::create_dir_all(&directory).expect("writable temporary directory");
        let blocks = (LAST - FIRST) / BLOCK;
        // Each process starts at another block, so that they seldom collide.
        let start = u16::try_from(process::id() % u32::from(blocks)).expect("less than blocks");
        for _ in 0..blocks {
            let block = (start + NEXT.fetch_add(1, Ordering::Relaxed)) % blocks;
            let first = FIRST + block * BLOCK;
            let claim = fs::File::create(directory.join(first.to_string())).expect("file created");
            if claim.try_lock().is_ok() && (first..first + BLOCK).all(is_free) {
                return Self { first, _claim: claim };
            }
        }
        panic!("all ports from {FIRST} to {LAST} are in use");
    }

    /// The base port: it and the four after it.
    pub fn base(&self) -> u16 {
        self.first
    }

    /// The port for subworkers.
    pub fn subworkers(&self) -> u16 {
        self.first + 5
    }

    /// The discovery port.
    pub fn discovery(&self) -> u16 {
        self.first + 6
    }

    /// Nine more, for listeners of the test itself.
    pub fn spare(&self, number: u16) -> u16 {
        assert!(number < BLOCK - 7, "a test has {} spare ports", BLOCK - 7);
        self.first + 7 + number
    }
}

/// Whether the port is closed. Binding it briefly would not do: a process that another thread starts at the same time
/// inherits that socket until it executes its program.
fn is_free(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err()
}
