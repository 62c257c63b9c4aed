-- How often administrators have changed providers, models and catalog rows: one row, so that a process finds out with one
-- look whether it knows the last change. Whoever changes something counts it last, which keeps locks in one order.
CREATE TABLE model_changes (
    one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    count bigint NOT NULL DEFAULT 0
);
INSERT INTO model_changes DEFAULT VALUES;
