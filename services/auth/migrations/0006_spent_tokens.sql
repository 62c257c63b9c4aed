-- Spent refresh tokens are looked for every few minutes, among all that are not.
CREATE INDEX refresh_tokens_spent_at_idx ON refresh_tokens (spent_at) WHERE spent_at IS NOT NULL;
