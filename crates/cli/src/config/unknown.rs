//! Names that the table of settings does not know: refused, each with the name that was probably meant.

use super::environment::{Branch, index};
use super::problem::{Origin, Report};
use super::resolve::{Table, join, place};
use super::schema::{Occurs, Section, home, nearest};
use super::value::short;

/// Reports every name of the file and every variable of the environment that `section` does not know.
pub(super) fn refuse(section: &Section, path: &str, table: Table<'_>, env: &Branch, text: &str, report: &mut Report) {
    let known = section.names();
    for (name, value) in table.into_iter().flatten() {
        if !known.iter().any(|known| known == name.get_ref()) {
            let message = unknown(name.get_ref(), section, value.get_ref().is_table());
            report.problem(place(text, name.span().start), join(path, &short(name.get_ref())), message);
        }
    }
    for (step, branch) in &env.branches {
        let below = section.sections.iter().find(|below| below.name == step);
        let message = match below {
            Some(_) => String::from(NO_SETTING),
            None => unknown(step, section, false),
        };
        for variable in strays(below, known.contains(step), branch) {
            report.problem(Origin::Environment(variable.to_owned()), join(path, step), message.clone());
        }
    }
}

/// The variables that name nothing, among those that go on from a step: `below` is the section that the step names.
fn strays<'b>(below: Option<&Section>, is_known: bool, branch: &'b Branch) -> Vec<&'b str> {
    let own = branch.leaf.iter().map(|(variable, _)| variable.as_str());
    match below {
        Some(below) if below.occurs == Occurs::Repeats => {
            let unnumbered = branch.branches.iter().filter(|(step, _)| index(step).is_none());
            own.chain(unnumbered.flat_map(|(_, branch)| branch.variables())).collect()
        }
        Some(_) => own.collect(),
        None if is_known => branch.branches.values().flat_map(Branch::variables).collect(),
        None => branch.variables(),
    }
}

const NO_SETTING: &str = "names no setting: sections that repeat are numbered from 0, as in STOREKEEPER__APP__0__NAME";

/// What to say about a name that the section does not know.
fn unknown(name: &str, section: &Section, is_table: bool) -> String {
    let what = if is_table { "unknown section" } else { "unknown name" };
    let known = section.names();
    if let Some(near) = nearest(name, known.iter().map(String::as_str)) {
        return format!("{what}; did you mean `{near}`?");
    }
    if let Some(home) = home(name) {
        return format!("{what} here; it belongs under `{home}`");
    }
    format!("{what}; known here: {}", known.join(", "))
}
