//! The errors of Entra's token endpoints: status, `error`, AADSTS number and text (store.md 2.7).

use serde::Serialize;
use storekeeper_model::Timestamp;

use crate::calendar::entra_timestamp;
use crate::entropy::Draw;

/// One row of the table, with its text filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EntraError {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The OAuth error.
    pub(crate) error: &'static str,
    /// The AADSTS number.
    pub(crate) code: u32,
    text: String,
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    error_description: String,
    error_codes: [u32; 1],
    timestamp: &'a str,
    trace_id: &'a str,
    correlation_id: &'a str,
    error_uri: String,
}

impl EntraError {
    fn new(status: u16, error: &'static str, code: u32, text: String) -> Self {
        Self { status, error, code, text }
    }

    fn request(code: u32, text: String) -> Self {
        Self::new(400, "invalid_request", code, text)
    }

    fn client(code: u32, text: String) -> Self {
        Self::new(401, "invalid_client", code, text)
    }

    pub(crate) fn parameter_missing(name: &str) -> Self {
        Self::request(900_144, format!("The request body must contain the following parameter: '{name}'."))
    }

    pub(crate) fn grant_type(grant_type: &str) -> Self {
        let text = format!("The app requested an unsupported grant type '{}'.", brief(grant_type));
        Self::new(400, "unsupported_grant_type", 70_003, text)
    }

    pub(crate) fn scope_malformed(scope: &str) -> Self {
        let text = format!(
            "The provided request must include a 'scope' input parameter. The provided value for the input parameter \
             'scope' is not valid. The scope {} is not valid.",
            brief(scope)
        );
        Self::new(400, "invalid_scope", 70_011, text)
    }

    pub(crate) fn scope_without_default(scope: &str) -> Self {
        let text = format!(
            "The provided value for scope {} is not valid. Client credential flows must have a scope value with \
             /.default suffixed to the resource identifier (application ID URI).",
            brief(scope)
        );
        Self::new(400, "invalid_scope", 1_002_012, text)
    }

    pub(crate) fn resource_at_v2() -> Self {
        let text = "The 'resource' request parameter is not supported.";
        Self::request(901_002, text.to_owned())
    }

    pub(crate) fn resource_unknown(resource: &str, tenant: &str) -> Self {
        let text = format!(
            "The resource principal named {} was not found in the tenant named {tenant}. This can happen if the \
             application has not been installed by the administrator of the tenant or consented to by any user in the \
             tenant. You might have sent your authentication request to the wrong tenant.",
            brief(resource)
        );
        Self::new(400, "invalid_resource", 500_011, text)
    }

    pub(crate) fn client_unknown(client: &str, tenant: &str) -> Self {
        let text = format!(
            "Application with identifier '{}' was not found in the directory '{tenant}'. This can happen if the \
             application has not been installed by the administrator of the tenant or consented to by any user in the \
             tenant. You may have sent your authentication request to the wrong tenant.",
            brief(client)
        );
        Self::new(400, "unauthorized_client", 700_016, text)
    }

    pub(crate) fn tenant_unknown(tenant: &str) -> Self {
        let text = format!(
            "Tenant '{}' not found. Check to make sure you have the correct tenant ID and are signing into the correct \
             cloud. Check with your subscription administrator, this may happen if there are no active subscriptions \
             for the tenant.",
            brief(tenant)
        );
        Self::new(400, "invalid_tenant", 90_002, text)
    }

    pub(crate) fn tenant_malformed(tenant: &str) -> Self {
        let tenant = brief(tenant);
        let text =
            format!("Specified tenant identifier '{tenant}' is neither a valid DNS name, nor a valid external domain.");
        Self::request(900_023, text)
    }

    pub(crate) fn credential_missing() -> Self {
        let text = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.";
        Self::client(7_000_218, text.to_owned())
    }

    pub(crate) fn secret_wrong(client: &str) -> Self {
        let text = format!(
            "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, \
             not the client secret ID, for a secret added to app '{}'.",
            brief(client)
        );
        Self::client(7_000_215, text)
    }

    pub(crate) fn secret_expired(client: &str) -> Self {
        Self::client(7_000_222, format!("The provided client secret keys for app '{}' are expired.", brief(client)))
    }

    pub(crate) fn assertion_out_of_time(now: Timestamp, from: Timestamp, until: Timestamp) -> Self {
        let text = format!(
            "Client assertion is not within its valid time range. Current time: {now}, assertion valid from {from}, \
             expiry time of assertion {until}."
        );
        Self::client(700_024, text)
    }

    pub(crate) fn assertion_unverified() -> Self {
        let text = "Client assertion failed signature validation, or the certificate that signed it is not registered \
                    on the application.";
        Self::client(700_027, text.to_owned())
    }

    pub(crate) fn assertion_audience() -> Self {
        Self::client(700_023, String::from("Client assertion audience claim does not match Realm issuer."))
    }

    pub(crate) fn federation_missing() -> Self {
        Self::client(70_021, String::from("No matching federated identity record found for presented assertion."))
    }

    pub(crate) fn federation_issuer(issuer: &str) -> Self {
        let issuer = brief(issuer);
        let text = format!("No matching federated identity record found for presented assertion issuer '{issuer}'.");
        Self::client(700_211, text)
    }

    pub(crate) fn federation_subject(subject: &str) -> Self {
        let subject = brief(subject);
        let text = format!("No matching federated identity record found for presented assertion subject '{subject}'.");
        Self::client(700_213, text)
    }

    pub(crate) fn federation_subject_case(subject: &str) -> Self {
        let text = format!(
            "No matching federated identity record found for presented assertion subject '{}'. The subject matches \
             with case-insensitive comparison, but not with case-sensitive comparison.",
            brief(subject)
        );
        Self::client(7_002_138, text)
    }

    /// What a planned 429 or 503 says.
    pub(crate) fn unavailable(status: u16) -> Self {
        let (code, text) = match status {
            429 => (90_055, "The server is terminating the request because of excessive request rate."),
            _ => (90_033, "A transient error has occurred. Please try again."),
        };
        Self::new(status, "temporarily_unavailable", code, text.to_owned())
    }

    /// The JSON document, and the trace id in it.
    pub(crate) fn body(&self, now: Timestamp, draw: &mut Draw) -> (Vec<u8>, String) {
        let (trace_id, correlation_id, timestamp) = (draw.guid(), draw.guid(), entra_timestamp(now));
        let Self { error, code, text, .. } = self;
        let body = Body {
            error,
            error_description: format!(
                "AADSTS{code}: {text}\r\nTrace ID: {trace_id}\r\nCorrelation ID: {correlation_id}\r\nTimestamp: {timestamp}"
            ),
            error_codes: [*code],
            timestamp: &timestamp,
            trace_id: &trace_id,
            correlation_id: &correlation_id,
            error_uri: format!("https://login.microsoftonline.com/error?code={code}"),
        };
        (serde_json::to_vec(&body).expect("text always serialises into memory"), trace_id)
    }
}

/// What a caller sent, short enough to be repeated.
fn brief(text: &str) -> String {
    text.chars().take(128).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;

    #[test]
    fn a_body_has_the_documented_members_in_their_order() {
        let now = "2016-01-09T02:02:12Z".parse().unwrap();
        let (body, trace_id) = EntraError::scope_malformed("a b").body(now, &mut Entropy::new(1, 1).draw());
        let body = String::from_utf8(body).unwrap();
        assert!(
            body.starts_with(r#"{"error":"invalid_scope","error_description":"AADSTS70011: The provided"#),
            "{body}"
        );
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(value["error_codes"], serde_json::json!([70011]));
        assert_eq!(value["timestamp"], "2016-01-09 02:02:12Z");
        assert_eq!(value["trace_id"], trace_id);
        assert_eq!(value["error_uri"], "https://login.microsoftonline.com/error?code=70011");
        let end = format!(
            "\r\nTrace ID: {trace_id}\r\nCorrelation ID: {}\r\nTimestamp: 2016-01-09 02:02:12Z",
            value["correlation_id"].as_str().unwrap()
        );
        assert!(value["error_description"].as_str().unwrap().ends_with(&end));
    }

    #[test]
    fn what_is_repeated_is_short() {
        let error = EntraError::grant_type(&"x".repeat(60_000));
        assert!(error.text.len() < 256);
    }
}
