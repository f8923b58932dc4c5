//! Errors of the database driver that hold a reason of ours: whoever keeps connections can carry no other.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{Config, Error, NoTls};

/// The driver makes its errors itself: this is the one of a connection that breaks with the reason at the first byte.
pub(crate) async fn error(why: io::Error) -> Error {
    let nobody = Config::new().user("nobody").connect_raw(Broken(Some(why)), NoTls).await;
    nobody.err().expect("nothing can be written to it")
}

/// What a connection broke with, a reason of ours included.
pub(crate) fn reason(error: &Error) -> Option<&io::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

struct Broken(Option<io::Error>);

impl Broken {
    fn fail<T>(&mut self) -> Poll<io::Result<T>> {
        Poll::Ready(Err(self.0.take().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())))
    }
}

impl AsyncRead for Broken {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.fail()
    }
}

impl AsyncWrite for Broken {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        self.fail()
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fail()
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fail()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NoPassword;

    #[test]
    fn the_reason_arrives_in_an_error_of_the_driver() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let why = NoPassword::Refused(String::from("Entra says no"));
        let error = runtime.block_on(error(io::Error::other(why.clone())));
        let reason = reason(&error).and_then(io::Error::get_ref);
        assert_eq!(reason.and_then(|reason| reason.downcast_ref()), Some(&why));
    }
}
