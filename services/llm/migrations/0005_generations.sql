-- The conversations in which an answer is being made. `holder` is the number of the process that makes it
-- (services/runtime/watch.py), whose death frees the conversation. Unlogged: a crash of the database frees them all, and
-- that a conversation is busy need not wait for the disk.
CREATE UNLOGGED TABLE generations (
    conversation_id text PRIMARY KEY REFERENCES conversations (id) ON DELETE CASCADE,
    holder integer NOT NULL,
    run uuid NOT NULL                   -- which generation; one whose conversation was taken over must not free it
);
