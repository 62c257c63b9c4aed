-- About how many bytes an item takes to read, so that a reader stops in time without having loaded what it leaves out.
ALTER TABLE items ADD COLUMN size integer NOT NULL GENERATED ALWAYS AS (
    coalesce(octet_length(content::text), 0) + coalesce(octet_length(tool_calls::text), 0)
    + coalesce(octet_length(arguments), 0) + coalesce(octet_length(output::text), 0)
    + coalesce(octet_length(reasoning_content), 0)
) STORED;
