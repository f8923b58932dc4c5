//! The stream against the emulator, whose clock runs fast: what comes out for what goes in, and what is asked of the
//! Store meanwhile.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

#[path = "renew/ended.rs"]
mod ended;

use std::io::{Cursor, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use storekeeper::compose;
use storekeeper::remote::{Peer, Remote};
use storekeeper::renew::{Outcome, RenewSettings, Renewer, Rescue, Tally, Which, Word, run};
use storekeeper::target::endpoint;
use storekeeper_client::{Endpoints, EntraVersion};
use storekeeper_clock::VirtualClock;
use storekeeper_emulator::{
    DEV_CLIENT_ID, DEV_CLIENT_SECRET, DEV_TENANT_ID, EmulatorOptions, MintKey, Running, Server, ServerOptions,
};
use storekeeper_keeper::{AppConfig, FixedSecret, UserClaim};
use storekeeper_model::{AppName, ClientId, Fingerprint, KeyKind, Secret, Timestamp};
use storekeeper_policy::RenewalPolicy;

const START: Timestamp = Timestamp::from_seconds(1_780_000_000);
const DAY: Duration = Duration::from_secs(86_400);

/// An emulator with a clock on which a minute usually takes 20 ms.
struct Store(Running);

impl Store {
    async fn start() -> Self {
        Self::at_rate(3000.0).await
    }

    /// On a slower clock, where the time that the machine takes must not count for much.
    async fn at_rate(rate: f64) -> Self {
        let clock = VirtualClock::running_from(START, rate);
        Self(Server::start(EmulatorOptions::default(), clock, ServerOptions::ephemeral()).await.unwrap())
    }

    fn mint(&self, user: &str, age: Duration) -> String {
        let wish = MintKey { issued_at: Some(START - age), ..MintKey::new(KeyKind::Collections, user) };
        self.0.emulator().mint_key(wish, START).unwrap().expose().clone()
    }

    fn line(&self, user: &str, age: Duration) -> String {
        json!({ "key": self.mint(user, age), "user": user }).to_string()
    }

    fn lines(&self, count: usize) -> Vec<String> {
        (0..count).map(|number| self.line(&format!("u{number}"), DAY)).collect()
    }

    fn settings(&self) -> RenewSettings {
        let place = |host: &str| endpoint(&format!("http://{}/{host}", self.0.http().unwrap())).unwrap();
        let app = AppConfig {
            name: AppName::new("stream").unwrap(),
            tenant: DEV_TENANT_ID.to_owned(),
            client_id: ClientId::new(DEV_CLIENT_ID),
            credentials: vec![Arc::new(FixedSecret(Secret::new(DEV_CLIENT_SECRET.to_owned())))],
            user_claim: UserClaim::Ignore,
            policy: RenewalPolicy::default(),
        };
        RenewSettings {
            apps: vec![app],
            endpoints: Endpoints {
                collections: place(KeyKind::Collections.host()),
                purchase: place(KeyKind::Purchase.host()),
                entra: place("login.microsoftonline.com"),
            },
            entra_version: EntraVersion::V2,
            which: Which::All,
            patience: Duration::from_secs(120),
            keeps_going: false,
            seed: 7,
        }
    }

    async fn fault(&self, order: Value) {
        let base = endpoint(&self.0.control().unwrap().to_string()).unwrap();
        let control = Remote::new(Peer::Emulator, base, None).unwrap();
        control.post::<Value>("/control/v1/faults", &order).await.unwrap();
    }

    /// How many exchanges of this kind there were.
    fn asked(&self, endpoint: &str) -> usize {
        self.0.ledger(0, 100_000).exchanges.iter().filter(|exchange| exchange.endpoint == endpoint).count()
    }

    async fn renew(&self, settings: RenewSettings, lines: &[String]) -> (Tally, Vec<Value>) {
        let transport = compose::transport(None).unwrap();
        let renewer = Renewer::new(settings, transport, Arc::new(self.0.clock().clone()));
        let output = Output::default();
        let input = Cursor::new(lines.join("\n").into_bytes());
        let (signals, rescue) = (futures_util::stream::pending(), Rescue::new(Vec::new()));
        let Outcome { tally, input_failure, unwritten } = run(&renewer, input, output.clone(), signals, &rescue).await;
        assert!(input_failure.is_none() && unwritten.is_none(), "{input_failure:?} {unwritten:?}");
        let output = output.0.lock().unwrap();
        (tally, parsed(&String::from_utf8_lossy(&output)))
    }
}

/// Output that can be looked at afterwards.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn parsed(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn words(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["result"].as_str().unwrap()).collect()
}

fn codes(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["code"].as_str().unwrap_or_default()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_lines_come_out_as_go_in_and_in_their_order() {
    let store = Store::start().await;
    let mut lines = store.lines(300);
    lines[7] = String::from("no JSON");
    lines[100] = String::from(r#"{"key":"x","user":"u100"}"#);
    lines[299] = String::new();
    lines.push(String::new());
    let (tally, out) = store.renew(store.settings(), &lines).await;
    assert_eq!((tally.lines(), tally.of(Word::Renewed), tally.of(Word::Invalid)), (300, 297, 3));
    for (number, (line, answer)) in lines.iter().zip(&out).enumerate() {
        let Ok(asked) = serde_json::from_str::<Value>(line) else {
            assert_eq!(codes(std::slice::from_ref(answer)), ["line_invalid"]);
            continue;
        };
        assert_eq!(answer["user"], asked["user"], "line {number}");
        if number != 100 {
            let key = answer["key"].as_str().unwrap();
            assert_ne!(answer["key"], asked["key"]);
            assert_eq!(answer["fingerprint"], Fingerprint::of(key).to_string());
        }
    }
    assert_eq!((store.asked("renew"), store.asked("token")), (297, 1));
    let again: Vec<String> = out.iter().filter(|line| line["result"] == "renewed").map(Value::to_string).collect();
    assert!(store.renew(store.settings(), &again).await.0.is_clean(), "an answer is a line again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_earns_one_retry_with_a_fresh_ticket() {
    let store = Store::at_rate(1.0).await;
    store.fault(json!({ "endpoint": "renew", "status": 401, "count": 3 })).await;
    let (tally, _) = store.renew(store.settings(), &store.lines(40)).await;
    assert_eq!(tally.of(Word::Renewed), 40);
    assert_eq!(store.asked("renew"), 43);
    assert_eq!(store.asked("token"), 2, "refusals of one moment share a ticket");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_refusals_holds_the_others_back_and_then_lets_them_go() {
    let store = Store::start().await;
    store.fault(json!({ "endpoint": "renew", "status": 401, "count": 100 })).await;
    let settings = RenewSettings { keeps_going: true, ..store.settings() };
    let (tally, _) = store.renew(settings, &store.lines(2000)).await;
    assert_eq!(tally.of(Word::Renewed) + tally.of(Word::Refused), 2000, "{tally:?}");
    assert!(tally.of(Word::Refused) <= 50, "a key is given up after two refusals, not before: {tally:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_refused_twice_is_told_so_and_kept() {
    let store = Store::start().await;
    let mut lines = store.lines(20);
    lines[3] = store.line("gone", DAY * 29);
    lines[4] = store.line("expired", DAY * 31);
    let revoked = Fingerprint::of(serde_json::from_str::<Value>(&lines[3]).unwrap()["key"].as_str().unwrap());
    store.0.emulator().revoke(storekeeper_emulator::Revocation::Fingerprint(revoked)).unwrap();
    let (tally, out) = store.renew(store.settings(), &lines).await;
    assert_eq!((tally.of(Word::Renewed), tally.of(Word::Refused)), (18, 2));
    assert_eq!((&out[3]["result"], &out[3]["code"]), (&json!("refused"), &json!("refused")));
    assert_eq!(out[3]["fingerprint"], revoked.to_string(), "the old key comes back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mass_refusal_condemns_nobody_and_stops() {
    let store = Store::start().await;
    store.fault(json!({ "endpoint": "renew", "status": 401 })).await;
    let lines = store.lines(1000);
    let (tally, out) = store.renew(store.settings(), &lines).await;
    assert_eq!(tally.lines(), 1000);
    assert_eq!(tally.of(Word::Refused) + tally.of(Word::Failed), 1000);
    assert!(tally.of(Word::Failed) > 800, "{tally:?}");
    assert!(store.asked("renew") < 400, "{} were asked for", store.asked("renew"));
    assert_eq!(codes(&out).last(), Some(&"app_paused"));
    assert!(out.iter().zip(&lines).all(|(out, line)| line.contains(out["key"].as_str().unwrap())));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_have_expired_do_not_stop_the_others() {
    let store = Store::start().await;
    let mut lines: Vec<String> = (0..60).map(|number| store.line(&format!("old{number}"), DAY * 40)).collect();
    lines.extend(store.lines(10));
    let (tally, _) = store.renew(store.settings(), &lines).await;
    assert_eq!((tally.of(Word::Refused), tally.of(Word::Renewed)), (60, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_is_given_up_after_a_while() {
    let store = Store::at_rate(100.0).await;
    store.fault(json!({ "endpoint": "renew", "status": 503 })).await;
    let began = store.0.clock().state().now;
    let (tally, out) = store.renew(store.settings(), &store.lines(500)).await;
    assert_eq!(tally.of(Word::Failed), 500);
    assert!(codes(&out).iter().all(|code| *code == "unavailable"), "{:?}", codes(&out));
    assert!(store.asked("renew") < 300, "{} were asked for", store.asked("renew"));
    let took = store.0.clock().state().now.since(began);
    assert!(took < Duration::from_secs(3600), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stumbles_costs_nothing() {
    let store = Store::start().await;
    store.fault(json!({ "endpoint": "renew", "status": 429, "headers": { "Retry-After": "20" }, "count": 5 })).await;
    store.fault(json!({ "endpoint": "renew", "when": "after", "reset": true, "count": 2 })).await;
    store.fault(json!({ "endpoint": "token", "status": 503, "count": 2 })).await;
    let (tally, _) = store.renew(store.settings(), &store.lines(50)).await;
    assert_eq!(tally.of(Word::Renewed), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_tried_once() {
    let store = Store::start().await;
    let mut settings = store.settings();
    settings.apps[0].credentials = vec![Arc::new(FixedSecret(Secret::new(String::from("wrong"))))];
    let (tally, out) = store.renew(settings, &store.lines(500)).await;
    assert_eq!(tally.of(Word::Failed), 500);
    assert!(codes(&out).iter().all(|code| *code == "credential_refused"));
    assert_eq!(store.asked("renew"), 0);
    assert!(store.asked("token") <= 3, "{}", store.asked("token"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_credential_takes_over() {
    let store = Store::start().await;
    let mut settings = store.settings();
    settings.apps[0].credentials.insert(0, Arc::new(FixedSecret(Secret::new(String::from("wrong")))));
    assert_eq!(store.renew(settings, &store.lines(5)).await.0.of(Word::Renewed), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_due_where_that_is_asked_for() {
    let store = Store::start().await;
    let lines = [store.line("young", DAY * 2), store.line("old", DAY * 12)];
    let (tally, out) = store.renew(RenewSettings { which: Which::Due, ..store.settings() }, &lines).await;
    assert_eq!(words(&out), ["kept", "renewed"]);
    assert!(tally.is_clean());
    assert_eq!(store.asked("renew"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_client_is_not_sent_anywhere() {
    let store = Store::start().await;
    let mut settings = store.settings();
    settings.apps[0].client_id = ClientId::new("33333333-3333-4333-8333-333333333333");
    let (_, out) = store.renew(settings, &store.lines(3)).await;
    assert_eq!(codes(&out), ["key_wrong_client"; 3]);
    assert_eq!(store.asked("renew") + store.asked("token"), 0);
}
