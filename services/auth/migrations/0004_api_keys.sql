-- Long-lived credentials of programs. Only the SHA-256 of a secret is kept: it has 192 random bits, so a slow hash would
-- add nothing. Limits of 0 and the empty tier mean "not set for this key".
CREATE TABLE api_keys (
    id text PRIMARY KEY,
    user_id text NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    secret_hash bytea NOT NULL UNIQUE,
    name text NOT NULL,
    prefix text NOT NULL,
    suffix text NOT NULL,
    scopes text[] NOT NULL,
    tier text NOT NULL DEFAULT '',
    requests_per_minute integer NOT NULL DEFAULT 0,
    requests_per_day integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    last_used_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX api_keys_user_id_idx ON api_keys (user_id, created_at, id);
CREATE INDEX api_keys_created_at_idx ON api_keys (created_at, id);

-- How often a key was used on a day (UTC), for daily quotas.
CREATE TABLE api_key_usage (
    key_id text NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    day date NOT NULL,
    requests bigint NOT NULL,
    PRIMARY KEY (key_id, day)
);
CREATE INDEX api_key_usage_day_idx ON api_key_usage (day);
