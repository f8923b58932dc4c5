//! Spreading the tables: all or none, what is spread already is left alone, and a refusal is one line. What a distributed
//! database answers is played by functions of the names that Citus has: the database itself is a plain one.

use storekeeper_keyring::KeyringError;
use storekeeper_keyring_postgres::{PostgresKeyring, catalogue, distributable, distribute, distribution, migrate};

use crate::cluster::Cluster;
use crate::database::{connect, empty_database, execute, runtime};

/// Each call notes its table where Citus does; one of them may be refused.
pub(crate) const PLAYED: &str = "
    CREATE TABLE pg_dist_partition (logicalrelid regclass, partmethod \"char\", partkey text, repmodel \"char\");
    CREATE TABLE pg_dist_node (shouldhaveshards boolean, isactive boolean, noderole text);
    CREATE FUNCTION column_to_column_name(t regclass, by text) RETURNS text LANGUAGE sql AS 'SELECT by';
    CREATE FUNCTION truncate_local_data_after_distributing_table(t regclass) RETURNS void LANGUAGE sql AS '';
    CREATE FUNCTION create_reference_table(t regclass) RETURNS void LANGUAGE sql AS
        'INSERT INTO pg_dist_partition VALUES (t, ''n'', NULL, ''t'')';
    CREATE FUNCTION create_distributed_table(t regclass, by text, colocate_with text DEFAULT 'default')
        RETURNS void LANGUAGE plpgsql AS $$ BEGIN
            IF current_setting('test.refused', true) = t::text THEN
                RAISE EXCEPTION 'cannot distribute %', t USING ERRCODE = '0A000', DETAIL = 'secret rows';
            END IF;
            INSERT INTO pg_dist_partition VALUES (t, 'h', by, 's');
        END $$";

async fn spread(url: &str) -> Vec<(String, Option<String>)> {
    let rows = "SELECT logicalrelid::text, partkey FROM pg_dist_partition ORDER BY 1";
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
        assert_eq!(found.len(), catalogue::REFERENCE_TABLES.len() + catalogue::DISTRIBUTED_TABLES.len());
        assert!(found.contains(&(String::from("key"), Some(String::from("bucket")))), "{found:?}");
        assert!(found.contains(&(String::from("app"), None)), "{found:?}");
        assert!(distribute(&url).await.unwrap().is_empty());
        PostgresKeyring::open(&url).await.unwrap();
    });
}

#[test]
fn what_cannot_be_spread_is_one_line_that_says_what_to_do() {
    runtime().block_on(async {
        let url = empty_database(Cluster::shared()).await;
        one_line(&distributable(&url).await.unwrap_err(), &["is not distributed", "CREATE EXTENSION citus"]);
        execute(&url, PLAYED).await;
        distributable(&url).await.unwrap();
        execute(&url, "INSERT INTO pg_dist_node VALUES (false, true, 'primary')").await;
        one_line(&distributable(&url).await.unwrap_err(), &["no node to spread tables over", "citus_add_node("]);
        migrate(&url).await.unwrap();
        one_line(&distribute(&url).await.unwrap_err(), &["no node to spread tables over"]);
        execute(&url, "INSERT INTO pg_dist_node VALUES (true, true, 'primary')").await;
        execute(&url, "INSERT INTO pg_dist_partition VALUES ('key', 'h', 'app', 's')").await;
        one_line(
            &distribute(&url).await.unwrap_err(),
            &["the table key", "not by its bucket", "undistribute_table('key')"],
        );
        // A table that is merely known of is spread, one that is spread is left alone.
        execute(&url, "UPDATE pg_dist_partition SET partkey = 'bucket'").await;
        execute(&url, "INSERT INTO pg_dist_partition VALUES ('app', 'n', NULL, 's')").await;
        let run = distribute(&url).await.unwrap();
        let creates = |table| run.iter().any(|run| run.contains(&format!("SELECT create_reference_table('{table}")));
        assert!(creates("app") && creates("lease") && !run.iter().any(|run| run.contains("'key'")), "{run:?}");
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
