//! `Process`: a part of a bench as the one who leads sees it: started, pinned, asked line by line, ended.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::failure;
use super::machine::pin;
use super::part::Role;
use crate::exit::CommandError;

/// A part that runs. It ends when this is dropped, or when whoever leads dies: its orders end then.
pub(super) struct Process {
    name: &'static str,
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a part on these cores.
    ///
    /// # Errors
    /// When it cannot be started or pinned.
    pub(super) fn start(role: &Role, cores: &[usize]) -> Result<Self, CommandError> {
        // A process inherits the cores of the thread that starts it; this one goes on wherever it likes.
        let starter = std::thread::scope(|scope| scope.spawn(|| pin(cores).and_then(|()| spawn())).join());
        let mut child = starter.map_err(|_| failure("a part could not be started"))??;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (orders, answers) = pipes.ok_or_else(|| failure("a part has no pipes"))?;
        let answers = BufReader::new(answers);
        let mut process = Self { name: role.name(), child, orders: Some(orders), answers };
        process.tell(role)?;
        Ok(process)
    }

    /// Gives an order.
    ///
    /// # Errors
    /// When the part is gone.
    pub(super) fn tell(&mut self, order: &impl Serialize) -> Result<(), CommandError> {
        let mut line = serde_json::to_vec(order).map_err(failure)?;
        line.push(b'\n');
        let written = self.orders.as_mut().map(|orders| orders.write_all(&line).and_then(|()| orders.flush()));
        match written {
            Some(Ok(())) => Ok(()),
            _ => Err(self.gone()),
        }
    }

    /// Waits for the next answer.
    ///
    /// # Errors
    /// When the part is gone.
    pub(super) fn hear<T: DeserializeOwned>(&mut self) -> Result<T, CommandError> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(length) if length > 0 => serde_json::from_str(&line).map_err(failure),
            _ => Err(self.gone()),
        }
    }

    /// Gives an order and waits for its answer.
    ///
    /// # Errors
    /// When the part is gone.
    pub(super) fn ask<T: DeserializeOwned>(&mut self, order: &impl Serialize) -> Result<T, CommandError> {
        self.tell(order)?;
        self.hear()
    }

    /// Ends it in order: it has no more orders, finishes and goes.
    ///
    /// # Errors
    /// When it does not end well.
    pub(super) fn end(mut self) -> Result<(), CommandError> {
        self.orders.take();
        let ended = self.child.wait().map_err(failure)?;
        if ended.success() { Ok(()) } else { Err(self.gone()) }
    }

    fn gone(&self) -> CommandError {
        failure(format!("the bench's process `{}` ended early; what it said stands above", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn() -> Result<Child, CommandError> {
    let program = std::env::current_exe().map_err(failure)?;
    let mut command = Command::new(program);
    command.args(["--log-level", "warn", "bench", "part"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failure)
}
