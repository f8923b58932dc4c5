//! The table of settings: every section and every name that a configuration may hold, said once. Reading, `config show`,
//! the template and the reference page all follow it.

/// What a setting's value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number between the two, both included.
    Count(u64, u64),
    /// So many per second: a number above zero, or text such as `"20/s"`.
    Rate,
    /// A duration such as `"14d"`.
    Span,
    /// A duration, or `"off"`.
    SpanOrOff,
    /// Any text.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of these words.
    Choices(&'static [&'static str]),
    /// A list of texts.
    Names,
    /// `host:port` to listen on.
    Address,
    /// An `https` address with an optional path prefix; `http` towards loopback only.
    Url,
    /// A file, relative to the configuration file.
    Path,
    /// A folder, relative to the configuration file.
    Folder,
    /// Text that is never shown; may stand in a file of its own, named by `…_file`.
    Secret,
    /// Where keys are kept. Its password is never shown; may stand in a file as a secret may.
    Keyring,
}

impl Kind {
    /// What a reader is told to write.
    pub fn describe(self) -> String {
        let words = |words: &[&str]| words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ");
        match self {
            Self::Flag => String::from("`true` or `false`"),
            Self::Count(least, most) => format!("whole number, {least} to {most}"),
            Self::Rate => String::from("number per second, or `\"20/s\"`"),
            Self::Span => String::from("duration"),
            Self::SpanOrOff => String::from("duration or `\"off\"`"),
            Self::Text => String::from("text"),
            Self::Choice(known) => words(known),
            Self::Choices(known) => format!("list of {}", words(known)),
            Self::Names => String::from("list of texts"),
            Self::Address => String::from("`host:port`"),
            Self::Url => String::from("URL"),
            Self::Path => String::from("file"),
            Self::Folder => String::from("folder"),
            Self::Secret => String::from("secret text"),
            Self::Keyring => String::from("URL, may hold a password"),
        }
    }

    /// Whether it may stand in a file of its own, named by `…_file`.
    pub const fn may_stand_in_a_file(self) -> bool {
        matches!(self, Self::Secret | Self::Keyring)
    }
}

/// What holds when a setting is written nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// It must be written; without it the configuration is refused.
    Required,
    /// Nothing: the meaning of its absence stands in [`Setting::about`].
    Nothing,
    /// This value, in the form the environment takes.
    Value(&'static str),
}

/// One name in a section.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The name, as in the file.
    pub name: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// What holds without it.
    pub preset: Preset,
    /// A line for the template, `name = value`, where the preset alone would not show how to write it.
    pub sample: Option<&'static str>,
    /// What it means, in one or two sentences.
    pub about: &'static str,
}

/// How often a section may stand in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occurs {
    /// Once, as `[name]`.
    Once,
    /// Once, as `[name]`, or not at all: what it must hold, it must hold where it stands.
    Optional,
    /// Once; what it does not say is taken from the section of the same name at the top.
    Overrides,
    /// Any number of times, as `[[name]]`.
    Repeats,
}

/// A table of the file.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// The name between the brackets, without its parents; empty for the file itself.
    pub name: &'static str,
    /// How often it may stand there.
    pub occurs: Occurs,
    /// What it is for, in one or two sentences.
    pub about: &'static str,
    /// Its names.
    pub settings: &'static [Setting],
    /// The tables below it.
    pub sections: &'static [Section],
}

impl Section {
    /// Every name that may stand in it: settings, `…_file` forms of its secrets, and tables below it.
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for setting in self.settings {
            names.push(setting.name.to_owned());
            if setting.kind.may_stand_in_a_file() {
                names.push(file_name(setting.name));
            }
        }
        names.extend(self.sections.iter().map(|section| section.name.to_owned()));
        names
    }
}

/// The whole file.
pub const ROOT: Section = Section {
    name: "",
    occurs: Occurs::Once,
    about: "Stands before the first section.",
    settings: &[STRICT_FILES],
    sections: &[
        super::server::SECTION,
        super::keyring::SECTION,
        super::encryption::SECTION,
        super::renewal::SECTION,
        super::endpoint::SECTION,
        super::app::SECTION,
        super::caller::SECTION,
    ],
};

/// May stand at the top or under `[server]`.
pub(super) const STRICT_FILES: Setting = Setting {
    name: "strict_files",
    kind: Kind::Flag,
    preset: Preset::Value("false"),
    sample: None,
    about: "Refuse to start when a file with a secret can be read by others; without it that is a warning. May also stand under `[server]`.",
};

/// The name under which a secret's file is given.
pub(super) fn file_name(secret: &str) -> String {
    format!("{secret}_file")
}

/// The known name that `given` most probably means.
pub(super) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_ascii_lowercase().replace('-', "_");
    let reach = 1 + given.chars().count() / 4;
    let known: Vec<&str> = known.into_iter().collect();
    let typed = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&given, name), *name))
        .filter(|(distance, _)| *distance <= reach)
        .min_by_key(|(distance, _)| *distance);
    let begun = || known.iter().copied().find(|name| given.len() > 2 && name.starts_with(&given));
    typed.map(|(_, name)| name).or_else(begun)
}

/// The section in which `given` is a known name, as it is written in the file.
pub(super) fn home(given: &str) -> Option<String> {
    fn search(section: &Section, heading: &str, given: &str, is_rare: bool) -> Option<String> {
        let is_one = is_rare == (section.occurs == Occurs::Optional);
        let knows = section.settings.iter().any(|s| s.name == given || file_name(s.name) == given);
        if !heading.is_empty() && is_one && knows {
            let brackets = if section.occurs == Occurs::Repeats { ("[[", "]]") } else { ("[", "]") };
            return Some(format!("{}{heading}{}", brackets.0, brackets.1));
        }
        section.sections.iter().find_map(|below| {
            let heading = if heading.is_empty() { below.name.to_owned() } else { format!("{heading}.{}", below.name) };
            search(below, &heading, given, is_rare)
        })
    }
    // What everybody needs was meant rather than what may be left out.
    search(&ROOT, "", given, false).or_else(|| search(&ROOT, "", given, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let known = ["listen", "admin_listen", "plaintext"];
        for (given, meant) in [
            ("lisen", Some("listen")),
            ("admin-listen", Some("admin_listen")),
            ("admin", Some("admin_listen")),
            ("colour", None),
        ] {
            assert_eq!(nearest(given, known), meant, "{given}");
        }
    }

    #[test]
    fn a_name_in_the_wrong_section_is_sent_home() {
        assert_eq!(home("pace_max").as_deref(), Some("[renewal]"));
        assert_eq!(home("secret_file").as_deref(), Some("[[app.credential]]"));
        assert_eq!(home("nonsense"), None);
    }
}
