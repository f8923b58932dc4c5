//! Holds the emulator against `fixtures/wire/`: what it answers to the bytes of every request, as a plain function and
//! as a listening server.

#[path = "wire/direct.rs"]
mod direct;
#[path = "../../../fixtures/wire/fixture.rs"]
#[allow(dead_code, reason = "each side of the wire reads its own half of a fixture")]
mod fixture;
#[path = "wire/http.rs"]
mod http;
#[path = "wire/judge.rs"]
mod judge;
#[path = "wire/pattern.rs"]
mod pattern;
#[path = "wire/served.rs"]
mod served;

use direct::Direct;
use fixture::{Fixture, Given, ROWS, Shape};
use judge::World;
use serde_json::{Value, json};
use served::{Addressing, Served};

/// The emulator's switches for a fixture.
fn switches(fixture: &Fixture, shape: Shape) -> Value {
    let errors = if shape == Shape::Plain { "plain" } else { "wrapped" };
    json!({"profile": fixture.profile.as_deref().unwrap_or("documented"), "errors": errors})
}

/// Whether an answer is made by a fault, which only a server knows.
fn needs_server(fixture: &Fixture) -> bool {
    fixture
        .steps
        .iter()
        .flat_map(|step| &step.given)
        .chain(&fixture.given)
        .any(|given| matches!(given, Given::Fault(_)))
}

/// Plays fixtures, each in a world that `begin` has prepared, and returns the rows that were played.
fn check<W: World>(
    fixtures: Vec<Fixture>,
    shape: Shape,
    make: impl Fn(Option<&str>) -> W,
    begin: impl Fn(&mut W, &Fixture, Shape),
) -> Vec<String> {
    let mut usual = make(None);
    let (mut failures, mut played) = (Vec::new(), Vec::new());
    for fixture in fixtures {
        let mut unusual = fixture.public_url.as_deref().map(|public_url| make(Some(public_url)));
        let world = unusual.as_mut().unwrap_or(&mut usual);
        begin(world, &fixture, shape);
        if let Err(why) = judge::play(&fixture, shape, world) {
            failures.push(format!("{} ({}) {why}", fixture.id, fixture.title));
        }
        played.push(fixture.id);
    }
    assert!(failures.is_empty(), "the emulator under {shape:?} errors:\n{}", failures.join("\n"));
    played
}

fn check_direct(shape: Shape) {
    let fixtures = fixture::all().into_iter().filter(|fixture| !needs_server(fixture)).collect();
    let played = check(fixtures, shape, Direct::new, Direct::begin);
    let left_out: Vec<&str> = ROWS.into_iter().filter(|row| !played.iter().any(|id| id == row)).collect();
    assert_eq!(left_out, ["T10", "T45", "T46", "T47", "T48", "T49", "T51", "T52", "T53"], "only faults need a server");
}

fn check_served(shape: Shape, addressing: Addressing) {
    let played = check(fixture::all(), shape, |public_url| Served::new(public_url, addressing), Served::begin);
    assert_eq!(played, ROWS, "every row is played");
}

#[test]
fn the_emulator_passes_the_fixtures_as_a_function_under_plain_errors() {
    check_direct(Shape::Plain);
}

#[test]
fn the_emulator_passes_the_fixtures_as_a_function_under_wrapped_errors() {
    check_direct(Shape::Wrapped);
}

#[test]
fn the_emulator_passes_every_fixture_as_a_server_under_plain_errors() {
    check_served(Shape::Plain, Addressing::Host);
}

#[test]
fn the_emulator_passes_every_fixture_as_a_server_under_wrapped_errors() {
    check_served(Shape::Wrapped, Addressing::Prefix);
}

/// The judge is judged: told anything else, it must complain.
#[test]
fn a_fixture_that_tells_otherwise_fails() {
    let mut world = Direct::new(None);
    let changes: [fn(&mut fixture::Response); 3] = [
        |told| told.status += 1,
        |told| told.headers.values_mut().for_each(|value| value.push('x')),
        |told| told.successor.iter_mut().for_each(|times| times.expires_at = times.issued_at.clone()),
    ];
    let judged = fixture::all().into_iter().filter(|fixture| !needs_server(fixture) && fixture.public_url.is_none());
    for id in judged.map(|fixture| fixture.id) {
        for (index, change) in changes.iter().enumerate() {
            let mut fixture = fixture::all().into_iter().find(|fixture| fixture.id == id).expect("read before");
            let told = fixture.steps[0].response.as_mut().expect("no answer is lost without a fault");
            let concerns = [true, !told.headers.is_empty(), told.successor.is_some()][index];
            change(told);
            world.begin(&fixture, Shape::Plain);
            let outcome = judge::play(&fixture, Shape::Plain, &mut world);
            assert_eq!(outcome.is_err(), concerns, "{id}: change {index} is not judged: {outcome:?}");
        }
    }
}
