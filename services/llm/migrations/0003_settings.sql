-- What users have set; what is absent has the default of services/llm/settings.py. Each group is one column, so that `||`
-- changes it member by member.
CREATE TABLE user_settings (
    user_id text PRIMARY KEY,
    id text NOT NULL,
    profile_settings jsonb NOT NULL DEFAULT '{}',
    memory_config jsonb NOT NULL DEFAULT '{}',
    advanced_settings jsonb NOT NULL DEFAULT '{}',
    preferences jsonb NOT NULL DEFAULT '{}',
    enable_trace boolean,
    enable_tools boolean,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- What generations and embeddings took, by hour. What belongs to no project, or was done without an API key, has ''.
CREATE TABLE usage (
    user_id text NOT NULL,
    hour timestamptz NOT NULL,
    model text NOT NULL,
    project_id text NOT NULL DEFAULT '',
    api_key_id text NOT NULL DEFAULT '',
    requests integer NOT NULL,
    prompt_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    PRIMARY KEY (user_id, hour, model, project_id, api_key_id)
);
CREATE INDEX usage_model_idx ON usage (model, hour);
