//! The text format of metrics, as far as it has to be read: which labels a sample carries.

/// Keeps the samples whose labels are all visible. Comments (`# HELP` and the like) name families and stay.
pub(crate) fn keep(text: &str, is_visible: impl Fn(&str, &str) -> bool) -> String {
    let is_kept = |line: &&str| line.starts_with('#') || labels(line).all(|(label, value)| is_visible(label, &value));
    text.split_inclusive('\n').filter(is_kept).collect()
}

/// The labels of a sample, values without their escapes. An exemplar's labels count as the sample's.
fn labels(line: &str) -> impl Iterator<Item = (&str, String)> {
    let mut rest = line.split_once('{').map_or("", |(_, rest)| rest);
    std::iter::from_fn(move || {
        let (label, behind) = rest.split_once("=\"")?;
        let (value, behind) = unquoted(behind);
        rest = behind;
        let label = label.rsplit([',', '{']).next().unwrap_or(label);
        Some((label.trim(), value))
    })
}

/// A value up to its closing quote, and the text after that.
fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return (value, &text[place + 1..]),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped)) => value.push(escaped),
                None => break,
            },
            plain => value.push(plain),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP storekeeper_keys Keys by app. An app such as app=\"other\" may stand in a comment.
# TYPE storekeeper_keys gauge
storekeeper_keys{app=\"mygame\",state=\"active\"} 1
storekeeper_keys{state=\"active\",app=\"other\"} 2
storekeeper_pace{host=\"a,app=\\\"other\\\"\",client_id=\"1\"} 3
storekeeper_build_info{version=\"1\"} 1
storekeeper_up 1
";

    fn kept(is_visible: impl Fn(&str, &str) -> bool) -> Vec<String> {
        let samples = |line: &&str| !line.starts_with('#');
        keep(TEXT, is_visible).lines().filter(samples).map(str::to_owned).collect()
    }

    #[test]
    fn a_sample_is_kept_only_if_each_of_its_labels_is_visible() {
        assert_eq!(keep(TEXT, |_, _| true), TEXT);
        let of_mygame = kept(|label, value| label != "app" || value == "mygame");
        assert_eq!(of_mygame.len(), 4);
        assert!(of_mygame.iter().all(|line| !line.contains("} 2")), "{of_mygame:?}");
        assert_eq!(kept(|label, _| label == "version").len(), 2);
        assert_eq!(kept(|label, value| label != "host" || value == "a,app=\"other\"").len(), 5);
    }
}
