//! `Source`: the lines of an import in the order of risk. A plain file is read again where it stands; what can be read only
//! once, or was encrypted, is kept meanwhile in a file without a name, sealed under a key that is never written.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use indicatif::ProgressBar;
use storekeeper_model::{KeyId, Secret};
use zeroize::Zeroizing;

use crate::commands::progress_bar;
use crate::envelope::{EnvelopeReader, MAGIC};
use crate::exit::{CommandError, Exit};

use super::line::{LINE_MAX, Rejected, Seen, look};

/// Where a line stands, and how soon it has to be taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Of its key, in milliseconds; unusable times come first.
    pub(super) expires_at: i64,
    /// The line's number in what was read.
    pub(super) number: u32,
    length: u32,
    offset: u64,
}

/// Lines that can be sent.
pub(super) struct Source {
    entries: Vec<Entry>,
    overtaken: u64,
    place: Place,
}

enum Place {
    File(File),
    Spool(Spool),
}

impl Source {
    /// Reads all lines; tells what cannot be sent.
    pub(super) fn read(
        path: &Path,
        passphrase: Option<&Secret<String>>,
        default_app: Option<&str>,
        reject: &mut impl FnMut(Rejected),
    ) -> Result<Self, CommandError> {
        let fail = |error: io::Error| CommandError::new(Exit::Usage, format!("{}: {error}", path.display()));
        let bar = progress_bar(size(path), "reading keys");
        let (reader, file) = open(path, passphrase, &bar).map_err(fail)?;
        let mut lines = Lines { reader, number: 0, offset: 0, text: Zeroizing::default() };
        let mut spool = if file.is_none() { Some(Spool::new().map_err(fail)?) } else { None };
        let (mut entries, mut exported) = (Vec::new(), Vec::new());
        while let Some(offset) = lines.next().map_err(fail)? {
            let seen = match look(&lines.text, lines.number, default_app) {
                Ok(seen) => seen,
                Err(rejected) => {
                    bar.suspend(|| reject(rejected));
                    continue;
                }
            };
            let expires_at = seen.lifetime.expires_at().map_or(i64::MIN, |at| at.millis());
            let length = u32::try_from(lines.text.len()).expect("a longer line was rejected");
            let offset = match &mut spool {
                Some(spool) => spool.add(&lines.text).map_err(fail)?,
                None => offset,
            };
            if seen.is_exported {
                exported.push((seen.id, entries.len()));
            }
            entries.push(Entry { expires_at, number: lines.number, length, offset });
        }
        bar.finish_and_clear();
        let lines = entries.len();
        drop_overtaken(&mut entries, exported);
        let overtaken = (lines - entries.len()) as u64;
        entries.sort_unstable_by_key(|entry| (entry.expires_at, entry.number));
        let place = match (spool, file) {
            (Some(spool), _) => Place::Spool(spool),
            (None, Some(file)) => Place::File(file),
            (None, None) => unreachable!("what is no file is spooled"),
        };
        Ok(Self { entries, overtaken, place })
    }

    /// How many lines can be sent.
    pub(super) fn lines(&self) -> u64 {
        self.entries.len() as u64
    }

    /// How many lines need not be sent.
    pub(super) const fn overtaken(&self) -> u64 {
        self.overtaken
    }

    /// The lines in the order in which they are sent.
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.entries.clone()
    }

    /// Looks again at each line that can be sent, in the order in which they stand.
    pub(super) fn look_again(
        &mut self,
        default_app: Option<&str>,
        mut see: impl FnMut(&Seen),
    ) -> Result<(), CommandError> {
        let mut entries = self.entries();
        entries.sort_unstable_by_key(|entry| entry.number);
        for entry in entries {
            let text = Zeroizing::new(self.text(&entry)?);
            let changed = |_| CommandError::new(Exit::Failure, format!("line {} was changed meanwhile", entry.number));
            see(&look(&text, entry.number, default_app).map_err(changed)?);
        }
        Ok(())
    }

    /// The text of a line.
    pub(super) fn text(&mut self, entry: &Entry) -> Result<Vec<u8>, CommandError> {
        let text = match &mut self.place {
            Place::Spool(spool) => spool.text(entry),
            Place::File(file) => {
                let mut text = vec![0; entry.length as usize];
                file.seek(SeekFrom::Start(entry.offset)).and_then(|_| file.read_exact(&mut text)).map(|()| text)
            }
        };
        text.map_err(|error| {
            CommandError::new(Exit::Failure, format!("line {} cannot be read again: {error}", entry.number))
        })
    }
}

/// Leaves out what an export has written again, because the key was renewed meanwhile: whoever took the line before would
/// renew what has a successor already.
fn drop_overtaken(entries: &mut Vec<Entry>, mut exported: Vec<(KeyId, usize)>) {
    exported.sort_unstable();
    let mut is_overtaken = vec![false; entries.len()];
    for pair in exported.windows(2) {
        let [(id, before), (next, after)] = [pair[0], pair[1]];
        is_overtaken[before] = id == next && entries[before].expires_at <= entries[after].expires_at;
    }
    let mut places = is_overtaken.iter();
    entries.retain(|_| !places.next().expect("there is one for each"));
}

type Reader = BufReader<Box<dyn Read>>;

/// How many bytes a file has; 0 where nobody can know before they have come.
fn size(path: &Path) -> u64 {
    std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map_or(0, |file| file.len())
}

/// What is read, and the file itself where lines can be read from it again. The bar shows how many bytes have come.
fn open(path: &Path, passphrase: Option<&Secret<String>>, bar: &ProgressBar) -> io::Result<(Reader, Option<File>)> {
    let buffered = |read: Box<dyn Read>| BufReader::with_capacity(256 * 1024, read);
    if path == Path::new("-") {
        return Ok((buffered(opened(Box::new(bar.wrap_read(io::stdin())), passphrase)?.0), None));
    }
    let file = File::open(path)?;
    let again = file.metadata()?.is_file().then(|| file.try_clone()).transpose()?;
    let (read, is_envelope) = opened(Box::new(bar.wrap_read(file)), passphrase)?;
    Ok((buffered(read), again.filter(|_| !is_envelope)))
}

/// What stands in an envelope, or the bytes as they are.
fn opened(mut read: Box<dyn Read>, passphrase: Option<&Secret<String>>) -> io::Result<(Box<dyn Read>, bool)> {
    let mut head = Vec::with_capacity(MAGIC.len());
    read.by_ref().take(MAGIC.len() as u64).read_to_end(&mut head)?;
    if head == MAGIC {
        let needed = || io::Error::other("is encrypted: name the passphrase with --passphrase-file");
        return Ok((Box::new(EnvelopeReader::after_magic(read, passphrase.ok_or_else(needed)?)?), true));
    }
    if passphrase.is_some() {
        return Err(io::Error::other("is not encrypted, although a passphrase is named"));
    }
    Ok((Box::new(io::Cursor::new(head).chain(read)), false))
}

/// Reads lines of bounded length; blank ones are skipped, but counted.
struct Lines {
    reader: Reader,
    number: u32,
    offset: u64,
    text: Zeroizing<Vec<u8>>,
}

impl Lines {
    /// Reads the next line into `text`; returns where it begins.
    fn next(&mut self) -> io::Result<Option<u64>> {
        loop {
            let begins_at = self.offset;
            self.text.clear();
            if !self.read()? {
                return Ok(None);
            }
            self.number =
                self.number.checked_add(1).ok_or_else(|| io::Error::other("has more lines than can be numbered"))?;
            if !self.text.trim_ascii().is_empty() {
                return Ok(Some(begins_at));
            }
        }
    }

    /// Reads up to the end of the line. Of one that is too long no more is kept than shows that.
    fn read(&mut self) -> io::Result<bool> {
        let mut has_begun = false;
        loop {
            let bytes = self.reader.fill_buf()?;
            if bytes.is_empty() {
                return Ok(has_begun);
            }
            has_begun = true;
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let piece = &bytes[..end.unwrap_or(bytes.len())];
            let room = (LINE_MAX + 1).saturating_sub(self.text.len());
            self.text.extend_from_slice(&piece[..piece.len().min(room)]);
            let taken = piece.len() + usize::from(end.is_some());
            self.reader.consume(taken);
            self.offset += taken as u64;
            if end.is_some() {
                return Ok(true);
            }
        }
    }
}

/// A file without a name, and the only key to it.
struct Spool {
    file: io::BufWriter<File>,
    key: LessSafeKey,
    length: u64,
}

const TAG: usize = 16;

impl Spool {
    fn new() -> io::Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(key.as_mut_slice()).map_err(|_| io::Error::other("no random bytes"))?;
        let key = UnboundKey::new(&AES_256_GCM, key.as_slice()).map_err(|_| io::Error::other("no key"))?;
        let file = io::BufWriter::with_capacity(256 * 1024, tempfile::tempfile()?);
        Ok(Self { file, key: LessSafeKey::new(key), length: 0 })
    }

    /// Each place in the file is written once.
    fn nonce(offset: u64) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&offset.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    fn add(&mut self, text: &[u8]) -> io::Result<u64> {
        let offset = self.length;
        let mut sealed = text.to_vec();
        let result = self.key.seal_in_place_append_tag(Self::nonce(offset), Aad::empty(), &mut sealed);
        result.map_err(|_| io::Error::other("the line could not be kept"))?;
        self.file.write_all(&sealed)?;
        self.length += sealed.len() as u64;
        Ok(offset)
    }

    fn text(&mut self, entry: &Entry) -> io::Result<Vec<u8>> {
        self.file.flush()?;
        let file = self.file.get_mut();
        let mut text = vec![0; entry.length as usize + TAG];
        file.seek(SeekFrom::Start(entry.offset))?;
        file.read_exact(&mut text)?;
        let opened = self.key.open_in_place(Self::nonce(entry.offset), Aad::empty(), &mut text);
        opened.map_err(|_| io::Error::other("it was changed meanwhile"))?;
        text.truncate(entry.length as usize);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_lines_of_a_key_the_last_is_sent_unless_it_is_older() {
        let [one, two, three] = [1, 2, 3].map(|id| KeyId::from_bytes([id; 16]));
        let entry = |(expires_at, number)| Entry { expires_at, number, length: 1, offset: 0 };
        let lines = [(one, 10), (two, 10), (one, 20), (three, 30), (one, 20), (three, 20)];
        let mut entries: Vec<Entry> = (1..).zip(lines).map(|(number, (_, at))| entry((at, number))).collect();
        drop_overtaken(&mut entries, lines.iter().enumerate().map(|(at, (id, _))| (*id, at)).collect());
        assert_eq!(entries.iter().map(|entry| entry.number).collect::<Vec<_>>(), [2, 4, 5, 6]);
    }
}
