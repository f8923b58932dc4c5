//! `storekeeper emulator mint|revoke|rotate|ledger|reset`: what a running emulator is asked for.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use storekeeper_model::{Fingerprint, KeyKind, Timestamp, format_span, parse_span};

use crate::exit::{CommandError, CommandResult, Exit};
use crate::output::{self, Format, Rows, instant, instant_or_dash};
use crate::remote::Remote;
use crate::target::Target;

/// What to ask of a running emulator.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Mint a Store ID key, as the Store would for a player; prints the bare key
    Mint(Mint),
    /// Revoke keys that were minted so far; successors minted later are untouched
    Revoke(Revoke),
    /// Sign with a new certificate from now on
    Rotate {
        /// Renew keys of the former certificates for so long; as the profile says unless told
        #[arg(long, value_name = "SPAN", value_parser = parse_span)]
        accept_previous_for: Option<Duration>,
        #[command(flatten)]
        #[expect(missing_docs, reason = "a comment would stand in the help")]
        target: Target,
    },
    /// Show the exchanges with the emulated hosts, oldest first
    Ledger {
        /// Show those after this number
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        after: u64,
        /// Show at most so many
        #[arg(long, value_name = "N", default_value_t = 1000)]
        limit: u64,
        #[command(flatten)]
        #[expect(missing_docs, reason = "a comment would stand in the help")]
        target: Target,
    },
    /// Start afresh: new signing keys, no revocations, faults or ledger; the clock stays
    Reset {
        #[command(flatten)]
        #[expect(missing_docs, reason = "a comment would stand in the help")]
        target: Target,
    },
}

/// What key to mint.
#[derive(Debug, Args)]
pub struct Mint {
    /// Which service it is for: collections or purchase
    #[arg(value_name = "KIND")]
    kind: KeyKind,
    /// The claim `userId`
    #[arg(value_name = "USER")]
    user: String,
    /// The Store account behind it; one for each user unless told
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// The application it is for; the development client unless told
    #[arg(long, value_name = "GUID")]
    client_id: Option<String>,
    /// When it is issued; now unless told
    #[arg(long, value_name = "INSTANT")]
    issued_at: Option<Timestamp>,
    /// The `kid` of the certificate that signs it
    #[arg(long, value_name = "KID")]
    certificate: Option<String>,
    /// Characters of the claim `payload`, a multiple of four
    #[arg(long, value_name = "N")]
    payload_length: Option<usize>,
    #[command(flatten)]
    target: Target,
}

/// Which keys to revoke: exactly one of these.
#[derive(Debug, Args)]
pub struct Revoke {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// This one key
    #[arg(long, value_name = "FINGERPRINT")]
    fingerprint: Option<Fingerprint>,
    /// All keys with this claim `userId`
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// All keys of this application
    #[arg(long, value_name = "GUID")]
    client_id: Option<String>,
    /// All keys signed by this certificate
    #[arg(long, value_name = "KID")]
    certificate: Option<String>,
}

impl Verb {
    /// Asks, and prints the answer.
    pub async fn run(self, format: Format) -> CommandResult {
        match self {
            Self::Mint(mint) => mint.run(format).await,
            Self::Revoke(revoke) => revoke.run(format).await,
            Self::Rotate { accept_previous_for, target } => {
                rotate(&target.control()?, accept_previous_for, format).await
            }
            Self::Ledger { after, limit, target } => ledger(&target.control()?, after, limit, format).await,
            Self::Reset { target } => reset(&target.control()?, format).await,
        }
    }
}

impl Mint {
    async fn run(self, format: Format) -> CommandResult {
        #[derive(Deserialize)]
        struct Minted {
            key: String,
        }
        let mut wish = Map::from_iter([
            (String::from("kind"), json!(self.kind.as_str())),
            (String::from("user_id"), json!(self.user)),
        ]);
        let mut say = |name: &str, value: Option<Value>| wish.extend(value.map(|value| (name.to_owned(), value)));
        say("account", self.account.map(Value::String));
        say("client_id", self.client_id.map(Value::String));
        say("issued_at", self.issued_at.map(|at| json!(at)));
        say("certificate", self.certificate.map(Value::String));
        say("payload_length", self.payload_length.map(|length| json!(length)));
        let minted: Box<RawValue> = self.target.control()?.post("/control/v1/keys", &wish).await?;
        match format {
            Format::Json => output::print_json(&minted),
            Format::Table => output::print(&understood::<Minted>(&minted)?.key),
        }
    }
}

impl Revoke {
    async fn run(self, format: Format) -> CommandResult {
        let Which { fingerprint, user, client_id, certificate } = self.which;
        let (wish, what) = match (fingerprint, user, client_id, certificate) {
            (Some(fingerprint), ..) => (json!({ "fingerprint": fingerprint }), format!("key {fingerprint}")),
            (_, Some(user), ..) => (json!({ "user_id": user }), format!("all keys so far of user {user}")),
            (_, _, Some(id), _) => (json!({ "client_id": id }), format!("all keys so far of client {id}")),
            (_, _, _, certificate) => {
                let kid = certificate.unwrap_or_default();
                (json!({ "certificate": kid }), format!("all keys so far signed by {kid}"))
            }
        };
        let revoked: Box<RawValue> = self.target.control()?.post("/control/v1/revocations", &wish).await?;
        match format {
            Format::Json => output::print_json(&revoked),
            Format::Table => output::print(&format!("revoked {}", output::safe(&what))),
        }
    }
}

async fn rotate(control: &Remote, accept_previous_for: Option<Duration>, format: Format) -> CommandResult {
    #[derive(Deserialize)]
    struct Certificates {
        certificates: Vec<Certificate>,
    }
    #[derive(Deserialize)]
    struct Certificate {
        certificate: String,
        sign_from: Option<Timestamp>,
        renew_until: Option<Timestamp>,
        signing: bool,
    }
    let wish =
        accept_previous_for.map_or_else(|| json!({}), |span| json!({ "accept_previous_for": format_span(span) }));
    let answer: Box<RawValue> = control.post("/control/v1/certificates/rotate", &wish).await?;
    if format == Format::Json {
        return output::print_json(&answer);
    }
    let mut rows = Rows::new(["CERTIFICATE", "SIGNS", "SIGNS FROM", "RENEWED UNTIL"]);
    for certificate in understood::<Certificates>(&answer)?.certificates {
        let (from, until) = (instant_or_dash(certificate.sign_from), instant_or_dash(certificate.renew_until));
        rows.add([certificate.certificate.as_str(), if certificate.signing { "yes" } else { "no" }, &from, &until]);
    }
    output::print(&rows.text())
}

#[derive(Deserialize)]
struct Page {
    exchanges: Vec<Exchange>,
    next: Option<u64>,
}

#[derive(Deserialize)]
struct Exchange {
    seq: u64,
    began_at: Timestamp,
    endpoint: String,
    host: Option<String>,
    status: Option<u16>,
    inner_code: Option<String>,
    fingerprint: Option<String>,
    successor: Option<String>,
}

async fn ledger(control: &Remote, after: u64, limit: u64, format: Format) -> CommandResult {
    let page = control.fetch::<Page>(&format!("/control/v1/ledger?after={after}&limit={limit}")).await?;
    if format == Format::Json {
        return output::print_json(&page.raw);
    }
    let headers = ["NUMBER", "AT", "ENDPOINT", "HOST", "STATUS", "CODE", "KEY", "SUCCESSOR"];
    let mut rows = Rows::new(headers).numbers(&[0]);
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| String::from("-"));
    for exchange in &page.value.exchanges {
        rows.add([
            exchange.seq.to_string(),
            instant(exchange.began_at),
            exchange.endpoint.clone(),
            or_dash(&exchange.host),
            exchange.status.map_or_else(|| String::from("-"), |status| status.to_string()),
            or_dash(&exchange.inner_code),
            or_dash(&exchange.fingerprint),
            or_dash(&exchange.successor),
        ]);
    }
    output::print(&rows.text())?;
    if let Some(next) = page.value.next {
        output::remark(&format!("there is more: --after {next}"));
    }
    Ok(())
}

async fn reset(control: &Remote, format: Format) -> CommandResult {
    let clock: Box<RawValue> = control.post("/control/v1/reset", &json!({})).await?;
    match format {
        Format::Json => output::print_json(&clock),
        Format::Table => output::print("reset: new signing keys, so every key minted before is refused from now on"),
    }
}

fn understood<'a, T: Deserialize<'a>>(document: &'a RawValue) -> Result<T, CommandError> {
    serde_json::from_str(document.get()).map_err(|error| CommandError::new(Exit::Failure, error))
}
