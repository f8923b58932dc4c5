//! `storekeeper config`: whether a configuration holds, what it amounts to, and what may stand in one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::config::schema::{Kind, Occurs, Preset, ROOT, Section, Setting};
use crate::config::{self, reference};
use crate::exit::{CommandError, CommandResult, Exit};
use crate::output::{self, Format, Rows, counted, remark};

/// Check a configuration, show what it amounts to, tell what may stand in it.
#[derive(Debug, Args)]
pub struct Config {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Say whether a configuration holds; every problem is one line
    Check(File),
    /// Print every value and where it comes from; secrets are redacted
    Show(File),
    /// Tell every setting that may stand in a configuration
    Schema,
}

#[derive(Debug, Args)]
struct File {
    /// The configuration file
    #[arg(long = "config", value_name = "FILE", default_value = "storekeeper.toml")]
    file: PathBuf,
}

impl File {
    fn load(&self, environment: &BTreeMap<String, String>) -> Result<config::Config, CommandError> {
        let (config, warnings) =
            config::Config::load(&self.file, environment).map_err(|error| CommandError::new(Exit::Usage, error))?;
        warnings.iter().for_each(|warning| remark(&format!("warning: {warning}")));
        Ok(config)
    }
}

impl Config {
    /// Runs the verb. `environment` holds the variables of the process.
    pub fn run(self, environment: &BTreeMap<String, String>, format: Format) -> CommandResult {
        match self.verb {
            Verb::Check(file) => check(&file, environment, format),
            Verb::Show(file) => show(&file.load(environment)?, format),
            Verb::Schema => schema(format),
        }
    }
}

fn check(file: &File, environment: &BTreeMap<String, String>, format: Format) -> CommandResult {
    let config = file.load(environment)?;
    if let Some(missing) = config.keyring.missing() {
        return Err(CommandError::new(Exit::Usage, format!("{}: {missing}", file.file.display())));
    }
    let (apps, callers) = (config.app.len() as u64, config.caller.len() as u64);
    match format {
        Format::Json => output::print_json(&json!({ "ok": true, "apps": apps, "callers": callers })),
        Format::Table => {
            let (apps, callers) = (counted(apps, "app"), counted(callers, "caller"));
            output::print(&format!("{}: good, with {apps} and {callers}", file.file.display()))
        }
    }
}

fn show(config: &config::Config, format: Format) -> CommandResult {
    if format == Format::Json {
        let setting = |shown: &config::Shown| json!({ "setting": shown.setting, "value": shown.value, "origin": shown.origin.to_string() });
        return output::print_json(&config.show().iter().map(setting).collect::<Vec<_>>());
    }
    let mut rows = Rows::new(["SETTING", "VALUE", "FROM"]);
    for shown in config.show() {
        rows.add([shown.setting.as_str(), &shown.value, &shown.origin.to_string()]);
    }
    output::print(&rows.text())
}

/// The tables of the reference for people, a JSON Schema for editors.
fn schema(format: Format) -> CommandResult {
    match format {
        Format::Table => output::print(reference().trim_end()),
        Format::Json => {
            let mut schema = object(&ROOT);
            schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
            schema["title"] = json!("storekeeper");
            output::print_json(&schema)
        }
    }
}

fn object(section: &Section) -> Value {
    let mut properties = serde_json::Map::new();
    for setting in section.settings {
        properties.insert(setting.name.to_owned(), value(setting));
        if setting.kind.may_stand_in_a_file() {
            let about = format!("The file that holds it. {}", setting.about);
            properties.insert(format!("{}_file", setting.name), json!({ "type": "string", "description": about }));
        }
    }
    for below in section.sections {
        let table = object(below);
        let table = if below.occurs == Occurs::Repeats { json!({ "type": "array", "items": table }) } else { table };
        properties.insert(below.name.to_owned(), table);
    }
    json!({
        "type": "object",
        "description": section.about,
        "properties": properties,
        "additionalProperties": false,
    })
}

fn value(setting: &Setting) -> Value {
    let mut value = match setting.kind {
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Count(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Rate => json!({ "type": ["number", "string"] }),
        Kind::Choice(words) => json!({ "type": "string", "enum": words }),
        Kind::Choices(words) => json!({ "type": "array", "items": { "type": "string", "enum": words } }),
        Kind::Names => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Span
        | Kind::SpanOrOff
        | Kind::Text
        | Kind::Address
        | Kind::Url
        | Kind::Path
        | Kind::Folder
        | Kind::Secret
        | Kind::Keyring => {
            json!({ "type": "string" })
        }
    };
    value["description"] = json!(setting.about);
    if let Preset::Value(preset) = setting.preset {
        value["default"] = match setting.kind {
            Kind::Flag | Kind::Count(..) => serde_json::from_str(preset).unwrap_or_else(|_| json!(preset)),
            _ => json!(preset),
        };
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_names_every_setting_and_nothing_else() {
        fn check(section: &Section, schema: &Value) {
            let mut expected = section.names();
            expected.sort();
            let told: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
            assert_eq!(told, expected.iter().collect::<Vec<_>>(), "{}", section.name);
            for below in section.sections {
                let table = &schema["properties"][below.name];
                check(below, if below.occurs == Occurs::Repeats { &table["items"] } else { table });
            }
        }
        check(&ROOT, &object(&ROOT));
        let renewal = &object(&ROOT)["properties"]["renewal"]["properties"];
        assert_eq!(renewal["target"]["default"], "9d");
        assert_eq!(renewal["condemn_refusals"]["default"], 3);
    }
}
