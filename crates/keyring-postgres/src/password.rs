//! `Passwords`: what each new connection is given for a password, where the URL holds none.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use deadpool_postgres::{ConfigConnectImpl, Connect};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use storekeeper_model::Secret;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Tells the password of the user in the URL, whenever a connection is made: one that changes, such as a token.
pub trait Passwords: fmt::Debug + Send + Sync {
    /// The password that is good now.
    ///
    /// # Errors
    /// [`NoPassword`]: then no connection is made, and whoever wanted one hears why.
    fn password(&self) -> BoxFuture<'_, Result<Secret<String>, NoPassword>>;
}

/// Why there is no password. One line, which says what to do and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPassword {
    /// It may pass by itself.
    #[error("{0}")]
    Unavailable(String),
    /// Somebody has to correct something.
    #[error("{0}")]
    Refused(String),
}

/// Makes connections, with the password that is good then.
pub(crate) struct Connector {
    pub(crate) tls: MakeRustlsConnect,
    pub(crate) passwords: Option<Arc<dyn Passwords>>,
}

impl Connect for Connector {
    fn connect(&self, config: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        let (mut config, connector) = (config.clone(), ConfigConnectImpl { tls: self.tls.clone() });
        async move {
            if let Some(passwords) = &self.passwords {
                match passwords.password().await {
                    Ok(password) => config.password(password.expose()),
                    Err(why) => return Err(as_error(why).await),
                };
            }
            connector.connect(&config).await
        }
        .boxed()
    }
}

/// The library makes its errors itself: this is the one of a connection that breaks with the reason at the first byte.
async fn as_error(why: NoPassword) -> Error {
    let nobody = Config::new().user("nobody").connect_raw(Broken(why), NoTls).await;
    nobody.err().expect("nothing can be written to it")
}

/// The reason in such an error.
pub(crate) fn reason(error: &Error) -> Option<&NoPassword> {
    let broken = std::error::Error::source(error)?.downcast_ref::<io::Error>()?;
    broken.get_ref()?.downcast_ref()
}

struct Broken(NoPassword);

impl Broken {
    fn fail<T>(&self) -> Poll<io::Result<T>> {
        Poll::Ready(Err(io::Error::other(self.0.clone())))
    }
}

impl AsyncRead for Broken {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.fail()
    }
}

impl AsyncWrite for Broken {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        self.fail()
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fail()
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fail()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_arrives_in_an_error_of_the_library() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let why = NoPassword::Refused(String::from("Entra says no"));
        let error = runtime.block_on(as_error(why.clone()));
        assert_eq!(reason(&error), Some(&why));
    }
}
