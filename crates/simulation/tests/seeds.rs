//! Three pinned seeds on every change; fresh ones on demand: `cargo xtask simulate`.

use storekeeper_emulator::{Profile, Superseded};
use storekeeper_simulation::{Plan, Report, generate, run, shrink};

/// Plays a year of a thousand keys. What fails is made smaller and printed with its seed.
fn year(seed: u64, profile: Profile, superseded: Superseded) -> Report {
    let plan = Plan { keys: 1000, days: 365, profile, superseded };
    let scenario = generate(seed, plan);
    run(&scenario).unwrap_or_else(|failure| {
        let (smallest, failure) = shrink(&scenario).unwrap_or((scenario, failure));
        panic!("seed {seed}: {failure:#?}\nsmallest scenario that fails: {smallest:#?}");
    })
}

/// A year of which nothing is remarkable proves nothing.
fn check(report: &Report) {
    assert!(report.renewals > 30_000, "{report:?}");
    assert!(report.condemned > 0 && report.pauses > 0 && report.skews > 0 && report.restarts > 0, "{report:?}");
}

#[test]
fn seed_1_superseded_keys_are_usable() {
    check(&year(1, Profile::Documented, Superseded::Usable));
}

#[test]
fn seed_2_superseded_keys_are_refused() {
    check(&year(2, Profile::Documented, Superseded::Refused));
}

#[test]
fn seed_3_certificates_rotate_every_week() {
    check(&year(3, Profile::GameDocs, Superseded::Usable));
}
