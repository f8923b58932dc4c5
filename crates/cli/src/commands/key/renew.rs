//! `storekeeper key renew`: renews keys without a keeper, one from a file or a stream of them.

use std::collections::BTreeMap;
use std::io::{BufReader, IsTerminal as _, stdin, stdout};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
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
use crate::renew::{RenewSettings, Renewer, Tally, Verdict, Which, Word, run};
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
        let settings = self.settings(environment)?;
        let extra_ca = self.extra_ca.as_deref().map(read).transpose()?;
        let renewer = Renewer::new(settings, compose::transport(extra_ca)?, Arc::new(SystemClock::new()));
        let done = match &self.key_file {
            Some(file) => self.one(&renewer, file, format).await,
            None => stream(&renewer).await,
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

    async fn one(&self, renewer: &Renewer, file: &Path, format: Format) -> CommandResult {
        let key = StoreIdKey::parse(key_file::read(Some(file))?);
        let key = key.map_err(|error| CommandError::new(Exit::Usage, error))?;
        let verdict = renewer.renew(&key).await;
        let result = verdict.successor.as_deref().unwrap_or(&key);
        if let Some(error) = not_renewed(&verdict) {
            return Err(error);
        }
        let expires_at = result.lifetime().expires_at();
        if let Some(out) = &self.out {
            let written = write_secret_by_rename(out, result.jwt().expose());
            written.map_err(|error| CommandError::new(Exit::Failure, format!("{}: {error}", out.display())))?;
        }
        let told =
            format!("{} {}, expires {}", result.fingerprint(), verdict.word.as_str(), instant_or_dash(expires_at));
        match (format, &self.out) {
            (Format::Json, out) => output::print_json(&json!({
                "key": out.is_none().then(|| result.jwt().expose()),
                "result": verdict.word.as_str(),
                "fingerprint": result.fingerprint(),
                "expires_at": expires_at,
            })),
            (Format::Table, Some(_)) => output::print(&told),
            (Format::Table, None) => {
                remark(&told);
                output::print(result.jwt().expose())
            }
        }
    }
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

async fn stream(renewer: &Renewer) -> CommandResult {
    if stdin().is_terminal() {
        remark("reading keys from stdin, one JSON object in each line; Ctrl-D ends");
    }
    let tally = run(renewer, BufReader::new(stdin()), &mut stdout()).await?;
    remark(&told(&tally));
    if tally.is_clean() {
        return Ok(());
    }
    let left = tally.lines() - tally.of(Word::Renewed) - tally.of(Word::Kept);
    Err(CommandError::new(Exit::Problems, format!("{} not renewed", output::counted(left, "line"))))
}

fn told(tally: &Tally) -> String {
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
