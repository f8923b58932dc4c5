//! Composition: how a configuration becomes a keyring, a keeper and a server. The one place where all of them meet.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use storekeeper_client::{HttpOptions, HttpTransport, Transport};
use storekeeper_clock::Clock;
use storekeeper_keeper::{AppConfig, CredentialSource, Drained, Keeper, KeeperConfig, Limits, NodeConfig, StartError};
use storekeeper_keyring::seal::MasterKey;
use storekeeper_keyring::{Keyring, KeyringError, NodeId};
use storekeeper_keyring_postgres::{Options, Passwords, PostgresKeyring};
use storekeeper_keyring_sqlite::SqliteKeyring;
use storekeeper_server::{Caller, Plaintext, ServerConfig, TokenDigest};
use zeroize::Zeroizing;

use crate::config::{self, Config, KeyringUrl};
use crate::descriptors;
use crate::entra_password::EntraPasswords;
use crate::exit::{CommandError, Exit};

/// How many renewals are under way at once, unless a command says otherwise.
pub const CONCURRENCY: usize = 64;
/// How many rows are remembered, a kilobyte each once they have been read: so many keys are handed out without looking
/// them up again, and while the keyring is down.
pub const CACHE_ROWS: usize = 131_072;
/// The longest one exchange with the Store or Entra may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens the configured keyring, with the passwords of [`passwords`]. The tables in a PostgreSQL have to be there.
///
/// # Errors
/// One line that says what to do, with the exit code for it.
pub async fn open_keyring(
    keyring: &config::Keyring,
    passwords: Option<Arc<dyn Passwords>>,
) -> Result<Arc<dyn Keyring>, CommandError> {
    match &keyring.url {
        KeyringUrl::Sqlite(path) => open_sqlite(path).await,
        KeyringUrl::Postgres(url) => {
            let options = Options { connections: keyring.connections, passwords, ..Options::default() };
            let opened = PostgresKeyring::open_with(url.text.expose(), &options).await;
            Ok(Arc::new(opened.map_err(|error| keyring_error(&error))?))
        }
    }
}

/// Where the password of the keyring's database comes from, if not from its URL.
pub fn passwords(
    keyring: &config::Keyring,
    transport: &Arc<dyn Transport>,
    clock: &Arc<dyn Clock>,
) -> Option<Arc<dyn Passwords>> {
    let entra = keyring.entra.clone()?;
    let passwords = Arc::new(EntraPasswords::new(entra, Arc::clone(transport), Arc::clone(clock)));
    passwords.keep_fresh();
    Some(passwords)
}

/// A keyring that cannot be opened: what may pass by itself is told from what somebody has to correct.
pub fn keyring_error(error: &KeyringError) -> CommandError {
    let exit = if matches!(error, KeyringError::Unavailable(_)) { Exit::Unavailable } else { Exit::Usage };
    CommandError::with_causes(exit, error)
}

/// Opens a SQLite keyring.
///
/// # Errors
/// As [`open_keyring`].
pub async fn open_sqlite(path: &Path) -> Result<Arc<dyn Keyring>, CommandError> {
    let path = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || SqliteKeyring::open(&path)).await;
    let opened = opened.map_err(|error| CommandError::new(Exit::Failure, error))?;
    let keyring = opened.map_err(|error| CommandError::with_causes(Exit::Usage, &error))?;
    Ok(Arc::new(keyring))
}

/// The HTTP transport; `extra_ca` is the contents of a PEM file with certificates to trust besides the platform's.
///
/// # Errors
/// When TLS cannot be set up.
pub fn transport(extra_ca: Option<Vec<u8>>) -> Result<Arc<dyn Transport>, CommandError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut options = HttpOptions::default().idle_connections_max(CONCURRENCY * 2);
    if let Some(pem) = extra_ca {
        options = options.extra_ca(pem);
    }
    let transport = HttpTransport::new(provider, options);
    Ok(Arc::new(transport.map_err(|error| CommandError::with_causes(Exit::Failure, &error))?))
}

/// What the keeper is told.
pub fn keeper_config(config: &Config, seed: u64, accept_orphans: bool) -> KeeperConfig {
    KeeperConfig {
        apps: config.app.iter().map(app).collect(),
        collections: config.endpoint.collections.endpoint().clone(),
        purchase: config.endpoint.purchase.endpoint().clone(),
        entra: config.endpoint.entra.endpoint().clone(),
        entra_version: config.endpoint.entra_version,
        concurrency: CONCURRENCY,
        request_timeout: REQUEST_TIMEOUT,
        cache_rows: CACHE_ROWS,
        limits: Limits::On,
        seed,
        accept_orphans,
        rescue_folder: config.keyring.rescue_folder.clone(),
        node: NodeConfig::default(),
    }
}

/// Who this process is among those that share a keyring: a new id, and a name for people.
pub fn node(name: Option<&str>) -> NodeConfig {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&seed().to_be_bytes());
    id[8..].copy_from_slice(&seed().to_be_bytes());
    let of_process = || format!("{}:{}", machine(), std::process::id());
    let name = name.map_or_else(of_process, str::to_owned);
    NodeConfig { id: NodeId::from_bytes(id), name, ..NodeConfig::default() }
}

/// What the machine, or the container, is called.
fn machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { String::from("keeper") } else { name.to_owned() }
}

fn app(app: &config::App) -> AppConfig {
    let source = |credential: &config::Credential| -> Arc<dyn CredentialSource> { Arc::new(credential.clone()) };
    AppConfig {
        name: app.name.clone(),
        tenant: app.tenant_id.clone(),
        client_id: app.client_id.clone(),
        credentials: app.credentials.iter().map(source).collect(),
        user_claim: app.user_claim,
        policy: app.renewal,
    }
}

/// What the HTTP server is told.
///
/// # Errors
/// When a caller's token is not one.
pub fn server_config(config: &Config) -> Result<ServerConfig, CommandError> {
    let mut callers = Vec::with_capacity(config.caller.len());
    for caller in &config.caller {
        let token = TokenDigest::of(&caller.token);
        let token =
            token.map_err(|error| CommandError::new(Exit::Usage, format!("caller `{}`: {error}", caller.name)))?;
        let made = Caller::new(&caller.name, token, &caller.scope);
        callers.push(match &caller.app {
            Some(apps) => made.limited_to(apps.clone()),
            None => made,
        });
    }
    let mut server = ServerConfig::new(callers);
    server.listen = config.server.listen;
    server.admin_listen = config.server.admin_listen;
    server.guards = server.guards.within_descriptors(descriptors::limit());
    if config.server.is_behind_proxy {
        server.plaintext = Plaintext::BehindProxy;
    }
    Ok(server)
}

/// The master key as the keyring takes it.
pub fn master_key(config: &Config) -> MasterKey {
    let text = Zeroizing::new(STANDARD.encode(config.encryption.master_key.expose()));
    MasterKey::from_text(&text).expect("32 bytes as base64 are a master key")
}

/// Starts the keeper.
///
/// # Errors
/// One line that says what to do; a configuration that does not fit the keyring is a usage error.
pub async fn start_keeper(
    config: KeeperConfig,
    keyring: Arc<dyn Keyring>,
    master: &MasterKey,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
) -> Result<Keeper, CommandError> {
    Keeper::start(config, keyring, master, transport, clock).await.map_err(|error| {
        let exit = if matches!(error, StartError::Keyring(_)) { Exit::Unavailable } else { Exit::Usage };
        CommandError::with_causes(exit, &error)
    })
}

/// The end of a keeper: successors that are not in the keyring are a failure, whose line says where they are.
///
/// # Errors
/// With the exit code for a failure.
pub fn drained(drained: &Drained) -> Result<(), CommandError> {
    if drained.is_clean() { Ok(()) } else { Err(CommandError::new(Exit::Failure, drained)) }
}

/// A seed that differs between processes, for jitter and correlation vectors; nothing secret depends on it.
pub fn seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::hash::RandomState::new().build_hasher().finish()
}

/// `path`, absolute where the current directory is known.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
