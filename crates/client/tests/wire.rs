//! Holds the client against `fixtures/wire/`: what it sends, and what it concludes from the bytes of every answer.

#[path = "../../../fixtures/wire/fixture.rs"]
#[allow(dead_code, reason = "each side of the wire reads its own half of a fixture")]
mod fixture;
#[path = "wire/form.rs"]
mod form;
#[path = "wire/judge.rs"]
mod judge;
#[path = "wire/sample.rs"]
mod sample;

use fixture::{ROWS, Shape};

fn failures(shape: Shape) -> (Vec<String>, Vec<String>) {
    let mut failures = Vec::new();
    let mut played = Vec::new();
    for fixture in fixture::all() {
        if let Err(why) = judge::play(&fixture, shape) {
            failures.push(format!("{} ({}) {why}", fixture.id, fixture.title));
        }
        played.push(fixture.id);
    }
    (failures, played)
}

fn check(shape: Shape) {
    let (failures, played) = failures(shape);
    assert!(failures.is_empty(), "the client under {shape:?} errors:\n{}", failures.join("\n"));
    assert_eq!(played, ROWS, "every row is played");
}

#[test]
fn the_client_passes_every_fixture_under_plain_errors() {
    check(Shape::Plain);
}

#[test]
fn the_client_passes_every_fixture_under_wrapped_errors() {
    check(Shape::Wrapped);
}

/// The judge is judged: told anything else, it must complain.
#[test]
fn a_fixture_that_tells_otherwise_fails() {
    for (index, id) in ROWS.iter().enumerate() {
        let fixture = |change: fn(&mut fixture::Client)| {
            let mut fixture = fixture::all().swap_remove(index);
            fixture.steps.iter_mut().for_each(|step| change(&mut step.client));
            judge::play(&fixture, Shape::Plain)
        };
        assert!(fixture(|client| client.conclusion.push('x')).is_err(), "{id}: the conclusion is not judged");
        assert!(fixture(|client| client.sends = !client.sends).is_err(), "{id}: the request is not judged");
    }
}
