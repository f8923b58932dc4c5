//! Spreading the tables: all or none, what is spread already is left alone, and a refusal is one line. What a distributed
//! database answers is played by functions of the names that Citus has: the database itself is a plain one.

use storekeeper_keyring::KeyringError;
use storekeeper_keyring_postgres::{PostgresKeyring, distribute, distribution, migrate};

use crate::cluster::Cluster;
use crate::database::{connect, empty_database, execute, runtime};

/// Each call notes its table where Citus does; one of them may be refused.
const PLAYED: &str = "
    CREATE TABLE pg_dist_partition (logicalrel regclass, distributed_by text);
    CREATE FUNCTION create_reference_table(t regclass) RETURNS void LANGUAGE sql AS
        'INSERT INTO pg_dist_partition VALUES (t, NULL)';
    CREATE FUNCTION create_distributed_table(t regclass, by text, colocate_with text DEFAULT 'default')
        RETURNS void LANGUAGE plpgsql AS $$ BEGIN
            IF current_setting('test.refused', true) = t::text THEN
                RAISE EXCEPTION 'cannot distribute %', t USING ERRCODE = '0A000', DETAIL = 'secret rows';
            END IF;
            INSERT INTO pg_dist_partition VALUES (t, by);
        END $$";

async fn spread(url: &str) -> Vec<(String, Option<String>)> {
    let rows = "SELECT logicalrel::text, distributed_by FROM pg_dist_partition ORDER BY 1";
    connect(url).await.query(rows, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn one_line(error: &KeyringError, parts: &[&str]) {
    let text = error.to_string();
    assert!(matches!(error, KeyringError::Unreachable(_)), "{text}");
    assert!(parts.iter().all(|part| text.contains(part)) && !text.contains('\n'), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn a_plain_database_is_told_from_a_distributed_one() {
    runtime().block_on(async {
        let url = empty_database(Cluster::shared()).await;
        migrate(&url).await.unwrap();
        one_line(&distribute(&url).await.unwrap_err(), &["is not distributed", "CREATE EXTENSION citus"]);
    });
}

#[test]
fn tables_are_spread_once() {
    runtime().block_on(async {
        let url = empty_database(Cluster::shared()).await;
        execute(&url, PLAYED).await;
        one_line(&distribute(&url).await.unwrap_err(), &["has no tables", "storekeeper init --migrate"]);
        assert!(spread(&url).await.is_empty());
        migrate(&url).await.unwrap();
        assert_eq!(distribute(&url).await.unwrap(), distribution());
        let found = spread(&url).await;
        assert_eq!(found.len(), distribution().len());
        assert!(found.contains(&(String::from("key"), Some(String::from("bucket")))), "{found:?}");
        assert!(found.contains(&(String::from("app"), None)), "{found:?}");
        assert!(distribute(&url).await.unwrap().is_empty());
        PostgresKeyring::open(&url).await.unwrap();
    });
}

#[test]
fn a_refused_statement_is_one_line_and_leaves_nothing() {
    runtime().block_on(async {
        let url = empty_database(Cluster::shared()).await;
        execute(&url, PLAYED).await;
        migrate(&url).await.unwrap();
        let refused = format!("{url}&options=-ctest.refused%3Dkey");
        let error = distribute(&refused).await.unwrap_err();
        one_line(
            &error,
            &["refuses `SELECT create_distributed_table('key'", "no table was", "cannot distribute key (0A000)"],
        );
        assert!(spread(&url).await.is_empty());
        assert_eq!(distribute(&url).await.unwrap(), distribution());
    });
}
