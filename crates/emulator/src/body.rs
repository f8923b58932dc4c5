//! Bodies: requests are read up to a limit, answers are sent whole or, when a fault wants it, cut short.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::connection::Connections;

/// How much of a body that is too long is read and thrown away, so that its sender gets to see the answer.
const DISCARDED_MAX: usize = 1024 * 1024;

/// A request's body.
pub(crate) enum Received {
    /// All of it.
    Whole(Bytes),
    /// It is longer than the limit; the rest was not read.
    TooLong(Incoming),
}

/// Reads a body of at most `limit` bytes; of a longer one no more than shows that it is.
pub(crate) async fn receive(mut body: Incoming, limit: usize) -> hyper::Result<Received> {
    if body.size_hint().lower() > limit as u64 {
        return Ok(Received::TooLong(body));
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if first.len() + rest.len() + data.len() > limit {
            return Ok(Received::TooLong(body));
        }
        if first.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
    }
    if rest.is_empty() {
        return Ok(Received::Whole(first));
    }
    Ok(Received::Whole([first, rest.freeze()].concat().into()))
}

/// Goes on reading for a moment while the answer is sent: a connection that is closed upon unread bytes is reset, and
/// the answer may be lost with it.
pub(crate) fn discard(mut body: Incoming, connections: Arc<Connections>) {
    tokio::spawn(async move {
        let discarded = async {
            let mut length = 0;
            while let Some(Ok(frame)) = body.frame().await {
                length += frame.data_ref().map_or(0, Bytes::len);
                if length > DISCARDED_MAX {
                    return;
                }
            }
        };
        tokio::select! {
            () = discarded => {}
            () = connections.transfer_time() => {}
        }
    });
}

/// An answer's body.
pub(crate) enum AnswerBody {
    /// What is left to send.
    Whole(Bytes),
    /// A part, after which the connection breaks. The header `Content-Length` promises more.
    Cut(Cut),
}

/// Where a body that is cut short has got to.
pub(crate) enum Cut {
    /// The part has yet to be sent.
    Begun(Bytes),
    /// The part is on its way.
    Sent,
    /// It has had time to leave.
    Over,
}

/// A fault cut the body short.
#[derive(Debug, thiserror::Error)]
#[error("the body was cut short on purpose")]
pub(crate) struct CutShort;

impl AnswerBody {
    /// The first `length` bytes of a body, and then the connection breaks.
    pub(crate) fn cut(body: &Bytes, length: usize) -> Self {
        Self::Cut(Cut::Begun(body.slice(..length)))
    }
}

impl Cut {
    /// Sends the part, lets the connection write it out, and fails.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        match std::mem::replace(self, Self::Over) {
            Self::Begun(part) if !part.is_empty() => {
                *self = Self::Sent;
                Poll::Ready(Some(Ok(Frame::data(part))))
            }
            Self::Begun(_) | Self::Sent => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Self::Over => Poll::Ready(Some(Err(CutShort))),
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Cut(cut) => cut.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Cut(_) => SizeHint::default(),
        }
    }
}
