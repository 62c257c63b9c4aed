-- The images that conversations and shares show, which the media room keeps as long as they do. Taken from what is stored,
-- so no writer can forget it.
CREATE FUNCTION media_ids(stored json) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN (
    SELECT array_agg(DISTINCT lower(found[1])) FROM regexp_matches(stored::text, '\mjan_[0-9a-z]{26}\M', 'gi') AS found
);

ALTER TABLE items ADD COLUMN media text[] GENERATED ALWAYS AS (media_ids(content) || media_ids(output)) STORED;
CREATE INDEX items_media_idx ON items (id) INCLUDE (media) WHERE media IS NOT NULL;

ALTER TABLE shares ADD COLUMN media text[] GENERATED ALWAYS AS (media_ids(items)) STORED;

CREATE VIEW media_in_use AS
    SELECT unnest(media) AS media_id FROM items WHERE media IS NOT NULL
    UNION ALL
    SELECT unnest(media) FROM shares
    WHERE media IS NOT NULL AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now());
