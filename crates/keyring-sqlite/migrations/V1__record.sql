-- What the tables look like, and the oldest version of storekeeper that can still work with them: a deployment can be
-- rolled back by one version.
CREATE TABLE schema (
    version       INTEGER NOT NULL,
    oldest_reader INTEGER NOT NULL
);
INSERT INTO schema (version, oldest_reader) VALUES (1, 1);

-- A root key, wrapped by the master key.
CREATE TABLE root (
    generation INTEGER PRIMARY KEY,
    wrapped    BLOB NOT NULL,
    created_at INTEGER NOT NULL
);

-- An app's name stands in rows as its number. client_id is null until the app was saved: until then only its rows are known.
CREATE TABLE app (
    number         INTEGER PRIMARY KEY,
    name           TEXT NOT NULL UNIQUE,
    client_id      TEXT,
    paused_reason  TEXT,
    paused_detail  TEXT,
    paused_since   INTEGER,
    evidence_since INTEGER,
    condemned_day  INTEGER,
    condemned      INTEGER
);

-- Counts, kept in the transaction that changes what they count.
CREATE TABLE population (
    app      INTEGER NOT NULL,
    kind     INTEGER NOT NULL,
    total    INTEGER NOT NULL,
    revoked  INTEGER NOT NULL,
    refused  INTEGER NOT NULL,
    unproven INTEGER NOT NULL,
    PRIMARY KEY (app, kind)
) WITHOUT ROWID;

-- One enrolled key. Instants are milliseconds since the epoch, days are days since the epoch.
CREATE TABLE record (
    place           INTEGER PRIMARY KEY,
    id              BLOB NOT NULL,     -- 16 bytes
    app             INTEGER NOT NULL,
    kind            INTEGER NOT NULL,  -- 0 collections, 1 purchase
    user            TEXT NOT NULL,
    slot            TEXT NOT NULL,
    revision        INTEGER NOT NULL,
    witness         INTEGER NOT NULL,  -- 1: proven, active and nothing held against it
    failing         INTEGER NOT NULL,  -- 1: the last attempt failed, or a refusal is held against one of its keys
    issued_at       INTEGER NOT NULL,
    expires_at      INTEGER,           -- null when the claimed times are unusable
    next_attempt_at INTEGER,           -- null when none will be made
    revoked_at      INTEGER,
    last_used_day   INTEGER,
    fingerprint     BLOB NOT NULL,     -- 16 bytes
    body            BLOB NOT NULL,     -- all that no query looks at, packed
    newcomer        BLOB               -- packed; null when none waits
);

-- By name. No renewal touches these two. A player's rows without a slot, which are nearly all, have ids that can be
-- computed: only the others are listed.
CREATE UNIQUE INDEX record_id ON record (id);
CREATE INDEX record_user ON record (user, app) WHERE slot <> '';

-- What is due, in order of time; holds all that choosing, counting and finding witnesses need.
--
-- Time comes in periods of 2^19 ms, about nine minutes, and within a period the key issued last stands last. So the rows of
-- one commit, which were all issued just now and fall due days apart, are entered at the ends of a few hundred periods,
-- however many keys there are; by their very moments each would be entered on a page of its own.
CREATE INDEX record_due
    ON record (next_attempt_at >> 19, issued_at, next_attempt_at, expires_at, app, kind, revoked_at, witness)
    WHERE next_attempt_at IS NOT NULL;

-- What a wrong clock may have sent too far away.
CREATE INDEX record_failing ON record (next_attempt_at, expires_at, app, kind)
    WHERE failing = 1 AND next_attempt_at IS NOT NULL;

CREATE INDEX record_revoked ON record (id)
    WHERE revoked_at IS NOT NULL;

-- Rows that can lapse without being due before: few, unless nothing is renewed.
CREATE INDEX record_lapsing ON record (expires_at, next_attempt_at, app, kind)
    WHERE revoked_at IS NULL AND (next_attempt_at IS NULL OR next_attempt_at > expires_at);

-- Rows that can pass a deadline long before they are due: their next attempt is more than twelve days after they were
-- issued. All others are found by record_due.
CREATE INDEX record_aging ON record (issued_at, expires_at, next_attempt_at, app, kind)
    WHERE revoked_at IS NULL AND (next_attempt_at IS NULL OR next_attempt_at > issued_at + 1036800000);
