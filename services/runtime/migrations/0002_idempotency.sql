-- Answers by idempotency key (CONTRACT 13.2), kept 24 h. `answer` is null while the first call runs; `holder` is the
-- number of the process that runs it (services/runtime/watch.py), whose death frees the key.
CREATE TABLE idempotency_keys (
    scope bytea PRIMARY KEY,            -- SHA-256 of principal, path and key
    fingerprint bytea NOT NULL,         -- SHA-256 of the request
    holder integer NOT NULL,
    run uuid NOT NULL,                  -- which attempt; one that was taken over must not store
    answer bytea,                       -- encrypted (services/runtime/vault.py)
    expires_at timestamptz NOT NULL
);
CREATE INDEX idempotency_keys_expires_at_idx ON idempotency_keys (expires_at);
