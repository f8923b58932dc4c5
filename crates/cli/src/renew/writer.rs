//! `Writer`: writes lines in a thread of its own, so that a reader that stands still holds up nothing else.

use std::io::{self, Write};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::watch;

/// How long a pipe that is full, and that another process has set to non-blocking, is left alone.
const FULL_PIPE_PAUSE: Duration = Duration::from_millis(5);

/// How far the thread is.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// Lines that were written.
    pub(super) written: u64,
    /// Why no further line is written.
    pub(super) failure: Option<Arc<io::Error>>,
}

/// The near end of the thread. The thread is not waited for: it may stand in a write for ever.
pub(super) struct Writer {
    lines: mpsc::Sender<Arc<[u8]>>,
    progress: watch::Receiver<Progress>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(mut output: impl Write + Send + 'static) -> Self {
        let (lines, queue) = mpsc::channel::<Arc<[u8]>>();
        let (sender, progress) = watch::channel(Progress::default());
        std::thread::spawn(move || {
            for line in queue {
                let written = write(&mut output, &line).and_then(|()| output.flush());
                let failed = written.is_err();
                sender.send_modify(|progress| match written {
                    Ok(()) => progress.written += 1,
                    Err(error) => progress.failure = Some(Arc::new(error)),
                });
                if failed {
                    return;
                }
            }
        });
        Self { lines, progress }
    }

    /// Hands a line over.
    pub(super) fn hand_over(&self, line: Arc<[u8]>) {
        // A thread that has ended has reported its failure.
        drop(self.lines.send(line));
    }

    /// How far it is now.
    pub(super) fn progress(&mut self) -> Progress {
        self.progress.borrow_and_update().clone()
    }

    /// Resolves when it has come further.
    pub(super) async fn advanced(&mut self) {
        if self.progress.changed().await.is_err() {
            // Ended, and its last progress was seen.
            std::future::pending::<()>().await;
        }
    }
}

/// As `write_all`, also into a pipe that does not block.
fn write(output: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            #[expect(clippy::disallowed_methods, reason = "the reader of a pipe has the time of the operating system")]
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(FULL_PIPE_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
