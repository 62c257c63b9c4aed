-- What access tokens are refused, until the last token it may be about has expired: a token's id (`jti`), or the id of
-- the session or API key that tokens were made for (`sid`). Every process holds a copy (services/runtime/revocation.py).
CREATE TABLE revocations (
    subject text PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
CREATE INDEX revocations_expires_at_idx ON revocations (expires_at);
