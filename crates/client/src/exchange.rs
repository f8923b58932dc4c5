//! Prepared requests and raw answers: what goes out and what came back, before anybody sends or believes it.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use serde::Deserialize;
use serde::de::IgnoredAny;
use storekeeper_model::{Secret, Timestamp};

use crate::RetryAfter;
use crate::retry_after::store_date;
use crate::scrub::scrubbed;

/// A request that is ready to be sent as it stands. Its `Debug` shows neither headers nor body.
#[derive(Clone)]
pub struct PreparedRequest {
    /// The method.
    pub method: Method,
    /// The absolute URL. It comes from an [`Endpoint`](crate::Endpoint); whoever sends must not follow a redirect from it.
    pub url: Uri,
    /// The headers, without `Host` and `Content-Length`: the transport writes those.
    pub headers: HeaderMap,
    /// The body, which holds a ticket, a key or a credential.
    pub body: RequestBody,
}

impl fmt::Debug for PreparedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedRequest")
            .field("method", &self.method)
            .field("url", &self.url)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

/// The bytes of a request, zeroed when the last owner lets go of them. (Copies that sockets and TLS make are theirs.)
#[derive(Clone)]
pub struct RequestBody(Bytes);

impl RequestBody {
    /// Takes the bytes into custody.
    pub fn new(bytes: Secret<Vec<u8>>) -> Self {
        struct Owner(Secret<Vec<u8>>);
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                self.0.expose()
            }
        }
        Self(Bytes::from_owner(Owner(bytes)))
    }

    /// Reads the bytes. Whoever calls this answers for where they go.
    pub fn expose(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[redacted, {} bytes]", self.0.len())
    }
}

/// An answer as it arrived. Its body may hold a key or a ticket, so `Debug` shows the status and the length only.
#[derive(Clone)]
pub struct RawAnswer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, at most [`RawAnswer::BYTES_MAX`] bytes.
    pub body: Bytes,
}

impl RawAnswer {
    /// The longest answer that a transport reads, in bytes. A renewal's is about 1.7 kB.
    pub const BYTES_MAX: usize = 64 * 1024;

    /// The body without a byte order mark, which JSON does not have but some servers send.
    pub(crate) fn json(&self) -> &[u8] {
        self.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.body)
    }

    /// Reads the body as a JSON object. (What is derived with serde would take an array for one, in order.)
    pub(crate) fn object<'a, T: Deserialize<'a>>(&'a self) -> Result<T, NoObject> {
        let json = self.json();
        let is_object = json.trim_ascii_start().first() == Some(&b'{');
        match serde_json::from_slice(json) {
            Ok(object) if is_object => Ok(object),
            _ if serde_json::from_slice::<IgnoredAny>(json).is_ok() => Err(NoObject::OtherJson),
            _ => Err(NoObject::NotJson),
        }
    }

    /// `Date`, read leniently.
    pub(crate) fn store_date(&self) -> Option<Timestamp> {
        store_date(&self.headers)
    }

    /// `Retry-After`, in either form.
    pub(crate) fn retry_after(&self, now: Timestamp) -> Option<RetryAfter> {
        RetryAfter::read(&self.headers, now)
    }

    /// The host that `Location` names. The rest of it may quote what was sent and is not kept.
    pub(crate) fn redirect_host(&self) -> Option<String> {
        let location: Uri = self.headers.get(header::LOCATION)?.to_str().ok()?.parse().ok()?;
        location.host().map(|host| scrubbed(host, 253))
    }
}

/// Why a body could not be read as an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoObject {
    /// It is not JSON at all.
    NotJson,
    /// It is JSON, but no object, or a member is of the wrong type or there twice.
    OtherJson,
}

impl fmt::Debug for RawAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawAnswer")
            .field("status", &self.status)
            .field("body", &format_args!("[redacted, {} bytes]", self.body.len()))
            .finish_non_exhaustive()
    }
}
