//! `Server`: an emulator with its listeners, clock, faults, ledger and data directory, started and stopped as one.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storekeeper_clock::{Clock, SystemClock, VirtualClock};
use storekeeper_model::Timestamp;
use storekeeper_supervisor::Supervisor;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_rustls::TlsAcceptor;

use crate::connection::{Connections, Limits};
use crate::control::Control;
use crate::data_dir::{DataDir, DataDirError, State};
use crate::exchange::Hosts;
use crate::faults::FaultPlan;
use crate::http::{Listener, Service};
use crate::ledger::{EXCHANGES_MAX, Ledger, Page};
use crate::management::ControlError;
use crate::saver::Saver;
use crate::tls::{Authority, TlsError};
use crate::turn::Turns;
use crate::{Emulator, EmulatorOptions, Signatures};

/// How many connections the control port takes; they are not those of the emulated hosts.
const CONTROL_CONNECTIONS_MAX: usize = 64;

/// Where an emulator listens and what it keeps.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The emulated hosts in plain HTTP; port 0 picks a free one, `None` does not listen.
    pub http: Option<SocketAddr>,
    /// The emulated hosts over TLS.
    pub https: Option<SocketAddr>,
    /// The control port.
    pub control: Option<SocketAddr>,
    /// Where state lives on; without it every start is the first.
    pub data_dir: Option<PathBuf>,
    /// What connections may take.
    pub limits: Limits,
    /// How many exchanges the ledger keeps.
    pub exchanges_max: usize,
}

impl ServerOptions {
    /// All three listeners on free loopback ports, nothing kept.
    pub fn ephemeral() -> Self {
        let free = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        Self {
            http: free,
            https: free,
            control: free,
            data_dir: None,
            limits: Limits::default(),
            exchanges_max: EXCHANGES_MAX,
        }
    }
}

/// Why an emulator does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// See [`DataDirError`].
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The saved state is not one of this emulator.
    #[error("the data directory's state cannot be used")]
    State(#[source] ControlError),
    /// There is no place for the certificate that clients have to trust.
    #[error("the certificate authority's certificate cannot be written")]
    CaFile(#[source] io::Error),
    /// See [`TlsError`].
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address is taken, or not ours.
    #[error("{address} cannot be listened on")]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Preparing panicked.
    #[error("the emulator could not be prepared")]
    Prepare,
}

/// Starts emulators.
pub struct Server;

impl Server {
    /// Starts an emulator on `clock` and returns when every listener accepts.
    ///
    /// A data directory that is not empty decides over `emulator.seed` and over the clock, which is set to the instant
    /// and rate that were kept; the switches are always those given here. The clock is driven from here on: the caller must not call [`VirtualClock::drive`].
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        emulator: EmulatorOptions,
        clock: VirtualClock,
        options: ServerOptions,
    ) -> Result<Running, StartError> {
        let listeners = Listeners::bind(&options)?;
        let wants_tls = listeners.https.is_some();
        let (data_dir, exchanges_max) = (options.data_dir, options.exchanges_max);
        let prepared = spawn_blocking(move || prepare(emulator, clock, data_dir.as_deref(), wants_tls, exchanges_max));
        let prepared = prepared.await.map_err(|_| StartError::Prepare)??;
        Ok(run(prepared, listeners, options.limits))
    }
}

/// Sockets that are bound and do not accept yet.
struct Listeners {
    http: Option<Listener>,
    https: Option<Listener>,
    control: Option<Listener>,
}

impl Listeners {
    fn bind(options: &ServerOptions) -> Result<Self, StartError> {
        let bind = |address: Option<SocketAddr>| {
            let bound =
                address.map(|address| Listener::bind(address).map_err(|source| StartError::Listen { address, source }));
            bound.transpose()
        };
        Ok(Self { http: bind(options.http)?, https: bind(options.https)?, control: bind(options.control)? })
    }
}

/// Everything but the sockets.
struct Prepared {
    hosts: Arc<Hosts>,
    saver: Arc<Saver>,
    tls: Option<TlsAcceptor>,
    ca: Option<CaFile>,
}

/// Reads the data directory, makes keys and certificates, and saves what is new; blocks.
fn prepare(
    emulator: EmulatorOptions,
    clock: VirtualClock,
    data_dir: Option<&Path>,
    wants_tls: bool,
    exchanges_max: usize,
) -> Result<Prepared, StartError> {
    let dir = data_dir.map(DataDir::open).transpose()?;
    let (tls, ca) = if wants_tls { Some(certify(dir.as_ref())?).unzip() } else { (None, None) };
    let (mut seed, signatures) = (emulator.seed, emulator.signatures);
    let kept = dir.as_ref().map(DataDir::load).transpose()?.flatten();
    if let Some(State { clock: kept, .. }) = &kept {
        clock.set(kept.resume_at);
        clock.set_rate(kept.rate);
    }
    let emulator = match kept {
        Some(State { seed: kept_seed, emulator: snapshot, .. }) => {
            seed = kept_seed;
            Emulator::resume(emulator, &snapshot, clock.now()).map_err(StartError::State)?
        }
        None => Emulator::new(emulator, clock.now()),
    };
    let emulator = Arc::new(emulator);
    let turns = (signatures == Signatures::Real).then(Turns::new);
    let saver = Arc::new(Saver::new(dir, seed, Arc::clone(&emulator), clock.clone()));
    saver.save_change()?;
    let (faults, ledger) = (FaultPlan::new(seed), Ledger::new(exchanges_max));
    let hosts = Arc::new(Hosts { emulator, clock, faults, ledger, turns });
    Ok(Prepared { hosts, saver, tls, ca })
}

/// Where clients find the certificate to trust.
struct CaFile {
    path: PathBuf,
    /// Removed at the end, when there is no data directory.
    _temporary: Option<tempfile::TempDir>,
}

fn certify(dir: Option<&DataDir>) -> Result<(TlsAcceptor, CaFile), StartError> {
    let today = today();
    let (authority, ca) = match dir {
        Some(dir) => (dir.authority(today)?, CaFile { path: dir.ca_file(), _temporary: None }),
        None => {
            let authority = Authority::new(today)?;
            let temporary = tempfile::tempdir().map_err(StartError::CaFile)?;
            let path = temporary.path().join("ca.pem");
            std::fs::write(&path, authority.certificate_pem()).map_err(StartError::CaFile)?;
            (authority, CaFile { path, _temporary: Some(temporary) })
        }
    };
    Ok((TlsAcceptor::from(authority.server_config(today)?), ca))
}

/// Certificates are judged by clients on the real day, whatever the emulator's clock shows.
fn today() -> Timestamp {
    SystemClock::new().now()
}

fn run(prepared: Prepared, listeners: Listeners, limits: Limits) -> Running {
    let Prepared { hosts, saver, tls, ca } = prepared;
    let store = Connections::new(limits);
    let control = Connections::new(Limits { connections_max: CONTROL_CONNECTIONS_MAX, ..limits });
    let addresses =
        [&listeners.http, &listeners.https, &listeners.control].map(|it| it.as_ref().map(Listener::address));
    let supervisor = Supervisor::default();
    let mut tasks = vec![
        spawn(&supervisor, "the emulator's clock", hosts.clock.clone().drive()),
        spawn(&supervisor, "the writer of the emulator's state", Arc::clone(&saver).run()),
    ];
    tasks.extend(listeners.http.map(|listener| serve(&supervisor, listener, &store, None, &hosts)));
    tasks.extend(listeners.https.map(|listener| serve(&supervisor, listener, &store, tls, &hosts)));
    let wishes = Arc::new(Control::new(Arc::clone(&hosts), Arc::clone(&saver)));
    tasks.extend(listeners.control.map(|listener| serve(&supervisor, listener, &control, None, &wishes)));
    let [http, https, control_address] = addresses;
    Running { http, https, control: control_address, ca, hosts, saver, groups: [store, control], tasks, supervisor }
}

fn serve<S: Service>(
    supervisor: &Supervisor,
    listener: Listener,
    group: &Arc<Connections>,
    tls: Option<TlsAcceptor>,
    service: &Arc<S>,
) -> JoinHandle<()> {
    spawn(supervisor, "a listener of the emulator", listener.serve(Arc::clone(group), tls, Arc::clone(service)))
}

fn spawn<F>(supervisor: &Supervisor, task: &'static str, work: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let guard = supervisor.guard(task);
    tokio::spawn(async move {
        let _guard = guard;
        work.await
    })
}

/// An emulator that listens. Dropping it stops it without saving; see [`Running::shutdown`].
pub struct Running {
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
    control: Option<SocketAddr>,
    ca: Option<CaFile>,
    hosts: Arc<Hosts>,
    saver: Arc<Saver>,
    groups: [Arc<Connections>; 2],
    tasks: Vec<JoinHandle<()>>,
    supervisor: Supervisor,
}

impl Running {
    /// Waits until a core task dies; returns its name. What is left then cannot be relied on.
    pub async fn failed(&self) -> &'static str {
        self.supervisor.failed().await
    }

    /// Where the emulated hosts answer in plain HTTP.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Where the emulated hosts answer over TLS.
    pub fn https(&self) -> Option<SocketAddr> {
        self.https
    }

    /// Where the control port is.
    pub fn control(&self) -> Option<SocketAddr> {
        self.control
    }

    /// The certificate, as PEM, that clients of the TLS listener have to trust.
    pub fn ca_file(&self) -> Option<&Path> {
        self.ca.as_ref().map(|ca| ca.path.as_path())
    }

    /// The emulated services, without HTTP.
    pub fn emulator(&self) -> &Arc<Emulator> {
        &self.hosts.emulator
    }

    /// The emulator's clock.
    pub fn clock(&self) -> &VirtualClock {
        &self.hosts.clock
    }

    /// At most `limit` exchanges with numbers above `after`.
    pub fn ledger(&self, after: u64, limit: usize) -> Page {
        self.hosts.ledger.page(after, limit)
    }

    /// Stops accepting, lets answers that are under way leave, and saves. Takes a little more than
    /// [`Limits::drain_max`] at most.
    ///
    /// # Errors
    /// [`DataDirError`] when the last state could not be saved.
    pub async fn shutdown(mut self) -> Result<(), DataDirError> {
        self.groups.iter().for_each(|group| group.close());
        let [store, control] = &self.groups;
        tokio::join!(store.drained(), control.drained());
        self.tasks.drain(..).for_each(|task| task.abort());
        let saver = Arc::clone(&self.saver);
        spawn_blocking(move || saver.save_last()).await.unwrap_or(Ok(()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.groups.iter().for_each(|group| group.close());
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
