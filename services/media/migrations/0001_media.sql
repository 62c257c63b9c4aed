-- What is stored, once for the same bytes, whoever brought them.
CREATE TABLE media_objects (
    sha256 bytea PRIMARY KEY CHECK (length(sha256) = 32),
    media_id text NOT NULL UNIQUE,              -- the id that these bytes have
    key text NOT NULL UNIQUE,                   -- where the store has them; never used twice
    mime text NOT NULL,
    bytes integer NOT NULL CHECK (bytes > 0),
    width integer NOT NULL CHECK (width > 0),
    height integer NOT NULL CHECK (height > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    used_at timestamptz NOT NULL DEFAULT now()  -- retention counts from here
);
CREATE INDEX media_objects_used_at ON media_objects (used_at);

-- Ids that were given out and whose bytes have come: that of the object, and those of uploads that turned out to be the same.
CREATE TABLE media (
    id text PRIMARY KEY,
    sha256 bytea NOT NULL REFERENCES media_objects ON DELETE CASCADE
);
CREATE INDEX media_sha256 ON media (sha256);

-- Who brought it, and so can read it.
CREATE TABLE media_references (
    media_id text NOT NULL REFERENCES media ON DELETE CASCADE,
    user_id text NOT NULL,
    filename text,
    label text,                                 -- `user_id` of the request, for the client's own use
    deduped boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (media_id, user_id)
);
CREATE INDEX media_references_of_user ON media_references (user_id, created_at DESC, media_id DESC);

-- Ids that were given out and whose bytes have not been seen yet.
CREATE TABLE media_uploads (
    id text PRIMARY KEY,
    user_id text NOT NULL,
    mime text NOT NULL,
    filename text,
    label text,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL             -- when it vanishes if the bytes have not come
);
CREATE INDEX media_uploads_expires_at ON media_uploads (expires_at);

-- Keys whose object has no row: it is about to get one, or has lost it. Written before the object is, taken away in the
-- transaction that makes its row; what is left after `until` is removed by the sweeper. So no crash leaves an orphan.
CREATE TABLE media_leftovers (
    key text PRIMARY KEY,
    until timestamptz NOT NULL
);
CREATE INDEX media_leftovers_until ON media_leftovers (until);
