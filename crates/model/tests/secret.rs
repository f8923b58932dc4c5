//! Secrets against everything that prints.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use storekeeper_model::{Audience, Secret, ServiceTicket};

const TEXT: &str = "the-secret-that-nobody-may-read";

#[derive(Debug)]
struct Holder {
    #[expect(dead_code, reason = "read by Debug only, which is the point")]
    secret: Option<Secret<String>>,
}

#[test]
fn invariant_7_a_secret_never_shows_itself() {
    let secret = Secret::new(String::from(TEXT));
    let holder = Holder { secret: Some(secret.clone()) };
    for shown in [format!("{secret:?}"), format!("{secret:#?}"), format!("{holder:?}"), format!("{holder:#?}")] {
        assert!(!shown.contains(TEXT), "{shown}");
        assert!(shown.contains("[redacted]"), "{shown}");
    }
    let caught = std::panic::catch_unwind(|| panic!("{:?}", Secret::new(String::from(TEXT)))).unwrap_err();
    let message = caught.downcast_ref::<String>().expect("a formatted panic carries text");
    assert_eq!(message, "[redacted]");
    assert_eq!(secret.expose(), TEXT, "whoever asks for it gets it");
}

#[test]
fn invariant_7_a_ticket_never_shows_its_token() {
    let part = |claims: serde_json::Value| URL_SAFE_NO_PAD.encode(claims.to_string());
    let claims = json!({"aud": Audience::Service.resource(), "appid": "app", "iat": 1, "exp": 3600});
    let token = format!("{}.{}.c2ln", part(json!({"alg": "RS256"})), part(claims));
    let ticket = ServiceTicket::parse(Secret::new(token.clone())).expect("a well-formed token");
    let shown = format!("{ticket:?} {ticket:#?}");
    assert!(token.split('.').all(|part| !shown.contains(part)), "{shown}");
}
