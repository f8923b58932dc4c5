//! `Out`: where an export goes. A file is private, and bears its name only once it is complete and on disk.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use storekeeper_model::Secret;

use crate::envelope::EnvelopeWriter;
use crate::exit::{CommandError, Exit};
use crate::output::secret_stdout;
use crate::private;

use super::bookmark::Bookmark;
use super::written::Written;

type Bytes = BufWriter<Box<dyn io::Write + Send>>;

/// A sink of lines.
pub(super) struct Out {
    writer: Writer,
    /// How many bytes of lines there are.
    length: u64,
    file: Option<Destination>,
}

enum Writer {
    Plain(Bytes),
    Sealed(Box<EnvelopeWriter<Bytes>>),
}

struct Destination {
    file: File,
    partial: PathBuf,
    path: PathBuf,
}

impl Out {
    /// A new file, or stdout; encrypted where there is a passphrase.
    pub(super) fn create(path: Option<&Path>, passphrase: Option<&Secret<String>>) -> Result<Self, CommandError> {
        let file = path.map(Destination::create).transpose()?;
        let bytes = bytes(file.as_ref())?;
        let writer = match passphrase {
            None => Writer::Plain(bytes),
            Some(passphrase) => {
                let sealed = EnvelopeWriter::new(bytes, passphrase).map_err(|error| failed(&error))?;
                Writer::Sealed(Box::new(sealed))
            }
        };
        Ok(Self { writer, length: 0, file })
    }

    /// The file that an interrupted export has left, as long as its bookmark says, and what stands in it; `None` if it is
    /// not there, or is not what the bookmark says.
    pub(super) fn go_on(path: &Path, bookmark: &Bookmark) -> Result<Option<(Self, Written)>, CommandError> {
        let Some(mut file) = Destination::open(path)? else { return Ok(None) };
        let mut read = || {
            if file.file.metadata()?.len() < bookmark.length {
                return Ok(None);
            }
            let written = Written::read((&file.file).take(bookmark.length), bookmark.order.handover)?;
            file.file.set_len(bookmark.length)?;
            file.file.seek(SeekFrom::End(0)).map(|_| written)
        };
        let Some(written) = read().map_err(|error| failed(&error))? else { return Ok(None) };
        let writer = Writer::Plain(bytes(Some(&file))?);
        Ok(Some((Self { writer, length: bookmark.length, file: Some(file) }, written)))
    }

    /// Writes a line.
    pub(super) fn line(&mut self, text: &str) -> Result<(), CommandError> {
        let write = |writer: &mut dyn io::Write| {
            writer.write_all(text.as_bytes())?;
            writer.write_all(b"\n")
        };
        let written = match &mut self.writer {
            Writer::Plain(bytes) => write(bytes),
            Writer::Sealed(envelope) => write(envelope.as_mut()),
        };
        self.length += text.len() as u64 + 1;
        written.map_err(|error| failed(&error))
    }

    /// What was written is with the reader, or on disk.
    pub(super) fn make_durable(&mut self) -> Result<(), CommandError> {
        let flushed = match &mut self.writer {
            Writer::Plain(bytes) => bytes.flush(),
            Writer::Sealed(envelope) => envelope.flush(),
        };
        flushed.and_then(|()| self.sync()).map_err(|error| failed(&error))
    }

    /// What was written stays, and an export that is killed from here on is gone on with behind it. A pipe cannot be gone on
    /// with; nor is an envelope, whose chunks would be sealed anew under numbers that were used.
    pub(super) fn leave(&mut self, bookmark: &mut Bookmark) -> Result<(), CommandError> {
        let (Writer::Plain(_), Some(path)) = (&self.writer, self.file.as_ref().map(|file| file.path.clone())) else {
            return Ok(());
        };
        self.make_durable()?;
        bookmark.length = self.length;
        bookmark.save(&path).map_err(|error| failed(&error))
    }

    fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), |destination| destination.file.sync_all())
    }

    /// Ends the export: from now on the file bears its name.
    pub(super) fn finish(&mut self) -> Result<(), CommandError> {
        self.make_durable()?;
        let nowhere = Writer::Plain(BufWriter::new(Box::new(io::sink())));
        if let Writer::Sealed(envelope) = std::mem::replace(&mut self.writer, nowhere) {
            drop(envelope.finish().map_err(|error| failed(&error))?);
        }
        self.sync().map_err(|error| failed(&error))?;
        let Some(Destination { partial, path, .. }) = &self.file else { return Ok(()) };
        private::put_in_place(partial, path).and_then(|()| Bookmark::remove(path)).map_err(|error| failed(&error))
    }
}

impl Destination {
    /// A new file. What an interrupted export has left is discarded, and its bookmark first, so that it is never taken for
    /// this one's.
    fn create(path: &Path) -> Result<Self, CommandError> {
        drop(Self::open(path)?);
        let partial = private::beside(path, ".partial");
        let file = Bookmark::remove(path).and_then(|()| private::create_anew(&partial));
        let file = file.map_err(|error| refused(path, &error))?;
        lock(&file, path)?;
        Ok(Self { file, partial, path: path.to_owned() })
    }

    /// What an interrupted export has left, if it has, and nobody is writing it.
    fn open(path: &Path) -> Result<Option<Self>, CommandError> {
        if path.exists() {
            return Err(refused(path, &"is there already: an export overwrites nothing"));
        }
        let partial = private::beside(path, ".partial");
        match OpenOptions::new().read(true).write(true).open(&partial) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(refused(&partial, &error)),
            Ok(file) => lock(&file, path).map(|()| Some(Self { file, partial, path: path.to_owned() })),
        }
    }
}

/// Two that write one file would spoil it. Where files cannot be locked, nobody can tell.
fn lock(file: &File, path: &Path) -> Result<(), CommandError> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(refused(path, &"another export is writing it")),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

fn bytes(file: Option<&Destination>) -> Result<Bytes, CommandError> {
    let bytes: Box<dyn io::Write + Send> = match file {
        Some(destination) => Box::new(destination.file.try_clone().map_err(|error| failed(&error))?),
        None => Box::new(secret_stdout()?),
    };
    Ok(BufWriter::with_capacity(256 * 1024, bytes))
}

fn refused(path: &Path, why: &dyn std::fmt::Display) -> CommandError {
    CommandError::new(Exit::Usage, format!("{}: {why}", path.display()))
}

fn failed(error: &io::Error) -> CommandError {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return CommandError::new(Exit::Failure, "whoever read the export has gone: begin again");
    }
    CommandError::new(Exit::Failure, format!("the export cannot be written: {error}"))
}
