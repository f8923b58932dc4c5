//! Rescue files on disk. A keeper holds a lock on its own file as long as it lives, so that no other reads it half-written;
//! `….reserve` is one without successors, `….rescue` one with them, `….damaged` one of which only a part could be used.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use storekeeper_keyring::rescue_file::{self, Contents, HEADER};
use storekeeper_keyring::{KeyringId, NodeId};
use storekeeper_model::Timestamp;

use crate::engine::Endangered;

/// Space for as many successors as a keeper may hold that are not durable.
const RESERVED: u64 = 8192 * 1024;
const PREFIX: &str = "storekeeper-";
const RESERVE: &str = "reserve";
const RESCUE: &str = "rescue";
const DAMAGED: &str = "damaged";

/// A folder with rescue files.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    keyring: KeyringId,
    node: NodeId,
    began_at: Timestamp,
}

/// A file of another process, which has ended.
#[derive(Debug)]
pub(super) struct LeftFile {
    pub(super) path: PathBuf,
    pub(super) contents: Contents,
    /// No other process reads or changes it while this is open.
    _lock: File,
}

/// What is found in a folder.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Files of ours, to be taken up.
    pub(super) left: Vec<LeftFile>,
    /// Files that cannot be used as a whole.
    pub(super) unusable: Vec<PathBuf>,
}

impl Folder {
    pub(super) const fn new(path: PathBuf, keyring: KeyringId, node: NodeId, began_at: Timestamp) -> Self {
        Self { path, keyring, node, began_at }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What the files of this keeper are called, without what a file of that name adds.
    fn stem(&self) -> PathBuf {
        self.path.join(format!("{PREFIX}{}-{}", short(self.keyring), self.node))
    }

    /// Makes this keeper's file with its space, or takes over one that an ended process left without successors.
    pub(super) fn reserve(&self) -> io::Result<OwnFile> {
        make_folder(&self.path)?;
        let stem = self.stem();
        let path = free_name(&stem, RESERVE);
        let mut file = match self.take_over(&path)? {
            Some(file) => file,
            None => {
                let file = private().create_new(true).open(&path)?;
                lock(&file)?;
                if let Err(error) = allocate(&file) {
                    drop(fs::remove_file(&path));
                    return Err(error);
                }
                file
            }
        };
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&rescue_file::header(self.keyring, self.node, self.began_at))?;
        file.sync_all()?;
        sync_folder(&self.path)?;
        Ok(OwnFile { file, keyring: self.keyring, path, stem, end: HEADER as u64, records: 0 })
    }

    fn take_over(&self, path: &Path) -> io::Result<Option<File>> {
        for left in self.candidates(RESERVE)? {
            let Ok(mut file) = private().open(&left) else { continue };
            if file.try_lock().is_err() || !is_there(&file, &left) {
                continue;
            }
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let is_whole = bytes.len() as u64 >= RESERVED;
            if is_whole && bytes[HEADER..].iter().all(|byte| *byte == 0) {
                fs::rename(&left, path)?;
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    fn candidates(&self, extension: &str) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with(PREFIX) && path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Finds what ended processes left. Files of processes that live are locked, and passed over.
    pub(super) fn look(&self) -> io::Result<Found> {
        let mut found = Found { unusable: self.candidates(DAMAGED)?, ..Found::default() };
        for extension in [RESCUE, RESERVE] {
            for path in self.candidates(extension)? {
                // It may have been taken up by another keeper just now.
                let Ok(mut file) = private().open(&path) else { continue };
                if file.try_lock().is_err() || !is_there(&file, &path) {
                    continue;
                }
                let mut bytes = Vec::new();
                if let Err(error) = file.read_to_end(&mut bytes) {
                    tracing::warn!(%error, file = %path.display(), "a rescue file cannot be read");
                    found.unusable.push(path);
                    continue;
                }
                let contents = rescue_file::read(&bytes, self.keyring);
                // Of a header that cannot be read, the name stands in.
                let is_ours =
                    contents.keyring.map_or_else(|| self.is_ours_by_name(&path), |named| named == self.keyring);
                let is_reserve = extension == RESERVE;
                match (is_ours, is_reserve) {
                    (true, true) if contents.successors.is_empty() => drop(fs::remove_file(&path)),
                    (true, _) => found.left.push(LeftFile { path, contents, _lock: file }),
                    // Its owner died before there was anything in it.
                    (false, true) => {}
                    (false, false) => found.unusable.push(path),
                }
            }
        }
        Ok(found)
    }

    fn is_ours_by_name(&self, path: &Path) -> bool {
        let ours = format!("{PREFIX}{}-", short(self.keyring));
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&ours))
    }
}

impl LeftFile {
    /// Its successors are in the keyring, or will never be: removes it. A damaged one is kept under another name, which is
    /// returned.
    pub(super) fn done(self, is_damaged: bool) -> io::Result<Option<PathBuf>> {
        let folder = self.path.parent().map(Path::to_owned).unwrap_or_default();
        if !is_damaged {
            fs::remove_file(&self.path)?;
            sync_folder(&folder)?;
            return Ok(None);
        }
        let aside = self.path.with_extension(DAMAGED);
        fs::rename(&self.path, &aside)?;
        sync_folder(&folder)?;
        Ok(Some(aside))
    }
}

/// The file of this keeper.
#[derive(Debug)]
pub(super) struct OwnFile {
    file: File,
    keyring: KeyringId,
    path: PathBuf,
    stem: PathBuf,
    /// Where the next frame goes: over the one that ends the file.
    end: u64,
    records: u64,
}

impl OwnFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is, if there is anything in it.
    pub(super) fn rescue_file(&self) -> Option<PathBuf> {
        (self.records > 0).then(|| self.path.clone())
    }

    /// Appends successors, durably.
    pub(super) fn append(&mut self, endangered: &[Endangered]) -> io::Result<()> {
        let mut bytes = Vec::new();
        endangered.iter().for_each(|one| rescue_file::put_record(&mut bytes, self.keyring, &one.packed));
        let length = bytes.len() as u64;
        let records = self.records + endangered.len() as u64;
        rescue_file::put_end(&mut bytes, self.keyring, records);
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&bytes)?;
        self.file.sync_all()?;
        if self.path.extension().is_none_or(|extension| extension != RESCUE) {
            self.rename(RESCUE)?;
        }
        sync_folder(self.path.parent().unwrap_or(Path::new("")))?;
        (self.end, self.records) = (self.end + length, records);
        Ok(())
    }

    /// Forgets what is in it. The name goes first: a file without successors that is killed half-way is no damaged one.
    pub(super) fn empty(&mut self) -> io::Result<()> {
        self.rename(RESERVE)?;
        sync_folder(self.path.parent().unwrap_or(Path::new("")))?;
        let length = self.file.metadata()?.len().min(self.end + 64) - HEADER as u64;
        self.file.seek(SeekFrom::Start(HEADER as u64))?;
        io::copy(&mut io::repeat(0).take(length), &mut self.file)?;
        self.file.sync_all()?;
        (self.end, self.records) = (HEADER as u64, 0);
        Ok(())
    }

    fn rename(&mut self, extension: &str) -> io::Result<()> {
        let name = free_name(&self.stem, extension);
        fs::rename(&self.path, &name)?;
        self.path = name;
        Ok(())
    }

    /// Gives the space back.
    pub(super) fn remove(self) {
        if self.records == 0
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(%error, file = %self.path.display(), "reserved space is not given back");
        }
    }
}

/// A name that no file has: one of an earlier process of the same node must not be replaced.
fn free_name(stem: &Path, extension: &str) -> PathBuf {
    let numbered = (2..).map(|number| format!("-{number}.{extension}"));
    let mut names = std::iter::once(format!(".{extension}")).chain(numbered).map(|end| {
        let mut name = stem.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    });
    names.find(|name| !name.exists()).expect("there are as many names as numbers")
}

/// The first half of an id: enough to keep the names of keyrings apart, the header has the whole.
fn short(keyring: KeyringId) -> String {
    keyring.to_string()[..16].to_owned()
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn make_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|error| match error {
        TryLockError::Error(error) => error,
        TryLockError::WouldBlock => io::Error::new(io::ErrorKind::WouldBlock, "another process holds it"),
    })
}

/// Whether this is the file of that name still: its owner may have renamed or removed it meanwhile.
fn is_there(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let of = |metadata: io::Result<fs::Metadata>| metadata.ok().map(|found| (found.dev(), found.ino()));
        of(file.metadata()).is_some_and(|ours| of(fs::metadata(path)) == Some(ours))
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}

/// Reserves real blocks. Where the file system cannot, zeros are written.
fn allocate(file: &File) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        match fallocate(file, FallocateFlags::empty(), 0, RESERVED) {
            Ok(()) => return Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    io::copy(&mut io::repeat(0).take(RESERVED), &mut &*file)?;
    file.sync_all()
}

/// Makes a new name in the folder durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}
