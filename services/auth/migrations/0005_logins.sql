-- Sign-ins at the external identity provider that have begun: each is good once, for 10 minutes (services/auth/oidc.py).
CREATE TABLE logins (
    state_hash bytea PRIMARY KEY,       -- SHA-256 of `state`, which has 256 random bits
    sealed bytea NOT NULL,              -- nonce, PKCE verifier and where to go afterwards (services/runtime/vault.py)
    expires_at timestamptz NOT NULL
);
CREATE INDEX logins_expires_at_idx ON logins (expires_at);
