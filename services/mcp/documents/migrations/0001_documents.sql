-- Texts for file search, in the database of VECTOR_STORE_URL or DATABASE_URL; applied only where MCP_ENABLE_FILE_SEARCH.
CREATE EXTENSION IF NOT EXISTS vector;

DO $$
BEGIN
    IF (SELECT string_to_array(split_part(extversion, '-', 1), '.')::int[] FROM pg_extension WHERE extname = 'vector')
        < ARRAY[0, 8] THEN
        RAISE EXCEPTION 'the extension vector is older than 0.8: ALTER EXTENSION vector UPDATE';
    END IF;
END $$;

-- One text of a user, who may have named it.
CREATE TABLE documents (
    user_id text NOT NULL,
    id text NOT NULL,
    space text NOT NULL,                        -- model and size of its vectors: only those of one space are comparable
    passage_count integer NOT NULL,
    token_count integer NOT NULL,
    tags text[] NOT NULL,
    metadata jsonb NOT NULL,
    indexed_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, id)
);

-- The parts it was cut into. Vectors of any length may stand here; half precision changes no ranking and halves the reading.
CREATE TABLE document_passages (
    user_id text NOT NULL,
    document_id text NOT NULL,
    number integer NOT NULL,
    space text NOT NULL,                        -- that of the document
    text text NOT NULL,
    words tsvector NOT NULL,                    -- of services/mcp/documents/words.py, without positions
    embedding halfvec NOT NULL,
    PRIMARY KEY (user_id, document_id, number),
    FOREIGN KEY (user_id, document_id) REFERENCES documents (user_id, id) ON DELETE CASCADE
);

-- What every search reads stays in the row; the text, of which it shows a few, may be put elsewhere.
ALTER TABLE document_passages ALTER COLUMN embedding SET STORAGE MAIN, ALTER COLUMN words SET STORAGE MAIN;

-- For users with so many passages that they cannot all be compared. Other lengths of vectors need an index of their own.
CREATE INDEX document_passages_embedding_384_idx ON document_passages
    USING hnsw ((embedding::halfvec(384)) halfvec_cosine_ops) WHERE vector_dims(embedding) = 384;
