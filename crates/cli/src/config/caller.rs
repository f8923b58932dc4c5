//! `[[caller]]`: who may talk to the keeper, besides those made with `token create`.

use storekeeper_model::{AppName, Secret};
pub use storekeeper_server::Scope;
use storekeeper_server::TokenDigest;

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

impl Caller {
    /// `known` are the names of all configured apps.
    pub(super) fn read(node: &Node, known: &[String], report: &mut Report) -> Option<Self> {
        let app = node.names("app").map(|names| apps(node, &names, known, report));
        let scope = node.names("scope");
        if scope.as_ref().is_some_and(Vec::is_empty) {
            node.refuse("scope", format!("is empty: list one or more of {}", SCOPES.join(", ")), report);
        }
        let token = node.secret("token").filter(|token| {
            let fits = TokenDigest::of(token);
            if let Err(error) = &fits {
                node.refuse("token", error.to_string(), report);
            }
            fits.is_ok()
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
}
