-- Providers that administrators have made; those of the configuration are in no table.
CREATE TABLE providers (
    id text PRIMARY KEY,
    name text NOT NULL UNIQUE,
    vendor text NOT NULL,
    endpoints json NOT NULL,            -- [{url, weight, priority}]
    api_key bytea,                      -- sealed, about the id
    key_hint text,
    active boolean NOT NULL,
    metadata json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Every model that a provider has offered. The id is made from the provider and the model, so that all processes know it.
-- `enabled` is null until an administrator says so; `changes` is what administrators have said, over what the provider says.
CREATE TABLE provider_models (
    id text PRIMARY KEY,
    provider_id text NOT NULL,
    model_id text NOT NULL,
    upstream_id text NOT NULL,
    enabled boolean,
    changes json NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX provider_models_provider_id_idx ON provider_models (provider_id);

-- What administrators have said about a model, whoever offers it; `changes` is empty or the whole description.
CREATE TABLE catalogs (
    model_id text PRIMARY KEY,
    enabled boolean NOT NULL DEFAULT true,
    changes json NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Who has changed what, when and why.
CREATE TABLE audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    actor text NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    reason text NOT NULL DEFAULT '',
    request_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_log_target_idx ON audit_log (target, created_at);
