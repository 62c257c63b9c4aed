-- Projects are folders; a conversation is in one of them or in none.
CREATE TABLE projects (
    id text PRIMARY KEY,
    user_id text NOT NULL,
    name text NOT NULL,
    instruction text,
    is_favorite boolean NOT NULL DEFAULT false,
    archived_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX projects_user_id_idx ON projects (user_id, updated_at, id);

-- `last_position` is the position of the item added last, whether or not it is still there: the row is locked while items
-- are added, so that positions follow the order of commits. `item_count` is kept by whoever adds or deletes items.
CREATE TABLE conversations (
    id text PRIMARY KEY,
    user_id text NOT NULL,
    project_id text REFERENCES projects (id) ON DELETE SET NULL,
    title text CHECK (title <> ''),
    metadata json NOT NULL DEFAULT '{}',
    referrer text CHECK (referrer <> ''),
    is_archived boolean NOT NULL DEFAULT false,
    item_count integer NOT NULL DEFAULT 0 CHECK (item_count >= 0),
    last_position bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
-- One index for each filter that leaves few rows. The first one also holds what the other filters look at, so that they
-- are counted without reading the table.
CREATE INDEX conversations_user_id_idx ON conversations (user_id, updated_at, id) INCLUDE (is_archived, title);
CREATE INDEX conversations_archived_idx ON conversations (user_id, updated_at, id) WHERE is_archived;
CREATE INDEX conversations_project_id_idx ON conversations (project_id, user_id, updated_at, id)
    WHERE project_id IS NOT NULL;
CREATE INDEX conversations_referrer_idx ON conversations (user_id, referrer, updated_at, id) WHERE referrer IS NOT NULL;

-- Messages, tool calls and reasoning. What is optional in `jan.llm.v1.Item` is null here when it does not apply.
CREATE TABLE items (
    id text PRIMARY KEY,
    conversation_id text NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    position bigint NOT NULL,
    type text NOT NULL CHECK (type IN ('message', 'function_call', 'function_call_output', 'mcp_call', 'reasoning')),
    role text NOT NULL CHECK (role IN ('user', 'assistant', 'system', 'tool')),
    content json,                       -- as given: json keeps the text, jsonb would not
    content_type text NOT NULL DEFAULT 'text',
    status text NOT NULL DEFAULT 'completed' CHECK (status IN ('completed', 'in_progress', 'incomplete', 'failed')),
    metadata json NOT NULL DEFAULT '{}',
    model text,
    usage json,
    finish_reason text,
    latency_ms integer,
    tool_calls json,
    tool_call_id text,
    name text,
    arguments text,
    output json,
    call_id text,
    reasoning_content text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (conversation_id, position)
);
