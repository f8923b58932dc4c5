//! Where commands find a running keeper or emulator: named on the command line, else told by a ready file.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;
use storekeeper_client::Endpoint;
use storekeeper_model::Secret;

use crate::exit::{CommandError, Exit};
use crate::ready::Ready;
use crate::remote::{Peer, Remote};

/// Which keeper and which emulator. Addresses are `host:port` or URLs; plain http goes to this machine only.
#[derive(Debug, Clone, Default, Args)]
pub struct Target {
    /// The keeper's data listener
    #[arg(long, value_name = "ADDRESS", help_heading = "Where")]
    server: Option<String>,
    /// The keeper's admin listener
    #[arg(long, value_name = "ADDRESS", help_heading = "Where")]
    admin_server: Option<String>,
    /// The emulator's control port
    #[arg(long, value_name = "ADDRESS", help_heading = "Where")]
    control: Option<String>,
    /// The file that holds the bearer token for the keeper
    #[arg(long, value_name = "FILE", help_heading = "Where")]
    token_file: Option<PathBuf>,
    /// Where a running process tells its addresses, used for what is not named
    #[arg(long, value_name = "FILE", default_value = ".storekeeper/ready.json", help_heading = "Where")]
    ready_file: PathBuf,
}

/// The port of the data listener unless configured, and that of the admin listener.
const DEFAULT_PORTS: (&str, &str) = (":8433", ":8434");

impl Target {
    /// The keeper's data listener.
    ///
    /// # Errors
    /// One line that says how to name it.
    pub fn data(&self) -> Result<Remote, CommandError> {
        let ready = self.ready()?;
        let told = ready.as_ref().and_then(|ready| ready.listen.clone());
        let address =
            self.server.clone().or_else(|| told.clone()).ok_or_else(|| self.nothing_there("keeper", "--server"))?;
        self.keeper(&address, told.as_deref(), ready.as_ref())
    }

    /// The keeper's admin listener. Where only a data listener is named, it is looked for where it usually is.
    ///
    /// # Errors
    /// As [`Target::data`].
    pub fn admin(&self) -> Result<Remote, CommandError> {
        let ready = self.ready()?;
        let told = ready.as_ref().and_then(|ready| ready.admin_listen.clone());
        let told_data = ready.as_ref().and_then(|ready| ready.listen.as_deref());
        let address = match (&self.admin_server, &self.server) {
            (Some(admin), _) => admin.clone(),
            (None, Some(data)) if Some(data.as_str()) != told_data => beside(data),
            _ => told.clone().ok_or_else(|| self.nothing_there("keeper", "--admin-server"))?,
        };
        self.keeper(&address, told.as_deref(), ready.as_ref())
    }

    /// The emulator's control port.
    ///
    /// # Errors
    /// As [`Target::data`].
    pub fn control(&self) -> Result<Remote, CommandError> {
        self.control_if_any()?.ok_or_else(|| self.nothing_there("emulator", "--control"))
    }

    /// The emulator's control port, where there is one.
    ///
    /// # Errors
    /// When the address is no address.
    pub fn control_if_any(&self) -> Result<Option<Remote>, CommandError> {
        let told = self.ready()?.and_then(|ready| ready.control);
        let Some(address) = self.control.clone().or(told) else { return Ok(None) };
        Remote::new(Peer::Emulator, endpoint(&address)?, None).map(Some)
    }

    /// The ready file, if there is one.
    ///
    /// # Errors
    /// When it is there and cannot be understood.
    pub fn ready(&self) -> Result<Option<Ready>, CommandError> {
        match Ready::read(&self.ready_file) {
            Ok(ready) => Ok(Some(ready)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CommandError::new(Exit::Usage, format!("{}: {error}", self.ready_file.display()))),
        }
    }

    /// Whether a keeper is named or told of.
    pub fn knows_keeper(&self) -> bool {
        self.server.is_some() || self.ready().is_ok_and(|ready| ready.is_some_and(|ready| ready.listen.is_some()))
    }

    fn keeper(&self, address: &str, told: Option<&str>, ready: Option<&Ready>) -> Result<Remote, CommandError> {
        // A told token goes to the address it was told with, and nowhere else.
        let told_token = ready.filter(|_| told == Some(address)).and_then(|ready| ready.token_file.as_deref());
        let token = self.token_file.as_deref().or(told_token).map(read_token).transpose()?;
        Remote::new(Peer::Keeper, endpoint(address)?, token)
    }

    fn nothing_there(&self, what: &str, option: &str) -> CommandError {
        let file = self.ready_file.display();
        let message = format!(
            "no {what} is running here ({file} tells of none): start one with `storekeeper dev`, or name one with {option}"
        );
        CommandError::new(Exit::Unavailable, message)
    }
}

/// The admin listener of a keeper of which only the data listener is named: on the usual ports its neighbour, else the
/// address as it is, which then may be that of the admin listener itself.
fn beside(data: &str) -> String {
    let (usual, neighbour) = DEFAULT_PORTS;
    match data.trim_end_matches('/').strip_suffix(usual) {
        Some(host) => format!("{host}{neighbour}"),
        None => data.to_owned(),
    }
}

/// Reads `host:port` or a URL: http on this machine, https elsewhere.
///
/// # Errors
/// When it is neither, or plain http would leave this machine.
pub fn endpoint(address: &str) -> Result<Endpoint, CommandError> {
    let fail = |error| CommandError::new(Exit::Usage, format!("`{address}`: {error}"));
    if address.contains("://") {
        return Endpoint::parse(address).map_err(fail);
    }
    let plain = Endpoint::parse(&format!("http://{address}"));
    plain.or_else(|_| Endpoint::parse(&format!("https://{address}"))).map_err(fail)
}

fn read_token(file: &Path) -> Result<Secret<String>, CommandError> {
    let fail = |error: &dyn std::fmt::Display| CommandError::new(Exit::Usage, format!("{}: {error}", file.display()));
    let text = fs::read_to_string(file).map_err(|error| fail(&error))?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(fail(&"holds no token: one line of visible ASCII characters is needed"));
    }
    Ok(Secret::new(token.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood_and_plain_http_stays_at_home() {
        let check = |address: &str, expected: Option<&str>| {
            assert_eq!(endpoint(address).ok().map(|endpoint| endpoint.to_string()).as_deref(), expected, "{address}");
        };
        check("127.0.0.1:8433", Some("http://127.0.0.1:8433"));
        check("localhost:8433", Some("http://localhost:8433"));
        check("[::1]:8433", Some("http://[::1]:8433"));
        check("keeper.example:8433", Some("https://keeper.example:8433"));
        check("https://keeper.example/prefix/", Some("https://keeper.example/prefix"));
        check("http://keeper.example", None);
        check("", None);
        check("ftp://127.0.0.1", None);
    }

    #[test]
    fn the_admin_listener_is_looked_for_beside_the_data_listener() {
        assert_eq!(beside("127.0.0.1:8433"), "127.0.0.1:8434");
        assert_eq!(beside("http://127.0.0.1:8433/"), "http://127.0.0.1:8434");
        assert_eq!(beside("127.0.0.1:40001"), "127.0.0.1:40001");
    }

    #[test]
    fn a_told_token_stays_with_the_address_it_was_told_with() {
        let dir = tempfile::tempdir().unwrap();
        let token_file = dir.path().join("token");
        fs::write(&token_file, "0123456789abcdef\n").unwrap();
        let ready = Ready {
            listen: Some(String::from("127.0.0.1:1")),
            admin_listen: Some(String::from("127.0.0.1:2")),
            token_file: Some(token_file),
            ..Ready::default()
        };
        let ready_file = dir.path().join("ready.json");
        ready.write(&ready_file).unwrap();
        let target = |server: Option<&str>| Target {
            server: server.map(str::to_owned),
            ready_file: ready_file.clone(),
            ..Target::default()
        };
        assert!(target(None).data().unwrap().has_token());
        assert!(target(None).admin().unwrap().has_token());
        assert!(target(Some("127.0.0.1:1")).data().unwrap().has_token());
        assert!(!target(Some("127.0.0.1:3")).data().unwrap().has_token());
        assert!(!target(Some("127.0.0.1:3")).admin().unwrap().has_token());
    }

    #[test]
    fn nothing_running_is_told_with_what_to_do() {
        let target = Target { ready_file: PathBuf::from("/nowhere/ready.json"), ..Target::default() };
        let error = target.data().err().unwrap();
        assert_eq!(error.exit, Exit::Unavailable);
        assert!(error.message.contains("storekeeper dev") && error.message.contains("--server"), "{error}");
    }
}
