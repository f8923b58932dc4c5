//! `storekeeper dev`: keeper, emulator and a population of players in one process, on loopback, with nothing to set up.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use storekeeper_client::{Endpoint, EntraVersion};
use storekeeper_emulator::{DEV_CLIENT_ID, DEV_CLIENT_SECRET, DEV_TENANT_ID, MintKey, Running};
use storekeeper_keeper::{
    AppConfig, EnrollRequest, FixedSecret, Keeper, KeeperConfig, Limits, NodeConfig, ReadError, UserClaim,
};
use storekeeper_keyring::seal::MasterKey;
use storekeeper_model::{AppName, ClientId, Identity, KeyKind, Secret, Slot, UserName};
use storekeeper_policy::RenewalPolicy;
use storekeeper_server::{Caller, Scope, Server, ServerConfig, TokenDigest};

use super::emulate::{self, EmulatorArgs};
use crate::compose;
use crate::exit::{CommandError, CommandResult, Exit};
use crate::first_keys::FirstKeys;
use crate::log_writer::LogWriter;
use crate::output::{self, count};
use crate::ready::{Ready, STATE_DIR, write_by_rename, write_secret};
use crate::signals::Signals;

/// The one app of `dev`.
const APP: &str = "mygame";
/// How many players are enrolled in one go.
const CHUNK: usize = 500;

/// Run keeper, emulator and a population of players in one process, with nothing to set up.
#[derive(Debug, Args)]
pub struct Dev {
    /// How many players to enroll, each with a Collections and a Purchase key
    #[arg(long, default_value_t = 1000)]
    players: usize,
    /// The keeper's data listener
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8433")]
    listen: SocketAddr,
    /// The keeper's admin listener
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8434")]
    admin_listen: SocketAddr,
    #[command(flatten)]
    emulator: EmulatorArgs,
    /// Where all state is kept; delete it to start over
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    data_dir: PathBuf,
    /// Write addresses here once the players are enrolled, besides `ready.json` in the data directory
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
}

/// Files of the data directory.
struct State {
    dir: PathBuf,
}

impl State {
    fn open(dir: &Path) -> Result<Self, CommandError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let dir = compose::absolute(dir);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|error| CommandError::new(Exit::Usage, format!("{}: {error}", dir.display())))?;
        Ok(Self { dir })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A secret kept in a file of this name, made when it is not there yet.
    fn secret(&self, name: &str, make: impl FnOnce() -> Secret<String>) -> Result<Secret<String>, CommandError> {
        let path = self.file(name);
        let fail = |error: std::io::Error| CommandError::new(Exit::Failure, format!("{}: {error}", path.display()));
        if !path.exists() {
            write_secret(&path, make().expose()).map_err(fail)?;
        }
        Ok(Secret::new(fs::read_to_string(&path).map_err(fail)?.trim().to_owned()))
    }

    fn first_keys(&self) -> FirstKeys {
        FirstKeys::read(&self.file("first-keys.json")).unwrap_or_default()
    }

    fn keep_first_keys(&self, keys: &FirstKeys) -> Result<(), CommandError> {
        let bytes = serde_json::to_vec(keys).map_err(|error| CommandError::new(Exit::Failure, error))?;
        write_by_rename(&self.file("first-keys.json"), &bytes)
            .map_err(|error| CommandError::new(Exit::Failure, format!("first-keys.json: {error}")))
    }
}

impl Dev {
    /// Runs until SIGTERM, SIGINT or SIGHUP.
    pub async fn run(self, log: &LogWriter) -> CommandResult {
        self.refuse_strangers()?;
        let mut signals = Signals::listen()?;
        let state = State::open(&self.data_dir)?;
        // The keyring first: its lock tells whether another `dev` is at home.
        let keyring = compose::open_sqlite(&state.file("storekeeper.db")).await?;
        let master = state.secret("master.key", || MasterKey::generate().to_text())?;
        let master = MasterKey::from_text(master.expose()).map_err(|error| CommandError::new(Exit::Usage, error))?;
        let token = state.secret("dev.token", random_token)?;
        let emulator = self.emulator.start(self.emulator.clock_to_start_with(), Some(state.file("emulator"))).await?;
        let ca = emulator.ca_file().and_then(|path| fs::read(path).ok());
        let clock = Arc::new(emulator.clock().clone());
        let config = keeper_config(&emulator, self.emulator.seed, &state)?;
        let keeper = compose::start_keeper(config, keyring, &master, compose::transport(ca)?, clock).await?;
        keeper.surround(Arc::new(log.clone()));
        let server = Server::start(keeper.clone(), self.server_config(&token)?).await;
        let server = server.map_err(|error| CommandError::with_causes(Exit::Unavailable, &error))?;
        let enrolled = enroll_players(&keeper, &emulator, &state, self.players).await?;
        let ready = Ready {
            listen: Some(server.listen.to_string()),
            admin_listen: Some(server.admin_listen.to_string()),
            token_file: Some(state.file("dev.token")),
            first_keys_file: Some(state.file("first-keys.json")),
            ..emulate::ready(&emulator)
        };
        let ready_files = [Some(state.file("ready.json")), self.ready_file.clone()];
        for file in ready_files.iter().flatten() {
            ready
                .write(file)
                .map_err(|error| CommandError::new(Exit::Usage, format!("{}: {error}", file.display())))?;
        }
        output::print(&greeting(&ready, &self.data_dir, enrolled, &state.first_keys()))?;
        let failed = async {
            tokio::select! {
                task = keeper.supervisor().failed() => task,
                task = emulator.failed() => task,
            }
        };
        let end = super::end(&mut signals, failed).await;
        let drained = super::drain(&mut signals, &keeper, Some(server)).await;
        let ended = emulator.shutdown().await;
        ready_files.iter().for_each(|file| super::take_back(file.as_deref()));
        ended.map_err(|error| CommandError::with_causes(Exit::Failure, &error))?;
        end.and(drained)
    }

    /// `dev` has fixed secrets, so nobody but this machine may reach it.
    fn refuse_strangers(&self) -> CommandResult {
        let emulator = &self.emulator;
        for address in [self.listen, self.admin_listen, emulator.http, emulator.https, emulator.control] {
            if !address.ip().is_loopback() {
                let message = format!("{address} can be reached from other machines; `dev` listens on loopback only");
                return Err(CommandError::new(Exit::Usage, message));
            }
        }
        Ok(())
    }

    fn server_config(&self, token: &Secret<String>) -> Result<ServerConfig, CommandError> {
        let digest = TokenDigest::of(token);
        let digest = digest.map_err(|error| CommandError::new(Exit::Usage, format!("dev.token: {error}")))?;
        let mut config = ServerConfig::new(vec![Caller::new("dev", digest, &Scope::ALL)]);
        (config.listen, config.admin_listen) = (self.listen, self.admin_listen);
        Ok(config)
    }
}

fn keeper_config(emulator: &Running, seed: u64, state: &State) -> Result<KeeperConfig, CommandError> {
    let http = emulator.http().ok_or_else(|| CommandError::new(Exit::Failure, "the emulator does not listen"))?;
    let endpoint = |host: &str| {
        Endpoint::parse(&format!("http://{http}/{host}")).map_err(|error| CommandError::new(Exit::Failure, error))
    };
    let app = AppConfig {
        name: app_name(),
        tenant: DEV_TENANT_ID.to_owned(),
        client_id: ClientId::new(DEV_CLIENT_ID),
        credentials: vec![Arc::new(FixedSecret(Secret::new(DEV_CLIENT_SECRET.to_owned())))],
        user_claim: UserClaim::Ignore,
        policy: RenewalPolicy::default(),
    };
    Ok(KeeperConfig {
        apps: vec![app],
        collections: endpoint(KeyKind::Collections.host())?,
        purchase: endpoint(KeyKind::Purchase.host())?,
        entra: endpoint("login.microsoftonline.com")?,
        entra_version: EntraVersion::V2,
        concurrency: compose::CONCURRENCY,
        request_timeout: compose::REQUEST_TIMEOUT,
        cache_rows: compose::CACHE_ROWS,
        limits: Limits::On,
        seed,
        accept_orphans: false,
        rescue_folder: Some(state.dir.clone()),
        node: NodeConfig::default(),
    })
}

fn app_name() -> AppName {
    AppName::new(APP).expect("the name is made of letters")
}

fn player(number: usize) -> UserName {
    UserName::from_bytes(format!("player-{number:04}").as_bytes()).expect("the name is short ASCII")
}

/// Enrolls the players that are not there yet; returns how many keys that were.
async fn enroll_players(
    keeper: &Keeper,
    emulator: &Running,
    state: &State,
    players: usize,
) -> Result<u64, CommandError> {
    let mut missing = Vec::new();
    for (number, kind) in (1..=players).flat_map(|number| KeyKind::ALL.map(|kind| (number, kind))) {
        let identity = Identity { app: app_name(), user: player(number), slot: Slot::default(), kind };
        match keeper.show(&identity).await {
            Ok(_) => {}
            Err(ReadError::NotFound) => missing.push(identity),
            Err(error) => return Err(CommandError::new(Exit::Unavailable, error)),
        }
    }
    let mut first_keys = state.first_keys();
    let progress = super::progress_bar(missing.len() as u64, "enrolling players");
    let mut enrolled = 0;
    for chunk in missing.chunks(CHUNK) {
        let requests = mint(emulator, chunk.to_vec()).await?;
        for answer in keeper.enroll(requests).await {
            let key =
                answer.map_err(|error| CommandError::new(Exit::Failure, format!("enrolling a player: {error}")))?;
            let Some(expires_at) = key.view.expires_at else { continue };
            first_keys.add(expires_at);
            enrolled += 1;
            progress.inc(1);
        }
        state.keep_first_keys(&first_keys)?;
    }
    progress.finish_and_clear();
    Ok(enrolled)
}

/// Mints on another thread: each key costs a signature.
async fn mint(emulator: &Running, identities: Vec<Identity>) -> Result<Vec<EnrollRequest>, CommandError> {
    let (store, now) = (Arc::clone(emulator.emulator()), emulator.clock().state().now);
    let minted = tokio::task::spawn_blocking(move || {
        let mint = |identity: Identity| {
            let key = store.mint_key(MintKey::new(identity.kind, identity.user.as_str()), now);
            key.map(|key| EnrollRequest {
                app: identity.app,
                user: identity.user,
                slot: identity.slot,
                kind: Some(identity.kind),
                key,
            })
        };
        identities.into_iter().map(mint).collect::<Result<Vec<_>, _>>()
    });
    let minted = minted.await.map_err(|error| CommandError::new(Exit::Failure, error))?;
    minted.map_err(|error| CommandError::new(Exit::Failure, format!("minting keys: {error}")))
}

fn random_token() -> Secret<String> {
    // The master key's generator, because the two secrets are of one kind: 32 random bytes as text.
    MasterKey::generate().to_text()
}

/// What a person sees once everything runs.
fn greeting(ready: &Ready, dir: &Path, enrolled: u64, first_keys: &FirstKeys) -> String {
    let text = |address: &Option<String>| address.clone().unwrap_or_default();
    let (listen, admin) = (text(&ready.listen), text(&ready.admin_listen));
    let (http, https, control) = (text(&ready.http), text(&ready.https), text(&ready.control));
    let token = dir.join("dev.token");
    let (token, keys, enrolled) = (token.display(), count(first_keys.count()), count(enrolled));
    let is_usual_dir = dir == Path::new(STATE_DIR);
    let told = if is_usual_dir { String::new() } else { format!(" --ready-file {}", dir.join("ready.json").display()) };
    let dir = dir.display();
    let bearer = format!("-H \"Authorization: Bearer $(cat {token})\"");
    let users = format!("http://{listen}/v1/apps/{APP}/users");
    format!(
        r#"storekeeper dev

  keeper    http://{listen}    admin http://{admin}
  Store     http://{http}    https://{https}
  control   http://{control}
  state     {dir}    delete it to start over
  players   {keys} keys, {enrolled} of them enrolled now

A live key, at any moment:
  curl -s {bearer} {users}/player-0001/keys/collections

Enroll a key of your own (the emulated Store mints it):
  curl -s http://{control}/control/v1/keys -d '{{"kind":"collections","user_id":"me"}}' | curl -s -X PUT {bearer} -H 'Content-Type: application/json' -d @- {users}/me/keys/collections

Two months in a minute:
  storekeeper clock advance 60d --watch{told}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_reads_the_token_from_its_file_and_names_an_unusual_place() {
        let ready = Ready { listen: Some(String::from("127.0.0.1:1")), ..Ready::default() };
        let greeting = |dir: &str| greeting(&ready, Path::new(dir), 4, &FirstKeys::default());
        let usual = greeting(STATE_DIR);
        assert!(usual.contains("$(cat .storekeeper/dev.token)\" http://127.0.0.1:1/v1/apps/mygame/users/player-0001"));
        assert!(usual.contains(r#"-d '{"kind":"collections","user_id":"me"}' | curl"#), "{usual}");
        assert!(usual.ends_with("clock advance 60d --watch\n"));
        assert!(greeting("/d").ends_with("clock advance 60d --watch --ready-file /d/ready.json\n"));
    }
}
