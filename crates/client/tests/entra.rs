//! The token conversation by its bytes: both shapes of the endpoint, what makes a ticket, and what each failure is called.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::time::Duration;

use common::{CLIENT, NOW, access_token, answer, now};
use serde_json::{Value, json};
use storekeeper_client::entra::{interpret_ticket, interpret_token, prepare_ticket, prepare_token};
use storekeeper_client::{Advice, Credential, Endpoint, EntraVersion, StopReason, TicketError, TicketFlaw};
use storekeeper_model::{Audience, ClientId, ParseTicketError, Secret, ServiceTicket};

const TENANT: &str = "11111111-1111-4111-8111-111111111111";

fn secret(text: &str) -> Credential {
    Credential::ClientSecret(Secret::new(text.to_owned()))
}

fn client() -> ClientId {
    ClientId::new(CLIENT)
}

fn check_request(
    tenant: &str,
    audience: Audience,
    credential: &Credential,
    version: EntraVersion,
    expected: [&str; 2],
) {
    let authority = Endpoint::parse("https://login.microsoftonline.com").unwrap();
    let request = prepare_ticket(&authority, tenant, &client(), audience, credential, version);
    assert_eq!(request.method, "POST");
    assert_eq!(request.headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(request.headers["accept"], "application/json");
    assert_eq!(request.url.to_string(), format!("https://login.microsoftonline.com{}", expected[0]));
    assert_eq!(std::str::from_utf8(request.body.expose()).unwrap(), expected[1]);
    assert!(!format!("{request:?} {credential:?}").contains("s3cr"));
}

#[test]
fn v2_asks_by_scope_and_v1_by_resource() {
    let common = format!("grant_type=client_credentials&client_id={CLIENT}");
    let scope = "https%3A%2F%2Fonestore.microsoft.com%2F.default";
    check_request(
        TENANT,
        Audience::Service,
        // T03: every value is encoded.
        &secret("s3cr+%&t=~. ü"),
        EntraVersion::V2,
        [
            &format!("/{TENANT}/oauth2/v2.0/token"),
            &format!("{common}&scope={scope}&client_secret=s3cr%2B%25%26t%3D~.%20%C3%BC"),
        ],
    );
    check_request(
        "contoso.example",
        Audience::Purchase,
        &secret("s3cr"),
        EntraVersion::V1,
        [
            "/contoso.example/oauth2/token",
            &format!(
                "{common}&resource=https%3A%2F%2Fonestore.microsoft.com%2Fb2b%2Fkeys%2Fcreate%2Fpurchase&client_secret=s3cr"
            ),
        ],
    );
    let assertion = Credential::ClientAssertion(Secret::new(String::from("eyJ.s3cr.c2ln")));
    let kind = "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
    check_request(
        "../evil?x",
        Audience::Service,
        &assertion,
        EntraVersion::V2,
        [
            "/..%2Fevil%3Fx/oauth2/v2.0/token",
            &format!("{common}&scope={scope}&client_assertion_type={kind}&client_assertion=eyJ.s3cr.c2ln"),
        ],
    );
}

#[test]
fn a_token_of_another_resource_is_asked_for_and_taken_as_it_is() {
    let authority = Endpoint::parse("https://login.microsoftonline.com").unwrap();
    let scope = "https://ossrdbms-aad.database.windows.net/.default";
    let request = prepare_token(&authority, TENANT, &client(), scope, &secret("s3cr"));
    assert_eq!(request.url.to_string(), format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"));
    assert_eq!(
        std::str::from_utf8(request.body.expose()).unwrap(),
        format!(
            "grant_type=client_credentials&client_id={CLIENT}&scope=https%3A%2F%2Fossrdbms-aad.database.windows.net%2F.default&client_secret=s3cr"
        )
    );
    let read = |status, body: Value| interpret_token(&answer(status, &[], body.to_string()), now());
    let token = read(200, json!({ "token_type": "Bearer", "expires_in": "3599", "access_token": "opaque" })).unwrap();
    assert_eq!((token.token.expose().as_str(), token.lifetime), ("opaque", Duration::from_secs(3599)));
    assert!(!format!("{token:?}").contains("opaque"));
    for without in [json!({ "access_token": "opaque" }), json!({ "access_token": "opaque", "expires_in": 0 })] {
        let flaw = TicketFlaw::NoLifetime;
        assert_eq!(read(200, without).unwrap_err(), TicketError::Unreadable { status: 200, flaw });
    }
    let refused = read(401, json!({ "error": "invalid_client" })).unwrap_err();
    assert_eq!(refused.advice(), Advice::Stop(StopReason::Credential));
}

fn interpret(status: u16, headers: &[(&'static str, &str)], body: &str) -> Result<ServiceTicket, TicketError> {
    interpret_ticket(Audience::Service, &client(), &answer(status, headers, body.to_owned()), now())
}

#[test]
fn a_ticket_is_read_from_both_shapes() {
    let token = access_token(Audience::Service, &json!({}));
    for (body, lifetime) in [
        // T01: numbers.
        (json!({"token_type": "Bearer", "expires_in": 3599, "access_token": token}), 3599),
        // T02: texts, as observed in January 2021.
        (
            json!({
                "token_type": "Bearer", "expires_in": "3599", "ext_expires_in": "3599", "expires_on": "1611571126",
                "not_before": "1611567226", "resource": "https://onestore.microsoft.com", "access_token": token
            }),
            3599,
        ),
        (json!({"token_type": "bearer", "expires_in": 99999, "access_token": token}), 3900),
        (json!({"expires_in": 0, "access_token": token}), 3900),
        (json!({"expires_in": null, "access_token": token}), 3900),
        (json!({"access_token": token}), 3900),
    ] {
        let ticket = interpret(200, &[], &body.to_string()).unwrap();
        assert_eq!(ticket.token().expose(), &token);
        assert_eq!(ticket.lifetime(), Duration::from_secs(lifetime), "{body}");
    }
}

#[test]
fn anything_else_is_no_ticket() {
    let token = |more: Value| json!({"token_type": "Bearer", "access_token": access_token(Audience::Service, &more)});
    for (body, flaw) in [
        (String::new(), TicketFlaw::NotJson),
        (String::from("<html>"), TicketFlaw::NotJson),
        (String::from("{\"access_token\":\"a"), TicketFlaw::NotJson),
        (String::from("{}"), TicketFlaw::NoToken),
        (String::from("[]"), TicketFlaw::NoToken),
        (json!([access_token(Audience::Service, &json!({})), "Bearer", 3599]).to_string(), TicketFlaw::NoToken),
        (json!({"access_token": ""}).to_string(), TicketFlaw::NoToken),
        (json!({"access_token": 5}).to_string(), TicketFlaw::NoToken),
        (json!({"access_token": "a.b.c", "expires_in": "soon"}).to_string(), TicketFlaw::NoToken),
        (json!({"access_token": "a.b.c", "token_type": "pop"}).to_string(), TicketFlaw::NotBearer),
        (json!({"access_token": "opaque"}).to_string(), TicketFlaw::NotATicket(ParseTicketError::Malformed)),
        (token(json!({"appid": null})).to_string(), TicketFlaw::NotATicket(ParseTicketError::NoAppId)),
        (token(json!({"aud": TENANT})).to_string(), TicketFlaw::NotATicket(ParseTicketError::Audience)),
        (token(json!({"exp": NOW - 300})).to_string(), TicketFlaw::NotATicket(ParseTicketError::Times)),
        (token(json!({"aud": Audience::Purchase.resource()})).to_string(), TicketFlaw::WrongAudience),
        (token(json!({"appid": TENANT})).to_string(), TicketFlaw::WrongClient),
    ] {
        let error = interpret(200, &[], &body).unwrap_err();
        assert_eq!(error, TicketError::Unreadable { status: 200, flaw }, "{body}");
        assert_eq!((error.code(), error.advice()), ("unreadable", Advice::Retry { not_before: None }));
        assert!(!format!("{error:?} {error}").contains("eyJ"));
    }
}

/// Entra's error body.
fn refusal(error: &str, number: u32) -> String {
    json!({
        "error": error,
        "error_description": format!("AADSTS{number}: What is wrong.\r\nTrace ID: 8f7c2c2e-8e9a-4b1c-9d4f-0a1b2c3d4e5f"),
        "error_codes": [number], "timestamp": "2016-01-09 02:02:12Z", "trace_id": "8f7c2c2e-8e9a-4b1c-9d4f-0a1b2c3d4e5f",
        "correlation_id": "9e0b6bd2-d7a2-4c51-8d0c-5f1f4f5a1b2c",
    })
    .to_string()
}

#[test]
fn entras_errors_say_what_to_do() {
    let (credential, application) = (Advice::Stop(StopReason::Credential), Advice::Stop(StopReason::Application));
    let retry = Advice::Retry { not_before: None };
    for (status, error, number, code, advice) in [
        (401, "invalid_client", 7_000_215, "credential_refused", credential), // T04
        (401, "invalid_client", 7_000_222, "credential_refused", credential),
        (401, "invalid_client", 7_000_218, "credential_refused", credential),
        (401, "invalid_client", 700_024, "credential_refused", credential), // T09
        (400, "invalid_client", 700_027, "credential_refused", credential),
        (400, "unauthorized_client", 700_016, "misconfigured", application), // T05
        (400, "invalid_tenant", 90_002, "misconfigured", application),       // T06
        (400, "invalid_request", 90_002, "misconfigured", application),
        (400, "invalid_scope", 1_002_012, "misconfigured", application), // T07
        (400, "invalid_resource", 500_011, "misconfigured", application), // T08
        (400, "invalid_grant", 7_000_118, "misconfigured", application),
        (400, "nobody_knows", 1, "misconfigured", application),
        (400, "invalid_grant", 50_196, "throttled", retry),
        (429, "temporarily_unavailable", 90_055, "throttled", retry),
        (503, "temporarily_unavailable", 90_033, "unavailable", retry), // T10
        (400, "temporarily_unavailable", 90_024, "unavailable", retry),
        (500, "invalid_client", 7_000_215, "unavailable", retry),
    ] {
        let error = interpret(status, &[], &refusal(error, number)).unwrap_err();
        assert_eq!((error.code(), error.advice(), error.status()), (code, advice, Some(status)), "{error:?}");
        assert_eq!(error.is_stale_assertion(), number == 700_024);
    }
}

#[test]
fn a_refused_credential_keeps_what_people_ask_for() {
    let expected = |aadsts| TicketError::CredentialRefused {
        status: 401,
        error: String::from("invalid_client"),
        aadsts,
        description: String::from("AADSTS7000215: What is wrong."),
        trace_id: Some(String::from("8f7c2c2e-8e9a-4b1c-9d4f-0a1b2c3d4e5f")),
    };
    let full: Value = serde_json::from_str(&refusal("invalid_client", 7_000_215)).unwrap();
    for (codes, aadsts) in [
        (json!([7_000_215]), Some(7_000_215)),
        (json!(["7000215"]), Some(7_000_215)),
        // The description names it too.
        (json!([]), Some(7_000_215)),
        (json!(null), Some(7_000_215)),
        (json!([1.5, 2]), Some(7_000_215)),
    ] {
        let mut body = full.clone();
        body["error_codes"] = codes;
        let error = interpret(401, &[], &body.to_string()).unwrap_err();
        assert_eq!(error, expected(aadsts));
        assert_eq!(error.to_string(), "Entra refused the credential: invalid_client: AADSTS7000215: What is wrong.");
    }
    let numbered = interpret(401, &[], r#"{"error":"invalid_client","error_codes":[7000215]}"#).unwrap_err();
    assert_eq!(numbered.to_string(), "Entra refused the credential: invalid_client (AADSTS7000215)");
    let bare = interpret(401, &[], r#"{"error":"invalid_client"}"#).unwrap_err();
    assert_eq!(bare.to_string(), "Entra refused the credential: invalid_client");
}

#[test]
fn gateways_redirects_and_waits() {
    for body in ["", "<html>", "{}", r#"{"error":5}"#, r#"{"error":{"code":"x"}}"#, "[1]"] {
        for (status, advice) in [
            (400, Advice::Retry { not_before: None }),
            (401, Advice::Retry { not_before: None }),
            (404, Advice::Stop(StopReason::Endpoint)),
            (405, Advice::Stop(StopReason::Endpoint)),
        ] {
            let error = interpret(status, &[], body).unwrap_err();
            assert_eq!(error, TicketError::Unreadable { status, flaw: TicketFlaw::NotEntra });
            assert_eq!(error.advice(), advice);
        }
    }
    let error = interpret(302, &[("location", "https://evil.example/x")], "").unwrap_err();
    assert_eq!(error, TicketError::Redirected { status: 302, host: Some(String::from("evil.example")) });
    assert_eq!(error.advice(), Advice::Stop(StopReason::Endpoint));
    for status in [429, 503, 408] {
        let error = interpret(status, &[("retry-after", "7")], "").unwrap_err();
        let Advice::Retry { not_before: Some(after) } = error.advice() else { panic!("{error:?}") };
        assert_eq!(after.wait(), Duration::from_secs(7));
        assert_eq!(after.instant(now()), now() + Duration::from_secs(7));
    }
}

#[test]
fn an_echoed_secret_is_scrubbed() {
    let assertion = access_token(Audience::Service, &json!({}));
    let body = json!({
        "error": assertion, "error_description": format!("assertion {assertion} is bad, so is {}", "aB3".repeat(50)),
        "trace_id": assertion,
    });
    let error = interpret(401, &[], &body.to_string()).unwrap_err();
    let TicketError::Misconfigured { error, description, trace_id, .. } = &error else { panic!("{error:?}") };
    assert_eq!((error.as_str(), trace_id.as_deref()), ("[scrubbed]", Some("[scrubbed]")));
    assert_eq!(description, "assertion [scrubbed] is bad, so is [scrubbed]");
}
