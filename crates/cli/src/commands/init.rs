//! `storekeeper init`: the files that a first `serve` needs, and with `--migrate` the tables in a PostgreSQL.

mod tables;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use storekeeper_keyring::seal::MasterKey;

use crate::config;
use crate::exit::{CommandError, CommandResult, Exit};
use crate::output::{self, Format};
use crate::ready::write_secret;

const CONFIG: &str = "storekeeper.toml";
const MASTER_KEY: &str = "master.key";
const TOKEN: &str = "backend.token";

/// Write a commented storekeeper.toml with its master key and token, or make a PostgreSQL's tables; overwrites nothing.
#[derive(Debug, Args)]
pub struct Init {
    /// Where to write the files
    #[arg(long, value_name = "DIR", default_value = ".", conflicts_with = "Tables")]
    dir: PathBuf,
    #[command(flatten)]
    tables: tables::Tables,
}

impl Init {
    /// Writes the files and says what comes next, or makes tables. `environment` holds the variables of the process.
    pub async fn run(self, environment: &BTreeMap<String, String>, format: Format) -> CommandResult {
        if self.tables.are_asked_for() { self.tables.run(environment, format).await } else { self.write(format) }
    }

    fn write(&self, format: Format) -> CommandResult {
        let dir = &self.dir;
        fs::create_dir_all(dir).map_err(|error| fail(dir, &error))?;
        let files = [CONFIG, MASTER_KEY, TOKEN].map(|name| dir.join(name));
        if let Some(there) = files.iter().find(|file| file.exists()) {
            let message = format!(
                "{} is there already and is not overwritten: move it away, or name another --dir",
                there.display()
            );
            return Err(CommandError::new(Exit::Refused, message));
        }
        let [config, master_key, token] = &files;
        // Both secrets are of one kind: 32 random bytes as text.
        write_secret(master_key, MasterKey::generate().to_text().expose()).map_err(|error| fail(master_key, &error))?;
        write_secret(token, MasterKey::generate().to_text().expose()).map_err(|error| fail(token, &error))?;
        write_new(config, &config::template()).map_err(|error| fail(config, &error))?;
        match format {
            Format::Json => output::print_json(&json!({ "config": config, "master_key": master_key, "token": token })),
            Format::Table => output::print(&next_step(dir, &files)),
        }
    }
}

fn write_new(file: &Path, text: &str) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(file)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn fail(file: &Path, error: &std::io::Error) -> CommandError {
    CommandError::new(Exit::Failure, format!("{}: {error}", file.display()))
}

fn next_step(dir: &Path, [config, master_key, token]: &[PathBuf; 3]) -> String {
    let (config, master_key, token) = (config.display(), master_key.display(), token.display());
    let secret = dir.join("mygame.secret");
    let secret = secret.display();
    format!(
        "wrote {config}
wrote {master_key}    keep a copy elsewhere: without it nothing in the keyring can be read
wrote {token}    what a backend sends as `Authorization: Bearer`

Next:
  1. put tenant_id and client_id of your app registration into {config}
  2. put its client secret into {secret} and run `chmod 600 {secret}`
  3. storekeeper config check --config {config}
  4. storekeeper serve --config {config}"
    )
}
