//! An emulator, a PostgreSQL and keepers on it, each a process of its own.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use storekeeper_model::Timestamp;

use crate::cluster::{Cluster, OWN_SCHEMA, SUPERUSER, given, one_at_a_time, psql};
use crate::scene::{Answer, exchange};
use crate::support::{Done, FREE, Place, Server, until};

const TOKEN: &str = "the-token-of-the-operator";
const DAY: Duration = Duration::from_secs(86_400);

/// Keepers by their names, and all that they need.
pub(crate) struct Fleet {
    place: Place,
    keepers: Mutex<BTreeMap<String, Server>>,
    control: String,
    _emulator: Server,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Fleet {
    /// Starts keepers of these names at once, on tables that were made a moment ago.
    pub(crate) fn start(names: &[&str]) -> Self {
        let given = given();
        let turn = given.is_some().then(one_at_a_time);
        if let Some((_, admin_url)) = &given {
            psql(admin_url, OWN_SCHEMA);
        }
        let (url, admin_url) = given.unwrap_or_else(database);
        let mut fleet = Self::new("url_file = \"keeper.url\"\nadmin_url_file = \"admin.url\"");
        fleet._turn = turn;
        fleet.secret("keeper.url", &url);
        fleet.secret("admin.url", &admin_url);
        fleet.place.run(&["init", "--migrate"]).ok();
        if psql(&admin_url, "SELECT to_regclass('pg_dist_partition') IS NOT NULL") == "t" {
            fleet.place.run(&["init", "--distributed", "--apply"]).ok();
        }
        for table in ["key", "population", "app", "root", "node"] {
            psql(&admin_url, &format!("DELETE FROM {table}"));
        }
        psql(&admin_url, "UPDATE lease SET owner = NULL, term = 0 WHERE term <> 0");
        let started: Vec<(String, Server)> = std::thread::scope(|scope| {
            let fleet = &fleet;
            let start = |name: &str| {
                let name = name.to_owned();
                scope.spawn(move || (name.clone(), fleet.serve(&name)))
            };
            let started: Vec<_> = names.iter().map(|name| start(name)).collect();
            started.into_iter().map(|keeper| keeper.join().unwrap()).collect()
        });
        fleet.keepers.lock().unwrap().extend(started);
        fleet
    }

    /// One keeper, whose keyring is a file.
    pub(crate) fn alone() -> Self {
        let fleet = Self::new("url = \"sqlite:storekeeper.db\"");
        fleet.join("alone");
        fleet
    }

    fn new(keyring: &str) -> Self {
        let place = Place::new();
        let free = ["--http", FREE, "--https", FREE, "--control", FREE];
        let emulator = place.serve(&[&["emulator"][..], &free, &["--ready-file", "emulator.json"]].concat());
        place.run(&["init"]).ok();
        let fleet = Self { control: String::new(), place, keepers: Mutex::default(), _emulator: emulator, _turn: None };
        let (http, control) = (fleet.ready("emulator", "http"), fleet.ready("emulator", "control"));
        fleet.secret("mygame.secret", "storekeeper-dev-secret");
        fleet.secret("operator.token", TOKEN);
        let text = format!(
            "server = {{ listen = \"{FREE}\", admin_listen = \"{FREE}\" }}\n\
             encryption.master_key_file = \"master.key\"\nrenewal = {{ pace_start = \"500/s\" }}\n\
             [endpoint]\ncollections = \"http://{http}/collections.mp.microsoft.com\"\n\
             purchase = \"http://{http}/purchase.mp.microsoft.com\"\nentra = \"http://{http}/login.microsoftonline.com\"\n\
             [keyring]\n{keyring}\n\
             [[app]]\nname = \"mygame\"\ntenant_id = \"11111111-1111-4111-8111-111111111111\"\n\
             client_id = \"22222222-2222-4222-8222-222222222222\"\n\
             credential = [{{ type = \"client_secret\", secret_file = \"mygame.secret\" }}]\n\
             [[caller]]\nname = \"operator\"\ntoken_file = \"operator.token\"\n\
             scope = [\"key:read\", \"key:write\", \"metrics:read\", \"admin\"]\n"
        );
        fleet.secret("storekeeper.toml", &text);
        Self { control, ..fleet }
    }

    fn secret(&self, name: &str, text: &str) {
        let file = self.place.path().join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn ready(&self, name: &str, what: &str) -> String {
        self.try_ready(name).unwrap()[what].as_str().unwrap().to_owned()
    }

    /// What a server has told of itself; nothing while it starts.
    fn try_ready(&self, name: &str) -> Option<Value> {
        let text = fs::read(self.place.path().join(format!("{name}.json"))).ok()?;
        Some(serde_json::from_slice(&text).unwrap())
    }

    fn serve(&self, name: &str) -> Server {
        let ready = format!("{name}.json");
        drop(fs::remove_file(self.place.path().join(&ready)));
        let serve = ["serve", "--config", "storekeeper.toml", "--node-name", name, "--ready-file", &ready];
        self.place.serve(&serve)
    }

    /// Starts one more, or one anew.
    pub(crate) fn join(&self, name: &str) {
        let keeper = self.serve(name);
        self.keepers.lock().unwrap().insert(name.to_owned(), keeper);
    }

    /// `kill -9`.
    pub(crate) fn kill(&self, name: &str) {
        drop(self.taken(name));
    }

    /// SIGTERM, and waits for its end.
    pub(crate) fn stop(&self, name: &str) {
        self.taken(name).stop();
    }

    fn taken(&self, name: &str) -> Server {
        self.keepers.lock().unwrap().remove(name).unwrap()
    }

    pub(crate) fn signal(&self, name: &str, signal: &str) {
        self.keepers.lock().unwrap()[name].signal(signal);
    }

    /// A command that asks this keeper.
    pub(crate) fn try_command(&self, asked: &str, command: &[&str]) -> Done {
        let (data, admin) = (self.ready(asked, "listen"), self.ready(asked, "admin_listen"));
        let target = ["--server", &data, "--admin-server", &admin, "--token-file", "operator.token"];
        self.place.run(&[command, &target].concat())
    }

    /// The same, which succeeds.
    pub(crate) fn command(&self, asked: &str, command: &[&str]) -> Done {
        self.try_command(asked, command).ok()
    }

    /// Hands a keeper keys that are due at once, and demands that it takes each.
    pub(crate) fn enroll(&self, asked: &str, players: Range<usize>) {
        self.hand_in(asked, &self.lines(players));
    }

    /// Hands a keeper these lines, and demands that it takes each or has it already.
    pub(crate) fn hand_in(&self, asked: &str, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        let answer = self.http(asked, "listen", "POST", "/v1/keys:enroll", &lines.concat());
        let is_taken = |line: &&str| line.contains("\"status\":201") || line.contains("\"status\":200");
        assert_eq!(answer.lines().filter(is_taken).count(), lines.len(), "{answer}");
    }

    /// Hands a keeper these lines, whether it lives or not; returns its answers as far as they arrived whole.
    pub(crate) fn try_hand_in(&self, asked: &str, lines: &str) -> Vec<Value> {
        let Some(ready) = self.try_ready(asked) else { return Vec::new() };
        let answer = exchange(ready["listen"].as_str().unwrap(), "POST /v1/keys:enroll", TOKEN, lines);
        answer.as_ref().map(Answer::lines).unwrap_or_default()
    }

    /// Keys that are due at once, each as a line of a batch.
    pub(crate) fn lines(&self, players: Range<usize>) -> Vec<String> {
        let now: Timestamp = self.control("GET", "clock", "")["now"].as_str().unwrap().parse().unwrap();
        let issued_at = now - DAY * 12;
        let line = |number: usize| {
            let user = player(number);
            let wish = json!({ "kind": "purchase", "user_id": user, "issued_at": issued_at });
            let key = self.control("POST", "keys", &wish.to_string())["key"].clone();
            json!({ "app": "mygame", "user": user, "kind": "purchase", "key": key }).to_string() + "\n"
        };
        players.map(line).collect()
    }

    /// Every key as it is listed.
    pub(crate) fn list(&self, asked: &str) -> Vec<Value> {
        let (mut keys, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.http(asked, "listen", "GET", &format!("/v1/keys?limit=1000{cursor}"), "");
            let mut page: Value = serde_json::from_str(&page).unwrap();
            keys.append(page["keys"].as_array_mut().unwrap());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return keys,
            }
        }
    }

    /// Waits until each of so many has a successor.
    #[track_caller]
    pub(crate) fn until_all_are_renewed(&self, asked: &str, count: usize, within: Duration) {
        let stats = || serde_json::from_str::<Value>(&self.http(asked, "listen", "GET", "/v1/stats", "")).unwrap();
        let renewed = || {
            let app = &stats()["apps"]["mygame"];
            app["keys"]["active"].as_u64().unwrap() - app["unproven"].as_u64().unwrap()
        };
        assert!(until(within, || renewed() == count as u64).is_some(), "only {} of {count} are renewed", renewed());
        assert_eq!(self.list(asked).len(), count);
    }

    /// No key was renewed twice for the record, none is late, none is lost.
    pub(crate) fn check_each_was_renewed_once(&self, asked: &str, count: usize) {
        let keys = self.list(asked);
        assert_eq!(keys.len(), count);
        let odd: Vec<&Value> = keys.iter().filter(|key| key["key_version"] != 2 || key["state"] != "active").collect();
        assert!(odd.is_empty(), "{odd:?}");
        for number in (0..count).step_by(count / 40) {
            self.check_history(asked, &player(number));
        }
        for late in [
            "storekeeper_due_backlog",
            "storekeeper_keys_past_deadline",
            "storekeeper_keys{app=\"mygame\",kind=\"purchase\",state=\"lapsed\"}",
        ] {
            assert_eq!(self.metric(asked, late), 0.0, "{late}");
        }
    }

    /// The history of this user's key tells of one renewal.
    pub(crate) fn check_history(&self, asked: &str, user: &str) {
        let history = format!("/v1/apps/mygame/users/{user}/keys/purchase/history");
        let history: Value = serde_json::from_str(&self.http(asked, "listen", "GET", &history, "")).unwrap();
        let outcomes = history["outcomes"].as_array().unwrap();
        let renewed = outcomes.iter().filter(|outcome| outcome["result"] == "renewed").count();
        assert_eq!(renewed, 1, "{outcomes:?}");
    }

    /// How often the Store was asked to renew, and did.
    pub(crate) fn renewals(&self) -> usize {
        let mut renewals = 0;
        self.exchanges(0, |one| renewals += usize::from(one["endpoint"] == "renew" && one["status"] == 200));
        renewals
    }

    /// Looks at each exchange that the Store has had after this one.
    pub(crate) fn exchanges(&self, mut after: u64, mut look: impl FnMut(&Value)) {
        loop {
            let page = self.control("GET", &format!("ledger?limit=10000&after={after}"), "");
            let exchanges = page["exchanges"].as_array().unwrap();
            exchanges.iter().for_each(&mut look);
            match page["next"].as_u64() {
                Some(next) if !exchanges.is_empty() => after = next,
                _ => return,
            }
        }
    }

    /// From now on the Store takes so long to answer a renewal.
    pub(crate) fn slow_down(&self, delay: &str) {
        let fault = json!({ "endpoint": "renew", "when": "after", "delay": delay, "probability": 1.0 });
        self.control("POST", "faults", &fault.to_string());
    }

    /// All samples that begin so, added up.
    pub(crate) fn metric(&self, asked: &str, start: &str) -> f64 {
        let text = self.http(asked, "admin_listen", "GET", "/metrics", "");
        let samples = text.lines().filter(|line| line.starts_with(start));
        samples.filter_map(|line| line.split_whitespace().last()?.parse::<f64>().ok()).sum()
    }

    fn http(&self, asked: &str, listener: &str, method: &str, path: &str, body: &str) -> String {
        let answer = exchange(&self.ready(asked, listener), &format!("{method} {path}"), TOKEN, body).unwrap();
        assert_eq!(answer.status, 200, "{method} {path}: {}", String::from_utf8_lossy(&answer.body));
        String::from_utf8(answer.body).unwrap()
    }

    fn control(&self, method: &str, path: &str, body: &str) -> Value {
        let answer = exchange(&self.control, &format!("{method} /control/v1/{path}"), "", body).unwrap();
        assert!([200, 201].contains(&answer.status), "{path}: {}", String::from_utf8_lossy(&answer.body));
        serde_json::from_slice(&answer.body).unwrap()
    }
}

fn player(number: usize) -> String {
    format!("player-{number:05}")
}

/// An empty database: its URL, and that of who may make tables.
fn database() -> (String, String) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let cluster = Cluster::shared();
    let name = format!("fleet_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
    let url = cluster.url(SUPERUSER, &name);
    (url.clone(), url)
}
