//! What is told about the configuration elsewhere, written from the same table that reads it: the commented file that
//! `storekeeper init` makes, and the tables of `docs/reference/config.md`.

use super::schema::{Kind, Occurs, Preset, ROOT, STRICT_FILES, Section, Setting, file_name};

/// A commented file that names every setting. Those with a default are commented out with it; what is left only needs
/// the IDs of the app registration and three files beside it: `master.key`, `backend.token` and `mygame.secret`.
pub fn template() -> String {
    let mut text = String::from(
        "# storekeeper: the configuration. Lines that start with `#` and a name show the default, or an example.\n\
         # Paths are relative to this file. Durations look like \"14d\", \"12h\" or \"1d12h\".\n\
         # Every single value may also come from the environment: STOREKEEPER__SERVER__LISTEN, STOREKEEPER__APP__0__CLIENT_ID.\n\n",
    );
    for setting in ROOT.settings {
        describe(setting, &mut text);
    }
    for section in ROOT.sections {
        section_template(section, "", &mut text);
    }
    text
}

fn section_template(section: &Section, parent: &str, text: &mut String) {
    let name = if parent.is_empty() { section.name.to_owned() } else { format!("{parent}.{}", section.name) };
    text.push('\n');
    comment(section.about, text);
    if section.occurs == Occurs::Overrides {
        text.push_str(&format!("# [{name}]\n# {}\n", line(&section.settings[0])));
        return;
    }
    if section.occurs == Occurs::Optional {
        text.push_str(&format!("# [{name}]\n"));
        for setting in section.settings {
            comment(setting.about, text);
            text.push_str(&format!("# {}\n", line(setting)));
        }
        return;
    }
    text.push_str(&if section.occurs == Occurs::Repeats { format!("[[{name}]]\n") } else { format!("[{name}]\n") });
    for setting in section.settings.iter().filter(|setting| setting.name != STRICT_FILES.name) {
        describe(setting, text);
    }
    for below in section.sections {
        section_template(below, &name, text);
    }
}

fn describe(setting: &Setting, text: &mut String) {
    comment(setting.about, text);
    // The one secret without a preset that the template's app cannot do without.
    let is_needed = setting.preset == Preset::Required || setting.kind == Kind::Secret;
    text.push_str(&format!("{}{}\n", if is_needed { "" } else { "# " }, line(setting)));
}

fn comment(about: &str, text: &mut String) {
    let mut width = 0;
    for word in about.split(' ') {
        let length = word.chars().count() + 1;
        if width == 0 || width + length > COMMENT_WIDTH {
            text.push_str(if width == 0 { "#" } else { "\n#" });
            width = 1;
        }
        text.push(' ');
        text.push_str(word);
        width += length;
    }
    text.push('\n');
}

/// `name = value`, as it stands in the file.
fn line(setting: &Setting) -> String {
    let Preset::Value(preset) = setting.preset else {
        return setting.sample.expect("what has no default has a sample").to_owned();
    };
    let is_bare = matches!(setting.kind, Kind::Flag | Kind::Count(..));
    if is_bare { format!("{} = {preset}", setting.name) } else { format!("{} = \"{preset}\"", setting.name) }
}

/// The tables of the reference page, in Markdown: one per section.
pub fn reference() -> String {
    let mut text = String::new();
    section_reference(&ROOT, "", &mut text);
    text.trim_end().to_owned() + "\n"
}

fn section_reference(section: &Section, parent: &str, text: &mut String) {
    let name = if parent.is_empty() { section.name.to_owned() } else { format!("{parent}.{}", section.name) };
    let title = match section.occurs {
        _ if name.is_empty() => String::from("The top of the file"),
        Occurs::Repeats => format!("`[[{name}]]`"),
        Occurs::Once | Occurs::Optional | Occurs::Overrides => format!("`[{name}]`"),
    };
    text.push_str(&format!("### {title}\n\n{}\n\n", section.about));
    if section.occurs == Occurs::Overrides {
        text.push_str("The names are those of `[renewal]`.\n\n");
        return;
    }
    text.push_str("| Name | Value | Default | Meaning |\n|---|---|---|---|\n");
    for setting in section.settings {
        let name = match setting.kind {
            kind if kind.may_stand_in_a_file() => format!("`{}` or `{}`", setting.name, file_name(setting.name)),
            _ => format!("`{}`", setting.name),
        };
        let preset = match setting.preset {
            Preset::Required => String::from("required"),
            Preset::Nothing => String::from("none"),
            Preset::Value(value) => format!("`{value}`"),
        };
        text.push_str(&format!("| {name} | {} | {preset} | {} |\n", setting.kind.describe(), setting.about));
    }
    text.push('\n');
    for below in section.sections {
        section_reference(below, &name, text);
    }
}

const COMMENT_WIDTH: usize = 100;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_template_lacks_only_what_nobody_can_guess() {
        let error =
            super::super::Config::from_text(&template(), Path::new("/nowhere/storekeeper.toml"), &BTreeMap::new());
        let told = error.unwrap_err().to_string();
        let settings: Vec<&str> = told.lines().map(|line| line.split(": ").nth(1).unwrap()).collect();
        assert_eq!(
            settings,
            [
                "keyring.url",
                "encryption.master_key_file",
                "app[0].tenant_id",
                "app[0].client_id",
                "app[0].credential[0].secret_file",
                "caller[0].token_file"
            ],
            "{told}"
        );
    }

    #[test]
    fn the_template_names_every_setting_with_its_default() {
        fn check(section: &Section, text: &str) {
            for setting in section.settings.iter().filter(|_| section.occurs != Occurs::Overrides) {
                assert!(text.contains(&format!("{}\n", line(setting))), "{}", setting.name);
            }
            section.sections.iter().for_each(|below| check(below, text));
        }
        check(&ROOT, &template());
    }
}
