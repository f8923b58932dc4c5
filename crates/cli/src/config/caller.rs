//! `[[caller]]`: who may talk to the keeper, besides those made with `token create`.

use std::fmt;
use std::str::FromStr;

use storekeeper_model::{AppName, Secret};

use super::problem::Report;
use super::resolve::Node;
use super::schema::{Kind, Occurs, Preset, Section, Setting, nearest};

/// One caller and its bearer token.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Its name in the log.
    pub name: String,
    /// 16 to 512 visible ASCII characters.
    pub token: Secret<String>,
    /// What it may do.
    pub scope: Vec<Scope>,
    /// For which apps; `None`: all.
    pub app: Option<Vec<AppName>>,
}

/// One thing a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Read keys and what is known of them.
    KeyRead,
    /// Enroll, renew and forget keys.
    KeyWrite,
    /// Collections and Purchase tickets, which are made for handing to a client app.
    TicketClient,
    /// The service ticket, which must never leave the service.
    TicketService,
    /// Store calls with key and ticket put in.
    StoreCall,
    /// The metrics.
    MetricsRead,
    /// Everything on the admin listener.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::KeyRead,
        Self::KeyWrite,
        Self::TicketClient,
        Self::TicketService,
        Self::StoreCall,
        Self::MetricsRead,
        Self::Admin,
    ];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeyRead => "key:read",
            Self::KeyWrite => "key:write",
            Self::TicketClient => "ticket:client",
            Self::TicketService => "ticket:service",
            Self::StoreCall => "store:call",
            Self::MetricsRead => "metrics:read",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no scope")]
pub struct UnknownScope;

impl FromStr for Scope {
    type Err = UnknownScope;
    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(UnknownScope)
    }
}

impl Caller {
    /// `known` are the names of all configured apps.
    pub(super) fn read(node: &Node, known: &[String], report: &mut Report) -> Option<Self> {
        let app = node.names("app").map(|names| apps(node, &names, known, report));
        let scope = node.names("scope");
        if scope.as_ref().is_some_and(Vec::is_empty) {
            node.refuse("scope", format!("is empty: list one or more of {}", SCOPES.join(", ")), report);
        }
        let token = node.secret("token").filter(|token| {
            let fits = is_token(token);
            if !fits {
                node.refuse("token", "must be 16 to 512 visible ASCII characters without spaces", report);
            }
            fits
        });
        let scope = scope?.iter().filter_map(|name| name.parse().ok()).collect();
        Some(Self { name: node.text("name")?, token: token?, scope, app })
    }
}

fn apps(node: &Node, names: &[String], known: &[String], report: &mut Report) -> Vec<AppName> {
    if names.is_empty() {
        node.refuse("app", "is empty: leave it out to allow all apps", report);
    }
    for name in names.iter().filter(|name| !known.contains(name)) {
        let near = nearest(name, known.iter().map(String::as_str));
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        node.refuse("app", format!("no app is named `{}`{hint}", super::value::short(name)), report);
    }
    names.iter().filter_map(|name| AppName::new(name).ok()).collect()
}

fn is_token(token: &Secret<String>) -> bool {
    (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.expose().len())
        && token.expose().bytes().all(|b| b.is_ascii_graphic())
}

const TOKEN_BYTES_MIN: usize = 16;
const TOKEN_BYTES_MAX: usize = 512;

const SCOPES: &[&str] =
    &["key:read", "key:write", "ticket:client", "ticket:service", "store:call", "metrics:read", "admin"];

pub(super) const SECTION: Section = Section {
    name: "caller",
    occurs: Occurs::Repeats,
    about: "Somebody who may talk to the keeper, with `Authorization: Bearer` and this token.",
    settings: &[
        Setting {
            name: "name",
            kind: Kind::Text,
            preset: Preset::Required,
            sample: Some("name = \"backend\""),
            about: "Its name in the log.",
        },
        Setting {
            name: "token",
            kind: Kind::Secret,
            preset: Preset::Required,
            sample: Some("token_file = \"backend.token\""),
            about: "16 to 512 visible ASCII characters.",
        },
        Setting {
            name: "scope",
            kind: Kind::Choices(SCOPES),
            preset: Preset::Required,
            sample: Some("scope = [\"key:read\", \"key:write\", \"ticket:client\"]"),
            about: "What it may do.",
        },
        Setting {
            name: "app",
            kind: Kind::Names,
            preset: Preset::Nothing,
            sample: Some("app = [\"mygame\"]"),
            about: "For which apps. Absent: all.",
        },
    ],
    sections: &[],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_the_scopes() {
        assert_eq!(Scope::ALL.map(Scope::as_str), SCOPES);
    }

    #[test]
    fn tokens() {
        let fits = |text: String| is_token(&Secret::new(text));
        assert!(fits("x".repeat(16)) && fits("~".repeat(512)));
        assert!(!fits("x".repeat(15)) && !fits("x".repeat(513)));
        assert!(!fits(String::from("sixteen with spaces")) && !fits("ü".repeat(16)));
    }
}
