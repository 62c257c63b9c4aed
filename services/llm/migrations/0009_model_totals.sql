-- What each model was used for since the beginning, all users together: adding up `usage` for it would take longer with
-- every hour of every user.
CREATE TABLE model_totals (
    model text PRIMARY KEY,
    requests bigint NOT NULL,
    prompt_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL
);
INSERT INTO model_totals (model, requests, prompt_tokens, completion_tokens)
SELECT model, sum(requests), sum(prompt_tokens), sum(completion_tokens) FROM usage GROUP BY model;
DROP INDEX usage_model_idx;
