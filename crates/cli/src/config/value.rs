//! One value of a setting: read from TOML or from the environment's text, shown without secrets.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use storekeeper_model::{Secret, format_span, parse_span};
use toml::de::DeValue;

use super::endpoint::EndpointUrl;
use super::keyring;
use super::schema::{Kind, nearest};

/// A value that fits its setting's [`Kind`].
#[derive(Debug, Clone)]
pub(super) enum Value {
    Flag(bool),
    Count(u64),
    Rate(f64),
    Span(Duration),
    Off,
    Text(String),
    Names(Vec<String>),
    Address(SocketAddr),
    Url(EndpointUrl),
    Path(PathBuf),
    Secret {
        text: Secret<String>,
        file: Option<PathBuf>,
    },
    /// Shown without its password.
    Keyring {
        text: Secret<String>,
        file: Option<PathBuf>,
    },
}

impl Value {
    /// As `config show` prints it.
    pub(super) fn show(&self) -> String {
        match self {
            Self::Flag(flag) => flag.to_string(),
            Self::Count(count) => count.to_string(),
            Self::Rate(rate) => format!("{rate}/s"),
            Self::Span(span) => format_span(*span),
            Self::Off => String::from("off"),
            Self::Text(text) => text.clone(),
            Self::Names(names) => names.join(", "),
            Self::Address(address) => address.to_string(),
            Self::Url(url) => url.to_string(),
            Self::Path(path) => path.display().to_string(),
            Self::Secret { file: None, .. } => String::from("[redacted]"),
            Self::Secret { file: Some(file), .. } => format!("[redacted] from {}", file.display()),
            Self::Keyring { text, file: None } => keyring::shown(text),
            Self::Keyring { text, file: Some(file) } => format!("{} from {}", keyring::shown(text), file.display()),
        }
    }

    /// What was written or read as text of this kind.
    pub(super) fn from_file(kind: Kind, text: Secret<String>, file: PathBuf) -> Self {
        let file = Some(file);
        if kind == Kind::Keyring { Self::Keyring { text, file } } else { Self::Secret { text, file } }
    }

    /// Whether it is a secret that stands beside other settings and not in a file of its own.
    pub(super) fn is_secret_in_the_open(&self) -> bool {
        match self {
            Self::Secret { file: None, .. } => true,
            Self::Keyring { text, file: None } => keyring::has_password(text),
            _ => false,
        }
    }
}

/// Reads what stands in the file. The message of a failure never holds the value of a secret.
pub(super) fn from_toml(kind: Kind, value: &DeValue<'_>) -> Result<Value, String> {
    let wrong = |wanted: &str| Err(format!("expected {wanted}, found {}", found(value)));
    match (kind, value) {
        (Kind::Flag, DeValue::Boolean(flag)) => Ok(Value::Flag(*flag)),
        (Kind::Flag, _) => wrong("true or false"),
        (Kind::Count(..), DeValue::Integer(number)) => {
            let number = i64::from_str_radix(number.as_str(), number.radix()).map_err(|_| too_large())?;
            count(kind, u64::try_from(number).ok())
        }
        (Kind::Count(..), _) => wrong("a whole number"),
        (Kind::Rate, DeValue::Integer(number)) if number.radix() == 10 => rate(number.as_str()),
        (Kind::Rate, DeValue::Float(number)) => rate(number.as_str()),
        (Kind::Choices(_) | Kind::Names, DeValue::Array(items)) => {
            let texts: Result<Vec<&str>, String> = items
                .iter()
                .enumerate()
                .map(|(at, item)| {
                    item.get_ref()
                        .as_str()
                        .ok_or_else(|| format!("item {at}: expected text, found {}", found(item.get_ref())))
                })
                .collect();
            names(kind, texts?)
        }
        (Kind::Choices(_) | Kind::Names, _) => wrong("a list of texts such as [\"one\", \"two\"]"),
        (_, DeValue::String(text)) => from_text(kind, text),
        (Kind::Rate, _) => wrong("a number per second such as 20 or \"20/s\""),
        (Kind::Span | Kind::SpanOrOff, _) => wrong("a duration in quotes such as \"14d\""),
        _ => wrong("text in quotes"),
    }
}

/// Reads what stands in a variable of the environment: the same text as in the file without its quotes, lists with
/// commas between their items.
pub(super) fn from_text(kind: Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Flag => {
            text.parse().map(Value::Flag).map_err(|_| format!("expected true or false, found `{}`", short(text)))
        }
        Kind::Count(..) => count(kind, text.parse().ok()),
        Kind::Rate => rate(text),
        Kind::SpanOrOff if text == "off" => Ok(Value::Off),
        Kind::Span | Kind::SpanOrOff => parse_span(text).map(Value::Span).map_err(|error| error.to_string()),
        Kind::Text if text.trim().is_empty() => Err(String::from(EMPTY)),
        Kind::Text => Ok(Value::Text(text.to_owned())),
        Kind::Choice(known) => one_of(known, text).map(Value::Text),
        Kind::Choices(_) | Kind::Names => {
            names(kind, text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect())
        }
        Kind::Address => address(text),
        Kind::Url => EndpointUrl::from_str(text).map(Value::Url).map_err(|error| error.to_string()),
        Kind::Path if text.is_empty() => Err(String::from("is empty: expected the name of a file")),
        Kind::Folder if text.is_empty() => Err(String::from("is empty: expected the name of a folder")),
        Kind::Path | Kind::Folder => Ok(Value::Path(PathBuf::from(text))),
        Kind::Secret | Kind::Keyring if text.trim().is_empty() => Err(String::from(EMPTY)),
        Kind::Keyring => Ok(Value::Keyring { text: Secret::new(text.trim().to_owned()), file: None }),
        Kind::Secret => Ok(Value::Secret { text: Secret::new(text.to_owned()), file: None }),
    }
}

fn names(kind: Kind, texts: Vec<&str>) -> Result<Value, String> {
    let known = match kind {
        Kind::Choices(known) => known,
        _ => return Ok(Value::Names(texts.into_iter().map(str::to_owned).collect())),
    };
    texts.into_iter().map(|text| one_of(known, text)).collect::<Result<_, _>>().map(Value::Names)
}

fn one_of(known: &[&str], text: &str) -> Result<String, String> {
    if known.contains(&text) {
        return Ok(text.to_owned());
    }
    let hint = nearest(text, known.iter().copied()).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
    Err(format!("`{}` is none of {}{hint}", short(text), known.join(", ")))
}

fn count(kind: Kind, number: Option<u64>) -> Result<Value, String> {
    let Kind::Count(least, most) = kind else { unreachable!("only called for counts") };
    match number {
        Some(number) if (least..=most).contains(&number) => Ok(Value::Count(number)),
        _ => Err(format!("expected a whole number between {least} and {most}")),
    }
}

fn rate(text: &str) -> Result<Value, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).trim().parse::<f64>().ok();
    match number {
        Some(number) if number.is_finite() && number > 0.0 => Ok(Value::Rate(number)),
        _ => Err(format!("`{}` is not a number per second above zero, such as 20 or \"20/s\"", short(text))),
    }
}

fn address(text: &str) -> Result<Value, String> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    numeric
        .parse()
        .map(Value::Address)
        .map_err(|_| format!("`{}` is not an IP address and port such as 127.0.0.1:8433", short(text)))
}

fn found(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// What is said about a text that should not be empty.
pub(super) const EMPTY: &str = "is empty";

fn too_large() -> String {
    String::from("the number is too large")
}

/// Enough of a text to recognise it by.
pub(super) fn short(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect()
}
