//! Every statement that is sent to the database. They name `bucket` in every predicate, take time as a parameter and use
//! nothing that a distributed PostgreSQL lacks; a test holds each of them against these rules and looks at its plan.

/// A statement; its first line names the function that sends it.
pub type Statement = &'static str;

/// What a query has to select for `row::decode`, in this order.
macro_rules! columns {
    () => {
        "key.id, key.app, key.kind, key.user_name, key.slot, key.revision, key.issued_at, key.expires_at, \
         key.next_attempt_at, key.revoked_at, key.last_used_day, key.fingerprint, key.body, key.newcomer"
    };
}

/// Which tables there are: their version, and the oldest version that can work with them.
pub const SCHEMA_FOUND: Statement = "-- schema::found
    SELECT version, oldest_reader FROM schema WHERE bucket = 0";

/// What each session is told first. Statements find rows by index, however young the statistics are, in the order of the
/// index where that is asked for, and few rows without a map of pages made for each; a group of writes and the order of a backlog are held in memory; and a commit is durable when
/// it returns, whatever the server was told (a stricter setting stands).
pub const SESSION: Statement = "-- connect::session
    SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_sort = off;
    SET jit = off; SET work_mem = '32MB'; SET enable_memoize = off; SET random_page_cost = 1.1;
    SET default_transaction_isolation = 'read committed';
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// What a session is told besides where the tables are spread: one connection to each node, so that what a transaction
/// reads of a node is one state of affairs there, and a setting of a transaction holds on all nodes.
pub const SESSION_SPREAD: Statement = "-- connect::spread
    SET citus.max_adaptive_executor_pool_size = 1; SET citus.propagate_set_commands = 'local'";

/// How durable a commit is in this session.
pub const DURABLE: Statement = "-- distribution::durable
    SELECT current_setting('synchronous_commit')";

/// What a transaction that writes begins with where the tables are spread: other nodes have settings of their own.
pub fn durable_everywhere(how: &str) -> String {
    format!("SET LOCAL synchronous_commit = {how}")
}

/// The numbers of all apps.
pub const NAMES_LOAD: Statement = "-- names::load
    SELECT number, name FROM app WHERE bucket = 0";

/// Gives an app its number; does nothing if somebody else was faster.
pub const NAMES_ADD: Statement = "-- names::add
    INSERT INTO app (bucket, number, name)
    SELECT 0, coalesce(max(number), 0) + 1, $1::text FROM app WHERE bucket = 0
    ON CONFLICT DO NOTHING";

/// Rows by bucket and id.
pub const FIND: Statement = concat!(
    "-- find::find
    SELECT ",
    columns!(),
    " FROM unnest($1::smallint[], $2::bytea[]) AS asked (bucket, id)
    JOIN key ON key.bucket = asked.bucket AND key.id = asked.id"
);

/// The same where the tables are spread: it goes to the nodes that hold these buckets, and nowhere else.
pub const FIND_SPREAD: Statement = concat!(
    "-- find::spread
    SELECT ",
    columns!(),
    " FROM key WHERE key.bucket = ANY ($1::smallint[]) AND key.id = ANY ($2::bytea[])"
);

/// All rows of a player that have a slot.
pub const FIND_OF_USER: Statement = concat!(
    "-- find::of_user
    SELECT ",
    columns!(),
    " FROM key WHERE bucket BETWEEN $1 AND $2 AND user_name = $3 AND app = $4 AND slot <> ''"
);

/// The first of what became due between two instants, in the order of risk, in these buckets: one bit each, or null for
/// all. Bits are looked up in the time of one, and leave the choice of the index alone.
pub const DUE_WAITING: Statement = "-- due::waiting
    SELECT id, expires_at FROM key
    WHERE bucket BETWEEN $1 AND $2 AND next_attempt_at >> 14 BETWEEN $3::bigint >> 14 AND $4::bigint >> 14
        AND next_attempt_at > $3 AND next_attempt_at <= $4
        AND app * 2 + kind <> ALL ($5::integer[]) AND ($7::bytea IS NULL OR get_bit($7::bytea, bucket) = 1)
    ORDER BY expires_at NULLS FIRST, id LIMIT $6";

/// All that is due by an instant, whole and in no order, if that is less than a limit: one walk and one answer.
pub const DUE_FEW: Statement = concat!(
    "-- due::few
    SELECT ",
    columns!(),
    " FROM key
    WHERE bucket BETWEEN $1 AND $2 AND next_attempt_at >> 14 BETWEEN 0 AND $3::bigint >> 14 AND next_attempt_at <= $3
        AND app * 2 + kind <> ALL ($4::integer[]) AND ($6::bytea IS NULL OR get_bit($6::bytea, bucket) = 1)
    LIMIT $5"
);

/// The first of what a wrong clock has sent too far away.
pub const DUE_IMPOSSIBLE: Statement = "-- due::impossible
    SELECT id, expires_at FROM key
    WHERE bucket BETWEEN $1 AND $2 AND failing AND next_attempt_at > $3 AND app * 2 + kind <> ALL ($4::integer[])
        AND ($6::bytea IS NULL OR get_bit($6::bytea, bucket) = 1)
    ORDER BY expires_at NULLS FIRST, id LIMIT $5";

/// The next attempt that is not yet due, nor impossible.
pub const DUE_NEXT: Statement = "-- due::next
    SELECT next_attempt_at FROM key
    WHERE bucket BETWEEN $1 AND $2 AND next_attempt_at >> 14 >= $3::bigint >> 14 AND next_attempt_at > $3
        AND NOT (failing AND next_attempt_at > $4) AND ($5::bytea IS NULL OR get_bit($5::bytea, bucket) = 1)
    ORDER BY next_attempt_at >> 14, next_attempt_at LIMIT 1";

/// Who can bear witness among the first rows to be due.
pub const WITNESSES: Statement = "-- witness::witnesses
    SELECT id FROM (
        SELECT id, app, witness, expires_at, next_attempt_at FROM key
        WHERE bucket BETWEEN $1 AND $2 AND next_attempt_at IS NOT NULL
        ORDER BY next_attempt_at >> 14 LIMIT $3) AS key
    WHERE app = $4 AND witness AND expires_at > $5 AND id <> $6
    ORDER BY next_attempt_at LIMIT $7";

/// Some rows behind a cursor, in order, and whether each is asked for.
pub const PAGE: Statement = "-- page::page
    SELECT id, ($4::integer IS NULL OR app = $4) AND ($5::boolean IS NULL OR (revoked_at IS NOT NULL) = $5)
        AND ($6::bigint IS NULL OR coalesce(expires_at <= $6, false))
        AND ($7::bigint IS NULL OR coalesce(expires_at > $7, true))
        AND ($8::bigint IS NULL OR coalesce(next_attempt_at < $8, false))
    FROM key WHERE bucket >= $1 AND id > $2 ORDER BY id LIMIT $3";

/// The same among revoked rows.
pub const PAGE_REVOKED: Statement = "-- page::revoked
    SELECT id, ($4::integer IS NULL OR app = $4) AND ($5::boolean IS NULL OR (revoked_at IS NOT NULL) = $5)
        AND ($6::bigint IS NULL OR coalesce(expires_at <= $6, false))
        AND ($7::bigint IS NULL OR coalesce(expires_at > $7, true))
        AND ($8::bigint IS NULL OR coalesce(next_attempt_at < $8, false))
    FROM key WHERE bucket >= $1 AND revoked_at IS NOT NULL AND id > $2 ORDER BY id LIMIT $3";

/// The counts that are kept.
pub const COUNT_POPULATION: Statement = "-- count::population
    SELECT app, kind, sum(total)::bigint, sum(revoked)::bigint, sum(refused)::bigint, sum(unproven)::bigint
    FROM population WHERE bucket BETWEEN $1 AND $2 GROUP BY app, kind HAVING sum(total) > 0";

/// What has lapsed and what is late, of the rows whose next attempt is due.
pub const COUNT_WAITING: Statement = "-- count::waiting
    SELECT app, kind, count(*) FILTER (WHERE expires_at <= $3),
        count(*) FILTER (WHERE (expires_at IS NULL OR expires_at > $3) AND next_attempt_at < $3)
    FROM key WHERE bucket BETWEEN $1 AND $2 AND next_attempt_at >> 14 BETWEEN 0 AND $3::bigint >> 14 AND next_attempt_at <= $3
        AND revoked_at IS NULL
        AND (NOT lapsing OR expires_at IS NULL OR expires_at > $3)
    GROUP BY app, kind";

/// What has lapsed, of the rows whose next attempt comes after that.
pub const COUNT_LAPSING: Statement = "-- count::lapsing
    SELECT app, kind, count(*) FROM key
    WHERE bucket BETWEEN $1 AND $2 AND lapsing AND expires_at <= $3
        AND next_attempt_at IS DISTINCT FROM 9223372036854775806
    GROUP BY app, kind";

/// What is past its deadline, of the rows whose next attempt comes within twelve days of `iat`.
pub const COUNT_OVERDUE: Statement = "-- count::overdue
    SELECT key.app, key.kind, count(*) FROM key
    JOIN unnest($5::integer[], $6::bigint[]) AS deadline (app, issued_before) ON deadline.app = key.app
    WHERE key.bucket BETWEEN $1 AND $2 AND key.next_attempt_at >> 14 BETWEEN 0 AND $4::bigint >> 14
        AND key.next_attempt_at <= $4 AND key.revoked_at IS NULL AND NOT key.aging
        AND key.issued_at < deadline.issued_before AND (key.expires_at IS NULL OR key.expires_at > $3)
    GROUP BY key.app, key.kind";

/// The same of all others.
pub const COUNT_AGING: Statement = "-- count::aging
    SELECT key.app, key.kind, count(*) FROM key
    JOIN unnest($5::integer[], $6::bigint[]) AS deadline (app, issued_before) ON deadline.app = key.app
    WHERE key.bucket BETWEEN $1 AND $2 AND key.aging AND key.issued_at < $4
        AND key.issued_at < deadline.issued_before AND (key.expires_at IS NULL OR key.expires_at > $3)
        AND key.next_attempt_at IS DISTINCT FROM 9223372036854775806
    GROUP BY key.app, key.kind";

/// What is handed over to another keeper, and when the first key of it expires that has not yet.
pub const COUNT_HANDED_OVER: Statement = "-- count::handed_over
    SELECT app, kind, count(*), min(expires_at) FILTER (WHERE expires_at > $3) FROM key
    WHERE bucket BETWEEN $1 AND $2 AND next_attempt_at >> 14 = 9223372036854775806 >> 14
        AND next_attempt_at = 9223372036854775806 AND revoked_at IS NULL
    GROUP BY app, kind";

/// Every saved app.
pub const APPS: Statement = "-- apps::apps
    SELECT name, client_id, paused_reason, paused_detail, paused_since, evidence_since, condemned_day, condemned
    FROM app WHERE bucket = 0 AND client_id IS NOT NULL ORDER BY name";

/// What is known of an app, whose name has its number by now.
pub const APPS_SAVE: Statement = "-- apps::save
    UPDATE app SET client_id = $2, paused_reason = $3, paused_detail = $4, paused_since = $5, evidence_since = $6,
        condemned_day = $7, condemned = $8
    WHERE bucket = 0 AND name = $1";

/// Every root.
pub const ROOTS: Statement = "-- apps::roots
    SELECT generation, wrapped, created_at FROM root WHERE bucket = 0 ORDER BY generation";

/// A new root; does nothing if there is one of this generation.
pub const ROOTS_ADD: Statement = "-- apps::add_root
    INSERT INTO root (bucket, generation, wrapped, created_at) VALUES (0, $1, $2, $3)
    ON CONFLICT (bucket, generation) DO NOTHING";

// Statements that write given rows come in two forms. On a plain database one statement is about rows of any buckets, and
// its first parameter holds the bucket of each. Where the tables are spread there is one for each bucket (a new row has one
// of its own), which goes to the one node that holds it: its first parameter is that bucket, the others are the same.

/// New rows; answers the ids of those that were new.
pub const SETTLE_INSERT: Statement = "-- settle::insert
    INSERT INTO key (bucket, id, revision, witness, failing, lapsing, aging, issued_at, expires_at, next_attempt_at,
        revoked_at, last_used_day, fingerprint, body, newcomer, app, kind, user_name, slot)
    SELECT bucket, id, revision, witness, failing, lapsing, aging, issued_at, expires_at, next_attempt_at,
        revoked_at, last_used_day, fingerprint, body, newcomer, app, kind, user_name, slot
    FROM unnest($1::smallint[], $2::bytea[], $3::bigint[], $4::boolean[], $5::boolean[], $6::boolean[], $7::boolean[],
        $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::integer[], $13::bytea[], $14::bytea[],
        $15::bytea[], $16::integer[], $17::smallint[], $18::bytea[], $19::bytea[])
        AS new (bucket, id, revision, witness, failing, lapsing, aging, issued_at, expires_at, next_attempt_at,
        revoked_at, last_used_day, fingerprint, body, newcomer, app, kind, user_name, slot)
    ON CONFLICT (bucket, id) DO NOTHING RETURNING id";

/// One new row; answers its id if it was new.
pub const SETTLE_INSERT_IN: Statement = "-- settle::insert_in
    INSERT INTO key (bucket, id, revision, witness, failing, lapsing, aging, issued_at, expires_at, next_attempt_at,
        revoked_at, last_used_day, fingerprint, body, newcomer, app, kind, user_name, slot)
    VALUES ($1::smallint, ($2::bytea[])[1], ($3::bigint[])[1], ($4::boolean[])[1], ($5::boolean[])[1],
        ($6::boolean[])[1], ($7::boolean[])[1], ($8::bigint[])[1], ($9::bigint[])[1], ($10::bigint[])[1],
        ($11::bigint[])[1], ($12::integer[])[1], ($13::bytea[])[1], ($14::bytea[])[1], ($15::bytea[])[1],
        ($16::integer[])[1], ($17::smallint[])[1], ($18::bytea[])[1], ($19::bytea[])[1])
    ON CONFLICT (bucket, id) DO NOTHING RETURNING id";

macro_rules! settle_update {
    ($name:literal, $unnest:literal, $named:literal, $bucket:literal) => {
        concat!(
            "-- ",
            $name,
            "
    UPDATE key SET revision = new.revision, witness = new.witness, failing = new.failing, lapsing = new.lapsing,
        aging = new.aging, issued_at = new.issued_at, expires_at = new.expires_at,
        next_attempt_at = new.next_attempt_at, revoked_at = new.revoked_at,
        last_used_day = greatest(key.last_used_day, new.last_used_day), fingerprint = new.fingerprint,
        body = new.body, newcomer = new.newcomer
    FROM unnest(",
            $unnest,
            "$2::bytea[], $3::bigint[], $4::boolean[], $5::boolean[], $6::boolean[], $7::boolean[],
        $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::integer[], $13::bytea[], $14::bytea[],
        $15::bytea[], $16::bigint[], $17::bytea[])
        AS new (",
            $named,
            "id, revision, witness, failing, lapsing, aging, issued_at, expires_at, next_attempt_at,
        revoked_at, last_used_day, fingerprint, body, newcomer, expected_revision, expected_fingerprint)
    WHERE key.bucket = ",
            $bucket,
            " AND key.id = new.id AND key.revision = new.expected_revision
        AND key.fingerprint = new.expected_fingerprint
    RETURNING key.id"
        )
    };
}

/// Rows in the place of those expected; answers the ids of those that still stood.
pub const SETTLE_UPDATE: Statement = settle_update!("settle::update", "$1::smallint[], ", "bucket, ", "new.bucket");

/// The same in one bucket.
pub const SETTLE_UPDATE_IN: Statement = settle_update!("settle::update_in", "", "", "$1");

/// Removes the rows expected; answers the ids of those that still stood.
pub const SETTLE_FORGET: Statement = "-- settle::forget
    DELETE FROM key USING unnest($1::smallint[], $2::bytea[], $3::bigint[], $4::bytea[])
        AS old (bucket, id, expected_revision, expected_fingerprint)
    WHERE key.bucket = old.bucket AND key.id = old.id AND key.revision = old.expected_revision
        AND key.fingerprint = old.expected_fingerprint
    RETURNING key.id";

/// The same in one bucket.
pub const SETTLE_FORGET_IN: Statement = "-- settle::forget_in
    DELETE FROM key USING unnest($2::bytea[], $3::bigint[], $4::bytea[])
        AS old (id, expected_revision, expected_fingerprint)
    WHERE key.bucket = $1 AND key.id = old.id AND key.revision = old.expected_revision
        AND key.fingerprint = old.expected_fingerprint
    RETURNING key.id";

/// Adds up what a group changed in the counts.
pub const SETTLE_COUNT: Statement = "-- settle::count
    INSERT INTO population (bucket, app, kind, total, revoked, refused, unproven)
    SELECT bucket, app, kind, total, revoked, refused, unproven
    FROM unnest($1::smallint[], $2::integer[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
        AS change (bucket, app, kind, total, revoked, refused, unproven)
    ON CONFLICT (bucket, app, kind) DO UPDATE SET total = population.total + excluded.total,
        revoked = population.revoked + excluded.revoked, refused = population.refused + excluded.refused,
        unproven = population.unproven + excluded.unproven";

/// Adds up what a group changed in one of the counts.
pub const SETTLE_COUNT_IN: Statement = "-- settle::count_in
    INSERT INTO population (bucket, app, kind, total, revoked, refused, unproven)
    VALUES ($1::smallint, ($2::integer[])[1], ($3::smallint[])[1], ($4::bigint[])[1], ($5::bigint[])[1],
        ($6::bigint[])[1], ($7::bigint[])[1])
    ON CONFLICT (bucket, app, kind) DO UPDATE SET total = population.total + excluded.total,
        revoked = population.revoked + excluded.revoked, refused = population.refused + excluded.refused,
        unproven = population.unproven + excluded.unproven";

/// Notes the days on which keys were read.
pub const SETTLE_NOTE_USED: Statement = "-- settle::note_used
    UPDATE key SET last_used_day = used.day
    FROM unnest($1::smallint[], $2::bytea[], $3::integer[]) AS used (bucket, id, day)
    WHERE key.bucket = used.bucket AND key.id = used.id
        AND (key.last_used_day IS NULL OR key.last_used_day < used.day)";

/// The same in one bucket.
pub const SETTLE_NOTE_USED_IN: Statement = "-- settle::note_used_in
    UPDATE key SET last_used_day = used.day
    FROM unnest($2::bytea[], $3::integer[]) AS used (id, day)
    WHERE key.bucket = $1 AND key.id = used.id AND (key.last_used_day IS NULL OR key.last_used_day < used.day)";

/// What is known of an app, if it is still as it was seen.
pub const APPS_CHANGE: Statement = "-- apps::change
    UPDATE app SET client_id = $2, paused_reason = $3, paused_detail = $4, paused_since = $5, evidence_since = $6,
        condemned_day = $7, condemned = $8
    WHERE bucket = 0 AND name = $1 AND client_id = $9 AND paused_reason IS NOT DISTINCT FROM $10
        AND paused_detail IS NOT DISTINCT FROM $11 AND paused_since IS NOT DISTINCT FROM $12
        AND evidence_since IS NOT DISTINCT FROM $13 AND condemned_day IS NOT DISTINCT FROM $14
        AND condemned IS NOT DISTINCT FROM $15
    RETURNING name";

/// Moves a node's beat, or makes its row.
pub const NODE_BEAT: Statement = "-- lease::beat
    INSERT INTO node (bucket, id, name, beat, draining, clock) VALUES (0, $1, $2, 1, $3::boolean OR $4::boolean, $5)
    ON CONFLICT (bucket, id) DO UPDATE SET beat = node.beat + 1, draining = node.draining OR $4::boolean,
        clock = excluded.clock";

/// Every node.
pub const NODES: Statement = "-- lease::nodes
    SELECT id, name, beat, draining, clock FROM node WHERE bucket = 0 ORDER BY id";

/// Tells a node to give its leases back.
pub const NODE_DRAIN: Statement = "-- lease::drain_node
    UPDATE node SET draining = true WHERE bucket = 0 AND id = $1 RETURNING id";

/// Lets a node take leases again.
pub const NODE_UNDRAIN: Statement = "-- lease::undrain_node
    UPDATE node SET draining = false WHERE bucket = 0 AND id = $1 RETURNING id";

/// Removes a node whose beat is still as it was seen.
pub const NODE_REMOVE: Statement = "-- lease::remove_node
    DELETE FROM node WHERE bucket = 0 AND id = $1 AND beat = $2 RETURNING id";

/// Every lease.
pub const LEASES: Statement = "-- lease::leases
    SELECT bucket, owner, term FROM lease WHERE bucket BETWEEN $1 AND $2 ORDER BY bucket";

/// Leases that change hands, if they are as they were seen; answers the buckets of those.
pub const LEASE_CHANGE: Statement = "-- lease::change
    UPDATE lease SET owner = new.owner, term = lease.term + 1
    FROM unnest($1::smallint[], $2::bigint[], $3::bytea[], $4::bytea[]) AS new (bucket, seen_term, seen_owner, owner)
    WHERE lease.bucket = new.bucket AND lease.term = new.seen_term
        AND lease.owner IS NOT DISTINCT FROM new.seen_owner
    RETURNING lease.bucket";

/// Every table but those that a bucket spreads: a distributed database keeps all of their rows on each of its nodes. They
/// are few, and read far more often than changed; each node of a fleet reads every lease at every beat.
pub const REFERENCE_TABLES: &[&str] = &["schema", "root", "app", "node", "lease"];

/// The tables that a distributed database spreads by their bucket, each bucket's rows together.
pub const DISTRIBUTED_TABLES: &[&str] = &["population", "key"];

/// What spreads those of the tables that are not spread yet, in this order and in one transaction. What stays behind, unseen,
/// where a table stood before is removed: keys that somebody had forgotten would outlive that.
pub fn distribution(is_spread: impl Fn(&str) -> bool) -> Vec<String> {
    let reference = REFERENCE_TABLES.iter().map(|table| (*table, format!("create_reference_table('{table}')")));
    let distributed = DISTRIBUTED_TABLES.iter().enumerate().map(|(at, table)| {
        let beside = if at > 0 { format!(", colocate_with => '{}'", DISTRIBUTED_TABLES[0]) } else { String::new() };
        (*table, format!("create_distributed_table('{table}', 'bucket'{beside})"))
    });
    let wanted = reference.chain(distributed).filter(|(table, _)| !is_spread(table));
    let (tables, created): (Vec<&str>, Vec<String>) = wanted.unzip();
    let removed = tables.iter().map(|table| format!("truncate_local_data_after_distributing_table('{table}')"));
    created.into_iter().chain(removed).map(|call| format!("SELECT {call}")).collect()
}

/// Whether the database is a distributed one.
pub const DISTRIBUTION_KNOWN: Statement = "-- distribution::known
    SELECT to_regclass('pg_dist_partition') IS NOT NULL";

/// The tables that are spread already, and the column that spreads each: none if all nodes keep all of it. Only a distributed
/// database understands it. A table that it merely knows of (`s` without a column) is not spread.
pub const DISTRIBUTION_FOUND: Statement = "-- distribution::found
    SELECT logicalrelid::text, CASE partmethod WHEN 'n' THEN NULL ELSE column_to_column_name(logicalrelid, partkey) END
    FROM pg_dist_partition WHERE partmethod <> 'n' OR repmodel = 't'";

/// How many nodes may hold rows of their own, and how many there are.
pub const DISTRIBUTION_NODES: Statement = "-- distribution::nodes
    SELECT count(*) FILTER (WHERE shouldhaveshards AND isactive), count(*) FROM pg_dist_node WHERE noderole = 'primary'";

/// One node after the other: tables of both kinds are spread in one transaction.
pub const DISTRIBUTION_BEGIN: Statement = "-- distribution::begin
    BEGIN; SET LOCAL citus.multi_shard_modify_mode = 'sequential'";

/// What a keeper has to be allowed. Names are quoted, so that they are names whatever they hold.
pub fn grant(user: &str) -> String {
    let tables: Vec<&str> = REFERENCE_TABLES.iter().chain(DISTRIBUTED_TABLES).copied().collect();
    let user = user.replace('"', "\"\"");
    format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO \"{user}\"", tables.join(", "))
}

/// How many tables there are, and whether a measurement made them.
pub const SCRATCH_FOUND: Statement = "-- scratch::found
    SELECT count(*), count(*) FILTER (WHERE tablename = 'made_by_bench')
    FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";

/// How much disk some tables take, with their indexes.
pub const SCRATCH_BYTES: Statement = "-- scratch::bytes
    SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
    WHERE relkind = 'r' AND relname = ANY ($1::text[])";

/// Reads every row.
pub const SCRATCH_READ: Statement = "-- scratch::read
    SELECT sum(octet_length(body)) FROM key";

/// Removes them all.
pub const SCRATCH_EMPTY: Statement = "-- scratch::empty
    DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE TABLE made_by_bench ()";

/// All that keepers send.
pub const ALL: &[Statement] = &[
    SCHEMA_FOUND,
    SESSION,
    NAMES_LOAD,
    NAMES_ADD,
    FIND,
    FIND_SPREAD,
    FIND_OF_USER,
    DUE_WAITING,
    DUE_FEW,
    DUE_IMPOSSIBLE,
    DUE_NEXT,
    WITNESSES,
    PAGE,
    PAGE_REVOKED,
    COUNT_POPULATION,
    COUNT_WAITING,
    COUNT_LAPSING,
    COUNT_OVERDUE,
    COUNT_AGING,
    COUNT_HANDED_OVER,
    APPS,
    APPS_SAVE,
    APPS_CHANGE,
    ROOTS,
    ROOTS_ADD,
    SETTLE_INSERT,
    SETTLE_INSERT_IN,
    SETTLE_UPDATE,
    SETTLE_UPDATE_IN,
    SETTLE_FORGET,
    SETTLE_FORGET_IN,
    SETTLE_COUNT,
    SETTLE_COUNT_IN,
    SETTLE_NOTE_USED,
    SETTLE_NOTE_USED_IN,
    NODE_BEAT,
    NODES,
    NODE_DRAIN,
    NODE_UNDRAIN,
    NODE_REMOVE,
    LEASES,
    LEASE_CHANGE,
];
