-- What a node says of its own clock, so that one whose clock is wrong gives its leases to one whose clock is right. No instant:
-- null is unknown (as of a version that does not say), 1 agrees with the Store's, 2 differs by more than five minutes. The
-- column is added without rewriting the table, and version 1 neither reads nor writes it.
ALTER TABLE node ADD COLUMN clock smallint;

UPDATE schema SET version = 2, oldest_reader = 1 WHERE bucket = 0;
