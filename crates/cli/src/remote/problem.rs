//! Problem documents (RFC 9457) as one line for a person, with the exit code for it.

use http::StatusCode;
use serde::Deserialize;

use super::{Peer, Remote, Reply};
use crate::exit::{CommandError, Exit};
use crate::output::safe;

/// What an answer that says no tells; every member may be absent, for it may be somebody else's answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    title: String,
    detail: String,
    code: String,
    act: String,
    retry_after: Option<u64>,
    #[serde(skip)]
    status: StatusCode,
}

impl Problem {
    pub(super) fn of(reply: &Reply) -> Self {
        let document = serde_json::from_slice(&reply.body).unwrap_or_default();
        Self { status: reply.status, ..document }
    }

    /// The one line: what, the code, who must act.
    pub(super) fn told(&self, remote: &Remote) -> CommandError {
        let is_document = !(self.code.is_empty() && self.title.is_empty() && self.detail.is_empty());
        let whose = if is_document {
            String::new()
        } else {
            format!("{}, which may be no {}, ", remote.address(), remote.peer.name())
        };
        CommandError::new(self.exit(), format!("{whose}{}{}", self.line(), self.hint(remote)))
    }

    fn line(&self) -> String {
        let what = [&self.detail, &self.title].into_iter().find(|text| !text.is_empty());
        let what = what.map_or_else(|| format!("answered {}", self.status), |text| safe(text));
        let mut marks = Vec::new();
        if !self.code.is_empty() {
            marks.push(safe(&self.code));
        }
        if !self.act.is_empty() {
            marks.push(format!("act: {}", self.who()));
        }
        if marks.is_empty() { what } else { format!("{what} [{}]", marks.join("; ")) }
    }

    fn who(&self) -> String {
        match (self.act.as_str(), self.retry_after) {
            ("wait", Some(seconds)) => format!("wait {seconds} s"),
            (act, _) => safe(act),
        }
    }

    /// What the keeper cannot know: how these commands are told a token or an address.
    fn hint(&self, remote: &Remote) -> &'static str {
        match (self.code.as_str(), remote.peer) {
            ("unauthorized", Peer::Keeper) if !remote.has_token() => ": name the file of the token with --token-file",
            ("unauthorized", Peer::Keeper) => ": the token of --token-file is not one of this keeper's",
            ("route_unknown", Peer::Keeper) => {
                ": is it the other listener? --server names the data listener, --admin-server the admin listener"
            }
            _ => "",
        }
    }

    /// The contract of docs/reference/cli.md; a refusal by Store or Entra that the keeper passes on is one too.
    fn exit(&self) -> Exit {
        if self.code.ends_with("_refused") {
            return Exit::Refused;
        }
        match self.status.as_u16() {
            404 => Exit::NotFound,
            401 | 403 | 409 | 410 | 422 => Exit::Refused,
            408 | 429 | 502..=504 => Exit::Unavailable,
            400..=499 => Exit::Usage,
            _ => Exit::Failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, body: &str, exit: Exit, line: &str) {
        let reply = Reply {
            status: StatusCode::from_u16(status).unwrap(),
            headers: http::HeaderMap::new(),
            body: body.to_owned().into(),
        };
        let problem = Problem::of(&reply);
        assert_eq!((problem.exit(), problem.line().as_str()), (exit, line), "{body}");
    }

    #[test]
    fn documents_become_one_line() {
        let revoked =
            r#"{"title":"t","detail":"the Store refuses this key for good","code":"key_revoked","act":"user"}"#;
        let line = "the Store refuses this key for good [key_revoked; act: user]";
        check(410, revoked, Exit::Refused, line);
        let busy = r#"{"title":"too many","code":"too_many_requests","act":"wait","retry_after":1}"#;
        check(429, busy, Exit::Unavailable, "too many [too_many_requests; act: wait 1 s]");
        check(
            404,
            r#"{"detail":"no such key","code":"key_not_found","act":"caller"}"#,
            Exit::NotFound,
            "no such key [key_not_found; act: caller]",
        );
        check(
            502,
            r#"{"detail":"no","code":"renewal_refused","act":"wait"}"#,
            Exit::Refused,
            "no [renewal_refused; act: wait]",
        );
    }

    #[test]
    fn what_is_no_document_is_told_by_its_status() {
        check(502, "<html>", Exit::Unavailable, "answered 502 Bad Gateway");
        check(500, "[]", Exit::Failure, "answered 500 Internal Server Error");
        check(400, "{}", Exit::Usage, "answered 400 Bad Request");
    }

    #[test]
    fn every_code_of_the_keeper_has_its_exit_code() {
        for row in storekeeper_server::code::ALL {
            let problem = Problem { code: row.code.to_owned(), status: row.status(), ..Problem::default() };
            let expected = match (row.code, row.status) {
                ("ticket_refused" | "renewal_refused", _) => Exit::Refused,
                (_, 404) => Exit::NotFound,
                (_, 401 | 403 | 409 | 410 | 422) => Exit::Refused,
                (_, 408 | 429 | 503) => Exit::Unavailable,
                (_, 500) => Exit::Failure,
                (_, 400 | 405 | 413 | 415) => Exit::Usage,
                other => panic!("no exit code is agreed on for {other:?}"),
            };
            assert_eq!(problem.exit(), expected, "{}", row.code);
        }
    }
}
