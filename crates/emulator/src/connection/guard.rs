//! A socket in its seat: what is read and written tells the seat what its connection is doing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{Connections, IDLE, NEVER, RECEIVING, Seat};

/// A socket that reports to its seat, and is broken off instead of closed when the seat says so.
pub(crate) struct GuardedStream {
    tcp: TcpStream,
    seat: Arc<Seat>,
    group: Arc<Connections>,
}

impl GuardedStream {
    pub(super) fn new(tcp: TcpStream, seat: Arc<Seat>, group: Arc<Connections>) -> Self {
        Self { tcp, seat, group }
    }

    /// Notes whether the peer keeps a write waiting.
    fn note_write<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let waits = self.seat.write_since.load(Ordering::Relaxed) != NEVER;
        match (polled.is_pending(), waits) {
            (true, false) => self.seat.write_since.store(self.group.millis(), Ordering::Release),
            (false, true) => self.seat.write_since.store(NEVER, Ordering::Release),
            _ => {}
        }
        polled
    }
}

impl AsyncRead for GuardedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.tcp).poll_read(cx, buf);
        let begins = buf.filled().len() > before && self.seat.phase.load(Ordering::Acquire) == IDLE;
        if begins && !self.seat.enter(RECEIVING, self.group.millis()) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        polled
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        self.note_write(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.tcp).poll_write_vectored(cx, pieces);
        self.note_write(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.seat.reset.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

impl Drop for GuardedStream {
    fn drop(&mut self) {
        if self.seat.reset.load(Ordering::Acquire) {
            // With no time to linger the kernel sends RST; where it will not, the connection just closes.
            drop(self.tcp.set_zero_linger());
        }
    }
}
