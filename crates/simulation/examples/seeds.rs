//! Plays fresh seeds: `cargo run --release -p storekeeper-simulation --example seeds -- FROM COUNT`.
#![expect(clippy::print_stdout, reason = "a program of its own")]

use storekeeper_emulator::{Profile, Superseded};
use storekeeper_simulation::{Plan, generate, run, shrink};

fn main() {
    let mut words = std::env::args().skip(1).filter_map(|word| word.parse::<u64>().ok());
    let (from, count) = (words.next().unwrap_or(1), words.next().unwrap_or(10));
    let mut failed = false;
    for seed in from..from + count {
        for (profile, superseded) in [
            (Profile::Documented, Superseded::Usable),
            (Profile::Documented, Superseded::Refused),
            (Profile::GameDocs, Superseded::Usable),
            (Profile::GameDocs, Superseded::Refused),
        ] {
            let scenario = generate(seed, Plan { keys: 1000, days: 365, profile, superseded });
            match run(&scenario) {
                Ok(report) => println!("seed {seed} {profile:?} {superseded:?}: {report:?}"),
                Err(failure) => {
                    failed = true;
                    let (smallest, failure) = shrink(&scenario).unwrap_or((scenario, failure));
                    println!("seed {seed} {profile:?} {superseded:?} FAILED: {failure:#?}\nsmallest: {smallest:#?}");
                }
            }
        }
    }
    std::process::exit(i32::from(failed));
}
