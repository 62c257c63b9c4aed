-- A share is a frozen copy: it outlives changes of its conversation. With the conversation it is revoked, and the row
-- stays, so that readers are told so (410).
CREATE TABLE shares (
    id text PRIMARY KEY,
    slug text NOT NULL UNIQUE,
    user_id text NOT NULL,
    conversation_id text NOT NULL,
    item_id text,
    title text,
    read_only boolean NOT NULL,
    allow_feedback boolean NOT NULL,
    items json NOT NULL,                -- what readers see, in the shape of `jan.llm.v1.SharedItem`
    view_count integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX shares_user_id_idx ON shares (user_id, created_at, id) INCLUDE (revoked_at);
CREATE INDEX shares_conversation_id_idx ON shares (conversation_id, created_at, id);
