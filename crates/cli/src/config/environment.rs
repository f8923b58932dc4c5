//! Overrides from the environment: `STOREKEEPER__SECTION__NAME` and `STOREKEEPER__APP__0__CLIENT_ID`, as a tree.

use std::collections::BTreeMap;

/// What every variable that belongs to the configuration starts with.
pub const PREFIX: &str = "STOREKEEPER__";

/// One step of the names: `STOREKEEPER__APP__0__NAME` is three deep. Steps are kept in lower case.
#[derive(Debug, Default)]
pub(super) struct Branch {
    /// The variable that ends here, and its value.
    pub(super) leaf: Option<(String, String)>,
    /// What goes on.
    pub(super) branches: BTreeMap<String, Branch>,
}

impl Branch {
    /// Sorts the variables of a process; those without the prefix are none of ours.
    pub(super) fn grow(environment: &BTreeMap<String, String>) -> Self {
        let mut root = Self::default();
        for (variable, value) in environment {
            let Some(steps) = variable.strip_prefix(PREFIX) else { continue };
            let mut branch = &mut root;
            for step in steps.split("__") {
                branch = branch.branches.entry(step.to_ascii_lowercase()).or_default();
            }
            branch.leaf = Some((variable.clone(), value.clone()));
        }
        root
    }

    /// The branch one step further.
    pub(super) fn below(&self, step: &str) -> Option<&Self> {
        self.branches.get(step)
    }

    /// The variable that ends one step further.
    pub(super) fn value(&self, step: &str) -> Option<(&str, &str)> {
        let (variable, value) = self.below(step)?.leaf.as_ref()?;
        Some((variable, value))
    }

    /// Every variable here and below, in order.
    pub(super) fn variables(&self) -> Vec<&str> {
        let own = self.leaf.iter().map(|(variable, _)| variable.as_str());
        own.chain(self.branches.values().flat_map(Self::variables)).collect()
    }

    /// How many elements a repeated section has, when the file holds `in_file` of them; the variable that leaves a gap
    /// otherwise.
    pub(super) fn elements(&self, in_file: usize) -> Result<usize, String> {
        let mut indices: Vec<usize> = self.branches.keys().filter_map(|step| index(step)).collect();
        indices.sort_unstable();
        let mut count = in_file;
        for index in indices {
            if index > count {
                let variable = self.branches[&index.to_string()].variables().first().map(|name| (*name).to_owned());
                return Err(variable.unwrap_or_default());
            }
            count = count.max(index + 1);
        }
        Ok(count)
    }
}

/// The element that a step names; `00` names none.
pub(super) fn index(step: &str) -> Option<usize> {
    step.parse().ok().filter(|index: &usize| index.to_string() == step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grown(names: &[&str]) -> Branch {
        Branch::grow(&names.iter().map(|name| ((*name).to_owned(), String::from("x"))).collect())
    }

    #[test]
    fn variables_of_others_are_left_alone() {
        assert!(grown(&["PATH", "STOREKEEPER_LOG"]).variables().is_empty());
    }

    #[test]
    fn elements_follow_on_those_of_the_file() {
        let root = grown(&["STOREKEEPER__APP__1__NAME", "STOREKEEPER__APP__2__NAME"]);
        let apps = root.below("app").unwrap();
        assert_eq!(apps.elements(1), Ok(3));
        assert_eq!(apps.elements(5), Ok(5));
        assert_eq!(apps.elements(0), Err(String::from("STOREKEEPER__APP__1__NAME")));
    }

    #[test]
    fn a_leading_zero_is_no_index() {
        assert_eq!(grown(&["STOREKEEPER__APP__00__NAME"]).below("app").unwrap().elements(0), Ok(0));
    }
}
