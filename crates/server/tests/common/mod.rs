//! A whole keeper behind the API's routers: memory keyring, frozen clock, and a Store that does as it is told.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

pub(crate) mod keyring;
pub(crate) mod store;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use storekeeper_client::{Endpoint, EntraVersion};
use storekeeper_clock::VirtualClock;
use storekeeper_keeper::{AppConfig, FixedSecret, Keeper, KeeperConfig, Limits, UserClaim};
use storekeeper_keyring::MasterKey;
use storekeeper_model::{AppName, ClientId, KeyKind, Secret, Timestamp};
use storekeeper_policy::RenewalPolicy;
use storekeeper_server::{Api, Caller, Front, Scope, ServerConfig, TokenDigest, admin_service, data_service};

use self::keyring::TestKeyring;
use self::store::Store;

/// When the tests take place.
pub(crate) const START: Timestamp = Timestamp::from_seconds(1_767_225_600);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const CLIENT: &str = "22222222-2222-4222-8222-222222222222";
/// The client ID of the app `foreign`, as keys write it.
pub(crate) const FOREIGN_CLIENT: &str = "33333333333343338333333333333333";
/// May do everything.
pub(crate) const ROOT: &str = "root-token-0000001";
/// May do everything with `mygame` only.
pub(crate) const LIMITED: &str = "limited-token-0001";
/// May do nothing.
pub(crate) const NOBODY: &str = "nobody-token-00001";
pub(crate) const KEY: &str = "/v1/apps/mygame/users/player-0001/keys/collections";

/// What a key says.
#[derive(Clone)]
pub(crate) struct Mint {
    pub(crate) kind: KeyKind,
    pub(crate) client_id: &'static str,
    pub(crate) user_id: String,
    pub(crate) issued_at: Timestamp,
    pub(crate) life: Duration,
    pub(crate) serial: u64,
}

impl Default for Mint {
    fn default() -> Self {
        Self {
            kind: KeyKind::Collections,
            client_id: "22222222222242228222222222222222",
            user_id: "player-0001".into(),
            issued_at: START - DAY,
            life: DAY * 30,
            serial: 0,
        }
    }
}

impl Mint {
    /// The compact JWT. Nobody but Microsoft can check a signature, so any bytes do.
    pub(crate) fn jwt(&self) -> String {
        let iat = self.issued_at.seconds();
        let mut claims = json!({
            "iat": iat, "nbf": iat, "exp": (self.issued_at + self.life).seconds(),
            "iss": self.kind.audience(), "aud": self.kind.audience(),
        });
        let payload = "Qm9n+/0a".repeat(43);
        let refresh_uri = self.kind.refresh_uri();
        for (name, value) in [
            ("clientId", self.client_id),
            ("payload", &payload),
            ("userId", &self.user_id),
            ("refreshUri", refresh_uri),
        ] {
            claims[format!("http://schemas.microsoft.com/marketplace/2015/08/claims/key/{name}")] = value.into();
        }
        let header = json!({"alg": "RS256", "kid": "36D101AF67A9F61B8017FB96F91EDD4B22F05804", "typ": "JWT"});
        jwt(&header, &claims, self.serial)
    }
}

pub(crate) fn jwt(header: &Value, claims: &Value, serial: u64) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signature: Vec<u8> = serial.to_be_bytes().repeat(32);
    format!("{}.{}.{}", part(header), part(claims), URL_SAFE_NO_PAD.encode(signature))
}

/// A key that differs from every other serial.
pub(crate) fn key(serial: u64) -> String {
    Mint { serial, ..Mint::default() }.jwt()
}

/// A keeper and its two routers.
pub(crate) struct World {
    pub(crate) keeper: Keeper,
    pub(crate) keyring: Arc<TestKeyring>,
    pub(crate) clock: VirtualClock,
    pub(crate) store: Arc<Store>,
    pub(crate) api: Api,
    pub(crate) data: Front,
    pub(crate) admin: Front,
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {:?}", self.body))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The code of a problem document, every promise about which is checked.
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(self.headers[header::CACHE_CONTROL], "no-store");
        let document = self.json();
        let code = document["code"].as_str().unwrap().to_owned();
        let row = storekeeper_server::code::ALL.iter().find(|row| row.code == code).expect("a code of the table");
        assert_eq!(document["type"], format!("urn:storekeeper:problem:{code}"));
        assert_eq!(document["status"], self.status.as_u16());
        assert_eq!(
            (document["status"].as_u64(), document["act"].as_str()),
            (Some(row.status.into()), Some(row.act.as_str()))
        );
        assert!(document["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        let told = self.headers.get(header::RETRY_AFTER).map(|value| value.to_str().unwrap().parse::<u64>().unwrap());
        assert_eq!(document["retry_after"].as_u64(), told);
        assert_eq!(told.is_some(), row.retry_after.is_some(), "{code}");
        code
    }
}

pub(crate) fn config() -> ServerConfig {
    let caller =
        |name, token: &str, scopes| Caller::new(name, TokenDigest::of(&Secret::new(token.to_owned())).unwrap(), scopes);
    ServerConfig::new(vec![
        caller("root", ROOT, &Scope::ALL),
        caller("limited", LIMITED, &Scope::ALL).limited_to(vec![AppName::new("mygame").unwrap()]),
        caller("nobody", NOBODY, &[]),
    ])
}

fn app(name: &str, user_claim: UserClaim) -> AppConfig {
    AppConfig {
        name: AppName::new(name).unwrap(),
        tenant: "11111111-1111-4111-8111-111111111111".into(),
        client_id: ClientId::new(CLIENT),
        credentials: vec![Arc::new(FixedSecret(Secret::new("a-secret".to_owned())))],
        user_claim,
        policy: RenewalPolicy::default(),
    }
}

fn keeper_config() -> KeeperConfig {
    KeeperConfig {
        apps: vec![
            app("mygame", UserClaim::Ignore),
            app("other", UserClaim::Ignore),
            app("strict", UserClaim::Equal),
            AppConfig { client_id: ClientId::new(FOREIGN_CLIENT), ..app("foreign", UserClaim::Ignore) },
        ],
        collections: Endpoint::parse("https://collections.mp.microsoft.com").unwrap(),
        purchase: Endpoint::parse("https://purchase.mp.microsoft.com").unwrap(),
        entra: Endpoint::parse("https://login.microsoftonline.com").unwrap(),
        entra_version: EntraVersion::V2,
        concurrency: 8,
        request_timeout: Duration::from_secs(10),
        cache_rows: 100,
        limits: Limits::Off,
        seed: 7,
        accept_orphans: false,
        rescue_folder: None,
        node: storekeeper_keeper::NodeConfig::default(),
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(config()).await
    }

    pub(crate) async fn with(config: ServerConfig) -> Self {
        Self::on(TestKeyring::default(), config).await
    }

    /// On this keyring.
    pub(crate) async fn on(keyring: TestKeyring, config: ServerConfig) -> Self {
        let clock = VirtualClock::frozen_at(START);
        let keyring = Arc::new(keyring);
        let store = Arc::new(Store::new(clock.clone()));
        let keeper = Keeper::start(
            keeper_config(),
            Arc::clone(&keyring) as _,
            &MasterKey::generate(),
            Arc::clone(&store) as _,
            Arc::new(clock.clone()),
        )
        .await
        .unwrap();
        let api = Api::new(keeper.clone(), &config);
        let (data, admin) = (data_service(&api), admin_service(&api));
        Self { keeper, keyring, clock, store, api, data, admin }
    }

    /// Enrolls a key and expects a 2xx.
    pub(crate) async fn enroll(&self, path: &str, key: &str) -> Answer {
        let answer = self.put(path, key).await;
        assert!(answer.status.is_success(), "{answer:?}");
        answer
    }

    pub(crate) async fn put(&self, path: &str, key: &str) -> Answer {
        self.data(Method::PUT, path, Body::from(json!({ "key": key }).to_string())).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.data(Method::GET, path, Body::empty()).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.data(Method::POST, path, body.into()).await
    }

    /// As `root` on the data listener.
    pub(crate) async fn data(&self, method: Method, path: &str, body: Body) -> Answer {
        send(&self.data, request(method, path, ROOT, body)).await
    }

    /// As `root` on the admin listener.
    pub(crate) async fn admin(&self, method: Method, path: &str, body: impl Into<Body>) -> Answer {
        send(&self.admin, request(method, path, ROOT, body.into())).await
    }

    /// As somebody else, on the data listener.
    pub(crate) async fn get_as(&self, token: &str, path: &str) -> Answer {
        send(&self.data, request(Method::GET, path, token, Body::empty())).await
    }
}

pub(crate) fn request(method: Method, path: &str, token: &str, body: Body) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header(header::AUTHORIZATION, format!("Bearer {token}"));
    request.body(body).unwrap()
}

pub(crate) async fn send(service: &Front, request: Request<Body>) -> Answer {
    let response = service.answer(request).await;
    let (parts, body) = response.into_parts();
    assert_eq!(parts.headers[header::CACHE_CONTROL], "no-store");
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status, headers: parts.headers, body }
}
