//! A copy of the checkout that can be broken without harm, kept from run to run so that cargo rebuilds little.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Makes `to` hold exactly the files of `from`, build products and version control left out.
///
/// Only what differs is written, and it is written anew: its time of change is now, never the original's. So cargo sees a
/// file that was patched and put right again as changed both times.
pub(crate) fn mirror(from: &Path, to: &Path) -> Result<()> {
    let wanted = files(from)?;
    for file in files(to)?.difference(&wanted) {
        fs::remove_file(to.join(file))?;
    }
    for file in &wanted {
        let content = fs::read(from.join(file)).with_context(|| format!("cannot read {}", file.display()))?;
        let copy = to.join(file);
        if fs::read(&copy).ok().as_ref() != Some(&content) {
            fs::create_dir_all(copy.parent().expect("the copy lies in a folder"))?;
            fs::write(&copy, content).with_context(|| format!("cannot write {}", copy.display()))?;
        }
    }
    Ok(())
}

/// The relative names of all files below `folder`; none when it is not there.
fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut open = vec![PathBuf::new()];
    while let Some(inner) = open.pop() {
        let Ok(entries) = fs::read_dir(folder.join(&inner)) else { continue };
        for entry in entries {
            let entry = entry?;
            let path = inner.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() && !LEFT_OUT.iter().any(|name| entry.file_name() == *name) {
                open.push(path);
            } else if kind.is_file() {
                found.insert(path);
            }
        }
    }
    Ok(found)
}

const LEFT_OUT: [&str; 3] = ["target", ".git", ".storekeeper"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_follows_the_original() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        for name in ["src", "target", ".git", ".cargo"] {
            fs::create_dir_all(from.join(name)).unwrap();
            fs::write(from.join(name).join("file"), name).unwrap();
        }
        mirror(&from, &to).unwrap();
        let names: Vec<PathBuf> = files(&to).unwrap().into_iter().collect();
        assert_eq!(names, [PathBuf::from(".cargo/file"), PathBuf::from("src/file")]);

        let untouched = fs::metadata(to.join(".cargo/file")).unwrap().modified().unwrap();
        fs::write(to.join("src/file"), "broken").unwrap();
        fs::write(to.join("src/surplus"), "").unwrap();
        mirror(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("src/file")).unwrap(), "src");
        assert!(!to.join("src/surplus").exists());
        assert_eq!(fs::metadata(to.join(".cargo/file")).unwrap().modified().unwrap(), untouched);
    }
}
