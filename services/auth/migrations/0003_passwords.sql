-- A person signs in with a password (argon2id) or at the external identity provider, which knows her as `subject`.
ALTER TABLE users
    ADD password_hash text,
    ADD issuer text,
    ADD subject text,
    ADD CHECK ((issuer IS NULL) = (subject IS NULL));
CREATE UNIQUE INDEX users_issuer_subject_key ON users (issuer, subject) WHERE issuer IS NOT NULL;

-- When the last access token made for a session has expired: so long a revoked session must be remembered. Sessions that
-- exist already have tokens of five minutes.
ALTER TABLE sessions ADD access_until timestamptz NOT NULL DEFAULT now() + interval '1 hour';
ALTER TABLE sessions ALTER access_until DROP DEFAULT;

-- Passwords tried since the last success, by SHA-256 of account and network address; `until` is when they are forgotten.
CREATE TABLE login_failures (
    who bytea PRIMARY KEY,
    failures integer NOT NULL,
    until timestamptz NOT NULL
);
CREATE INDEX login_failures_until_idx ON login_failures (until);
