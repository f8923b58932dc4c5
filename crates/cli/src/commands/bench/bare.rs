//! The yardstick of `bench read`: a hyper server, on the same runtime as the keeper, that answers every request with the same
//! bytes.

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body_util::Full;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use super::keep::TellUsage;
use super::machine::usage;
use super::part::{Listening, Orders};
use super::{failure, report, stub};
use crate::exit::CommandResult;

/// A server that answers every request alike.
#[derive(Serialize, Deserialize)]
pub(super) struct Bare {
    /// How long the answer's body is.
    pub(super) bytes: usize,
}

impl Bare {
    /// Serves until there are no more orders; each is [`TellUsage`].
    pub(super) async fn run(self, mut orders: Orders) -> CommandResult {
        let listener = stub::listen().await?;
        report(&Listening { address: listener.local_addr().map_err(failure)? })?;
        let answer = Bytes::from(vec![b'x'; self.bytes]);
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (stream, _) = accepted.map_err(failure)?;
                    tokio::spawn(converse(stream, answer.clone()));
                }
                order = orders.next() => match order? {
                    Some(TellUsage) => report(&usage()?)?,
                    None => return Ok(()),
                }
            }
        }
    }
}

async fn converse(stream: TcpStream, answer: Bytes) {
    // A connection that breaks is seen by who counts answers.
    drop(stream.set_nodelay(true));
    let answer = service_fn(move |_: Request<Incoming>| {
        let mut response = Response::new(Full::new(answer.clone()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        std::future::ready(Ok::<_, std::convert::Infallible>(response))
    });
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await);
}
