//! Every statement of the catalogue keeps the rules that let the same tables run on a distributed PostgreSQL, and finds
//! its rows by index.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use storekeeper_keyring::conformance::{Rows, enroll};
use storekeeper_keyring::{Record, Refused, State};
use storekeeper_keyring_postgres::{PostgresKeyring, catalogue, distribution, migrate};
use storekeeper_model::{KeyKind, Lifetime, Timestamp};

use crate::cluster::Cluster;
use crate::database::{connect, empty_database, runtime};

const MIGRATION: &str =
    concat!(include_str!("../../migrations/V1__key.sql"), include_str!("../../migrations/V2__clock.sql"));
const TABLES: [&str; 7] = ["key", "population", "app", "root", "schema", "node", "lease"];
const DAY: Duration = Duration::from_secs(86_400);
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// Words that no statement may hold: a clock of the server's, and what a distributed database lacks.
const FORBIDDEN: [&str; 19] = [
    "now",
    "current_timestamp",
    "current_date",
    "current_time",
    "localtime",
    "localtimestamp",
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "trigger",
    "listen",
    "notify",
    "serial",
    "bigserial",
    "nextval",
    "identity",
    "locked",
    "merge",
    "sequence",
];

fn name(statement: &str) -> &str {
    statement.lines().next().unwrap().strip_prefix("-- ").expect("a statement begins with the name of its function")
}

/// Lower-case words without comments.
fn words(sql: &str) -> Vec<String> {
    let lines = sql.lines().map(|line| line.split("--").next().unwrap());
    let text = lines.collect::<Vec<_>>().join(" ").to_lowercase();
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).map(String::from).collect()
}

#[track_caller]
fn check_words(sql: &str) {
    for word in words(sql) {
        let is_bad = FORBIDDEN.contains(&word.as_str()) || word.starts_with("pg_") || word.contains("advisory");
        assert!(!is_bad, "`{word}` in {sql}");
    }
}

#[test]
fn no_statement_relies_on_what_a_distributed_database_lacks() {
    catalogue::ALL.iter().for_each(|sql| check_words(sql));
    check_words(MIGRATION);
    let names: HashSet<&str> = catalogue::ALL.iter().map(|sql| name(sql)).collect();
    assert_eq!(names.len(), catalogue::ALL.len(), "names are unique");
}

/// The places where a table is read or changed, each with the text up to the next such place.
fn uses(sql: &str) -> Vec<String> {
    let text = words_with_marks(sql);
    let mut places = Vec::new();
    for table in TABLES {
        for before in ["from", "join", "update"] {
            let mark = format!(" {before} {table} ");
            places.extend(text.match_indices(&mark).map(|(at, _)| at));
        }
    }
    places.sort_unstable();
    let ends = places.iter().skip(1).copied().chain([text.len()]);
    places.iter().zip(ends).map(|(start, end)| text[*start..end].to_owned()).collect()
}

fn words_with_marks(sql: &str) -> String {
    let lines = sql.lines().filter(|line| !line.starts_with("-- "));
    let text = lines.collect::<Vec<_>>().join(" ").to_lowercase().replace(")", " ) ");
    format!(" {} ", text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[test]
fn bucket_stands_in_every_predicate_and_unique_index() {
    let mut found = 0;
    for sql in catalogue::ALL {
        for part in uses(sql).iter().filter(|part| !part.starts_with(" update set ")) {
            found += 1;
            let is_bound = ["bucket = ", "bucket between ", "bucket >= "].iter().any(|by| part.contains(by));
            assert!(is_bound, "{}: {part}", name(sql));
        }
        for target in words_with_marks(sql).split(" on conflict ").skip(1) {
            assert!(target.starts_with("do nothing") || target.starts_with("(bucket, "), "{}: {target}", name(sql));
        }
    }
    assert!(found >= 20, "the test sees {found} uses of tables only");
    let migration = words_with_marks(MIGRATION);
    let marks = ["primary key (", " unique (", "unique index"];
    let unique: Vec<&str> = marks.iter().flat_map(|mark| migration.split(mark).skip(1)).collect();
    assert!(unique.len() >= 5, "{unique:?}");
    for columns in &unique {
        let columns = columns.split(')').next().unwrap();
        assert!(columns.split([',', ' ']).any(|word| word == "bucket"), "{columns}");
    }
}

#[test]
fn every_table_is_spread_by_its_bucket_or_kept_on_all_nodes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut made: Vec<String> = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let tables = text.split("CREATE TABLE ").skip(1).map(|rest| rest.split([' ', '(']).next().unwrap());
        made.extend(tables.map(String::from));
    }
    let mut told: Vec<&str> =
        catalogue::REFERENCE_TABLES.iter().chain(catalogue::DISTRIBUTED_TABLES).copied().collect();
    made.sort_unstable();
    told.sort_unstable();
    assert_eq!(made, told);
    let distribution = distribution();
    for table in told {
        let calls = distribution.iter().filter(|call| call.contains(&format!("_table('{table}'")));
        let calls: Vec<bool> = calls.map(|call| call.starts_with("SELECT create_")).collect();
        assert_eq!(calls, [true, false], "{table}: spread, and nothing of it stays behind");
    }
}

#[test]
fn the_check_sees_a_statement_without_a_bucket() {
    let bad = "-- bad\n    SELECT 1 FROM key WHERE id = $1";
    assert!(uses(bad).iter().all(|part| !part.contains("bucket")) && uses(bad).len() == 1);
    let half = "-- half\n    SELECT 1 FROM app WHERE bucket = 0 AND EXISTS (SELECT 1 FROM key WHERE id = $1)";
    assert_eq!(uses(half).iter().filter(|part| !part.contains("bucket = ")).count(), 1);
    assert!(std::panic::catch_unwind(|| check_words("-- x\nSELECT now()")).is_err());
}

#[test]
fn statements_stand_in_the_catalogue_alone() {
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap() {
        let path = file.unwrap().path();
        if path.file_name().is_some_and(|name| name == "catalogue.rs") {
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        for word in ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WHERE "] {
            assert!(!source.contains(word), "{word}in {}", path.display());
        }
    }
}

/// What each statement is asked for, few rows of many, as it will be; and the index that leads to them.
fn arguments() -> HashMap<&'static str, (String, &'static str)> {
    let (now, day) = (NOW.millis(), 86_400_000_i64);
    let all = "0, 4095";
    let changes = "'{17}', array['\\x01111111111111111111111111111111'::bytea], '{5}', '{t}', '{f}', '{f}', '{f}', '{5}', \
                   '{6}', '{7}', '{null}', '{null}', array['\\x22'::bytea], array['\\x33'::bytea], array[null::bytea]";
    let page = format!("17, '\\x0111', 101, 1, null, {now}, null, null");
    let deadlines = "'{1,2}'";
    let one = |changes: &str| changes.replacen("'{17}'", "17", 1);
    let identity = "'{1}', '{0}', array['\\x31'::bytea], array[''::bytea]";
    let (insert, update) = (format!("{changes}, {identity}"), format!("{changes}, '{{4}}', array['\\x44'::bytea]"));
    let forget = "'{17}', array['\\x0111'::bytea], '{4}', array['\\x44'::bytea]";
    let used = "'{17}', array['\\x0111'::bytea], '{5}'";
    HashMap::from([
        ("find::find", (String::from("'{17,17}', array['\\x0111'::bytea, '\\x0112'::bytea]"), "key_pkey")),
        ("find::of_user", (format!("{all}, '\\x31', 1"), "key_user")),
        ("due::waiting", (format!("{all}, {}, {now}, '{{3}}', 100, null", now - day), "key_due")),
        ("due::few", (format!("{all}, {now}, '{{3}}', 100, null"), "key_due")),
        ("due::impossible", (format!("{all}, {}, '{{3}}', 100, '\\xff'", now + 30 * day), "key_failing")),
        ("due::next", (format!("{all}, {now}, {}, '\\xff'", now + 30 * day), "key_due")),
        ("witness::witnesses", (format!("{all}, 500, 1, {now}, '\\x0111', 3"), "key_due")),
        ("page::page", (page.clone(), "key_pkey")),
        ("page::revoked", (page, "key_revoked")),
        ("count::waiting", (format!("{all}, {now}"), "key_due")),
        ("count::lapsing", (format!("{all}, {now}"), "key_lapsing")),
        ("count::overdue", (format!("{all}, {now}, {now}, {deadlines}, '{{{0},{0}}}'", now - 14 * day), "key_due")),
        ("count::aging", (format!("{all}, {now}, {0}, {deadlines}, '{{{0},{0}}}'", now - 14 * day), "key_aging")),
        ("count::handed_over", (format!("{all}, {now}"), "key_due")),
        ("find::spread", (String::from("'{17}', array['\\x0111'::bytea, '\\x0112'::bytea]"), "key_pkey")),
        ("settle::insert_in", (one(&insert), "key_pkey")),
        ("settle::update_in", (one(&update), "key_pkey")),
        ("settle::forget_in", (one(forget), "key_pkey")),
        ("settle::note_used_in", (one(used), "key_pkey")),
        ("settle::insert", (insert, "key_pkey")),
        ("settle::update", (update, "key_pkey")),
        ("settle::forget", (String::from(forget), "key_pkey")),
        ("settle::note_used", (String::from(used), "key_pkey")),
    ])
}

/// A population as it is: nearly all are quiet, a few are due, failing, revoked or about to lapse.
fn population() -> Vec<Record> {
    let mut rows = Rows::new(1);
    let mut records = Vec::new();
    for number in 0..5000_u32 {
        let kind = KeyKind::ALL[number as usize % 2];
        let mut record = rows.row(["mygame", "other"][number as usize / 2 % 2], &format!("{number}"), kind);
        record.next_attempt_at = Some(NOW + number * Duration::from_secs(150) - DAY / 20);
        let refused = Refused { since: NOW, count: 3 };
        match number % 250 {
            0 => record.failures = 1,
            1 => record.state = State::Revoked { at: NOW, refused },
            2 => record.next_attempt_at = None,
            3 => record.key.lifetime = Lifetime::new(NOW - 20 * DAY, NOW - 20 * DAY, NOW + DAY),
            _ => {}
        }
        records.push(record);
    }
    records
}

#[test]
fn no_statement_reads_all_keys() {
    runtime().block_on(async {
        let url = empty_database(Cluster::shared()).await;
        migrate(&url).await.unwrap();
        let client = connect(&url).await;
        client.batch_execute("ALTER TABLE key SET (autovacuum_enabled = off)").await.unwrap();
        check_generic_plans(&url, "in an empty table").await;
        enroll(&PostgresKeyring::open(&url).await.unwrap(), &population()).await;
        check_generic_plans(&url, "before there are statistics").await;
        client.batch_execute("ANALYZE").await.unwrap();
        check_generic_plans(&url, "with statistics").await;
        check_plans(&client, "as the server would by itself").await;
    });
}

/// As sessions of ours are told to, and without a look at the arguments, as a statement is planned that was prepared.
async fn check_generic_plans(url: &str, when: &str) {
    let client = connect(url).await;
    client.batch_execute(catalogue::SESSION).await.unwrap();
    client.batch_execute("SET plan_cache_mode = force_generic_plan").await.unwrap();
    check_plans(&client, when).await;
}

async fn check_plans(client: &tokio_postgres::Client, when: &str) {
    let mut arguments = arguments();
    for sql in catalogue::ALL.iter().filter(|sql| words(sql).iter().any(|word| word == "key")) {
        let name = name(sql);
        let (arguments, index) = arguments.remove(name).unwrap_or_else(|| panic!("{name} is not planned"));
        let plan = plan(client, sql, &arguments).await;
        assert!(!plan.contains("Seq Scan on key"), "{when}: {name}\n{plan}");
        let indexes = ["key_pkey", "key_user", "key_due", "key_failing", "key_revoked", "key_lapsing", "key_aging"];
        let used: Vec<&str> = indexes.into_iter().filter(|index| plan.contains(index)).collect();
        assert_eq!(used, [index], "{when}: {name}\n{plan}");
    }
    assert!(arguments.is_empty(), "no such statements: {arguments:?}");
}

async fn plan(client: &tokio_postgres::Client, sql: &str, arguments: &str) -> String {
    let prepared = name(sql).replace("::", "_");
    client.batch_execute(&format!("PREPARE {prepared} AS {sql}")).await.unwrap();
    let answer = client.simple_query(&format!("EXPLAIN EXECUTE {prepared}({arguments})")).await;
    let answer = answer.unwrap_or_else(|error| panic!("{}: {error:?}", name(sql)));
    let line = |message: &tokio_postgres::SimpleQueryMessage| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(String::from),
        _ => None,
    };
    answer.iter().filter_map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_commit_is_durable_whatever_the_server_is_told() {
    runtime().block_on(async {
        for (told, expected) in [("off", "on"), ("on", "on"), ("remote_apply", "remote_apply")] {
            let url = empty_database(Cluster::shared()).await;
            let client = connect(&format!("{url}&options=-csynchronous_commit%3D{told}")).await;
            client.batch_execute(catalogue::SESSION).await.unwrap();
            let setting: String = client.query_one("SHOW synchronous_commit", &[]).await.unwrap().get(0);
            assert_eq!(setting, expected, "told {told}");
        }
    });
}
