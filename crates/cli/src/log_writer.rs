//! `LogWriter`: log lines on their way to stderr. The task that logs puts a line into a bounded queue and goes on; one
//! thread writes. A line that finds the queue full, or that stderr refuses, is dropped and counted: a log without a
//! reader stops nothing.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use storekeeper_keeper::{Condition, ConditionCode, Surroundings};
use tracing_subscriber::fmt::MakeWriter;

/// How many lines wait for stderr.
const LINES_MAX: usize = 4096;
/// How long the end of the process waits until stderr has taken what is queued.
const FLUSH_MAX: Duration = Duration::from_secs(1);
/// A reader that takes no line for longer than this stands still.
const STALLED_AFTER: Duration = Duration::from_secs(10);
/// For this long after a line was dropped the log counts as incomplete.
pub const RECENT: Duration = Duration::from_secs(600);

/// The way to the log. Clones share it.
#[derive(Debug, Clone)]
pub struct LogWriter {
    queue: SyncSender<Message>,
    drops: Arc<Drops>,
    progress: Arc<Progress>,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Answered once everything before it is written or dropped.
    Flush(SyncSender<()>),
}

/// Lines that were dropped.
#[derive(Debug)]
struct Drops {
    count: AtomicU64,
    started_at: Instant,
    /// When the last one was dropped, in milliseconds since the start.
    last_at: AtomicU64,
}

/// The line that is being written.
#[derive(Debug)]
struct Progress {
    started_at: Instant,
    /// Since when, in milliseconds from the start; 0 while none is.
    writing_since: AtomicU64,
}

impl Progress {
    fn elapsed(&self) -> u64 {
        u64::try_from(self.started_at.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

impl LogWriter {
    /// Starts the thread that writes to stderr.
    pub fn start() -> Self {
        let report = |lines| tracing::warn!(lines, "log lines were dropped before this one");
        Self::start_on(io::stderr(), report)
    }

    #[expect(clippy::disallowed_methods, reason = "drops are dated on the operating system's monotonic clock")]
    fn start_on(target: impl Write + Send + 'static, report: impl Fn(u64) + Send + 'static) -> Self {
        let (queue, lines) = sync_channel(LINES_MAX);
        let drops = Drops { count: AtomicU64::new(0), started_at: Instant::now(), last_at: AtomicU64::new(0) };
        let progress = Progress { started_at: Instant::now(), writing_since: AtomicU64::new(0) };
        let writer = Self { queue, drops: Arc::new(drops), progress: Arc::new(progress) };
        let (drops, progress) = (Arc::clone(&writer.drops), Arc::clone(&writer.progress));
        // Without a thread every line is dropped and counted.
        let _ = std::thread::Builder::new()
            .name(String::from("log"))
            .spawn(move || write_lines(&lines, target, &drops, &progress, report));
        writer
    }

    /// Queues a line, with a line end of its own.
    pub fn line(&self, text: &str) {
        self.send(format!("{text}\n").into_bytes());
    }

    /// How many lines were dropped.
    pub fn dropped(&self) -> u64 {
        self.drops.count.load(Ordering::Relaxed)
    }

    /// For how long the reader has taken no line, if it stands still.
    pub fn stalled(&self) -> Option<Duration> {
        let since = self.progress.writing_since.load(Ordering::Relaxed);
        let span = Duration::from_millis(self.progress.elapsed().saturating_sub(since));
        (since > 0 && span > STALLED_AFTER).then_some(span)
    }

    /// How many lines were dropped, if one was within [`RECENT`].
    pub fn dropped_recently(&self) -> Option<u64> {
        let last_at = Duration::from_millis(self.drops.last_at.load(Ordering::Relaxed));
        let is_recent = self.dropped() > 0 && self.drops.started_at.elapsed() < last_at + RECENT;
        is_recent.then(|| self.dropped())
    }

    /// Waits until stderr has taken what is queued, for a second at most.
    #[expect(clippy::disallowed_methods, reason = "a guard against a reader of the log that stands still")]
    pub fn flush(&self) {
        let (done, flushed) = sync_channel(1);
        let until = Instant::now() + FLUSH_MAX;
        let mut message = Message::Flush(done);
        while let Err(std::sync::mpsc::TrySendError::Full(full)) = self.queue.try_send(message) {
            if Instant::now() >= until {
                return;
            }
            message = full;
            std::thread::sleep(Duration::from_millis(10));
        }
        // A reader that stands still has what it has.
        let _ = flushed.recv_timeout(until.saturating_duration_since(Instant::now()));
    }

    fn send(&self, line: Vec<u8>) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.drops.add();
        }
    }
}

impl Drops {
    fn add(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let at = u64::try_from(self.started_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_at.store(at, Ordering::Relaxed);
    }
}

impl Write for LogWriter {
    /// Takes one event as a whole: the subscriber formats it before it writes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Surroundings for LogWriter {
    fn log_lines_dropped(&self) -> u64 {
        self.dropped()
    }

    fn conditions(&self) -> Vec<Condition> {
        let dropped = self.dropped_recently().map(|lines| {
            let detail = format!(
                "{lines} log lines were dropped since the start, the last within ten minutes: is the disk of the log full, or its reader gone?"
            );
            Condition::of_keeper(ConditionCode::LogLinesDropped, detail)
        });
        let stalled = self.stalled().map(|span| {
            let seconds = span.as_secs();
            let detail = format!(
                "the reader of the log has taken no line for {seconds} s: lines are dropped once {LINES_MAX} wait"
            );
            Condition::of_keeper(ConditionCode::LogStalled, detail)
        });
        dropped.into_iter().chain(stalled).collect()
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// `report` logs how many lines were dropped before it, which is one more line in the queue.
fn write_lines(
    lines: &Receiver<Message>,
    mut target: impl Write,
    drops: &Drops,
    progress: &Progress,
    report: impl Fn(u64),
) {
    let (mut reported, mut is_taken) = (0, true);
    loop {
        let message = match lines.try_recv() {
            Ok(message) => message,
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {
                let dropped = drops.count.load(Ordering::Relaxed);
                // Only where the last line was taken: else the report is dropped too, and reported, without end.
                if is_taken && dropped > reported {
                    report(dropped - reported);
                    reported = dropped;
                }
                let Ok(message) = lines.recv() else { return };
                message
            }
        };
        match message {
            Message::Line(line) => {
                progress.writing_since.store(progress.elapsed(), Ordering::Relaxed);
                is_taken = target.write_all(&line).is_ok();
                if !is_taken {
                    drops.add();
                }
                progress.writing_since.store(0, Ordering::Relaxed);
            }
            // The process may have stopped waiting.
            Message::Flush(done) => drop(done.try_send(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Takes lines only while the gate is open; refuses those that begin with `refused`.
    #[derive(Clone, Default)]
    struct Target {
        taken: Arc<Mutex<String>>,
    }

    impl Write for Target {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = std::str::from_utf8(bytes).unwrap();
            if text.starts_with("refused") {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            self.taken.lock().unwrap().push_str(text);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_is_refused_is_counted_and_the_next_is_written() {
        let target = Target::default();
        let log = LogWriter::start_on(target.clone(), drop);
        assert_eq!((log.dropped(), log.dropped_recently()), (0, None));
        for line in ["first", "refused", "second"] {
            log.line(line);
        }
        log.flush();
        assert_eq!(*target.taken.lock().unwrap(), "first\nsecond\n");
        assert_eq!((log.dropped(), log.dropped_recently()), (1, Some(1)));
    }

    #[test]
    fn a_target_that_refuses_everything_is_left_in_peace() {
        let reports: Arc<Mutex<(Option<LogWriter>, u64)>> = Arc::default();
        let (target, seen) = (Target::default(), Arc::clone(&reports));
        let log = LogWriter::start_on(target.clone(), move |lines| {
            let mut seen = seen.lock().unwrap();
            seen.1 += lines;
            if let Some(log) = &seen.0 {
                log.line("refused, as every line");
            }
        });
        reports.lock().unwrap().0 = Some(log.clone());
        log.line("refused");
        (0..10).for_each(|_| log.flush());
        assert_eq!(
            (log.dropped(), reports.lock().unwrap().1),
            (1, 0),
            "nothing is reported into a log that takes nothing"
        );
        log.line("taken");
        (0..10).for_each(|_| log.flush());
        assert_eq!(*target.taken.lock().unwrap(), "taken\n");
        assert_eq!((log.dropped(), reports.lock().unwrap().1), (2, 1), "the report itself was dropped, once");
    }

    #[test]
    fn a_reader_that_stands_still_blocks_no_caller() {
        let target = Target::default();
        let gate = target.taken.lock().unwrap();
        let log = LogWriter::start_on(target.clone(), drop);
        for number in 0..LINES_MAX * 2 {
            log.line(&number.to_string());
        }
        log.flush();
        let dropped = log.dropped();
        assert!(dropped >= LINES_MAX as u64 - 1, "{dropped}");
        drop(gate);
        log.flush();
        assert!(target.taken.lock().unwrap().starts_with("0\n1\n2\n"), "what was queued is written in order");
    }
}
