//! The arguments, stdin and stdout of a program.

use std::{
    io, mem,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    WasiCtxBuilder, WasiView as _,
    cli::{IsTerminal, StdoutStream},
    p1::WasiP1Ctx,
    p2::{OutputStream, Pollable, StreamError, StreamResult, pipe::MemoryInputPipe},
};

use super::{
    attempt::Attempt,
    output::{Output, OutputLimit, Stream},
    reach::FolderUnavailable,
};
use crate::{lock::lock, system};

/// Maximum bytes of one write to an output stream.
const WRITE_MAX: usize = 64 << 10;

/// What a program reads and writes.
pub(super) struct ProgramIo {
    args: Vec<String>,
    stdin: Bytes,
    stdout: Captured,
}

/// A program wrote more to stdout than a result may have.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("wrote more than {} to stdout, which is its result", system::bytes(*.0 as u64))]
pub(super) struct StdoutLimit(usize);

impl ProgramIo {
    /// A program that may write `stdout_max` bytes to stdout.
    pub(super) fn new(args: Vec<String>, stdin: Vec<u8>, stdout_max: usize) -> Self {
        let stdout = Captured { bytes: Arc::default(), max: stdout_max };
        Self { args, stdin: stdin.into(), stdout }
    }

    /// Its arguments; the first is its name.
    pub(super) fn args(&self) -> &[String] {
        &self.args
    }

    /// Its stdin, from the start.
    pub(super) fn stdin(&self) -> MemoryInputPipe {
        MemoryInputPipe::new(self.stdin.clone())
    }

    /// Its stdout.
    pub(super) fn stdout(&self) -> Sink {
        Sink::Captured(self.stdout.clone())
    }
}

/// Bytes written to stdout.
#[derive(Clone)]
pub(super) struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    max: usize,
}

/// Where an output stream of a guest leads. Writing never blocks.
#[derive(Clone)]
pub(super) enum Sink {
    /// To the log of the task.
    Log { output: Arc<Mutex<Output>>, stream: Stream },
    /// To the result of a program.
    Captured(Captured),
}

impl Sink {
    fn write_all(&self, bytes: &[u8]) -> wasmtime::Result<()> {
        match self {
            Self::Log { output, stream } => {
                lock(output).print(*stream, bytes).map_err(|error: OutputLimit| error.into())
            }
            Self::Captured(Captured { bytes: captured, max }) => {
                let mut captured = lock(captured);
                if captured.len() + bytes.len() > *max {
                    return Err(StdoutLimit(*max).into());
                }
                captured.extend_from_slice(bytes);
                Ok(())
            }
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Sink {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Sink {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.write_all(&bytes).map_err(StreamError::Trap)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_MAX)
    }
}

impl AsyncWrite for Sink {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.write_all(bytes).map(|()| bytes.len()).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl IsTerminal for Sink {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Sink {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl Attempt {
    /// Sets what the program of this attempt reads and writes.
    pub(super) fn set_program(&mut self, io: ProgramIo) {
        self.wasi.program = Some(io);
    }

    /// What the program of this attempt wrote to stdout.
    pub(super) fn take_stdout(&mut self) -> Vec<u8> {
        self.wasi.program.as_ref().map(|io| mem::take(&mut *lock(&io.stdout.bytes))).unwrap_or_default()
    }

    /// Where a standard stream leads.
    pub(super) fn sink(&self, stream: Stream) -> Sink {
        match (&self.wasi.program, stream) {
            (Some(io), Stream::Stdout) => io.stdout(),
            _ => Sink::Log { output: self.output(), stream },
        }
    }

    /// WASI preview 1 of a core module, with the folders that could be opened. Created on first use.
    pub(super) fn preview1(&mut self) -> &mut WasiP1Ctx {
        if self.wasi.preview1.is_none() {
            self.wasi.preview1 = Some(Box::new(self.new_preview1()));
        }
        self.wasi.preview1.as_mut().expect("it was set above")
    }

    /// Opens the granted folders of a core module.
    ///
    /// # Errors
    /// [`FolderUnavailable`] if one cannot be opened.
    pub(super) fn open_folders(&mut self) -> Result<(), FolderUnavailable> {
        self.preview1();
        self.wasi.folder_unavailable.take().map_or(Ok(()), Err)
    }

    fn new_preview1(&mut self) -> WasiP1Ctx {
        let mut context = WasiCtxBuilder::new();
        self.wasi.folder_unavailable = self.reach.add_to(&mut context).err();
        context.stdout(self.sink(Stream::Stdout)).stderr(self.sink(Stream::Stderr));
        if let Some(io) = &self.wasi.program {
            context.args(&io.args).stdin(io.stdin());
        }
        let mut context = context.build_p1();
        context.ctx().table.set_max_capacity(self.reach.handles_max());
        context
    }
}
