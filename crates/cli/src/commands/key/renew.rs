//! `storekeeper key renew`: renews keys without a keeper, one from a file or a stream of them.

use std::collections::BTreeMap;
use std::io::{BufReader, IsTerminal as _, Write as _, stdin};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures_util::stream::{self, Stream};
use serde_json::json;
use storekeeper_client::{Endpoint, Endpoints, EntraVersion};
use storekeeper_clock::SystemClock;
use storekeeper_emulator::{DEV_CLIENT_ID, DEV_CLIENT_SECRET, DEV_TENANT_ID};
use storekeeper_keeper::{AppConfig, CredentialSource, FixedSecret, UserClaim};
use storekeeper_model::{AppName, ClientId, KeyKind, Secret, StoreIdKey, parse_span};
use storekeeper_policy::RenewalPolicy;

use crate::compose;
use crate::config::{Config, Credential};
use crate::exit::{CommandError, CommandResult, Exit};
use crate::key_file;
use crate::output::{self, Format, count, instant_or_dash, remark};
use crate::ready::{Ready, write_secret_by_rename};
use crate::renew::{
    Outcome, RenewSettings, Renewer, Rescue, Tally, Unwritten, Verdict, Which, Word, rescue_line, run, run_one,
};
use crate::signals::{Signal, Signals};
use crate::target::endpoint;

/// Renew keys without a keeper: one from a file, or a stream of them on stdin.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Renew {
    /// Renew the key in this file (`-`: stdin) and print its successor; else NDJSON is read from stdin
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Write the successor here instead, readable by its owner only; may be the same file
    #[arg(long, value_name = "FILE", requires = "key_file")]
    out: Option<PathBuf>,
    /// Leave alone what the policy does not call due
    #[arg(long)]
    due: bool,
    /// Try every key, even when most are refused
    #[arg(long)]
    keep_going: bool,
    /// How long a host that is down is waited for
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "2m")]
    patience: Duration,
    /// Certificates to trust besides the platform's, as a PEM file
    #[arg(long, value_name = "FILE")]
    extra_ca: Option<PathBuf>,
    /// Where successors are rescued that cannot be written, in plain text [default: the current folder, else the temporary
    /// one]
    #[arg(long, value_name = "DIR")]
    rescue_folder: Option<PathBuf>,
    #[command(flatten)]
    identity: Identity,
}

const AFTER_HELP: &str = "\
A line in:   {\"key\":\"eyJ…\"} with any other members, which come back as they came
A line out:  key (the successor, or the old key), result, fingerprint, expires_at; and code, detail if it was not renewed
  renewed  there is a successor          kept     not due (with --due)
  refused  refused twice; not yet dead   failed   nothing was learned about the key
  invalid  no key, or another app's
As many lines out as in, in order. Exits 6 when a line is neither renewed nor kept.
A signal ends it in order: every successor is written, keys that were not sent come out as failed, `interrupted`.

Example: storekeeper key renew --config storekeeper.toml < keys.ndjson > renewed.ndjson";

/// Whose keys they are: a configuration, or an app registration, or the emulator's.
#[derive(Debug, Args)]
#[command(next_help_heading = "Whose keys")]
struct Identity {
    /// Take apps, credentials, endpoints and policy from this configuration
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tenant_id", "client_id", "secret_file", "emulator", "collections", "purchase", "entra"])]
    config: Option<PathBuf>,
    /// Only this app of the configuration
    #[arg(long, value_name = "APP", requires = "config", value_parser = AppName::new)]
    app: Option<AppName>,
    /// The directory (tenant) ID
    #[arg(long, value_name = "TENANT", requires_all = ["client_id", "secret_file"])]
    tenant_id: Option<String>,
    /// The application (client) ID
    #[arg(long, value_name = "GUID", requires_all = ["tenant_id", "secret_file"])]
    client_id: Option<String>,
    /// The file that holds the client secret
    #[arg(long, value_name = "FILE", requires_all = ["tenant_id", "client_id"])]
    secret_file: Option<PathBuf>,
    /// Where Collections keys are renewed, instead of Microsoft's
    #[arg(long, value_name = "URL")]
    collections: Option<String>,
    /// Where Purchase keys are renewed, instead of Microsoft's
    #[arg(long, value_name = "URL")]
    purchase: Option<String>,
    /// Where service tickets are issued, instead of Microsoft's
    #[arg(long, value_name = "URL")]
    entra: Option<String>,
    /// Use an emulator and its development identity; the one of .storekeeper/ready.json unless an address is given
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, conflicts_with_all = ["tenant_id", "collections", "purchase", "entra"])]
    emulator: Option<Option<String>>,
}

const MICROSOFT_ENTRA: &str = "login.microsoftonline.com";

impl Renew {
    /// Renews what there is. `environment` holds the variables of the process.
    pub(super) async fn run(self, environment: &BTreeMap<String, String>, format: Format) -> CommandResult {
        let mut caught = Caught::listen()?;
        let settings = self.settings(environment)?;
        let extra_ca = self.extra_ca.as_deref().map(read).transpose()?;
        let renewer = Renewer::new(settings, compose::transport(extra_ca)?, Arc::new(SystemClock::new()));
        let rescue = Rescue::new(match &self.rescue_folder {
            Some(folder) => vec![folder.clone()],
            None => vec![PathBuf::from("."), std::env::temp_dir()],
        });
        let done = match &self.key_file {
            Some(file) => self.one(&renewer, file, format, &mut caught, &rescue).await,
            None => renew_stream(&renewer, &mut caught, &rescue).await,
        };
        if let Some(skew) = renewer.skew() {
            remark(&format!("this machine's clock and the Store's differ by {skew}: correct the wrong one"));
        }
        done
    }

    fn settings(&self, environment: &BTreeMap<String, String>) -> Result<RenewSettings, CommandError> {
        let (apps, endpoints, entra_version) = self.identity.resolve(environment)?;
        let which = if self.due { Which::Due } else { Which::All };
        let (patience, keeps_going) = (self.patience, self.keep_going);
        Ok(RenewSettings { apps, endpoints, entra_version, which, patience, keeps_going, seed: compose::seed() })
    }

    async fn one(
        &self,
        renewer: &Renewer,
        file: &Path,
        format: Format,
        caught: &mut Caught,
        rescue: &Rescue,
    ) -> CommandResult {
        let key = StoreIdKey::parse(caught.signals.interrupt(read_key(file.to_owned())).await?);
        let key = key.map_err(|error| CommandError::new(Exit::Usage, error))?;
        if self.out.is_none() {
            output::secret_stdout()?;
        }
        let verdict = run_one(renewer, &key, caught.signals()).await;
        if let Some(mut error) = not_renewed(&verdict) {
            error.exit = caught.first().map_or(error.exit, Signal::exit);
            return Err(error);
        }
        if let Err(error) = self.hand_over(&key, &verdict, format) {
            return Err(match verdict.word {
                Word::Renewed => rescue_one(&key, &verdict, error, rescue),
                _ => error,
            });
        }
        caught.first().map_or(Ok(()), |signal| Err(ended(signal, "the key was written")))
    }

    fn hand_over(&self, key: &StoreIdKey, verdict: &Verdict, format: Format) -> CommandResult {
        let result = verdict.successor.as_deref().unwrap_or(key);
        let expires_at = result.lifetime().expires_at();
        if let Some(out) = &self.out {
            let written = write_secret_by_rename(out, result.jwt().expose());
            written.map_err(|error| CommandError::new(Exit::Failure, format!("{}: {error}", out.display())))?;
        }
        let told =
            format!("{} {}, expires {}", result.fingerprint(), verdict.word.as_str(), instant_or_dash(expires_at));
        match (format, &self.out) {
            (Format::Json, None) => print_key(
                &json!({
                    "key": result.jwt().expose(),
                    "result": verdict.word.as_str(),
                    "fingerprint": result.fingerprint(),
                    "expires_at": expires_at,
                })
                .to_string(),
            ),
            (Format::Json, Some(_)) => output::print_json(&json!({
                "key": null,
                "result": verdict.word.as_str(),
                "fingerprint": result.fingerprint(),
                "expires_at": expires_at,
            })),
            (Format::Table, Some(_)) => output::print(&told),
            (Format::Table, None) => {
                remark(&told);
                print_key(result.jwt().expose())
            }
        }
    }
}

/// Prints a key. Unlike other data it is lost when its reader has gone away, so that is a failure.
fn print_key(text: &str) -> CommandResult {
    let written = output::secret_stdout()?.write_all(format!("{text}\n").as_bytes());
    written.map_err(|error| CommandError::new(Exit::Failure, format!("cannot write the key: {error}")))
}

/// Puts a successor that could not be written into a rescue file.
fn rescue_one(key: &StoreIdKey, verdict: &Verdict, error: CommandError, rescue: &Rescue) -> CommandError {
    let line = rescue_line(key, verdict);
    let message = match rescue.write(std::iter::once(&*line)) {
        Ok(path) => format!("{}; the successor stands in plain text in {} (mode 0600)", error.message, path.display()),
        Err(refused) => {
            format!("{}; the successor is lost, since no rescue file could be written: {refused}", error.message)
        }
    };
    CommandError::new(error.exit, message)
}

/// The failure of a single key, with the exit code for it.
fn not_renewed(verdict: &Verdict) -> Option<CommandError> {
    let (exit, what) = match verdict.word {
        Word::Renewed | Word::Kept => return None,
        Word::Refused => (Exit::Refused, "the key was refused twice, the second time with a fresh ticket"),
        Word::Failed => (Exit::Unavailable, "the renewal failed, which says nothing about the key"),
        Word::Invalid => (Exit::Usage, "the key cannot be renewed here"),
    };
    let is_refusal =
        matches!(verdict.code.as_deref(), Some("credential_refused" | "misconfigured" | "inconsistent_client_id"));
    let exit = if is_refusal { Exit::Refused } else { exit };
    let detail = verdict.detail.as_deref().unwrap_or_default();
    Some(CommandError::new(exit, format!("{what}: {detail} [{}]", verdict.code.as_deref().unwrap_or_default())))
}

/// Reads a key in a thread of its own: stdin may stand still.
async fn read_key(file: PathBuf) -> Result<Secret<String>, CommandError> {
    let read = tokio::task::spawn_blocking(move || key_file::read(Some(&file))).await;
    read.map_err(|error| CommandError::new(Exit::Failure, error))?
}

async fn renew_stream(renewer: &Renewer, caught: &mut Caught, rescue: &Rescue) -> CommandResult {
    let output = output::secret_stdout()?;
    if stdin().is_terminal() {
        remark("reading keys from stdin, one JSON object in each line; Ctrl-D ends");
    }
    let outcome = run(renewer, BufReader::new(stdin()), output, caught.signals(), rescue).await;
    if outcome.unwritten.is_none() {
        remark(&summary(&outcome.tally));
    }
    end(&outcome, caught.first())
}

/// How a stream ends: with what is lost or stands elsewhere, with the signal that ended it, with lines that were not renewed.
fn end(outcome: &Outcome, signal: Option<Signal>) -> CommandResult {
    let mut problems = Vec::new();
    let mut exit = signal.map_or(Exit::Failure, Signal::exit);
    if let Some(unwritten) = &outcome.unwritten {
        problems.push(format!("{unwritten}; written before: {}", summary(&outcome.tally)));
        if unwritten.is_lost() {
            exit = Exit::Failure;
        }
    }
    if let Some(error) = &outcome.input_failure {
        problems.push(format!("cannot read the lines: {error}"));
    }
    let tally = &outcome.tally;
    let left = tally.lines() - tally.of(Word::Renewed) - tally.of(Word::Kept);
    if let Some(signal) = signal {
        problems.push(ended(signal, &format!("{} not renewed", output::counted(left, "line"))).message);
    } else if problems.is_empty() && left > 0 {
        exit = Exit::Problems;
        problems.push(format!("{} not renewed", output::counted(left, "line")));
    }
    if problems.is_empty() { Ok(()) } else { Err(CommandError::new(exit, problems.join("\n"))) }
}

fn ended(signal: Signal, state: &str) -> CommandError {
    CommandError::new(signal.exit(), format!("ended by {signal}: {state}"))
}

impl std::fmt::Display for Unwritten {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.failure {
            Some(error) => write!(f, "cannot write the answers: {error}; ")?,
            None => f.write_str("cannot write the answers: their reader stands still; ")?,
        }
        let (lines, renewed) = (output::counted(self.tally.lines(), "line"), count(self.tally.of(Word::Renewed)));
        match &self.rescued {
            None => write!(f, "{lines} not written, of which none is renewed"),
            Some(Ok(path)) => write!(
                f,
                "the rest, {lines} of which {renewed} renewed, stands in plain text in {} (mode 0600): a stream has no master key to seal it with",
                path.display()
            ),
            Some(Err(refused)) => write!(
                f,
                "{lines} not written, of which {renewed} renewed: these successors are lost, since no rescue file could be written: {refused}"
            ),
        }
    }
}

/// The signals, and which came first.
struct Caught {
    signals: Signals,
    first: Option<Signal>,
}

impl Caught {
    fn listen() -> Result<Self, CommandError> {
        Ok(Self { signals: Signals::listen()?, first: None })
    }

    fn signals(&mut self) -> impl Stream<Item = ()> + Unpin {
        Box::pin(stream::unfold(self, |caught| async move {
            let signal = caught.signals.received().await;
            caught.first.get_or_insert(signal);
            Some(((), caught))
        }))
    }

    fn first(&self) -> Option<Signal> {
        self.first
    }
}

fn summary(tally: &Tally) -> String {
    let parts: Vec<String> = Word::ALL
        .into_iter()
        .filter(|word| tally.of(*word) > 0 || *word == Word::Renewed)
        .map(|word| format!("{} {}", count(tally.of(word)), word.as_str()))
        .collect();
    format!("{}: {}", output::counted(tally.lines(), "line"), parts.join(", "))
}

type Resolved = (Vec<AppConfig>, Endpoints, EntraVersion);

impl Identity {
    fn resolve(&self, environment: &BTreeMap<String, String>) -> Result<Resolved, CommandError> {
        match (&self.config, &self.emulator, &self.secret_file) {
            (Some(config), ..) => self.configured(config, environment),
            (_, Some(address), _) => emulated(address.as_deref()),
            (_, _, Some(secret_file)) => self.registered(secret_file),
            _ => {
                let message = "whose keys are they? name --config FILE, or --tenant-id, --client-id and --secret-file, or --emulator";
                Err(CommandError::new(Exit::Usage, message))
            }
        }
    }

    fn configured(&self, file: &Path, environment: &BTreeMap<String, String>) -> Result<Resolved, CommandError> {
        let (config, warnings) =
            Config::load(file, environment).map_err(|error| CommandError::new(Exit::Usage, error))?;
        warnings.iter().for_each(|warning| remark(&format!("warning: {warning}")));
        let keeper = compose::keeper_config(&config, 0, true);
        let mut apps = keeper.apps;
        if let Some(name) = &self.app {
            apps.retain(|app| app.name == *name);
            if apps.is_empty() {
                let message = format!("{}: there is no app `{name}`", file.display());
                return Err(CommandError::new(Exit::Usage, message));
            }
        }
        let endpoints = Endpoints { collections: keeper.collections, purchase: keeper.purchase, entra: keeper.entra };
        Ok((apps, endpoints, keeper.entra_version))
    }

    fn registered(&self, secret_file: &Path) -> Result<Resolved, CommandError> {
        let secret = Secret::new(String::from_utf8(read(secret_file)?).unwrap_or_default().trim().to_owned());
        if secret.expose().is_empty() {
            let message = format!("{}: holds no client secret", secret_file.display());
            return Err(CommandError::new(Exit::Usage, message));
        }
        let credential = Credential::ClientSecret { secret, file: Some(secret_file.to_owned()), expires_at: None };
        let (tenant, client_id) = (self.tenant_id.clone().unwrap_or_default(), self.client_id.as_deref());
        let client_id = ClientId::new(client_id.unwrap_or_default());
        if !client_id.is_guid() {
            return Err(CommandError::new(Exit::Usage, "--client-id: is not a GUID"));
        }
        let place = |named: &Option<String>, host: &str| match named {
            Some(address) => endpoint(address),
            None => endpoint(&format!("https://{host}")),
        };
        let endpoints = Endpoints {
            collections: place(&self.collections, KeyKind::Collections.host())?,
            purchase: place(&self.purchase, KeyKind::Purchase.host())?,
            entra: place(&self.entra, MICROSOFT_ENTRA)?,
        };
        Ok((vec![app(tenant, client_id, Arc::new(credential))], endpoints, EntraVersion::V2))
    }
}

/// The development identity of an emulator.
fn emulated(address: Option<&str>) -> Result<Resolved, CommandError> {
    let address = match address {
        Some(address) => address.to_owned(),
        None => told_address()?,
    };
    let base = endpoint(&address)?;
    if !base.is_loopback() {
        return Err(CommandError::new(Exit::Usage, format!("{address} is not on this machine, as an emulator is")));
    }
    let place = |host: &str| -> Result<Endpoint, CommandError> { endpoint(&format!("{base}/{host}")) };
    let endpoints = Endpoints {
        collections: place(KeyKind::Collections.host())?,
        purchase: place(KeyKind::Purchase.host())?,
        entra: place(MICROSOFT_ENTRA)?,
    };
    let secret = FixedSecret(Secret::new(DEV_CLIENT_SECRET.to_owned()));
    let app = app(DEV_TENANT_ID.to_owned(), ClientId::new(DEV_CLIENT_ID), Arc::new(secret));
    Ok((vec![app], endpoints, EntraVersion::V2))
}

fn told_address() -> Result<String, CommandError> {
    let file = Path::new(crate::ready::STATE_DIR).join("ready.json");
    let ready = Ready::read(&file).ok().and_then(|ready| ready.http);
    ready.ok_or_else(|| {
        let message = format!(
            "no emulator is running here ({} tells of none): start one with `storekeeper dev`, or say --emulator ADDRESS",
            file.display()
        );
        CommandError::new(Exit::Unavailable, message)
    })
}

fn app(tenant: String, client_id: ClientId, credential: Arc<dyn CredentialSource>) -> AppConfig {
    AppConfig {
        name: AppName::new("stream").expect("the name is made of letters"),
        tenant,
        client_id,
        credentials: vec![credential],
        user_claim: UserClaim::Ignore,
        policy: RenewalPolicy::default(),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, CommandError> {
    std::fs::read(file).map_err(|error| CommandError::new(Exit::Usage, format!("{}: {error}", file.display())))
}
