//! `/openapi.json`: every route of both listeners with its parameters, its scope and every code it can answer with.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response as Answer};
use bytes::Bytes;
use http::{HeaderValue, header};
use utoipa::PartialSchema;
use utoipa::ToSchema;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, OneOfBuilder, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, Info, License, OpenApi, PathItem, Ref, RefOr, Required, Response, ResponseBuilder,
    Schema,
};

use crate::batch::NDJSON;
use crate::call::Call;
use crate::caller::Scope;
use crate::code::{self, Act, ProblemCode};
use crate::problem::{Line, Problem};
use crate::router::{admin_routes, data_routes};

/// Get this document.
///
/// With any token.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "openapi",
    tag = "description",
    responses((status = 200, description = "this document", content_type = "application/json", body = Object))
)]
pub(crate) async fn document(call: Call) -> Result<Answer, Problem> {
    call.query(&[])?;
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| {
        serde_json::to_vec(&openapi()).expect("the document consists of text and numbers, which a test has seen").into()
    });
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], TEXT.clone()).into_response())
}

/// The OpenAPI 3.1 document of both listeners.
pub fn openapi() -> OpenApi {
    let mut document = data_routes().merge(admin_routes()).into_openapi();
    document.info = info();
    let components = document.components.get_or_insert_with(Components::new);
    components.schemas.insert("Problem".into(), problem_schema().into());
    components.schemas.insert(Line::name().into(), Line::schema());
    let bearer =
        HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("16 to 512 visible ASCII characters"));
    components.security_schemes.insert("token".into(), SecurityScheme::Http(bearer.build()).into());
    for (path, item) in &mut document.paths.paths {
        operations_mut(item).for_each(|operation| describe(path, operation));
    }
    document
}

fn info() -> Info {
    let mut info = Info::new("storekeeper", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "Keeps Store ID keys renewed and hands them out. Errors are RFC 9457 problem documents; an unknown route answers \
         404 `route_unknown`, an unknown method 405 `method_not_allowed`. Routes tagged `admin` answer on the admin listener, \
         all others on the data listener."
            .into(),
    );
    info.license = Some(License::new("Apache-2.0 OR MIT"));
    info
}

fn operations_mut(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten()
}

fn describe(path: &str, operation: &mut Operation) {
    let contract = contract(operation.operation_id.as_deref().expect("every route names its operation"));
    let parameters = path_parameters(path).chain(contract.query.iter().map(|name| query_parameter(name))).map(RefOr::T);
    operation.parameters = Some(parameters.collect());
    if contract.is_open {
        operation.security = Some(Vec::new());
    } else {
        let scope = contract.scope.map(|scope| format!("Scope: {scope}."));
        operation.description =
            Some([operation.description.take(), scope].into_iter().flatten().collect::<Vec<_>>().join("\n\n"));
        operation.security = Some(vec![SecurityRequirement::new("token", [] as [String; 0])]);
    }
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        body.required = Some(if contract.may_be_empty { Required::False } else { Required::True });
    }
    describe_lines(operation);
    for row in code::ALL {
        let same_status: Vec<_> = contract.codes().filter(|code| code.status == row.status).collect();
        if !same_status.is_empty() {
            operation.responses.responses.insert(row.status.to_string(), RefOr::T(problem_response(&same_status)));
        }
    }
}

/// Every answer line of a batch has a number and a status, and a line that failed has a code.
fn describe_lines(operation: &mut Operation) {
    let Some(RefOr::T(response)) = operation.responses.responses.get_mut("200") else { return };
    for (kind, content) in &mut response.content {
        let RefOr::T(content) = content else { continue };
        if kind != NDJSON {
            continue;
        }
        let Some(answer) = content.schema.take() else { continue };
        let number = ObjectBuilder::new().property("line", integer()).property("status", integer());
        let number = number.required("line").required("status");
        let carried_out = AllOfBuilder::new().item(number).item(answer);
        content.schema = Some(OneOfBuilder::new().item(carried_out).item(Ref::from_schema_name(Line::name())).into());
    }
}

fn problem_response(codes: &[&ProblemCode]) -> Response {
    let told: Vec<String> = codes.iter().map(|row| format!("`{}`: {}", row.code, row.title)).collect();
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description(told.join("; ")).content("application/problem+json", content).build()
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String))
}

fn integer() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer))
}

fn problem_schema() -> Schema {
    let object = ObjectBuilder::new()
        .description(Some("an RFC 9457 problem document"))
        .property("type", text())
        .property("title", text())
        .property("status", integer())
        .property("detail", text())
        .property("code", text().enum_values(Some(code::ALL.iter().map(|row| row.code))))
        .property("act", text().enum_values(Some(Act::ALL.map(Act::as_str))).description(Some("who must act")))
        .property("retry_after", integer().description(Some("seconds to wait, where waiting helps")))
        .property("reason", text().description(Some("a stable word that says more, where there is one")));
    ["type", "title", "status", "detail", "code", "act"]
        .into_iter()
        .fold(object, ObjectBuilder::required)
        .build()
        .into()
}

fn path_parameters(path: &str) -> impl Iterator<Item = Parameter> {
    let names = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    names.map(|name| {
        let (told, schema) = match name {
            "app" => ("a configured app", text()),
            "user" => (
                "the backend's own name for the player: UTF-8, 1 to 256 bytes once decoded, percent-encoded where it must be (`/` is `%2F`)",
                text(),
            ),
            "kind" => ("which service the key is for", text().enum_values(Some(["collections", "purchase"]))),
            "node" => ("a keeper's id or its name", text()),
            "audience" => ("what the ticket is for", text().enum_values(Some(["service", "collections", "purchase"]))),
            other => unreachable!("a route with an undescribed segment `{other}`, which a test would have met"),
        };
        parameter(name, ParameterIn::Path, Required::True, told, schema)
    })
}

fn query_parameter(name: &str) -> Parameter {
    let (told, schema) = match name {
        "slot" => ("which of the player's Store accounts; at most 64 bytes", text()),
        "min_ttl" => {
            ("a duration such as `1h`, at most half of the key's lifetime: renew first if less life is left", text())
        }
        "app" => ("only this app's keys", text()),
        "state" => ("only keys in this state", text().enum_values(Some(["active", "revoked", "lapsed"]))),
        "due_before" => ("only keys whose next renewal is due before this instant (RFC 3339)", text()),
        "limit" => ("how many keys at most; more than 1000 means 1000", integer().default(Some(100.into()))),
        "since" => ("the `cursor` of a former export: only keys that may have changed since", text()),
        "only" => ("only keys that can still be handed over", text().enum_values(Some(["to_hand_over"]))),
        "cursor" => ("what the page before calls `next`", text()),
        other => unreachable!("a route with an undescribed query parameter `{other}`, which a test would have met"),
    };
    parameter(name, ParameterIn::Query, Required::False, told, schema)
}

fn parameter(name: &str, place: ParameterIn, required: Required, told: &str, schema: ObjectBuilder) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description(Some(told))
        .schema(Some(schema))
        .build()
}

/// What a route promises beyond its answer.
struct Contract {
    scope: Option<&'static str>,
    is_open: bool,
    /// Whether the body may be left out.
    may_be_empty: bool,
    query: &'static [&'static str],
    codes: Vec<&'static ProblemCode>,
}

impl Contract {
    fn codes(&self) -> impl Iterator<Item = &'static ProblemCode> {
        let edge = if self.is_open { &[][..] } else { EDGE };
        [edge, &self.codes].concat().into_iter()
    }
}

const EDGE: &[&ProblemCode] = &[&code::UNAUTHORIZED, &code::TOO_MANY_REQUESTS, &code::INTERNAL];
const APP: &[&ProblemCode] = &[&code::FORBIDDEN, &code::APP_UNKNOWN, &code::PATH_INVALID, &code::QUERY_INVALID];
const USER: &[&ProblemCode] =
    &[&code::USER_EMPTY, &code::USER_NOT_UTF8, &code::USER_TOO_LONG, &code::SLOT_TOO_LONG, &code::KEYRING_UNAVAILABLE];
const KIND: &[&ProblemCode] = &[&code::KIND_UNKNOWN];
const HELD: &[&ProblemCode] = &[&code::KEY_NOT_FOUND];
const LIVE: &[&ProblemCode] = &[&code::KEY_REVOKED, &code::KEY_LAPSED, &code::KEY_HANDED_OVER, &code::CLOCK_SKEWED];
const TEXT: &[&ProblemCode] =
    &[&code::BODY_INVALID, &code::BODY_TOO_LARGE, &code::MEDIA_TYPE_UNSUPPORTED, &code::REQUEST_TIMEOUT];
const ENROLL: &[&ProblemCode] = &[
    &code::KEY_EMPTY,
    &code::KEY_MALFORMED,
    &code::KEY_TOO_LARGE,
    &code::KEY_WRONG_KIND,
    &code::KEY_WRONG_CLIENT,
    &code::KEY_WRONG_USER,
    &code::KEY_OLDER,
    &code::KEY_REVOKED,
    &code::KEY_LAPSED,
    &code::KEY_EXPIRED,
    &code::KEY_NOT_YET_VALID,
    &code::TOO_BUSY,
    &code::SHUTTING_DOWN,
];
const RENEW: &[&ProblemCode] =
    &[&code::APP_PAUSED, &code::RENEWAL_REFUSED, &code::RENEWAL_FAILED, &code::SHUTTING_DOWN];
const TICKET: &[&ProblemCode] =
    &[&code::AUDIENCE_UNKNOWN, &code::TICKET_REFUSED, &code::TICKET_UNAVAILABLE, &code::SHUTTING_DOWN];
const ORDER: &[&ProblemCode] = &[&code::KEYRING_UNAVAILABLE, &code::SHUTTING_DOWN];
/// A batch says everything about a line in its line; these come before it begins.
const BATCH: &[&ProblemCode] = &[&code::FORBIDDEN, &code::QUERY_INVALID, &code::MEDIA_TYPE_UNSUPPORTED];
const LIST: &[&ProblemCode] = &[&code::FORBIDDEN, &code::APP_UNKNOWN, &code::QUERY_INVALID, &code::KEYRING_UNAVAILABLE];
const NODE: &[&ProblemCode] = &[&code::PATH_INVALID, &code::NODE_UNKNOWN, &code::NODE_ALONE];
const STATS: &[&ProblemCode] = &[&code::FORBIDDEN, &code::QUERY_INVALID, &code::KEYRING_UNAVAILABLE];

fn contract(operation_id: &str) -> Contract {
    let scoped = |scope: Scope, query: &'static [&'static str], codes: &[&[&'static ProblemCode]]| Contract {
        scope: Some(scope.as_str()),
        is_open: false,
        may_be_empty: false,
        query,
        codes: codes.concat(),
    };
    let open = |codes| Contract { scope: None, is_open: true, may_be_empty: false, query: &[], codes };
    match operation_id {
        "enroll_key" => scoped(Scope::KeyWrite, &["slot"], &[APP, USER, KIND, TEXT, ENROLL]),
        "get_key" => {
            scoped(Scope::KeyRead, &["slot", "min_ttl"], &[APP, USER, KIND, HELD, LIVE, &[&code::MIN_TTL_TOO_LONG]])
        }
        "forget_key" => scoped(Scope::KeyWrite, &["slot"], &[APP, USER, KIND]),
        "forget_player" => scoped(Scope::KeyWrite, &["slot"], &[APP, USER]),
        "renew_key" => scoped(Scope::KeyWrite, &["slot"], &[APP, USER, KIND, HELD, LIVE, RENEW]),
        "key_history" => scoped(Scope::KeyRead, &["slot"], &[APP, USER, KIND, HELD]),
        "show_key" => scoped(Scope::Admin, &["slot"], &[APP, USER, KIND, HELD]),
        "enroll_keys" => scoped(Scope::KeyWrite, &[], &[BATCH]),
        "get_keys" => scoped(Scope::KeyRead, &[], &[BATCH]),
        "list_keys" => scoped(Scope::KeyRead, &["app", "state", "due_before", "limit", "cursor"], &[LIST]),
        "stats" => scoped(Scope::KeyRead, &[], &[STATS]),
        "health" => scoped(Scope::KeyRead, &[], &[&[&code::FORBIDDEN, &code::QUERY_INVALID]]),
        "get_ticket" => Contract {
            scope: Some("ticket:client, or ticket:service for `service`"),
            codes: [APP, TICKET].concat(),
            ..scoped(Scope::TicketClient, &[], &[])
        },
        "list_nodes" | "list_leases" => scoped(Scope::Admin, &[], &[STATS]),
        "drain_node" | "undrain_node" => scoped(Scope::Admin, &[], &[STATS, NODE]),
        "export_keys" => scoped(Scope::Admin, &["app", "since", "only", "limit", "cursor"], &[LIST]),
        "hand_over_keys" => scoped(Scope::Admin, &[], &[BATCH, &[&code::LEASES_ELSEWHERE]]),
        "import_keys" => scoped(Scope::Admin, &[], &[BATCH]),
        "pause_app" | "acquit_app" | "reclaim_app" => scoped(Scope::Admin, &[], &[APP, ORDER]),
        "resume_app" => Contract { may_be_empty: true, ..scoped(Scope::Admin, &[], &[APP, ORDER, TEXT]) },
        "scrape" => scoped(Scope::MetricsRead, &[], &[&[&code::FORBIDDEN, &code::QUERY_INVALID]]),
        "openapi" => Contract { is_open: false, ..open(vec![&code::QUERY_INVALID]) },
        "livez" => open(vec![&code::NOT_LIVE]),
        "readyz" => open(vec![&code::NOT_READY, &code::SHUTTING_DOWN]),
        other => unreachable!("the operation `{other}` promises nothing, which a test would have met"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_belongs_to_an_operation_or_to_no_route_or_to_a_line() {
        let mut document = openapi();
        let told: BTreeSet<&str> = document
            .paths
            .paths
            .values_mut()
            .flat_map(|item| {
                operations_mut(item).map(|operation| operation.operation_id.clone().unwrap()).collect::<Vec<_>>()
            })
            .flat_map(|id| contract(&id).codes().map(|row| row.code).collect::<Vec<_>>())
            .chain([code::ROUTE_UNKNOWN.code, code::METHOD_NOT_ALLOWED.code, code::LINE_TOO_LONG.code])
            .chain([code::KEY_ALTERED.code, code::KEY_CHANGED.code])
            .collect();
        assert_eq!(told, code::ALL.iter().map(|row| row.code).collect());
    }

    #[test]
    fn the_document_is_openapi_3_1_and_its_references_lead_somewhere() {
        let document = serde_json::to_value(openapi()).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let text = document.to_string();
        let references: BTreeSet<&str> =
            text.split("\"#/").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert!(references.contains("components/schemas/Problem"));
        for reference in references {
            assert!(document.pointer(&format!("/{reference}")).is_some(), "{reference}");
        }
    }

    #[test]
    fn the_document_lists_every_route_of_the_reference() {
        let document = serde_json::to_value(openapi()).unwrap();
        let mut listed = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                listed.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
        let page = include_str!("../../../docs/reference/http.md");
        let told: BTreeSet<String> =
            page.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`').map(str::to_owned)).collect();
        assert_eq!(listed, told);
    }
}
