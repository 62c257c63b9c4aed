-- What the sweeper does now and then, and when somebody last began it, so that one process of many does it. The parts of
-- the object store that are compared with the tables are such chores, too.
CREATE TABLE media_chores (
    name text PRIMARY KEY,
    begun_at timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO media_chores (name) VALUES ('expired'), ('uploads'), ('leftovers'), ('images/');
INSERT INTO media_chores (name) SELECT 'objects/' || lpad(to_hex(part), 2, '0') || '/' FROM generate_series(0, 255) AS part;

-- Who we are to the object store: nothing is removed there as unknown while it also belongs to somebody else.
CREATE TABLE media_installation (id uuid PRIMARY KEY DEFAULT gen_random_uuid());
INSERT INTO media_installation DEFAULT VALUES;
