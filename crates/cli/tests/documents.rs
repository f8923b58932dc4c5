//! The documents against each other and the program: links lead somewhere, commands are those there are, and what a
//! comment cites is on the page.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use clap::error::ErrorKind;
use storekeeper::commands::CommandLine;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Every file of the project with one of these endings, and its text.
fn files(endings: &[&str]) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if !name.starts_with('.') && !name.starts_with("target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|ending| endings.contains(&ending.to_str().unwrap())) {
                let text = fs::read_to_string(&path).unwrap();
                found.insert(path, text);
            }
        }
    }
    found
}

/// The lines of a page that are text, and those of its fenced blocks with their language.
fn lines(page: &str) -> impl Iterator<Item = (Option<&str>, &str)> {
    let mut fence = None;
    page.lines().filter_map(move |line| {
        let mark = line.trim_start().strip_prefix("```");
        match (fence, mark) {
            (None, Some(language)) => fence = Some(language),
            (Some(_), Some(_)) => fence = None,
            (_, None) => return Some((fence, line)),
        }
        None
    })
}

/// What a heading is called in a link.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = lines(page).filter(|(fence, line)| fence.is_none() && line.starts_with('#'));
    let anchor = |line: &str| {
        let kept = line.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        kept.collect::<String>().replace(' ', "-")
    };
    headings.map(|(_, line)| anchor(line)).collect()
}

/// The targets of `[text](target)` in a line, code aside.
fn links(line: &str) -> Vec<&str> {
    let texts = line.split("](").skip(1);
    texts.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let pages = files(&["md"]);
    assert!(pages.len() > 15, "{} pages only", pages.len());
    let mut links_seen = 0;
    for (path, page) in &pages {
        for (_, line) in lines(page).filter(|(fence, _)| fence.is_none()) {
            for link in links(line).into_iter().filter(|link| !link.contains("://")) {
                links_seen += 1;
                lead_somewhere(path, link, &pages);
            }
        }
    }
    assert!(links_seen > 40, "{links_seen} links only");
}

fn lead_somewhere(from: &Path, link: &str, pages: &BTreeMap<PathBuf, String>) {
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let told = format!("{}: [{link}]", from.display());
    let to = if file.is_empty() { from.to_owned() } else { from.parent().unwrap().join(file) };
    let to = to.canonicalize().unwrap_or_else(|_| panic!("{told} leads nowhere"));
    if let Some(anchor) = anchor {
        let page = pages.get(&to).unwrap_or_else(|| panic!("{told} leads to no page"));
        assert!(anchors(page).contains(anchor), "{told}: there is no such heading");
    }
}

#[test]
fn every_command_that_is_told_is_one() {
    let mut commands = 0;
    for (path, page) in files(&["md"]) {
        for (fence, line) in lines(&page) {
            let told = match fence {
                Some("sh" | "yaml") => in_shell(line),
                None => in_backticks(line),
                Some(_) => Vec::new(),
            };
            for words in told {
                commands += 1;
                demand_command(&words, fence.is_some(), &path);
            }
        }
    }
    assert!(commands > 60, "{commands} commands only");
}

/// Demands that the program understands the words. In running text a command may be told without what it needs.
fn demand_command(words: &[String], is_whole: bool, page: &Path) {
    let Err(error) = CommandLine::try_parse_from(words) else { return };
    let is_half = matches!(
        error.kind(),
        ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    assert!(is_help || (is_half && !is_whole), "{}: `{}`\n{error}", page.display(), words.join(" "));
}

/// The commands of ours in a line of a shell, split into words.
fn in_shell(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    for word in words(line) {
        match word.as_str() {
            "|" | "&&" | ";" => commands.push(Vec::new()),
            _ => commands.last_mut().unwrap().push(word),
        }
    }
    commands.into_iter().filter_map(without_shell).collect()
}

/// The command of ours, without what is the shell's: redirections, `&`, a line's continuation.
fn without_shell(words: Vec<String>) -> Option<Vec<String>> {
    let ours = words.iter().position(|word| word == "storekeeper")?;
    let is_plain = |word: &&String| {
        !["&", "\\", "<", ">", "2>", "2>>"].contains(&word.as_str()) && !word.starts_with('<') && !word.starts_with('>')
    };
    let mut kept = Vec::new();
    let mut rest = words[ours..].iter().peekable();
    while let Some(word) = rest.next() {
        if ["<", ">", "2>", "2>>"].contains(&word.as_str()) {
            rest.next();
        } else if is_plain(&word) {
            kept.push(word.clone());
        }
    }
    (kept.len() > 1).then_some(kept)
}

/// Commands of ours in running text, told in backticks. One with a hole in it (`…`, `<noun>`) is a pattern, not a command.
fn in_backticks(line: &str) -> Vec<Vec<String>> {
    let code = line.split('`').skip(1).step_by(2);
    let ours = code.filter(|code| code.starts_with("storekeeper ") && !code.contains(['…', '<', '[', '|', '{']));
    ours.map(words).collect()
}

/// Splits a line as a shell does, as far as the documents need it: quotes, and a comment at the end.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote) = (None::<String>, None);
    for letter in line.chars() {
        match (letter, quote) {
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (letter, Some(mark)) if letter == mark => quote = None,
            ('#', None) if word.is_none() => break,
            (' ', None) => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// The pages that comments cite by their name and a section.
const CITED: [&str; 2] = ["store.md", "life.md"];

#[test]
fn every_section_that_is_cited_exists() {
    let mut cited = 0;
    let sections = CITED.map(|page| {
        let text = fs::read_to_string(root().join("docs/reference").join(page)).unwrap();
        let headings = lines(&text).filter(|(fence, line)| fence.is_none() && line.starts_with("##"));
        let number = |line: &str| line.trim_start_matches('#').split_whitespace().next().unwrap().to_owned();
        headings.map(|(_, line)| number(line)).collect::<BTreeSet<_>>()
    });
    for (path, text) in files(&["rs", "md", "json", "sql", "toml"]) {
        for (page, sections) in CITED.iter().zip(&sections) {
            for section in sections_cited(&text, page) {
                cited += 1;
                assert!(sections.contains(section), "{}: {page} has no section {section}", path.display());
            }
        }
    }
    assert!(cited > 40, "{cited} citations only");
}

/// The numbers after a page's name, as in `store.md 4.5` or `[store.md](store.md) 9`.
fn sections_cited<'a>(text: &'a str, page: &str) -> Vec<&'a str> {
    let numbers = text.match_indices(page).filter_map(|(at, _)| {
        let rest = text[at + page.len()..].trim_start_matches(')').strip_prefix(' ')?;
        let rest = rest.strip_prefix("section ").unwrap_or(rest);
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
        Some(rest[..end].trim_end_matches('.')).filter(|number| !number.is_empty())
    });
    numbers.collect()
}

#[test]
fn every_page_that_a_comment_names_exists() {
    let pages: BTreeSet<String> =
        files(&["md"]).into_keys().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    let mut named = 0;
    for (path, text) in files(&["rs", "sql", "json"]) {
        let is_json = path.extension().is_some_and(|ending| ending == "json");
        let comments = text.lines().filter_map(|line| if is_json { Some(line) } else { comment(line) });
        for page in comments.flat_map(pages_named) {
            named += 1;
            assert!(pages.contains(page), "{}: there is no page {page}", path.display());
        }
    }
    assert!(named > 100, "{named} pages named only");
}

/// What a line says to a reader.
fn comment(line: &str) -> Option<&str> {
    ["//", "-- "].iter().find_map(|mark| Some(line.split_once(mark)?.1))
}

/// The words that are names of pages, without the folder.
fn pages_named(text: &str) -> Vec<&str> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let words = text.split(|letter| !is_part(letter)).map(|word| word.trim_end_matches('.'));
    words.filter(|word| word.len() > ".md".len() && word.ends_with(".md")).collect()
}

#[test]
fn the_readers_of_this_file_read_what_they_should() {
    let ours = |line: &str| in_shell(line).into_iter().map(|words| words[1..].join("|")).collect::<Vec<_>>();
    assert_eq!(ours("storekeeper a b # c"), ["a|b"]);
    assert_eq!(ours("curl -s x | storekeeper a 'b c' | storekeeper d < e > f"), ["a|b c", "d"]);
    assert_eq!(ours("storekeeper a 2> log &"), ["a"]);
    assert!(ours("ls storekeepers").is_empty());
    assert_eq!(in_backticks("say `storekeeper a b` or `c`").len(), 1);
    assert_eq!(links("[a](b.md) and [c](d.md#e)"), ["b.md", "d.md#e"]);
    assert_eq!(pages_named("see docs/a-b.md, (c.md 4.5), d.md. and e.mdx"), ["a-b.md", "c.md", "d.md"]);
    assert_eq!(anchors("## 12 Sources, `all`\n"), BTreeSet::from([String::from("12-sources-all")]));
    assert_eq!(
        sections_cited("store.md 4.5. (store.md) 9, store.md section 10; store.md alone", "store.md"),
        ["4.5", "9", "10"]
    );
}
