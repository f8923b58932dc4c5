//! `Query`: the parameters of a request, each known, given at most once and valid.

use crate::code;
use crate::percent;
use crate::problem::Problem;

/// Decoded names and values.
#[derive(Debug, PartialEq, Eq, Default)]
pub(crate) struct Query(Vec<(&'static str, String)>);

impl Query {
    /// Reads a query in which only `known` names may stand, each at most once.
    pub(crate) fn parse(raw: Option<&str>, known: &[&'static str]) -> Result<Self, Problem> {
        let mut query = Self::default();
        for pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(name)?;
            let Some(name) = known.iter().find(|known| **known == name) else { return Err(unknown(known)) };
            if query.value(name).is_some() {
                return Err(Problem::new(&code::QUERY_INVALID, format!("the query parameter `{name}` is given twice")));
            }
            query.0.push((name, decoded(value)?));
        }
        Ok(query)
    }

    /// The value of a parameter, if it was given.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter, read by `read`; what it cannot read is told as `expected`.
    pub(crate) fn read<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let told = || Problem::new(&code::QUERY_INVALID, format!("the query parameter `{name}` must be {expected}"));
        self.value(name).map(|value| read(value).ok_or_else(told)).transpose()
    }
}

fn decoded(text: &str) -> Result<String, Problem> {
    let bytes = percent::decode_form(text)
        .map_err(|percent::Invalid| Problem::new(&code::QUERY_INVALID, "the query is not validly percent-encoded"))?;
    String::from_utf8(bytes).map_err(|_| Problem::new(&code::QUERY_INVALID, "the query is not UTF-8"))
}

/// Names what is known, not what was sent: that may be a secret in the wrong place.
fn unknown(known: &[&str]) -> Problem {
    let detail = if known.is_empty() {
        String::from("this route knows no query parameters")
    } else {
        format!("the only query parameters known here are `{}`", known.join("`, `"))
    };
    Problem::new(&code::QUERY_INVALID, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str, expected: Result<&[(&'static str, &str)], &str>) {
        let query = Query::parse(Some(raw), &["slot", "min_ttl"]);
        let found = query.as_ref().map_err(Problem::detail);
        let found = found.map(|query| query.0.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>());
        assert_eq!(found.as_deref().map_err(|detail| *detail), expected, "{raw}");
    }

    #[test]
    fn a_query_holds_known_names_once() {
        check("", Ok(&[]));
        check("slot=", Ok(&[("slot", "")]));
        check("slot", Ok(&[("slot", "")]));
        check("min_ttl=1h&slot=a%26b+c", Ok(&[("min_ttl", "1h"), ("slot", "a&b c")]));
        check("slot=a&slot=a", Err("the query parameter `slot` is given twice"));
        check("token=eyJ", Err("the only query parameters known here are `slot`, `min_ttl`"));
        check("slot=%", Err("the query is not validly percent-encoded"));
        check("slot=%FF", Err("the query is not UTF-8"));
    }
}
