-- One row: the registered pools and the flavors, as JSON text in which URIs may be encrypted (storage/pools.py).
CREATE TABLE pools (revision INTEGER NOT NULL, content BLOB NOT NULL);
INSERT INTO pools VALUES (0, x'');
