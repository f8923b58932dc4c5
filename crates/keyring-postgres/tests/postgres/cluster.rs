//! A PostgreSQL of one's own: a folder, a free port on loopback, and a shell that ends the server and removes the folder
//! when the test process is gone, however it went.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// The name and password of who may do everything.
pub(crate) const SUPERUSER: (&str, &str) = ("postgres", "super-secret");

/// Makes a place for tests in a database that somebody named. Whatever else is in it stays as it is.
#[allow(dead_code, reason = "not every test binary that has a cluster needs it")]
pub(crate) const OWN_SCHEMA: &str =
    "CREATE SCHEMA IF NOT EXISTS storekeeper_test; GRANT USAGE ON SCHEMA storekeeper_test TO PUBLIC";

/// The database that the environment names, for who keeps keys in it and for who makes the tables: both work in
/// [`OWN_SCHEMA`].
#[allow(dead_code, reason = "not every test binary that has a cluster needs it")]
#[expect(clippy::disallowed_methods, reason = "a test is told by the environment where a database is")]
pub(crate) fn given() -> Option<(String, String)> {
    let url = std::env::var("STOREKEEPER_TEST_POSTGRES_URL").ok()?;
    let admin_url = std::env::var("STOREKEEPER_TEST_POSTGRES_ADMIN_URL").unwrap_or_else(|_| url.clone());
    Some((in_own_schema(&url), in_own_schema(&admin_url)))
}

/// The same database, of which nothing is seen but what is in [`OWN_SCHEMA`].
#[allow(dead_code, reason = "not every test binary that has a cluster needs it")]
pub(crate) fn in_own_schema(url: &str) -> String {
    let sign = if url.contains('?') { '&' } else { '?' };
    format!("{url}{sign}options=-csearch_path%3Dstorekeeper_test")
}

/// Where there is only one database.
#[allow(dead_code, reason = "not every test binary that has a cluster needs it")]
pub(crate) fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Obeys `start`, `kill`, `hang`, `wake` and `limit` (files of the next start, in blocks of 512 bytes); at the end of its
/// input it stops the server and removes the folder.
const WATCHMAN: &str = r#"
folder=$1; shift; pid= limit=unlimited
each() { kill "$1" "$pid" $(cat "/proc/$pid/task/$pid/children") 2>/dev/null; }
while read -r word number; do
    case $word in
        start) (ulimit -f "$limit"; exec "$@") >>"$folder/log" 2>&1 & pid=$!; echo "$pid" ;;
        kill) kill -9 "$pid"; wait "$pid" 2>/dev/null; pid=; echo killed ;;
        hang) each -STOP; echo hanging ;;
        wake) each -CONT; echo awake ;;
        limit) limit=$number; echo limited ;;
    esac
done
if [ -n "$pid" ]; then each -CONT; kill -INT "$pid"; wait "$pid"; fi
rm -rf "$folder"
"#;

/// A running server.
#[derive(Debug)]
pub(crate) struct Cluster {
    port: u16,
    folder: PathBuf,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    watchman: Child,
}

impl Cluster {
    /// The one that all tests share that do it no harm.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[], |_| {}))
    }

    /// Makes one, with settings besides the usual, and files that `prepare` puts into its folder.
    pub(crate) fn start(settings: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let folder = folder(prepare);
        let initdb = as_postgres(&binaries().join("initdb"));
        let mut initdb = command(&initdb);
        initdb.args(["-U", SUPERUSER.0, "-A", "scram-sha-256", "-E", "UTF8", "--no-locale", "--wal-segsize=1"]);
        run(initdb.arg("--pwfile").arg(folder.join("password")).arg("-D").arg(folder.join("data")));
        Self::on(folder, settings)
    }

    /// Makes one that follows this one, and confirms each of its commits before anybody hears of it.
    #[allow(dead_code, reason = "not every test binary that has a cluster needs it")]
    pub(crate) fn standby(&self) -> Self {
        let folder = folder(|_| {});
        let copy = as_postgres(&binaries().join("pg_basebackup"));
        let url = self.url(SUPERUSER, "postgres");
        run(command(&copy).args(["-R", "-c", "fast", "-d", &url, "-D"]).arg(folder.join("data")));
        let standby = Self::on(folder, &[]);
        self.psql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.psql("postgres", "SELECT pg_reload_conf()");
        let synchronous = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        while self.psql("postgres", synchronous) != "1" {
            pause();
        }
        standby
    }

    /// Starts a server on the data in this folder.
    fn on(folder: PathBuf, settings: &[&str]) -> Self {
        let data = folder.join("data");
        let port = free_port();
        let mut server = as_postgres(&binaries().join("postgres"));
        server.extend([String::from("-D"), data.display().to_string(), String::from("-p"), port.to_string()]);
        let usual = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200"];
        server.extend(usual.iter().chain(settings).flat_map(|setting| [String::from("-c"), (*setting).to_owned()]));
        let mut watchman = Command::new("sh")
            .args(["-c", WATCHMAN, "watchman"])
            .arg(&folder)
            .args(&server)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (commands, answers) = (watchman.stdin.take(), BufReader::new(watchman.stdout.take().unwrap()));
        let mut cluster = Self { port, folder, commands, answers, watchman };
        cluster.start_again();
        cluster
    }

    /// Starts the server, and waits until it accepts connections.
    pub(crate) fn start_again(&mut self) {
        for _ in 0..40 {
            let pid: u32 = self.say("start").parse().expect("the watchman tells the server's process id");
            for _ in 0..500 {
                if self.is_ready() {
                    return;
                }
                // Processes of a killed server may have to end first: then it gives up, and is started again.
                if !Path::new(&format!("/proc/{pid}/cmdline")).exists() {
                    break;
                }
                pause();
            }
            pause();
        }
        panic!("PostgreSQL does not start: {}", std::fs::read_to_string(self.folder.join("log")).unwrap_or_default());
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        assert_eq!(self.say("kill"), "killed");
    }

    /// Lets nobody's statement get on, until [`Cluster::wake`].
    #[allow(dead_code, reason = "not every test binary that has a cluster needs it")]
    pub(crate) fn hang(&mut self) {
        assert_eq!(self.say("hang"), "hanging");
    }

    /// Goes on after [`Cluster::hang`].
    #[allow(dead_code, reason = "not every test binary that has a cluster needs it")]
    pub(crate) fn wake(&mut self) {
        assert_eq!(self.say("wake"), "awake");
    }

    /// After the next start no file of the server grows beyond so many bytes, if any: the disk is full.
    #[allow(dead_code, reason = "not every test binary that has a cluster needs it")]
    pub(crate) fn limit_files(&mut self, bytes: Option<u32>) {
        let blocks = bytes.map_or_else(|| String::from("unlimited"), |bytes| (bytes / 512).to_string());
        assert_eq!(self.say(&format!("limit {blocks}")), "limited");
    }

    fn say(&mut self, word: &str) -> String {
        writeln!(self.commands.as_mut().unwrap(), "{word}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim().to_owned()
    }

    /// Runs SQL as who may do everything, and says what came of it; for tests that do not speak to the database otherwise.
    #[allow(dead_code, reason = "not every test binary that has a cluster needs it")]
    pub(crate) fn psql(&self, database: &str, sql: &str) -> String {
        psql(&self.url(SUPERUSER, database), sql)
    }

    fn is_ready(&self) -> bool {
        let mut asked = Command::new(binaries().join("pg_isready"));
        asked.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        asked.status().unwrap().success()
    }

    /// Where it listens.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A URL for somebody and a database.
    pub(crate) fn url(&self, (user, password): (&str, &str), database: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Without a writer the watchman's input ends.
        drop(self.commands.take());
        self.watchman.wait().unwrap();
    }
}

/// A folder that the server may use, with its password and what `prepare` puts there.
fn folder(prepare: impl FnOnce(&Path)) -> PathBuf {
    let folder = tempfile::Builder::new().prefix("storekeeper-postgres-").tempdir().unwrap().keep();
    std::fs::write(folder.join("password"), SUPERUSER.1).unwrap();
    prepare(&folder);
    if is_root() {
        run(Command::new("chown").args(["-R", "postgres:"]).arg(&folder));
    }
    folder
}

/// Runs SQL on the database that a URL names, and says what came of it.
#[allow(dead_code, reason = "not every test binary that has a cluster needs it")]
pub(crate) fn psql(url: &str, sql: &str) -> String {
    let mut psql = Command::new(binaries().join("psql"));
    psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql, url]);
    let output = psql.output().unwrap();
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The server refuses to run as root.
fn as_postgres(program: &Path) -> Vec<String> {
    let program = program.display().to_string();
    match is_root() {
        true => ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", &program].map(String::from).into(),
        false => vec![program],
    }
}

fn command(words: &[String]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.trim_ascii() == b"0"
}

/// The newest PostgreSQL that is installed where Debian puts it, or the one in the path.
fn binaries() -> PathBuf {
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = installed.map(|entry| entry.path().join("bin")).filter(|path| path.join("initdb").exists()).max();
    newest.unwrap_or_else(|| {
        let output = Command::new("pg_config").arg("--bindir").output();
        let output = output.expect(
            "PostgreSQL is installed (Debian: apt-get install postgresql), or STOREKEEPER_TEST_POSTGRES_URL names one",
        );
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    })
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[expect(clippy::disallowed_methods, reason = "another process starts in its own time")]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}
