//! `bench … --against BINARY`: the ratio comes from what both builds print, and the other build is a black box.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use support::{Done, Place};

impl Place {
    /// Compares with a build that is this script.
    fn compare(&self, script: &str, options: &[&str]) -> Done {
        let other = self.path().join("other");
        fs::write(&other, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
        let bench = ["bench", "renew", "--keys", "200", "--rounds", "1", "--against", other.to_str().unwrap()];
        self.run(&[&bench, options].concat())
    }
}

#[test]
fn the_ratio_is_that_of_the_cpu_time_that_both_print() {
    let place = Place::new();
    let script = r#"echo "$@" > arguments; echo noise; echo '{"cpu_us_per_renewal":10.0}'"#;
    let found = place.compare(script, &["--keyring", "sqlite:keys.db"]).ok().json();
    let cpu = found["cpu_us_per_renewal"].as_f64().unwrap();
    assert!((found["cpu_ratio"].as_f64().unwrap() - cpu / 10.0).abs() < 1e-3, "{found}");
    assert_eq!((&found["renewed"], &found["rounds"]), (&200.into(), &1.into()));
    assert_eq!(found["other"]["cpu_us_per_renewal"], 10.0);
    let arguments = fs::read_to_string(place.path().join("arguments")).unwrap();
    assert_eq!(arguments.trim(), "bench renew --keys 200 --seconds 600 --cores 1 --keyring sqlite:keys.db.against");
}

#[test]
fn a_build_that_fails_leaves_no_ratio() {
    let place = Place::new();
    place.compare("exit 3", &[]).fails(1, "exit status: 3");
    place.compare("echo fine", &[]).fails(1, "no JSON object");
    place.compare("echo '{}'", &[]).fails(1, "has no `cpu_us_per_renewal`");
    place.run(&["bench", "read", "--against", "./missing"]).fails(2, "./missing");
    place.run(&["bench", "read", "--rounds", "3"]).fails(2, "--against");
    let url = "postgres://bench@127.0.0.1/bench";
    place.compare("echo '{}'", &["--keyring", url]).fails(2, "--against-keyring");
}
