//! A keyring on PostgreSQL as an operator meets it: tables made by `init`, several keepers on them, each thing that can be
//! in the way told in one line with its exit code, and benches. The database is started here.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

#[path = "support/authority.rs"]
mod authority;
#[allow(dead_code, reason = "this test binary uses a part of it")]
#[path = "../../keyring-postgres/tests/postgres/cluster.rs"]
mod cluster;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use authority::Authority;
use cluster::{Cluster, SUPERUSER};
use serde_json::Value;
use support::{Done, FREE, Place, Server, until};

const KEEPER: (&str, &str) = ("keeper", "hunter2");

/// A place with a configuration for a database of its own, whose tables are not made.
struct Scene {
    place: Place,
    database: String,
}

impl Scene {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let cluster = Cluster::shared();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let database = format!("keys_{number}");
        cluster.psql("postgres", &format!("CREATE DATABASE {database}"));
        let role = "DO $$ BEGIN CREATE ROLE keeper LOGIN PASSWORD 'hunter2'; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$";
        cluster.psql("postgres", role);
        let scene = Self { place: Place::new(), database };
        scene.place.run(&["init"]).ok();
        scene.secret("mygame.secret", "storekeeper-dev-secret");
        scene.secret("admin.url", &cluster.url(SUPERUSER, &scene.database));
        scene.secret("keeper.url", &cluster.url(KEEPER, &scene.database));
        scene.configure("127.0.0.1:9", "url_file = \"keeper.url\"\nadmin_url_file = \"admin.url\"");
        scene
    }

    fn secret(&self, name: &str, text: &str) {
        let file = self.place.path().join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn configure(&self, store: &str, keyring: &str) {
        self.configure_with(store, store, keyring);
    }

    fn configure_with(&self, store: &str, entra: &str, keyring: &str) {
        let text = format!(
            "server = {{ listen = \"{FREE}\", admin_listen = \"{FREE}\" }}\n\
             encryption.master_key_file = \"master.key\"\n\
             endpoint = {{ collections = \"http://{store}\", purchase = \"http://{store}\", entra = \"http://{entra}\" }}\n\
             [keyring]\n{keyring}\n\
             [[app]]\nname = \"mygame\"\ntenant_id = \"11111111-1111-4111-8111-111111111111\"\n\
             client_id = \"22222222-2222-4222-8222-222222222222\"\n\
             credential = [{{ type = \"client_secret\", secret_file = \"mygame.secret\" }}]\n\
             [[caller]]\nname = \"backend\"\ntoken_file = \"backend.token\"\nscope = [\"key:read\", \"key:write\"]\n"
        );
        self.secret("storekeeper.toml", &text);
    }

    fn ready(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.place.path().join(name)).unwrap()).unwrap()
    }

    fn migrate(&self) -> Done {
        self.place.run(&["init", "--migrate"])
    }

    fn sql(&self, sql: &str) -> String {
        Cluster::shared().psql(&self.database, sql)
    }
}

/// Demands this exit code and one line with these words, and no password anywhere.
#[track_caller]
fn one_line(done: Done, code: i32, words: &[&str]) {
    for secret in [KEEPER.1, SUPERUSER.1] {
        assert!(!done.err.contains(secret) && !done.out.contains(secret), "{done:?}");
    }
    let lines: Vec<&str> = done.err.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!((done.code, lines.len()), (Some(code), 1), "{done:?}");
    assert!(words.iter().all(|word| lines[0].contains(word)), "{words:?} are missing: {done:?}");
}

const SERVE: [&str; 3] = ["serve", "--config", "storekeeper.toml"];

#[test]
fn three_keepers_start_at_once_on_empty_tables_and_share_them() {
    let scene = Scene::new();
    let emulator = ["emulator", "--http", FREE, "--https", FREE, "--control", FREE, "--ready-file", "emulator.json"];
    let _emulator = scene.place.serve(&emulator);
    let http = scene.ready("emulator.json")["http"].as_str().unwrap().to_owned();
    scene.configure(&http, "url_file = \"keeper.url\"\nadmin_url_file = \"admin.url\"");
    let shown = scene.place.run(&["config", "show"]).ok();
    assert!(shown.out.contains("postgres://keeper:[redacted]@127.0.0.1:"), "{shown:?}");
    assert!(![KEEPER.1, SUPERUSER.1].iter().any(|secret| shown.out.contains(secret)), "{shown:?}");
    let told = scene.migrate().ok().out;
    assert!(told.contains("made the tables") && told.contains("keeper may use them"), "{told}");
    assert!(scene.migrate().ok().out.contains("up to date"));

    let names = ["one.json", "two.json", "three.json"];
    let keepers: Vec<Server> = std::thread::scope(|scope| {
        let start = |name| {
            let scene = &scene;
            scope.spawn(move || scene.place.serve(&[&SERVE[..], &["--ready-file", name]].concat()))
        };
        let started: Vec<_> = names.map(start).into_iter().collect();
        started.into_iter().map(|keeper| keeper.join().unwrap()).collect()
    });
    assert_eq!(scene.sql("SELECT count(*) FROM root"), "1", "one of them made the root");
    let listen = names.map(|name| scene.ready(name)["listen"].as_str().unwrap().to_owned());
    for (number, at) in listen.iter().enumerate() {
        let user = format!("player-{number}");
        let mint = ["emulator", "mint", "purchase", &user, "--ready-file", "emulator.json"];
        let minted = scene.place.run(&mint).ok().out;
        let enroll = ["key", "enroll", &user, "--server", at, "--token-file", "backend.token"];
        scene.place.run_with(&enroll, &minted).ok();
        for other in &listen {
            let get = ["key", "get", &user, "purchase", "--server", other, "--token-file", "backend.token"];
            assert_eq!(scene.place.run(&get).ok().out, minted);
        }
    }
    keepers.into_iter().for_each(Server::stop);
}

#[test]
fn what_is_in_the_way_is_one_line_with_its_exit_code() {
    let scene = Scene::new();
    let serve = || scene.place.run(&SERVE);
    one_line(serve(), 2, &["has no tables of storekeeper", "run `storekeeper init --migrate`"]);
    let port = Cluster::shared().port();
    let with = |url: String| {
        scene.secret("keeper.url", &url);
        serve()
    };
    let closed = cluster::free_port();
    one_line(
        with(format!("postgres://keeper:hunter2@127.0.0.1:{closed}/d")),
        5,
        &["cannot be reached", "host and port"],
    );
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("postgres://keeper:hunter2@{}/d?connect_timeout=1", silent.local_addr().unwrap());
    one_line(with(silent.clone()), 5, &["does not answer", "check that it runs"]);
    scene.secret("admin.url", &silent);
    one_line(scene.migrate(), 5, &["does not answer", "check that it runs"]);
    scene.secret("admin.url", &Cluster::shared().url(SUPERUSER, &scene.database));
    one_line(with(format!("postgres://keeper:hunter2x@127.0.0.1:{port}/d")), 2, &["refuses the user keeper"]);
    one_line(with(format!("postgres://keeper@127.0.0.1:{port}/d")), 2, &["wants a password"]);
    one_line(with(Cluster::shared().url(KEEPER, "nowhere")), 2, &["no database nowhere", "create it"]);
    one_line(with(String::from("postgres://keeper:hunter2@h@i/d")), 2, &["keyring.url", "not understood", "%40"]);
    scene.secret("keeper.url", &Cluster::shared().url(KEEPER, &scene.database));
    scene.migrate().ok();
    scene.sql("CREATE ROLE crowd LOGIN PASSWORD 'hunter2' CONNECTION LIMIT 0");
    one_line(with(Cluster::shared().url(("crowd", "hunter2"), &scene.database)), 5, &["no connection left"]);
    scene.secret("keeper.url", &Cluster::shared().url(KEEPER, &scene.database));
    scene.sql("UPDATE schema SET version = 100, oldest_reader = 100");
    one_line(serve(), 2, &["newer version", "start that version"]);
    one_line(scene.migrate(), 2, &["newer version", "start that version"]);
    scene.sql("UPDATE schema SET version = 0, oldest_reader = 0");
    one_line(serve(), 2, &["out of date", "run `storekeeper init --migrate`"]);
}

#[test]
fn who_may_not_make_tables_makes_none() {
    let scene = Scene::new();
    scene.configure("127.0.0.1:9", "url_file = \"keeper.url\"");
    one_line(scene.migrate(), 2, &["were not made", "permission denied"]);
    assert_eq!(scene.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
    fs::remove_file(scene.place.path().join("mygame.secret")).unwrap();
    scene.configure("127.0.0.1:9", "url_file = \"keeper.url\"\nadmin_url_file = \"admin.url\"");
    scene.migrate().ok();
    scene.secret("keeper.url", &Cluster::shared().url(("stranger", "hunter2"), &scene.database));
    one_line(scene.migrate(), 2, &["the user stranger", "CREATE ROLE"]);
}

#[test]
fn distributing_is_printed_and_a_plain_database_refuses_it() {
    let scene = Scene::new();
    let printed = scene.place.run(&["init", "--distributed"]).ok().out;
    assert!(printed.contains("SELECT create_distributed_table('key', 'bucket'"), "{printed}");
    assert!(printed.contains("SELECT create_reference_table('app');"), "{printed}");
    let apply = ["init", "--migrate", "--distributed", "--apply"];
    one_line(scene.place.run(&apply), 2, &["is not distributed", "CREATE EXTENSION citus"]);
    scene.place.run(&["init", "--config", "storekeeper.toml"]).fails(2, "say one of them");
    scene.configure("127.0.0.1:9", "url = \"sqlite:a.db\"");
    assert!(scene.migrate().ok().out.contains("nothing to do"));
    one_line(scene.place.run(&apply), 2, &["cannot be distributed"]);
}

#[test]
fn benches_run_on_a_database_of_their_own() {
    let scene = Scene::new();
    let url = Cluster::shared().url(SUPERUSER, &scene.database);
    for (bench, rate) in
        [("renew", "renewals_per_second"), ("read", "reads_per_second"), ("enroll", "enrolled_per_second")]
    {
        let done = scene.place.run(&["bench", bench, "--keys", "200", "--seconds", "2", "--keyring", &url]).ok();
        assert!(done.json()[rate].as_f64().unwrap() > 0.0, "{done:?}");
    }
    assert_eq!(scene.sql("SELECT count(*) FROM key"), "200");
    scene.sql("DROP TABLE made_by_bench");
    one_line(scene.place.run(&["bench", "renew", "--keyring", &url]), 2, &["no bench made them"]);
    assert_eq!(scene.sql("SELECT count(*) FROM key"), "200");
    let far = "postgres://keeper:hunter2@db.example/keys";
    one_line(scene.place.run(&["bench", "renew", "--keyring", far]), 2, &["loopback only"]);
}

/// A role that has whatever password Entra gave last, and what a keeper is told of it.
const ENTRA_ROLE: &str = "app-registration";

impl Scene {
    fn with_entra(&self, store: &str, entra: &str, role: &str) {
        let url = format!("postgres://{role}@127.0.0.1:{}/{}?sslmode=disable", Cluster::shared().port(), self.database);
        let keyring = format!(
            "url = \"{url}\"\nadmin_url_file = \"admin.url\"\nentra = {{ tenant_id = \"11111111-1111-4111-8111-111111111111\", \
             client_id = \"22222222-2222-4222-8222-222222222222\", secret_file = \"database.secret\" }}"
        );
        self.configure_with(
            &format!("{store}/collections.mp.microsoft.com"),
            &format!("{entra}/login.microsoftonline.com"),
            &keyring,
        );
    }

    /// Ends the connections of the keeper, as a server that is restarted does.
    fn disconnect(&self) {
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename =";
        self.sql(&format!("{end} '{ENTRA_ROLE}'"));
    }

    fn enroll(&self, user: &str) -> Done {
        let mint = ["emulator", "mint", "purchase", user, "--ready-file", "emulator.json"];
        let minted = self.place.run(&mint).ok().out;
        let at = self.ready("keeper.json")["listen"].as_str().unwrap().to_owned();
        self.place.run_with(&["key", "enroll", user, "--server", &at, "--token-file", "backend.token"], &minted)
    }
}

#[test]
fn the_password_may_be_a_token_of_entra_which_changes_and_is_refused_for_a_while() {
    let scene = Scene::new();
    let emulator = ["emulator", "--http", FREE, "--https", FREE, "--control", FREE, "--ready-file", "emulator.json"];
    let _emulator = scene.place.serve(&emulator);
    let http = scene.ready("emulator.json")["http"].as_str().unwrap().to_owned();
    Cluster::shared().psql("postgres", &format!("CREATE ROLE \"{ENTRA_ROLE}\" LOGIN"));
    let authority = Authority::before(&http, ENTRA_ROLE, 4);
    scene.secret("database.secret", "storekeeper-dev-secret");
    scene.with_entra(&http, &authority.address, ENTRA_ROLE);
    scene.migrate().ok();
    let keeper = scene.place.serve(&[&SERVE[..], &["--ready-file", "keeper.json"]].concat());
    scene.enroll("before").ok();
    let long = Duration::from_secs(60);
    until(long, || authority.given() >= 3).expect("tokens are renewed before they expire");
    scene.disconnect();
    until(long, || scene.enroll("between").code == Some(0)).expect("new connections have the new token");

    scene.secret("database.secret", "expired");
    let refused = || {
        scene.disconnect();
        let said = keeper.said_since();
        said.contains("no password for the database: Entra refused the credential")
            && scene.enroll("outage").code == Some(5)
    };
    until(long, refused).unwrap_or_else(|| panic!("nothing says why: {}", keeper.said_since()));
    scene.secret("database.secret", "storekeeper-dev-secret");
    until(long, || scene.enroll("after").code == Some(0)).expect("it goes on without a restart");
    let said = keeper.said_since();
    assert!(said.contains("Entra gives tokens for the database again") && !said.contains("eyJ"), "{said}");
    keeper.stop();
}

#[test]
fn who_must_act_when_entra_gives_no_password_is_told_in_one_line() {
    let scene = Scene::new();
    let emulator = ["emulator", "--http", FREE, "--https", FREE, "--control", FREE, "--ready-file", "emulator.json"];
    let _emulator = scene.place.serve(&emulator);
    let http = scene.ready("emulator.json")["http"].as_str().unwrap().to_owned();
    scene.migrate().ok();
    let serve = || scene.place.run(&SERVE);
    scene.secret("database.secret", "wrong");
    scene.with_entra(&http, &http, KEEPER.0);
    one_line(serve(), 2, &["Entra refused the credential", "AADSTS7000215", "has to make a new client secret"]);
    // Without an administrator's URL the tables are made with the token as well.
    let admin = fs::read_to_string(scene.place.path().join("storekeeper.toml")).unwrap();
    scene.secret("storekeeper.toml", &admin.replace("admin_url_file = \"admin.url\"\n", ""));
    one_line(scene.migrate(), 2, &["Entra refused the credential", "has to make a new client secret"]);
    scene.secret("database.secret", "storekeeper-dev-secret");
    one_line(scene.migrate(), 2, &["refuses the user keeper"]);
    one_line(serve(), 2, &["refuses the user keeper with the token that Entra gave", "make this role"]);
    scene.with_entra(&http, &format!("127.0.0.1:{}", cluster::free_port()), KEEPER.0);
    one_line(serve(), 5, &["no password for the database", "no answer"]);
}
