//! The shared keyring on a real PostgreSQL: one that is started here, or the one that `STOREKEEPER_TEST_POSTGRES_URL`
//! (and `STOREKEEPER_TEST_POSTGRES_ADMIN_URL`) name.

#![expect(clippy::unwrap_used, reason = "a test may")]

mod cluster;
mod commit;
mod conformance;
mod contention;
mod crash;
mod database;
mod distribution;
mod fail_over;
mod find;
mod open;
mod proxy;
mod scratch;
mod statements;
mod tls;
