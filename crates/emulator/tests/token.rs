//! The token endpoints: rows T01 to T09 of store.md section 10, every other row of its table 2.7 that a request can
//! provoke, and the published keys.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use storekeeper_emulator::{
    AddClient, CertificateTickets, DEV_CLIENT_ID, DEV_CLIENT_SECRET, DEV_TENANT_ID, Emulator, EmulatorOptions,
    FederatedCredential, MintTicket, ProfileChange, Snapshot, Switches, VirtualHost,
};
use storekeeper_model::{Audience, KeyKind, Secret, ServiceTicket};
use support::*;

fn v1() -> String {
    format!("/{DEV_TENANT_ID}/oauth2/token")
}

#[test]
fn t01_a_v2_request_earns_a_v1_format_token_with_numbers_as_numbers() {
    let answer = token_v2(plain(), &[]);
    let granted = body(&answer);
    assert_eq!(answer.status, 200);
    assert_eq!(granted["token_type"], "Bearer");
    assert_eq!(granted.get("resource"), None);
    let expires_in = granted["expires_in"].as_i64().unwrap();
    assert!((3599..=5399).contains(&expires_in), "{expires_in}");
    let claims = verified(granted["access_token"].as_str().unwrap(), &entra_key(plain()));
    assert_eq!(claims["aud"], "https://onestore.microsoft.com");
    assert_eq!(claims["iss"], format!("https://sts.windows.net/{DEV_TENANT_ID}/"));
    assert_eq!((&claims["appid"], &claims["appidacr"]), (&json!(DEV_CLIENT_ID), &json!("1")));
    assert_eq!((&claims["ver"], &claims["tid"]), (&json!("1.0"), &json!(DEV_TENANT_ID)));
    assert_eq!(claims["iat"], NOW.seconds());
    assert_eq!(claims["nbf"], NOW.seconds() - 300);
    assert_eq!(claims["exp"], NOW.seconds() + expires_in + 1);
    assert_eq!(answer.header("cache-control"), Some("no-store, no-cache"));
    assert_eq!(answer.header("date"), Some("Mon, 01 Jun 2026 12:00:00 GMT"));
}

#[test]
fn t02_a_v1_request_earns_numbers_as_strings() {
    let pairs = [
        ("client_id", DEV_CLIENT_ID),
        ("client_secret", DEV_CLIENT_SECRET),
        ("grant_type", "client_credentials"),
        ("resource", "https://onestore.microsoft.com/b2b/keys/create/purchase"),
    ];
    let answer = token(plain(), &v1(), &pairs);
    let granted = body(&answer);
    assert_eq!((answer.status, &granted["resource"]), (200, &json!(pairs[3].1)));
    let number = |name: &str| granted[name].as_str().unwrap().parse::<i64>().unwrap();
    assert_eq!(number("not_before"), NOW.seconds() - 300);
    assert_eq!(number("expires_on"), NOW.seconds() + number("expires_in") + 1);
    assert_eq!(number("ext_expires_in"), number("expires_in"));
    let names: Vec<&str> =
        ["token_type", "expires_in", "ext_expires_in", "expires_on", "not_before", "resource"].into();
    let text = std::str::from_utf8(&answer.body).unwrap();
    let places: Vec<usize> = names.iter().map(|name| text.find(&format!("\"{name}\"")).unwrap()).collect();
    assert!(places.is_sorted(), "{text}");
}

#[test]
fn a_database_takes_tokens_too() {
    let granted = body(&token_v2(plain(), &[("scope", "https://ossrdbms-aad.database.windows.net/.default")]));
    let claims = verified(granted["access_token"].as_str().unwrap(), &entra_key(plain()));
    assert_eq!(claims["aud"], "https://ossrdbms-aad.database.windows.net");
}

#[test]
fn lifetimes_vary_between_60_and_90_minutes() {
    let lifetimes: Vec<i64> = (0..40).map(|_| body(&token_v2(plain(), &[]))["expires_in"].as_i64().unwrap()).collect();
    assert!(lifetimes.iter().all(|seconds| (3599..=5399).contains(seconds)));
    assert!(lifetimes.iter().max().unwrap() - lifetimes.iter().min().unwrap() > 600, "{lifetimes:?}");
}

#[test]
fn t03_secrets_are_decoded_from_the_form_and_from_basic() {
    let emulator = emulator(Switches::default());
    let client_id = "55555555-5555-4555-8555-555555555555";
    let secret = "a+b%c&d=e f:ü";
    emulator.add_client(client(client_id, Some(secret))).unwrap();
    assert_eq!(token_v2(&emulator, &[("client_id", client_id), ("client_secret", secret)]).status, 200);

    let form = format!("grant_type=client_credentials&scope={}", encode(SCOPE));
    let path = format!("/{DEV_TENANT_ID}/oauth2/v2.0/token");
    let header = format!("Basic {}", STANDARD.encode(format!("{client_id}:{}", encode(secret))));
    let mut asked = request(VirtualHost::Login, "POST", &path, &form);
    asked.authorization = Some(&header);
    assert_eq!(emulator.answer(&asked, NOW).status, 200);
    let wrong = format!("Basic {}", STANDARD.encode(format!("{client_id}:wrong")));
    asked.authorization = Some(&wrong);
    assert_eq!(entra_error(&emulator.answer(&asked, NOW)), (401, "invalid_client".into(), 7_000_215));
}

#[test]
fn t04_to_t08_and_the_other_rows_of_the_error_table() {
    let check = |change: &[(&str, &str)], status: u16, error: &str, code: i64| {
        assert_eq!(entra_error(&token_v2(plain(), change)), (status, error.to_owned(), code), "{change:?}");
    };
    check(&[("client_secret", "wrong")], 401, "invalid_client", 7_000_215);
    let nobody = "99999999-9999-4999-8999-999999999999";
    check(&[("client_id", nobody)], 400, "unauthorized_client", 700_016);
    check(&[("scope", "https://onestore.microsoft.com")], 400, "invalid_scope", 1_002_012);
    check(&[("scope", "https://onestore.microsoft.com//.default")], 400, "invalid_resource", 500_011);
    check(&[("scope", "https://graph.microsoft.com/.default")], 400, "invalid_resource", 500_011);
    let two = format!("{SCOPE} https://graph.microsoft.com/.default");
    check(&[("scope", &two)], 400, "invalid_scope", 70_011);
    check(&[("scope", "")], 400, "invalid_request", 900_144);
    check(&[("grant_type", "")], 400, "invalid_request", 900_144);
    check(&[("client_id", "")], 400, "invalid_request", 900_144);
    check(&[("grant_type", "password")], 400, "unsupported_grant_type", 70_003);
    check(&[("resource", "https://onestore.microsoft.com/.default")], 400, "invalid_request", 901_002);
    check(&[("client_secret", "")], 401, "invalid_client", 7_000_218);
}

#[test]
fn t06_tenants() {
    let check = |tenant: &str, error: &str, code: i64| {
        let answer = token(plain(), &format!("/{tenant}/oauth2/v2.0/token"), &[("grant_type", "client_credentials")]);
        assert_eq!(entra_error(&answer), (400, error.to_owned(), code), "{tenant}");
    };
    check("99999999-9999-4999-8999-999999999999", "invalid_tenant", 90_002);
    check("contoso.onmicrosoft.com", "invalid_tenant", 90_002);
    check("common", "invalid_tenant", 90_002);
    check("contoso", "invalid_request", 900_023);
    check("a..b", "invalid_request", 900_023);
    check(&DEV_TENANT_ID.to_uppercase(), "invalid_request", 900_144);
}

#[test]
fn v1_needs_a_resource_and_other_bodies_hold_no_parameters() {
    let pairs = [("client_id", DEV_CLIENT_ID), ("grant_type", "client_credentials"), ("scope", SCOPE)];
    assert_eq!(entra_error(&token(plain(), &v1(), &pairs)), (400, "invalid_request".into(), 900_144));
    let path = v1();
    let mut asked = request(VirtualHost::Login, "POST", &path, "grant_type=client_credentials");
    asked.content_type = Some(JSON);
    let answer = plain().answer(&asked, NOW);
    assert_eq!(entra_error(&answer), (400, "invalid_request".into(), 900_144));
    assert_eq!(answer.note.inner_code.as_deref(), Some("900144"));
    assert_eq!(plain().answer(&request(VirtualHost::Login, "GET", &path, ""), NOW).status, 405);
    assert_eq!(plain().answer(&request(VirtualHost::Login, "POST", "/oauth2/token", ""), NOW).status, 404);
    let long = "x".repeat(64 * 1024 + 1);
    assert_eq!(plain().answer(&request(VirtualHost::Login, "POST", &path, &long), NOW).status, 413);
}

#[test]
fn a_secret_expires() {
    let emulator = emulator(Switches::default());
    let client_id = "55555555-5555-4555-8555-555555555555";
    let wish = AddClient { secret_expires_at: Some(NOW), ..client(client_id, Some("s")) };
    emulator.add_client(wish).unwrap();
    let change = [("client_id", client_id), ("client_secret", "s")];
    assert_eq!(entra_error(&token_v2(&emulator, &change)), (401, "invalid_client".into(), 7_000_222));
}

fn client(client_id: &str, secret: Option<&str>) -> AddClient {
    AddClient {
        tenant_id: DEV_TENANT_ID.to_owned(),
        client_id: client_id.to_owned(),
        secret: secret.map(|secret| Secret::new(secret.to_owned())),
        secret_expires_at: None,
        certificate: None,
        federated: None,
    }
}

const OWN_ID: &str = "66666666-6666-4666-8666-666666666666";

/// A client with a certificate of its own: an RSA key and X.509 taken from another emulator's snapshot.
struct Owner {
    key: EncodingKey,
    certificate: String,
}

impl Owner {
    fn new() -> Self {
        let snapshot: Snapshot = Emulator::new(EmulatorOptions::default(), NOW).snapshot();
        let snapshot = serde_json::to_value(&snapshot).unwrap();
        let text = |name: &str| snapshot["entra"][name].as_str().unwrap().to_owned();
        // What PKCS#8 wraps around the RSAPrivateKey of a 2048-bit key is 26 bytes long.
        let private_key = STANDARD.decode(text("private_key")).unwrap()[26..].to_vec();
        Self { key: EncodingKey::from_rsa_der(&private_key), certificate: text("certificate") }
    }

    fn assertion(&self, alg: Algorithm, change: Value) -> String {
        use aws_lc_rs::digest;
        let der = STANDARD.decode(&self.certificate).unwrap();
        let thumbprint = digest::digest(&digest::SHA256, &der);
        let mut header = Header::new(alg);
        header.x5t_s256 = Some(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(thumbprint));
        jsonwebtoken::encode(&header, &own_claims(change), &self.key).unwrap()
    }
}

fn own_claims(change: Value) -> Value {
    let mut claims = json!({
        "aud": format!("https://login.microsoftonline.com/{DEV_TENANT_ID}/oauth2/v2.0/token"),
        "iss": OWN_ID, "sub": OWN_ID, "jti": "77777777-7777-4777-8777-777777777777",
        "iat": NOW.seconds(), "nbf": NOW.seconds(), "exp": NOW.seconds() + 600,
    });
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn assert_with(
    emulator: &Emulator,
    client_id: &str,
    scope: &str,
    assertion: &str,
) -> storekeeper_emulator::StoreAnswer {
    let change = [
        ("client_id", client_id),
        ("client_secret", ""),
        ("scope", scope),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", assertion),
    ];
    token_v2(emulator, &change)
}

#[test]
fn t09_client_assertions() {
    let emulator = emulator(Switches::default());
    let (owner, stranger) = (Owner::new(), Owner::new());
    emulator.add_client(AddClient { certificate: Some(owner.certificate.clone()), ..client(OWN_ID, None) }).unwrap();
    let check = |assertion: &str, expected: (u16, i64)| {
        let (status, _, code) = entra_error(&assert_with(&emulator, OWN_ID, SCOPE, assertion));
        assert_eq!((status, code), expected);
    };
    check(&owner.assertion(Algorithm::PS256, json!({})), (200, 0));
    check(&owner.assertion(Algorithm::RS256, json!({})), (200, 0));
    let old_form = json!({"aud": format!("https://login.microsoftonline.com/{DEV_TENANT_ID}/v2.0")});
    check(&owner.assertion(Algorithm::PS256, old_form), (200, 0));
    check(&owner.assertion(Algorithm::PS256, json!({"exp": NOW.seconds()})), (401, 700_024));
    check(&owner.assertion(Algorithm::PS256, json!({"nbf": NOW.seconds() + 1})), (401, 700_024));
    check(&stranger.assertion(Algorithm::PS256, json!({"exp": NOW.seconds()})), (401, 700_024));
    check(&stranger.assertion(Algorithm::PS256, json!({})), (401, 700_027));
    check(&owner.assertion(Algorithm::PS256, json!({"sub": "other"})), (401, 700_027));
    check(
        &owner.assertion(Algorithm::PS256, json!({"aud": "https://login.microsoftonline.com/x/v2.0"})),
        (401, 700_023),
    );
    check("not.a.jwt", (401, 700_027));
    let mut damaged = owner.assertion(Algorithm::PS256, json!({}));
    damaged.replace_range(damaged.len() - 10..damaged.len() - 9, "_");
    check(&damaged, (401, 700_027));
    check(&owner.assertion(Algorithm::PS256, json!({"iss": "somebody"})), (401, 70_021));
}

#[test]
fn a_token_earned_by_certificate_says_so_and_a_strict_store_refuses_it_at_creation_only() {
    let emulator = emulator(Switches::default());
    let owner = Owner::new();
    emulator.add_client(AddClient { certificate: Some(owner.certificate.clone()), ..client(OWN_ID, None) }).unwrap();
    let earn = |scope: &str| {
        let answer = assert_with(&emulator, OWN_ID, scope, &owner.assertion(Algorithm::PS256, json!({})));
        body(&answer)["access_token"].as_str().unwrap().to_owned()
    };
    let create = earn("https://onestore.microsoft.com/b2b/keys/create/collections/.default");
    assert_eq!(claims(&create)["appidacr"], "2");
    let asked = json!({"serviceTicket": create}).to_string();
    let mut asked = request(VirtualHost::Collections, "POST", "/v7.0/beneficiaries/me/keys", &asked);
    asked.authorization = Some("XBL3.0 x=1;t");
    let answer = emulator.answer(&asked, NOW);
    assert_eq!(answer.status, 200);
    let key = body(&answer)["key"].as_str().unwrap().to_owned();
    let strict = ProfileChange { certificate_tickets: Some(CertificateTickets::Refused), ..ProfileChange::default() };
    emulator.set_profile(strict, NOW);
    assert_eq!(emulator.answer(&asked, NOW).status, 401);
    assert_eq!(renew(&emulator, KeyKind::Collections, &earn(SCOPE), &key).status, 200);
}

#[test]
fn federated_credentials() {
    let emulator = emulator(Switches::default());
    let federated = FederatedCredential {
        issuer: format!("https://login.microsoftonline.com/{DEV_TENANT_ID}/v2.0"),
        subject: String::from("Principal"),
        audience: String::from("api://AzureADTokenExchange"),
    };
    emulator.add_client(AddClient { federated: Some(federated.clone()), ..client(OWN_ID, None) }).unwrap();
    let check = |change: Value, expected: (u16, i64)| {
        let mut claims = json!({"iss": federated.issuer, "sub": federated.subject, "aud": federated.audience});
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let assertion = ticket_with(&emulator, Audience::Service, claims);
        let (status, _, code) = entra_error(&assert_with(&emulator, OWN_ID, SCOPE, &assertion));
        assert_eq!((status, code), expected, "{change}");
    };
    check(json!({}), (200, 0));
    check(json!({"iss": "https://other.example"}), (401, 700_211));
    check(json!({"sub": "principal"}), (401, 7_002_138));
    check(json!({"sub": "other"}), (401, 700_213));
    check(json!({"aud": "api://other"}), (401, 70_021));
    check(json!({"exp": NOW.seconds()}), (401, 700_024));
}

#[test]
fn discovery_documents_point_at_the_published_keys() {
    let check = |path: &str, issuer: &str, keys: &str, token: &str| {
        let path = format!("/{DEV_TENANT_ID}{path}");
        let answer = plain().answer(&request(VirtualHost::Login, "GET", &path, ""), NOW);
        let document = body(&answer);
        assert_eq!((answer.status, &document["issuer"]), (200, &json!(issuer)));
        let host = format!("https://login.microsoftonline.com/{DEV_TENANT_ID}");
        assert_eq!(document["jwks_uri"], format!("{host}{keys}"));
        assert_eq!(document["token_endpoint"], format!("{host}{token}"));
    };
    let v2 = format!("https://login.microsoftonline.com/{DEV_TENANT_ID}/v2.0");
    check("/v2.0/.well-known/openid-configuration", &v2, "/discovery/v2.0/keys", "/oauth2/v2.0/token");
    let v1 = format!("https://sts.windows.net/{DEV_TENANT_ID}/");
    check("/.well-known/openid-configuration", &v1, "/discovery/keys", "/oauth2/token");
    let keys = |path: &str| {
        let path = format!("/{DEV_TENANT_ID}{path}");
        body(&plain().answer(&request(VirtualHost::Login, "GET", &path, ""), NOW))
    };
    assert_eq!(keys("/discovery/keys"), keys("/discovery/v2.0/keys"));
    let key = keys("/discovery/keys")["keys"][0].clone();
    assert_eq!((&key["kid"], &key["e"]), (&key["x5t"], &json!("AQAB")));
    let header = jsonwebtoken::decode_header(ticket(plain())).unwrap();
    assert_eq!((header.kid.as_deref(), header.x5t.as_deref()), (key["kid"].as_str(), key["kid"].as_str()));
    let unknown = plain().answer(&request(VirtualHost::Login, "GET", "/contoso.com/discovery/keys", ""), NOW);
    assert_eq!(entra_error(&unknown), (400, "invalid_tenant".into(), 90_002));
}

#[test]
fn with_a_public_url_everything_points_below_it() {
    let options = EmulatorOptions { public_url: Some(String::from("http://127.0.0.1:8440/")), ..Default::default() };
    let emulator = Emulator::new(options, NOW);
    let path = format!("/{DEV_TENANT_ID}/v2.0/.well-known/openid-configuration");
    let document = body(&emulator.answer(&request(VirtualHost::Login, "GET", &path, ""), NOW));
    let base = format!("http://127.0.0.1:8440/login.microsoftonline.com/{DEV_TENANT_ID}");
    assert_eq!(document["token_endpoint"], format!("{base}/oauth2/v2.0/token"));
    let key = mint(&emulator, KeyKind::Purchase, DAY);
    let uri = format!("http://127.0.0.1:8440/purchase.mp.microsoft.com{RENEW}");
    assert_eq!(claims(&key)[format!("{NAMES}refreshUri")], uri);
    let renewed = body(&renew(&emulator, KeyKind::Purchase, &ticket(&emulator), &key));
    assert_eq!(claims(renewed["key"].as_str().unwrap())[format!("{NAMES}refreshUri")], uri);
}

#[test]
fn our_own_reader_takes_every_ticket() {
    for audience in Audience::ALL {
        let wish = MintTicket { audience, client_id: None, claims: serde_json::Map::new() };
        let ticket = ServiceTicket::parse(plain().mint_ticket(wish, NOW)).unwrap();
        assert_eq!((ticket.audience(), ticket.lifetime()), (audience, 3600 * SECOND));
    }
}
