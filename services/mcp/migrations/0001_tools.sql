-- Every tool that was ever seen, and what administrators have set. What a tool says of itself is kept for their lists only.
CREATE TABLE tools (
    id text PRIMARY KEY,
    name text NOT NULL UNIQUE,
    provider text NOT NULL,
    default_description text NOT NULL,
    default_category text NOT NULL,
    description text,                           -- null: the default one, as for the next
    category text,
    enabled boolean NOT NULL DEFAULT true,
    disallowed_keywords text[] NOT NULL DEFAULT '{}',
    require_approval_for text[] NOT NULL DEFAULT '{}',
    metadata json NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Who has called which tool, how long it took and what came of it; nothing of what was said.
CREATE TABLE tool_calls (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id text NOT NULL,
    tool text NOT NULL,
    request_id text NOT NULL,
    outcome text NOT NULL,                      -- `completed`, or the code of the failure
    duration_ms integer NOT NULL CHECK (duration_ms >= 0),
    created_at timestamptz NOT NULL
);
CREATE INDEX tool_calls_user_id_idx ON tool_calls (user_id, created_at);
CREATE INDEX tool_calls_tool_idx ON tool_calls (tool, created_at);
