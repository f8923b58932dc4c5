//! `Out`: where an export goes. A file is private, and bears its name only once it is complete and on disk.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use storekeeper_model::Secret;

use crate::envelope::EnvelopeWriter;
use crate::exit::{CommandError, Exit};
use crate::private;

type Bytes = BufWriter<Box<dyn io::Write + Send>>;

/// A sink of lines.
pub(super) struct Out {
    writer: Writer,
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
        let destination = path.map(Destination::create).transpose()?;
        let bytes: Box<dyn io::Write + Send> = match &destination {
            Some(destination) => Box::new(destination.file.try_clone().map_err(|error| failed(&error))?),
            None => Box::new(io::stdout()),
        };
        let bytes = BufWriter::with_capacity(256 * 1024, bytes);
        let writer = match passphrase {
            None => Writer::Plain(bytes),
            Some(passphrase) => {
                let sealed = EnvelopeWriter::new(bytes, passphrase).map_err(|error| failed(&error))?;
                Writer::Sealed(Box::new(sealed))
            }
        };
        Ok(Self { writer, file: destination })
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
        private::put_in_place(partial, path).map_err(|error| failed(&error))
    }
}

impl Destination {
    fn create(path: &Path) -> Result<Self, CommandError> {
        let fail =
            |error: &dyn std::fmt::Display| CommandError::new(Exit::Usage, format!("{}: {error}", path.display()));
        if path.exists() {
            return Err(fail(&"is there already: an export overwrites nothing"));
        }
        let partial = private::beside(path, ".partial");
        // Left behind by an export that was interrupted: this one says all that it said.
        let file = private::create_anew(&partial).map_err(|error| fail(&error))?;
        Ok(Self { file, partial, path: path.to_owned() })
    }
}

fn failed(error: &io::Error) -> CommandError {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return CommandError::new(Exit::Failure, "whoever read the export has gone: begin again");
    }
    CommandError::new(Exit::Failure, format!("the export cannot be written: {error}"))
}
