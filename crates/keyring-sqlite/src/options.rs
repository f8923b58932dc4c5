//! `Options`: how much memory and disk the embedded keyring may use.

/// How much memory and disk the embedded keyring may use. The defaults are for millions of keys on one small machine.
#[derive(Debug, Clone)]
pub struct Options {
    /// At most this many writes share one commit.
    pub group_max: usize,
    /// The write-ahead log is copied back into the database when it has this many pages of 4 KiB.
    pub checkpoint_pages: u32,
    /// Page cache of the writing thread, in KiB.
    pub writer_cache_kib: u32,
    /// Page cache of each thread that reads, in KiB. Two scans' rows of which each lies on a page of its own fit into the
    /// usual one.
    pub reader_cache_kib: u32,
    /// Page cache of each connection for finding rows by id, in KiB: rows that were found are remembered, their pages need
    /// not be.
    pub finder_cache_kib: u32,
    /// When more is due than is asked for, the order of this many rows is kept until the next call.
    pub backlog_rows: usize,
    /// The places in the table of this many rows are remembered, 16 bytes for each.
    pub whereabouts: usize,
    /// Connections for finding rows by id, each used by one thread at a time.
    pub finders: usize,
    /// Threads for everything else that reads.
    pub readers: usize,
    /// The database may not grow beyond this many pages of 4 KiB: writes are then `Unavailable`. `None`: until the disk is full.
    pub pages_max: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            // Callers who hand in thousands of rows go on with half of them while the other half is flushed.
            group_max: 4096,
            // 64 MiB. A longer log is copied back less often, but its pages are memory that somebody has to find first.
            checkpoint_pages: 16_384,
            writer_cache_kib: 16 * 1024,
            reader_cache_kib: 16 * 1024,
            finder_cache_kib: 2 * 1024,
            backlog_rows: 128 * 1024,
            whereabouts: 256 * 1024,
            finders: 4,
            readers: 2,
            pages_max: None,
        }
    }
}
