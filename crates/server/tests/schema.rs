//! The OpenAPI document describes the answers as they are: every member, and no other.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeMap;

use common::{KEY, Mint, World, key};
use http::Method;
use serde_json::{Value, json};
use storekeeper_model::KeyKind;
use storekeeper_server::openapi::openapi;

/// The document, and what of an answer does not fit it.
struct Document(Value);

impl Document {
    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(place) => self.resolve(self.0.pointer(place.trim_start_matches('#')).unwrap()),
            None => schema,
        }
    }

    /// Every member that an object may have, and whether it must.
    fn members<'a>(&'a self, schema: &'a Value, members: &mut BTreeMap<&'a str, (&'a Value, bool)>) {
        let schema = self.resolve(schema);
        schema["allOf"].as_array().into_iter().flatten().for_each(|part| self.members(part, members));
        for (name, member) in schema["properties"].as_object().into_iter().flatten() {
            let required = schema["required"].as_array().into_iter().flatten().any(|required| required == name);
            members.insert(name, (member, required));
        }
    }

    fn check(&self, value: &Value, schema: &Value, place: &str) -> Result<(), String> {
        let schema = self.resolve(schema);
        if let Some(choices) = schema["oneOf"].as_array() {
            let told: Vec<_> = choices.iter().filter_map(|choice| self.check(value, choice, place).err()).collect();
            return if told.len() + 1 == choices.len() { Ok(()) } else { Err(told.join(", and ")) };
        }
        match value {
            Value::Object(object) if schema["additionalProperties"].is_object() => {
                object.iter().try_for_each(|(name, value)| {
                    self.check(value, &schema["additionalProperties"], &format!("{place}.{name}"))
                })
            }
            Value::Object(object) => {
                let mut members = BTreeMap::new();
                self.members(schema, &mut members);
                for (name, value) in object {
                    let (member, _) = members.get(name.as_str()).ok_or(format!("{place}.{name} is not described"))?;
                    self.check(value, member, &format!("{place}.{name}"))?;
                }
                let missing = members.iter().find(|(name, (_, required))| *required && !object.contains_key(**name));
                missing.map_or(Ok(()), |(name, _)| Err(format!("{place}.{name} is missing")))
            }
            Value::Array(items) => items.iter().try_for_each(|item| self.check(item, &schema["items"], place)),
            value => {
                let kind = match value {
                    Value::Null => "null",
                    Value::Bool(_) => "boolean",
                    Value::Number(number) if number.is_f64() => "number",
                    Value::Number(_) => "integer",
                    _ => "string",
                };
                let fits = |told: &Value| told == kind || (told == "number" && kind == "integer");
                let described = &schema["type"];
                let fits = fits(described) || described.as_array().into_iter().flatten().any(fits);
                if fits { Ok(()) } else { Err(format!("{place} is {kind}, described as {described}")) }
            }
        }
    }

    fn check_answer(&self, method: &str, route: &str, status: u16, value: &Value) {
        let response = &self.0["paths"][route][method]["responses"][status.to_string()];
        let schema = &response["content"].as_object().unwrap().values().next().unwrap()["schema"];
        self.check(value, schema, "answer").unwrap_or_else(|told| panic!("{method} {route}: {told} in {value}"));
    }
}

#[tokio::test]
async fn every_answer_fits_its_schema() {
    let document = Document(serde_json::to_value(openapi()).unwrap());
    let world = World::new().await;
    let route = "/v1/apps/{app}/users/{user}/keys/{kind}";
    document.check_answer("put", route, 201, &world.enroll(KEY, &key(1)).await.json());
    document.check_answer("get", route, 200, &world.get(KEY).await.json());
    document.check_answer("get", route, 404, &world.get(&format!("{KEY}?slot=none")).await.json());
    document.check_answer(
        "post",
        &format!("{route}/renew"),
        200,
        &world.post(&format!("{KEY}/renew"), "").await.json(),
    );
    document.check_answer("get", &format!("{route}/history"), 200, &world.get(&format!("{KEY}/history")).await.json());
    let admin = world.admin(Method::GET, &KEY.replace("/v1/", "/v1/admin/"), "").await;
    document.check_answer("get", &route.replace("/v1/", "/v1/admin/"), 200, &admin.json());
    document.check_answer("get", "/v1/keys", 200, &world.get("/v1/keys?limit=1").await.json());
    let ticket = world.get("/v1/apps/mygame/tickets/purchase").await;
    document.check_answer("get", "/v1/apps/{app}/tickets/{audience}", 200, &ticket.json());
    let exported = world.admin(Method::GET, "/v1/admin/keys:export", "").await.json();
    document.check_answer("get", "/v1/admin/keys:export", 200, &exported);
    for (route, line) in [
        ("keys:import", exported["keys"][0].clone()),
        (
            "keys:handover",
            json!({"app": "mygame", "user": "player-0001", "kind": "collections", "revision": exported["keys"][0]["revision"]}),
        ),
    ] {
        let route = format!("/v1/admin/{route}");
        for line in world.admin(Method::POST, &route, format!("{line}\nbad\n")).await.lines() {
            document.check_answer("post", &route, 200, &line);
        }
    }
    document.check_answer("get", route, 200, &world.get(KEY).await.json());
    for order in ["pause", "resume", "acquit", "reclaim"] {
        let answer = world.admin(Method::POST, &format!("/v1/admin/apps/mygame/{order}"), "").await;
        document.check_answer("post", &format!("/v1/admin/apps/{{app}}/{order}"), 200, &answer.json());
        document.check_answer("get", "/v1/stats", 200, &world.get("/v1/stats").await.json());
    }
    for list in ["/v1/admin/nodes", "/v1/admin/leases"] {
        document.check_answer("get", list, 200, &world.admin(Method::GET, list, "").await.json());
    }
    let purchase = Mint { kind: KeyKind::Purchase, ..Mint::default() }.jwt();
    let lines = format!("{}\nbad\n", json!({"app": "mygame", "user": "a", "key": purchase}));
    for line in world.post("/v1/keys:enroll", lines).await.lines() {
        document.check_answer("post", "/v1/keys:enroll", 200, &line);
    }
    let lines = format!("{}\nbad\n", json!({"app": "mygame", "user": "a", "kind": "purchase"}));
    for line in world.post("/v1/keys:get", lines).await.lines() {
        document.check_answer("post", "/v1/keys:get", 200, &line);
    }
}

#[test]
fn a_schema_that_does_not_fit_is_noticed() {
    let document = Document(serde_json::to_value(openapi()).unwrap());
    let told = |value: Value| document.check(&value, &json!({"$ref": "#/components/schemas/Ticket"}), "t").unwrap_err();
    assert_eq!(told(json!({"access_token": "a"})), "t.expires_at is missing");
    assert_eq!(told(json!({"access_token": "a", "expires_at": null})), "t.expires_at is null, described as \"string\"");
    assert_eq!(told(json!({"access_token": "a", "expires_at": "b", "c": 1})), "t.c is not described");
}
