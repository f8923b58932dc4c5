//! Content negotiation: whether a caller wants the bare key.

use http::{HeaderMap, header};

/// Whether `Accept` names `application/jwt` and does not like JSON better.
pub(crate) fn wants_jwt(headers: &HeaderMap) -> bool {
    let mut jwt = None;
    let mut json = None;
    for value in headers.get_all(header::ACCEPT) {
        for range in value.to_str().unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let weight = parts.find_map(weight).unwrap_or(1.0);
            let wanted = if name.eq_ignore_ascii_case("application/jwt") {
                &mut jwt
            } else if name.eq_ignore_ascii_case("application/json") {
                &mut json
            } else {
                continue;
            };
            *wanted = Some(weight);
        }
    }
    jwt.is_some_and(|jwt: f32| jwt > 0.0 && json.is_none_or(|json: f32| jwt >= json))
}

fn weight(parameter: &str) -> Option<f32> {
    let (name, value) = parameter.split_once('=')?;
    if name.trim().eq_ignore_ascii_case("q") { value.trim().parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn check(accept: Option<&'static str>, expected: bool) {
        let headers = accept.map(|accept| (header::ACCEPT, HeaderValue::from_static(accept))).into_iter().collect();
        assert_eq!(wants_jwt(&headers), expected, "{accept:?}");
    }

    #[test]
    fn the_bare_key_is_for_those_who_ask_for_it() {
        check(None, false);
        check(Some("*/*"), false);
        check(Some("application/json"), false);
        check(Some("application/*"), false);
        check(Some("application/jwt"), true);
        check(Some("Application/JWT; q=0.5"), true);
        check(Some("application/jwt, */*;q=0.1"), true);
        check(Some("application/jwt;q=0"), false);
        check(Some("application/jwt;q=0.5, application/json"), false);
        check(Some("application/json, application/jwt"), true);
    }
}
