//! From file and environment to one value per setting: environment before file before default, unknown names refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use storekeeper_model::Secret;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::endpoint::EndpointUrl;
use super::environment::Branch;
use super::problem::{Origin, Report};
use super::schema::{Kind, Occurs, Preset, Section, Setting, file_name};
use super::secret_file;
use super::unknown;
use super::value::{EMPTY, Value, from_text, from_toml};

/// A section with its values.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) path: String,
    pub(super) origin: Origin,
    pub(super) values: Vec<Resolved>,
    children: Vec<(&'static str, Vec<Node>)>,
}

/// What was found for a setting.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) name: &'static str,
    /// `None` when it is written nowhere and has no default, or when what is written was reported as wrong.
    pub(super) value: Option<Value>,
    pub(super) origin: Origin,
}

/// A typed getter: `None` when there is no value.
macro_rules! getter {
    ($name:ident, $variant:ident, $type:ty) => {
        pub(super) fn $name(&self, name: &str) -> Option<$type> {
            match self.value(name) {
                Some(Value::$variant(value)) => Some(value.clone()),
                _ => None,
            }
        }
    };
}

impl Node {
    getter!(flag, Flag, bool);
    getter!(count, Count, u64);
    getter!(rate, Rate, f64);
    getter!(span, Span, Duration);
    getter!(text, Text, String);
    getter!(names, Names, Vec<String>);
    getter!(address, Address, std::net::SocketAddr);
    getter!(url, Url, EndpointUrl);
    getter!(path, Path, PathBuf);

    pub(super) fn secret(&self, name: &str) -> Option<Secret<String>> {
        match self.value(name) {
            Some(Value::Secret { text, .. } | Value::Keyring { text, .. }) => Some(text.clone()),
            _ => None,
        }
    }

    /// The file that a secret was read from.
    pub(super) fn secret_file(&self, name: &str) -> Option<PathBuf> {
        match self.value(name) {
            Some(Value::Secret { file, .. }) => file.clone(),
            _ => None,
        }
    }

    /// Whether a duration that may be `"off"` says so.
    pub(super) fn is_off(&self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::Off))
    }

    /// Whether any value was given for it, in the file or by the environment.
    pub(super) fn is_written(&self, name: &str) -> bool {
        self.resolved(name).origin != Origin::Default
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.resolved(name).value.as_ref()
    }

    fn resolved(&self, name: &str) -> &Resolved {
        self.values
            .iter()
            .find(|value| value.name == name)
            .expect("the table of settings declares every name that is read")
    }

    /// The sections of that name below this one; exactly one where it neither repeats nor may be absent.
    pub(super) fn below(&self, name: &str) -> &[Node] {
        let found = self.children.iter().find(|(section, _)| *section == name);
        &found.expect("the table of settings declares every section that is read").1
    }

    /// The first section of that name.
    pub(super) fn only(&self, name: &str) -> &Node {
        self.below(name).first().expect("a section that does not repeat is always there")
    }

    /// All sections below, in the order of the table.
    pub(super) fn sections(&self) -> impl Iterator<Item = &Node> {
        self.children.iter().flat_map(|(_, nodes)| nodes)
    }

    /// The full name of a setting, as in `app[0].client_id`.
    pub(super) fn setting(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// Reports what is wrong with a setting, where it was written.
    pub(super) fn refuse(&self, name: &str, message: impl Into<String>, report: &mut Report) {
        let origin = match &self.resolved(name).origin {
            Origin::Default => self.origin.clone(),
            written => written.clone(),
        };
        report.problem(origin, self.setting(name), message);
    }
}

pub(super) type Table<'t> = Option<&'t DeTable<'t>>;

/// What resolving needs and fills.
pub(super) struct Resolver<'r> {
    pub(super) text: &'r str,
    pub(super) folder: &'r Path,
    pub(super) report: &'r mut Report,
    /// Files with secrets that others can read: told once it is known how strict to be.
    pub(super) loose: Vec<(Origin, String, String)>,
}

impl Resolver<'_> {
    /// Resolves `section` and everything below it.
    pub(super) fn section(
        &mut self,
        section: &'static Section,
        path: String,
        at: Origin,
        table: Table<'_>,
        env: &Branch,
    ) -> Node {
        unknown::refuse(section, &path, table, env, self.text, self.report);
        let values = section
            .settings
            .iter()
            .map(|setting| {
                let found = self.setting(section, setting, &path, &at, table, env);
                let (value, origin) = found.unwrap_or((None, Origin::Default));
                Resolved { name: setting.name, value, origin }
            })
            .collect();
        let nothing = Branch::default();
        let children = section
            .sections
            .iter()
            .map(|below| {
                let value = table.and_then(|table| table.get(below.name));
                let env = env.below(below.name).unwrap_or(&nothing);
                let path = join(&path, below.name);
                let nodes = match below.occurs {
                    Occurs::Repeats => self.repeated(below, &path, value, env),
                    Occurs::Optional if value.is_none() && env.variables().is_empty() => Vec::new(),
                    Occurs::Optional => vec![self.single(below, path, value, env)],
                    Occurs::Once | Occurs::Overrides => vec![self.single(below, path, value, env)],
                };
                (below.name, nodes)
            })
            .collect();
        Node { path, origin: at, values, children }
    }

    fn single(
        &mut self,
        section: &'static Section,
        path: String,
        value: Option<&Spanned<DeValue<'_>>>,
        env: &Branch,
    ) -> Node {
        let at = value.map_or(Origin::Default, |value| self.origin(value));
        let table = value.and_then(|value| value.get_ref().as_table());
        if value.is_some() && table.is_none() {
            let heading = heading(&path);
            self.report.problem(at.clone(), path.clone(), format!("expected a section: write it as `[{heading}]`"));
        }
        self.section(section, path, at, table, env)
    }

    fn repeated(
        &mut self,
        section: &'static Section,
        path: &str,
        value: Option<&Spanned<DeValue<'_>>>,
        env: &Branch,
    ) -> Vec<Node> {
        let elements: Vec<&Spanned<DeValue<'_>>> = match value.map(|value| (value, value.get_ref())) {
            None => Vec::new(),
            Some((_, DeValue::Array(elements))) => elements.iter().collect(),
            Some((value, _)) => {
                let message = format!("may stand several times: write it as `[[{}]]`", heading(path));
                self.report.problem(self.origin(value), path, message);
                Vec::new()
            }
        };
        let count = env.elements(elements.len()).unwrap_or_else(|variable| {
            let message = format!("leaves a gap: the next free number is {}", elements.len());
            self.report.problem(Origin::Environment(variable), path, message);
            elements.len()
        });
        let nothing = Branch::default();
        (0..count)
            .map(|at| {
                let env = env.below(&at.to_string()).unwrap_or(&nothing);
                self.single(section, format!("{path}[{at}]"), elements.get(at).copied(), env)
            })
            .collect()
    }

    /// `None` when nothing was found; a value of `None` when what was found is wrong.
    fn setting(
        &mut self,
        section: &Section,
        setting: &'static Setting,
        path: &str,
        at: &Origin,
        table: Table<'_>,
        env: &Branch,
    ) -> Option<(Option<Value>, Origin)> {
        let name = join(path, setting.name);
        if setting.kind.may_stand_in_a_file()
            && let Some(found) = self.secret_of_file(setting, &name, table, env)
        {
            return Some(found);
        }
        let (outcome, origin) = if let Some((variable, text)) = env.value(setting.name) {
            (from_text(setting.kind, text), Origin::Environment(variable.to_owned()))
        } else if let Some(value) = table.and_then(|table| table.get(setting.name)) {
            (from_toml(setting.kind, value.get_ref()), self.origin(value))
        } else {
            return self.preset(section, setting, name, at);
        };
        let value = outcome
            .map_err(|message| {
                let help = if message == EMPTY { format!(". {}", setting.about) } else { String::new() };
                self.report.problem(origin.clone(), name, format!("{message}{help}"));
            })
            .ok();
        Some((value.map(|value| self.rooted(value)), origin))
    }

    /// What holds for a setting that is written nowhere.
    fn preset(
        &mut self,
        section: &Section,
        setting: &Setting,
        name: String,
        at: &Origin,
    ) -> Option<(Option<Value>, Origin)> {
        match setting.preset {
            _ if section.occurs == Occurs::Overrides => None,
            Preset::Nothing => None,
            Preset::Value(text) => {
                let value = from_text(setting.kind, text).expect("a test reads every preset");
                Some((Some(self.rooted(value)), Origin::Default))
            }
            Preset::Required => {
                let form = match setting.kind {
                    kind if kind.may_stand_in_a_file() => {
                        format!("`{}` or `{}`", setting.name, file_name(setting.name))
                    }
                    _ => format!("`{}`", setting.name),
                };
                self.report.problem(at.clone(), name, format!("is missing: write {form}. {}", setting.about));
                None
            }
        }
    }

    /// The value of a secret when the layer that decides names a file.
    fn secret_of_file(
        &mut self,
        setting: &Setting,
        name: &str,
        table: Table<'_>,
        env: &Branch,
    ) -> Option<(Option<Value>, Origin)> {
        let by_file = file_name(setting.name);
        let (bare, named, origin) = if env.value(setting.name).is_some() || env.value(&by_file).is_some() {
            let named = env.value(&by_file)?;
            let origin = Origin::Environment(named.0.to_owned());
            (env.value(setting.name).is_some(), Ok(named.1.to_owned()), origin)
        } else {
            let named = table?.get(by_file.as_str())?;
            let text = match from_toml(Kind::Path, named.get_ref()) {
                Ok(Value::Path(path)) => Ok(path.display().to_string()),
                Ok(_) => unreachable!("a path is read as a path"),
                Err(message) => Err(message),
            };
            (table?.contains_key(setting.name), text, self.origin(named))
        };
        let name = format!("{name}_file");
        if bare {
            let message = format!("stands beside `{}`: write one of the two", setting.name);
            self.report.problem(origin.clone(), name, message);
            return Some((None, origin));
        }
        let read = named.and_then(|file| secret_file::read(&self.folder.join(file)).map_err(|error| error.to_string()));
        match read {
            Ok(secret) => {
                if secret.is_loose {
                    let message = format!("{} can be read by others: run `chmod 600` on it", secret.file.display());
                    self.loose.push((origin.clone(), name, message));
                }
                Some((Some(Value::from_file(setting.kind, secret.text, secret.file)), origin))
            }
            Err(message) => {
                self.report.problem(origin.clone(), name, message);
                Some((None, origin))
            }
        }
    }

    /// A path as seen from the configuration file.
    fn rooted(&self, value: Value) -> Value {
        match value {
            Value::Path(path) => Value::Path(self.folder.join(path)),
            other => other,
        }
    }

    fn origin(&self, value: &Spanned<DeValue<'_>>) -> Origin {
        place(self.text, value.span().start)
    }
}

/// Line and column of a byte of the file.
pub(super) fn place(text: &str, byte: usize) -> Origin {
    let before = &text[..text.floor_char_boundary(byte)];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Origin::File { line, column }
}

pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// `app[0].credential[0]` as it is written between brackets.
fn heading(path: &str) -> String {
    path.split('.').map(|step| step.split('[').next().unwrap_or(step)).collect::<Vec<_>>().join(".")
}
