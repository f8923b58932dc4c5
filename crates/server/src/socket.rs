//! `Socket`: a connection whose client must take what it is sent, and finds the answer although it sent too much.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::config::SocketGuards;
use crate::seats::Seat;

/// A guarded connection.
pub(crate) struct Socket {
    stream: TcpStream,
    seat: Arc<Seat>,
    write_timeout: Duration,
    linger: Duration,
    /// Runs while a write waits, and again while the closed connection is still read.
    deadline: Option<Pin<Box<Sleep>>>,
    closed: bool,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, seat: Arc<Seat>, guards: &SocketGuards) -> Self {
        Self { stream, seat, write_timeout: guards.write_timeout, linger: guards.linger, deadline: None, closed: false }
    }

    /// Passes on what a write came to; one that has waited too long has failed.
    fn guard<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.seat.touch();
            self.deadline = None;
            return written;
        }
        ready!(wait(&mut self.deadline, self.write_timeout, cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing of its answer")))
    }
}

#[expect(clippy::disallowed_methods, reason = "guards against slow sockets")]
fn wait(deadline: &mut Option<Pin<Box<Sleep>>>, span: Duration, cx: &mut Context<'_>) -> Poll<()> {
    deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(span))).as_mut().poll(cx)
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_ready() {
            self.seat.touch();
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buffer);
        self.guard(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, buffers);
        self.guard(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Closes our half, then reads and drops what the client is still sending: a socket that is closed over unread bytes
    /// is reset, and the client would lose the answer that says why we stopped reading.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closed {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.closed = true;
            self.deadline = None;
        }
        let mut bytes = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    // A client that never stops is not waited for.
                    let linger = self.linger;
                    if wait(&mut self.deadline, linger, cx).is_ready() {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    let linger = self.linger;
                    return wait(&mut self.deadline, linger, cx).map(Ok);
                }
            }
        }
    }
}
