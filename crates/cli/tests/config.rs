//! Every file of `fixtures/config/` is read: a good one shows the values and warnings that stand beside it in
//! `NAME.shown`, a bad one is refused with exactly the lines of `NAME.told`. Lines `# env: NAME=VALUE` set the
//! environment. `docs/reference/config.md` must hold the tables that the code holds.
//!
//! After a change on purpose, run with `STOREKEEPER_BLESS=1` and read the difference.

#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use storekeeper::config::{Config, ConfigError, KeyringUrl, Renewal, UserClaim, Warning, reference, template};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const MASTER_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECRETS: [&str; 5] = [
    MASTER_KEY,
    "a-token-that-is-long-enough",
    "another-token-long-enough",
    "s3cret-of-the-app",
    "from-the-environment",
];

/// A folder with the files that the fixtures name.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("master.key", &format!("{MASTER_KEY}\n"), 0o600);
        folder.write("backend.token", "  a-token-that-is-long-enough\n", 0o600);
        folder.write("keeper.url", "postgres://keeper:s3cret-of-the-app@db.example/storekeeper\n", 0o600);
        folder.write("other.token", "another-token-long-enough", 0o600);
        folder.write("mygame.secret", "s3cret-of-the-app\r\n", 0o600);
        folder.write("loose.secret", "s3cret-of-the-app", 0o644);
        folder.write("empty.secret", " \n", 0o600);
        folder.write("short.token", "tooshort", 0o600);
        folder.write("binary.secret", "", 0o600);
        fs::write(folder.0.path().join("binary.secret"), [0xff, 0xfe, 0x00]).unwrap();
        fs::create_dir(folder.0.path().join("folder.secret")).unwrap();
        folder
    }

    fn write(&self, name: &str, content: &str, mode: u32) -> PathBuf {
        let file = self.0.path().join(name);
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    fn load(&self, text: &str, mode: u32) -> Result<(Config, Vec<Warning>), ConfigError> {
        Config::load(&self.write("storekeeper.toml", text, mode), &environment(text))
    }

    /// Without the part of a path that differs from run to run.
    fn bare(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn environment(text: &str) -> BTreeMap<String, String> {
    let set = text.lines().filter_map(|line| line.strip_prefix("# env: ")?.split_once('='));
    set.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn fixtures(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(ROOT).join("fixtures/config").join(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(!files.is_empty(), "no fixtures in {folder}");
    files
}

/// Compares with what stands in `file`, or writes it there when asked to.
#[expect(clippy::disallowed_methods, reason = "a test that is asked to write what it found")]
fn compare(file: &Path, found: &str) {
    if std::env::var_os("STOREKEEPER_BLESS").is_some() {
        fs::write(file, found).unwrap();
    }
    let wanted = fs::read_to_string(file).unwrap_or_default();
    assert_eq!(found, wanted, "{} holds something else", file.display());
}

#[test]
fn bad_files_are_refused_with_every_problem_in_a_line_of_its_own() {
    for file in fixtures("bad") {
        let folder = Folder::new();
        let told = match folder.load(&fs::read_to_string(&file).unwrap(), 0o600) {
            Ok(_) => panic!("{} was read", file.display()),
            Err(error) => folder.bare(&error.to_string()),
        };
        assert!(SECRETS.iter().all(|secret| !told.contains(secret)), "{told}");
        compare(&file.with_extension("told"), &format!("{told}\n"));
    }
}

#[test]
fn good_files_are_read_and_shown_without_secrets() {
    for file in fixtures("good") {
        let folder = Folder::new();
        let text = fs::read_to_string(&file).unwrap();
        let (config, warnings) =
            folder.load(&text, 0o644).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let lines =
            config.show().iter().map(|line| format!("{} = {}    ({})\n", line.setting, line.value, line.origin));
        let warned = warnings.iter().map(|warning| format!("warning: {warning}\n"));
        let shown = folder.bare(&lines.chain(warned).collect::<String>());
        let everything = format!("{shown}{config:?}");
        assert!(SECRETS.iter().all(|secret| !everything.contains(secret)), "{everything}");
        compare(&file.with_extension("shown"), &shown);
    }
}

#[test]
fn values_arrive_in_their_types() {
    let folder = Folder::new();
    let text = fs::read_to_string(Path::new(ROOT).join("fixtures/config/good/whole.toml")).unwrap();
    let (config, warnings) = folder.load(&text, 0o600).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config.keyring.url, KeyringUrl::Sqlite(folder.0.path().join("keys.db")));
    assert_eq!(config.encryption.master_key.expose(), &std::array::from_fn::<u8, 32, _>(|at| at as u8));
    let [game, second] = &config.app[..] else { panic!("two apps") };
    assert_eq!((game.user_claim, second.user_claim), (UserClaim::Equal, UserClaim::Ignore));
    assert_eq!(game.client_id, second.client_id, "both spellings are one ID");
    assert_eq!((game.credentials.len(), second.credentials.len()), (2, 1));
    assert_eq!((game.renewal.retain, game.renewal.pace_start, game.renewal.pace_max), (None, 5.0, 10.0));
    assert_eq!(second.renewal, config.renewal);
    assert_eq!(config.renewal.retain, Some(std::time::Duration::from_secs(180 * 86_400)));
    assert_eq!(config.caller[0].token.expose(), "a-token-that-is-long-enough");
    assert_eq!((config.caller[0].scope.len(), config.caller[0].app.as_ref().map(Vec::len)), (7, Some(1)));
    assert_eq!(config.caller[1].app, None);
}

#[test]
fn defaults_are_those_of_the_table() {
    let folder = Folder::new();
    let (config, _) = folder.load("encryption.master_key_file = \"master.key\"", 0o600).unwrap();
    assert_eq!(config.renewal, Renewal::default());
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8433");
    assert_eq!(config.endpoint.entra.as_str(), "https://login.microsoftonline.com");
}

#[test]
fn the_template_works_once_the_app_is_filled_in() {
    let folder = Folder::new();
    let text = template()
        .replace("tenant_id = \"\"", "tenant_id = \"contoso.onmicrosoft.com\"")
        .replace("client_id = \"\"", "client_id = \"22222222-2222-4222-8222-222222222222\"");
    let (config, warnings) = folder.load(&text, 0o600).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config.app[0].name.as_str(), "mygame");
    assert_eq!(config.caller[0].name, "backend");
}

#[test]
fn a_missing_file_says_what_writes_one() {
    let error = Config::load(Path::new("/nowhere/storekeeper.toml"), &BTreeMap::new()).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the configuration /nowhere/storekeeper.toml: "), "{error}");
    assert!(error.ends_with("; `storekeeper init` writes one"), "{error}");
}

#[test]
fn the_reference_page_holds_the_table_of_settings() {
    let file = Path::new(ROOT).join("docs/reference/config.md");
    let page = fs::read_to_string(&file).unwrap();
    let (begin, end) = ("<!-- settings -->\n\n", "\n<!-- end of settings -->");
    let (before, rest) = page.split_once(begin).expect("the page marks where the tables begin");
    let (_, after) = rest.split_once(end).expect("the page marks where they end");
    compare(&file, &format!("{before}{begin}{}{end}{after}", reference()));
}
