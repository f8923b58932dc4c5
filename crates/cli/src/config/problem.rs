//! What can be wrong with a configuration: each problem is one line that says where, what, and what to do.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is the default.
    Default,
    /// In the file, at this line and column, both counted from 1.
    File {
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
    },
    /// In this variable of the environment.
    Environment(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { line, .. } => write!(f, "file, line {line}"),
            Self::Environment(name) => write!(f, "environment {name}"),
        }
    }
}

/// One thing that is wrong, or doubtful.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it was written; [`Origin::Default`] when nothing was.
    pub origin: Origin,
    /// The setting, as in `app[0].credential[0].secret_file`; empty when it is about the file as a whole.
    pub setting: String,
    /// What is wrong and what to do, without the value of a secret.
    pub message: String,
}

impl Problem {
    /// The one line, with the file's name in front.
    pub fn line(&self, file: &Path) -> String {
        let place = match &self.origin {
            Origin::Default => file.display().to_string(),
            Origin::File { line, column } => format!("{}:{line}:{column}", file.display()),
            Origin::Environment(name) => name.clone(),
        };
        if self.setting.is_empty() {
            format!("{place}: {}", self.message)
        } else {
            format!("{place}: {}: {}", self.setting, self.message)
        }
    }
}

/// Something the configuration may hold but had better not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The configuration file.
    pub file: PathBuf,
    /// What is doubtful.
    pub problem: Problem,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem.line(&self.file))
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}; `storekeeper init` writes one", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It can, but some of it cannot be used. Prints one line per problem, in the order of the file.
    #[error("{}", lines(file, problems))]
    Invalid {
        /// The file.
        file: PathBuf,
        /// What is wrong; never empty.
        problems: Vec<Problem>,
    },
}

fn lines(file: &Path, problems: &[Problem]) -> String {
    problems.iter().map(|problem| problem.line(file)).collect::<Vec<_>>().join("\n")
}

/// Problems and warnings as they are found.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl Report {
    pub(super) fn problem(&mut self, origin: Origin, setting: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem { origin, setting: setting.into(), message: message.into() });
    }

    pub(super) fn warning(&mut self, origin: Origin, setting: impl Into<String>, message: impl Into<String>) {
        self.warnings.push(Problem { origin, setting: setting.into(), message: message.into() });
    }

    /// In the order of the file; what was written nowhere, or in the environment, comes last.
    pub(super) fn sort(&mut self) {
        let place = |problem: &Problem| match &problem.origin {
            Origin::File { line, column } => (0, *line, *column),
            Origin::Default => (1, 0, 0),
            Origin::Environment(_) => (2, 0, 0),
        };
        self.problems.sort_by_key(place);
        self.warnings.sort_by_key(place);
    }
}
