-- `bucket` stands in every primary key and unique index, also where it is always 0, so that a distributed PostgreSQL can
-- spread the same tables by it. Nothing here relies on the server's clock, on triggers or on sequences.

-- What the tables look like, and the oldest version of storekeeper that can still work with them: a deployment can be
-- rolled back by one version.
CREATE TABLE schema (
    bucket        smallint NOT NULL PRIMARY KEY CHECK (bucket = 0),
    version       integer NOT NULL,
    oldest_reader integer NOT NULL
);
INSERT INTO schema (bucket, version, oldest_reader) VALUES (0, 1, 1);

-- A root key, wrapped by the master key.
CREATE TABLE root (
    bucket     smallint NOT NULL CHECK (bucket = 0),
    generation integer NOT NULL,
    wrapped    bytea NOT NULL,
    created_at bigint NOT NULL,
    PRIMARY KEY (bucket, generation)
);

-- An app's name stands in rows as its number. client_id is null until the app was saved: until then only its rows are
-- known.
CREATE TABLE app (
    bucket         smallint NOT NULL CHECK (bucket = 0),
    number         integer NOT NULL,
    name           text NOT NULL,
    client_id      text,
    paused_reason  text,
    paused_detail  text,
    paused_since   bigint,
    evidence_since bigint,
    condemned_day  bigint,
    condemned      bigint,
    PRIMARY KEY (bucket, number),
    UNIQUE (bucket, name)
);

-- Counts, kept in the transaction that changes what they count. Each keeper adds to rows of its own, in a bucket it has
-- drawn, so that keepers do not wait for each other: only the sum says something, a row alone may be negative. Pages keep
-- room, so that a change stays on its page and touches no index.
CREATE TABLE population (
    bucket   smallint NOT NULL,
    app      integer NOT NULL,
    kind     smallint NOT NULL,
    total    bigint NOT NULL,
    revoked  bigint NOT NULL,
    refused  bigint NOT NULL,
    unproven bigint NOT NULL,
    PRIMARY KEY (bucket, app, kind)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- One enrolled key. Instants are milliseconds since the epoch, days are days since the epoch. Wide columns come first:
-- then no byte is lost to alignment.
--
-- Pages are filled to the brim: whatever renews a key changes next_attempt_at, which is indexed, so that room on the page
-- would not spare the indexes anything. (It would when last_used_day is noted; the room that renewed rows leave behind
-- serves that.)
CREATE TABLE key (
    revision        bigint NOT NULL,
    issued_at       bigint NOT NULL,
    expires_at      bigint,             -- null when the claimed times are unusable
    next_attempt_at bigint,             -- null when none will be made
    revoked_at      bigint,
    app             integer NOT NULL,
    last_used_day   integer,
    bucket          smallint NOT NULL,  -- the top 12 bits of id
    kind            smallint NOT NULL,  -- 0 collections, 1 purchase
    witness         boolean NOT NULL,   -- proven, active and nothing held against it
    failing         boolean NOT NULL,   -- the last attempt failed, or a refusal is held against one of its keys
    lapsing         boolean NOT NULL,   -- not revoked, and the next attempt comes after exp, or never
    aging           boolean NOT NULL,   -- not revoked, and the next attempt comes more than twelve days after iat, or never
    id              bytea NOT NULL,     -- 16 bytes
    fingerprint     bytea NOT NULL,     -- 16 bytes
    user_name       bytea NOT NULL,     -- UTF-8; a name may hold a zero byte, which text cannot
    slot            bytea NOT NULL,     -- UTF-8
    body            bytea NOT NULL,     -- all that no query looks at, packed and sealed
    newcomer        bytea,              -- packed; null when none waits
    -- The id leads, here and below: it begins with the bucket's bits, so that the order is the same. An index that is led
    -- by the bucket would be taken, where statistics are young or not looked at, for a scan of "these buckets", which are
    -- all rows.
    PRIMARY KEY (id, bucket)
) WITH (
    fillfactor = 100,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.02
);

-- Sealed text does not compress.
ALTER TABLE key ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE key ALTER COLUMN newcomer SET STORAGE EXTERNAL;

-- A player's rows without a slot, which are nearly all, have ids that can be computed. Only the others are listed: every
-- renewal enters its row anew into each index that holds it.
CREATE INDEX key_user ON key (user_name, app) WHERE slot <> '';

-- What is due, in order of time. Time leads, not the bucket: one walk finds what is due in all buckets, where an index
-- by bucket would have to be entered 4096 times though nothing is due.
--
-- Time comes in periods of 2^14 ms, about sixteen seconds: of millions of keys hundreds fall due in each, and an entry that
-- is like others takes six bytes instead of twenty. The index is so small that its pages stay in memory.
CREATE INDEX key_due ON key ((next_attempt_at >> 14)) WHERE next_attempt_at IS NOT NULL;

-- What a wrong clock may have sent too far away.
CREATE INDEX key_failing ON key (next_attempt_at, bucket) WHERE failing AND next_attempt_at IS NOT NULL;

CREATE INDEX key_revoked ON key (id, bucket) WHERE revoked_at IS NOT NULL;

-- Rows that can lapse without being due before: few, unless nothing is renewed.
CREATE INDEX key_lapsing ON key (expires_at, bucket) WHERE lapsing;

-- Rows that can pass a deadline long before they are due. All others are found by key_due.
CREATE INDEX key_aging ON key (issued_at, bucket) WHERE aging;

-- A run of a keeper. Its beat moves while it is at work; whether it has stood still for too long, every other node judges
-- by its own clock. The row is changed in place once a second: its page keeps room.
CREATE TABLE node (
    bucket   smallint NOT NULL CHECK (bucket = 0),
    id       bytea NOT NULL,            -- 16 random bytes
    name     text NOT NULL,
    beat     bigint NOT NULL,
    draining boolean NOT NULL,
    PRIMARY KEY (bucket, id)
) WITH (fillfactor = 20);

-- Whose each bucket is: null is anybody's. Each change raises the term, and is made only if owner and term are as they were
-- seen. A lease has no beat of its own: it beats with its owner.
CREATE TABLE lease (
    bucket smallint NOT NULL PRIMARY KEY,
    owner  bytea,
    term   bigint NOT NULL
) WITH (fillfactor = 50);
INSERT INTO lease (bucket, owner, term) SELECT number, NULL, 0 FROM generate_series(0, 4095) AS numbers (number);
