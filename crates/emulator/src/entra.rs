//! The token conversation: `POST /{tenant}/oauth2/token` and `/{tenant}/oauth2/v2.0/token` (store.md 2).

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::Rng;
use serde::Serialize;
use storekeeper_model::{Audience, ClientId};

use crate::client_registry::{Client, is_guid};
use crate::entra_error::EntraError;
use crate::form::{Form, decode};
use crate::request::{BODY_BYTES_MAX, LoginRoute, StoreAnswer};
use crate::state::{Exchange, State};
use crate::sync::read;
use crate::ticket::{NewTicket, TICKET_BACKDATED_SECONDS, sign_ticket};

/// Access tokens live 60 to 90 minutes, at random (store.md 2.6).
const LIFETIME_SECONDS: std::ops::RangeInclusive<i64> = 3600..=5400;

/// Azure's databases, which take a token for a password (learn.microsoft.com, "Use Microsoft Entra ID for authentication with
/// Azure Database for PostgreSQL", read 2026): all that is told here besides the Store, so that a keeper on one can be tried.
const DATABASE_RESOURCE: &str = "https://ossrdbms-aad.database.windows.net";

/// v1's answer: all numbers are strings (observed, store.md 2.2).
#[derive(Serialize)]
struct AnswerV1<'a> {
    token_type: &'a str,
    expires_in: String,
    ext_expires_in: String,
    expires_on: String,
    not_before: String,
    resource: &'a str,
    access_token: &'a str,
}

/// v2's answer: numbers are numbers (store.md 2.3).
#[derive(Serialize)]
struct AnswerV2<'a> {
    token_type: &'a str,
    expires_in: i64,
    ext_expires_in: i64,
    access_token: &'a str,
}

impl State {
    /// Answers a token request.
    pub(crate) fn token(&self, mut exchange: Exchange<'_>) -> StoreAnswer {
        if let Some(status) = exchange.method_fault("POST") {
            return self.close(exchange, status, Vec::new());
        }
        if exchange.request.body.len() > BODY_BYTES_MAX {
            return self.close(exchange, 413, Vec::new());
        }
        match self.granted(&mut exchange) {
            Ok(body) => {
                let trace_id = exchange.draw.guid();
                self.close_uncached(exchange, 200, body, trace_id)
            }
            Err(error) => self.close_with_entra_error(exchange, error),
        }
    }

    /// Ends an exchange with Entra's error document.
    pub(crate) fn close_with_entra_error(&self, mut exchange: Exchange<'_>, error: EntraError) -> StoreAnswer {
        exchange.note.inner_code = Some(error.code.to_string());
        let (body, trace_id) = error.body(exchange.now, &mut exchange.draw);
        self.close_uncached(exchange, error.status, body, trace_id)
    }

    /// Neither a token nor its refusal is for caches (RFC 6749 section 5.1).
    fn close_uncached(&self, mut exchange: Exchange<'_>, status: u16, body: Vec<u8>, trace_id: String) -> StoreAnswer {
        exchange.extra.extend([
            ("Cache-Control", String::from("no-store, no-cache")),
            ("Pragma", String::from("no-cache")),
            ("x-ms-request-id", trace_id),
        ]);
        self.close(exchange, status, body)
    }

    /// The body of a 200. The order of the checks is our choice.
    fn granted(&self, exchange: &mut Exchange<'_>) -> Result<Vec<u8>, EntraError> {
        let request = exchange.request;
        let (tenant, route) = LoginRoute::of(request.path).expect("only token routes lead here");
        self.check_tenant(tenant)?;
        let tenant = tenant.to_ascii_lowercase();
        let form = Form::parse(if is_form(request.content_type) { request.body } else { &[] });
        let basic = request.authorization.and_then(basic_credentials);
        let grant_type = form.get("grant_type").ok_or_else(|| EntraError::parameter_missing("grant_type"))?;
        if grant_type != "client_credentials" {
            return Err(EntraError::grant_type(grant_type));
        }
        let basic_id = basic.as_ref().map(|(id, _)| id.as_str());
        let client_name =
            form.get("client_id").or(basic_id).ok_or_else(|| EntraError::parameter_missing("client_id"))?;
        let resource = match route {
            LoginRoute::TokenV1 => form.get("resource").ok_or_else(|| EntraError::parameter_missing("resource"))?,
            _ => resource_of_scope(&form)?,
        };
        let client_id = ClientId::new(client_name);
        let client = read(&self.registry).find(&tenant, &client_id);
        let client = client.ok_or_else(|| EntraError::client_unknown(client_name, &tenant))?;
        let secret = form.get("client_secret").or(basic.as_ref().map(|(_, secret)| secret.as_str()));
        let appidacr = self.authenticate(&client, &client_id, &tenant, secret, &form, exchange)?;
        if resource != DATABASE_RESOURCE && !Audience::ALL.iter().any(|audience| audience.resource() == resource) {
            return Err(EntraError::resource_unknown(resource, &tenant));
        }
        let ticket = NewTicket {
            tenant: &tenant,
            client_id: &client_id,
            resource,
            appidacr,
            iat: exchange.now.seconds(),
            lifetime_seconds: exchange.draw.random().random_range(LIFETIME_SECONDS),
        };
        Ok(self.granted_body(&ticket, route, exchange))
    }

    fn granted_body(&self, ticket: &NewTicket<'_>, route: LoginRoute, exchange: &mut Exchange<'_>) -> Vec<u8> {
        let claims = ticket.claims(&self.entropy, &mut exchange.draw);
        let access_token = &sign_ticket(&claims, &self.entra, &mut exchange.draw);
        // "3599" is what a token of 3600 seconds says (observed).
        let (token_type, expires_in) = ("Bearer", ticket.lifetime_seconds - 1);
        let body = match route {
            LoginRoute::TokenV1 => serde_json::to_vec(&AnswerV1 {
                token_type,
                expires_in: expires_in.to_string(),
                ext_expires_in: expires_in.to_string(),
                expires_on: (ticket.iat + ticket.lifetime_seconds).to_string(),
                not_before: (ticket.iat - TICKET_BACKDATED_SECONDS).to_string(),
                resource: ticket.resource,
                access_token,
            }),
            _ => serde_json::to_vec(&AnswerV2 { token_type, expires_in, ext_expires_in: expires_in, access_token }),
        };
        body.expect("text and numbers always serialise into memory")
    }

    /// Whether a tenant of that name exists.
    pub(crate) fn check_tenant(&self, tenant: &str) -> Result<(), EntraError> {
        if read(&self.registry).knows_tenant(tenant) {
            return Ok(());
        }
        let is_domain = tenant.contains('.')
            && tenant
                .split('.')
                .all(|label| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
        let is_shared = ["common", "organizations", "consumers"].contains(&tenant);
        if is_guid(tenant) || is_domain || is_shared {
            Err(EntraError::tenant_unknown(tenant))
        } else {
            Err(EntraError::tenant_malformed(tenant))
        }
    }

    /// The `appidacr` of a caller who proves to be the client.
    fn authenticate(
        &self,
        client: &Arc<Client>,
        client_id: &ClientId,
        tenant: &str,
        secret: Option<&str>,
        form: &Form,
        exchange: &Exchange<'_>,
    ) -> Result<&'static str, EntraError> {
        if let Some(secret) = secret {
            return check_secret(client, client_id, secret, exchange).map(|()| "1");
        }
        let is_jwt =
            form.get("client_assertion_type") == Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        let assertion = form.get("client_assertion").filter(|_| is_jwt).ok_or_else(EntraError::credential_missing)?;
        self.check_assertion(client, client_id, tenant, assertion, exchange).map(|()| "2")
    }
}

fn check_secret(
    client: &Client,
    client_id: &ClientId,
    secret: &str,
    exchange: &Exchange<'_>,
) -> Result<(), EntraError> {
    let is_right = client.secret.as_ref().is_some_and(|known| known.expose() == secret);
    if !is_right {
        return Err(EntraError::secret_wrong(&client_id.to_string()));
    }
    if client.secret_expires_at.is_some_and(|expires_at| exchange.now >= expires_at) {
        return Err(EntraError::secret_expired(&client_id.to_string()));
    }
    Ok(())
}

/// The resource that a v2 scope names, with the complaints of store.md 2.7.
fn resource_of_scope(form: &Form) -> Result<&str, EntraError> {
    if form.get("resource").is_some() {
        return Err(EntraError::resource_at_v2());
    }
    let scope = form.get("scope").ok_or_else(|| EntraError::parameter_missing("scope"))?;
    if scope.split_whitespace().count() != 1 || scope.trim() != scope {
        return Err(EntraError::scope_malformed(scope));
    }
    match scope.strip_suffix("/.default") {
        None => Err(EntraError::scope_without_default(scope)),
        Some("") => Err(EntraError::scope_malformed(scope)),
        Some(resource) => Ok(resource),
    }
}

fn is_form(content_type: Option<&str>) -> bool {
    let media_type = content_type.and_then(|value| value.split(';').next()).map(str::trim);
    media_type.is_some_and(|value| value.eq_ignore_ascii_case("application/x-www-form-urlencoded"))
}

/// Client ID and secret of HTTP Basic as RFC 6749 section 2.3.1 writes it: both form-encoded first.
fn basic_credentials(authorization: &str) -> Option<(String, String)> {
    let (scheme, text) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = STANDARD.decode(text.trim()).ok()?;
    let middle = bytes.iter().position(|byte| *byte == b':')?;
    Some((decode(&bytes[..middle]), decode(&bytes[middle + 1..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_decoded_twice() {
        let check = |header: &str, expected: Option<(&str, &str)>| {
            let expected = expected.map(|(id, secret)| (id.to_owned(), secret.to_owned()));
            assert_eq!(basic_credentials(header), expected, "{header}");
        };
        check(&format!("Basic {}", STANDARD.encode("id:a%2Bb+c")), Some(("id", "a+b c")));
        check(&format!("basic {}", STANDARD.encode("id:")), Some(("id", "")));
        check(&format!("Basic {}", STANDARD.encode("id")), None);
        check("Bearer abc", None);
        check("Basic %", None);
    }

    #[test]
    fn scopes_and_their_faults() {
        let check = |form: &str, expected: Result<&str, u32>| {
            let form = Form::parse(form.as_bytes());
            assert_eq!(resource_of_scope(&form).map_err(|error| error.code), expected);
        };
        check("scope=https://a/.default", Ok("https://a"));
        check("scope=https://a//.default", Ok("https://a/"));
        check("scope=https://a", Err(1_002_012));
        check("scope=https://a/.default+https://b/.default", Err(70_011));
        check("scope=/.default", Err(70_011));
        check("scope=+", Err(70_011));
        check("scope=", Err(900_144));
        check("scope=https://a/.default&resource=https://a", Err(901_002));
    }
}
