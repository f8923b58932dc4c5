//! The configuration: one TOML file, overridden by the environment, read once and checked as a whole.
//!
//! [`Config::load`] answers with everything or with every problem, one line each, saying what to do. The names, kinds,
//! defaults and meanings of all settings stand in one table ([`schema`]); each section has a file of its own.

pub mod app;
pub mod caller;
pub mod encryption;
pub mod endpoint;
pub mod entra;
mod environment;
pub mod keyring;
mod problem;
mod reference;
pub mod renewal;
mod resolve;
pub mod schema;
mod secret_file;
pub mod server;
mod unknown;
mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

pub use app::{App, Credential, UserClaim};
pub use caller::{Caller, Scope};
pub use encryption::Encryption;
pub use endpoint::{EndpointUrl, Endpoints, EntraVersion};
pub use entra::EntraPassword;
pub use environment::PREFIX;
pub use keyring::{Keyring, KeyringUrl, PostgresUrl};
pub use problem::{ConfigError, Origin, Problem, Warning};
pub use reference::{reference, template};
pub use renewal::Renewal;
pub use server::{Exposed, Server};

use environment::Branch;
use problem::Report;
use resolve::{Node, Resolver, place};
use value::Value;

/// A configuration that was read as a whole and found sound.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[keyring]`
    pub keyring: Keyring,
    /// `[encryption]`
    pub encryption: Encryption,
    /// `[renewal]`: what holds for an app that overrides nothing.
    pub renewal: Renewal,
    /// `[endpoint]`
    pub endpoint: Endpoints,
    /// `[[app]]`, names unique.
    pub app: Vec<App>,
    /// `[[caller]]`, names and tokens unique.
    pub caller: Vec<Caller>,
    shown: Vec<Shown>,
}

/// One line of `config show`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The setting, as in `app[0].client_id`.
    pub setting: String,
    /// Its value; secrets are redacted.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

impl Config {
    /// Reads `file`. `environment` holds the variables of the process; those starting with [`PREFIX`] override the file.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`] when there is no such file, [`ConfigError::Invalid`] with every problem found.
    pub fn load(file: &Path, environment: &BTreeMap<String, String>) -> Result<(Self, Vec<Warning>), ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { file: file.to_owned(), source };
        let text = std::fs::read_to_string(file).map_err(unreadable)?;
        let is_loose = secret_file::is_loose(&std::fs::metadata(file).map_err(unreadable)?);
        Self::parse(&text, file, is_loose, environment)
    }

    /// Reads of `file` where keys are kept, and nothing else: whoever makes tables need not be able to read the secrets
    /// of apps and callers.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_keyring(file: &Path, environment: &BTreeMap<String, String>) -> Result<Keyring, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
        let (mut report, folder) = (Report::default(), folder(file));
        let keyring = parsed(&text, &mut report).map(|table| {
            let root = resolved(&text, &table, &folder, false, environment, &mut report);
            Keyring::read(&root, &folder, &mut report)
        });
        report.sort();
        let is_ours =
            |setting: &str| setting.is_empty() || setting.starts_with("keyring") || setting == "endpoint.entra";
        report.problems.retain(|problem| is_ours(&problem.setting));
        match keyring {
            Some(keyring) if report.problems.is_empty() => Ok(keyring),
            _ => Err(ConfigError::Invalid { file: file.to_owned(), problems: report.problems }),
        }
    }

    /// Reads `text` as if it stood in `file`, which need not exist: for a configuration that is made up on the spot.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`].
    pub fn from_text(
        text: &str,
        file: &Path,
        environment: &BTreeMap<String, String>,
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        Self::parse(text, file, false, environment)
    }

    /// Every setting with its value and where that comes from, in the order of the table.
    pub fn show(&self) -> &[Shown] {
        &self.shown
    }

    fn parse(
        text: &str,
        file: &Path,
        is_loose: bool,
        environment: &BTreeMap<String, String>,
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        let mut report = Report::default();
        let folder = folder(file);
        let config = parsed(text, &mut report).and_then(|table| {
            let root = resolved(text, &table, &folder, is_loose, environment, &mut report);
            Self::read(&root, &folder, &mut report)
        });
        report.sort();
        let told = |problem| Warning { file: file.to_owned(), problem };
        match config {
            Some(config) if report.problems.is_empty() => Ok((config, report.warnings.into_iter().map(told).collect())),
            _ => Err(ConfigError::Invalid { file: file.to_owned(), problems: report.problems }),
        }
    }

    /// `None` only when a problem was reported.
    fn read(root: &Node, folder: &Path, report: &mut Report) -> Option<Self> {
        let renewal = renewal::read(root.only("renewal"), &Renewal::default(), report);
        let known: Vec<String> = root.below("app").iter().filter_map(|node| node.text("name")).collect();
        refuse_twins(root.below("app"), "name", "app", |node| node.text("name"), report);
        refuse_twins(root.below("caller"), "name", "caller", |node| node.text("name"), report);
        refuse_twins(
            root.below("caller"),
            "token",
            "caller",
            |node| Some(node.secret("token")?.expose().clone()),
            report,
        );
        if root.below("app").is_empty() {
            report.warning(Origin::Default, "app", "no app is configured, so no key can be enrolled: add an [[app]]");
        }
        let server = Server::read(root.only("server"), report);
        let keyring = Keyring::read(root, folder, report);
        let encryption = Encryption::read(root.only("encryption"), report);
        let endpoint = Endpoints::read(root.only("endpoint"));
        let app: Vec<Option<App>> = root.below("app").iter().map(|node| App::read(node, &renewal, report)).collect();
        let caller: Vec<Option<Caller>> =
            root.below("caller").iter().map(|node| Caller::read(node, &known, report)).collect();
        let (app, caller) = (app.into_iter().collect::<Option<_>>()?, caller.into_iter().collect::<Option<_>>()?);
        let mut shown = Vec::new();
        show(root, &mut shown);
        Some(Self { server, keyring, encryption, renewal, endpoint, app, caller, shown })
    }
}

/// The folder that relative paths start from; empty when the file is named without one.
fn folder(file: &Path) -> PathBuf {
    file.parent().map(Path::to_owned).unwrap_or_default()
}

fn parsed<'t>(text: &'t str, report: &mut Report) -> Option<DeTable<'t>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let origin = error.span().map_or(Origin::Default, |span| place(text, span.start));
        report.problem(origin, "", format!("is not TOML: {}", error.message().replace('\n', ", ")));
    }
    errors.is_empty().then(|| table.into_inner())
}

fn resolved(
    text: &str,
    table: &DeTable<'_>,
    folder: &Path,
    is_loose: bool,
    environment: &BTreeMap<String, String>,
    report: &mut Report,
) -> Node {
    let mut resolver = Resolver { text, folder, report, loose: Vec::new() };
    let root = resolver.section(&schema::ROOT, String::new(), Origin::Default, Some(table), &Branch::grow(environment));
    let mut loose = resolver.loose;
    if is_loose {
        written_in_the_open(&root, &mut loose);
    }
    let is_strict = [&root, root.only("server")].iter().any(|node| node.flag("strict_files") == Some(true));
    for (origin, setting, message) in loose {
        if is_strict {
            report.problem(origin, setting, message);
        } else {
            report.warning(origin, setting, message);
        }
    }
    root
}

/// Finds the secrets that stand in the configuration file itself.
fn written_in_the_open(node: &Node, loose: &mut Vec<(Origin, String, String)>) {
    for value in &node.values {
        let is_in_the_open = value.value.as_ref().is_some_and(Value::is_secret_in_the_open);
        if is_in_the_open && matches!(value.origin, Origin::File { .. }) {
            let message = "stands in a file that can be read by others: run `chmod 600` on it";
            loose.push((value.origin.clone(), node.setting(value.name), String::from(message)));
        }
    }
    node.sections().for_each(|below| written_in_the_open(below, loose));
}

fn refuse_twins(nodes: &[Node], name: &str, what: &str, value: impl Fn(&Node) -> Option<String>, report: &mut Report) {
    for (at, node) in nodes.iter().enumerate() {
        let Some(own) = value(node) else { continue };
        if let Some(first) = nodes[..at].iter().find(|earlier| value(earlier).as_ref() == Some(&own)) {
            node.refuse(name, format!("is that of {} already: every {what} needs its own", first.path), report);
        }
    }
}

fn show(node: &Node, shown: &mut Vec<Shown>) {
    for value in &node.values {
        if let Some(found) = &value.value {
            shown.push(Shown { setting: node.setting(value.name), value: found.show(), origin: value.origin.clone() });
        }
    }
    node.sections().for_each(|below| show(below, shown));
}

/// Reads a secret from a file of its own, as the configuration does.
///
/// # Errors
/// One line that says which file, why, and what to do.
pub fn read_secret(file: &std::path::Path) -> Result<storekeeper_model::Secret<String>, String> {
    secret_file::read(file).map(|secret| secret.text).map_err(|error| error.to_string())
}
