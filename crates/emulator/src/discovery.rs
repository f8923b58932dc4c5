//! Entra's discovery documents and signing keys (store.md 2.9).

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::request::{LoginRoute, StoreAnswer, VirtualHost};
use crate::state::{Exchange, State};

impl State {
    /// Answers a discovery request.
    pub(crate) fn discovery(&self, mut exchange: Exchange<'_>) -> StoreAnswer {
        if let Some(status) = exchange.method_fault("GET") {
            return self.close(exchange, status, Vec::new());
        }
        let (tenant, route) = LoginRoute::of(exchange.request.path).expect("only discovery routes lead here");
        if let Err(error) = self.check_tenant(tenant) {
            return self.close_with_entra_error(exchange, error);
        }
        let tenant = tenant.to_ascii_lowercase();
        let document = match route {
            LoginRoute::DocumentV1 => self.document(&tenant, "", &format!("https://sts.windows.net/{tenant}/")),
            LoginRoute::DocumentV2 => {
                let issuer = format!("https://login.microsoftonline.com/{tenant}/v2.0");
                self.document(&tenant, "/v2.0", &issuer)
            }
            _ => self.signing_keys(&tenant),
        };
        self.close(exchange, 200, document.to_string())
    }

    /// The document of either version: the issuer is always Microsoft's, the addresses follow the public URL.
    fn document(&self, tenant: &str, version: &str, issuer: &str) -> Value {
        let url = |path: String| self.url(VirtualHost::Login, &format!("/{tenant}{path}"));
        json!({
            "token_endpoint": url(format!("/oauth2{version}/token")),
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
            "jwks_uri": url(format!("/discovery{version}/keys")),
            "response_modes_supported": ["query", "fragment", "form_post"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "issuer": issuer,
            "request_uri_parameter_supported": false,
            "userinfo_endpoint": "https://graph.microsoft.com/oidc/userinfo",
            "authorization_endpoint": url(format!("/oauth2{version}/authorize")),
            "device_authorization_endpoint": url(format!("/oauth2{version}/devicecode")),
            "http_logout_supported": true,
            "frontchannel_logout_supported": true,
            "end_session_endpoint": url(format!("/oauth2{version}/logout")),
            "claims_supported": ["sub", "iss", "aud", "exp", "iat", "tid", "ver"],
        })
    }

    /// The key that signs tickets; empty where signatures are skipped. The Store's own certificates are not published.
    fn signing_keys(&self, tenant: &str) -> Value {
        let key = self.entra.rsa_numbers().zip(self.entra.der()).map(|((modulus, exponent), certificate)| {
            json!({
                "kty": "RSA",
                "use": "sig",
                "kid": self.entra.x5t(),
                "x5t": self.entra.x5t(),
                "n": URL_SAFE_NO_PAD.encode(modulus),
                "e": URL_SAFE_NO_PAD.encode(exponent),
                "x5c": [STANDARD.encode(certificate)],
                "issuer": format!("https://login.microsoftonline.com/{tenant}/v2.0"),
            })
        });
        json!({ "keys": Vec::from_iter(key) })
    }
}
