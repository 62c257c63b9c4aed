"""The statement that ranks passages for a question.

A passage is ranked by its vector and by its words: `score` is 0.7 of the cosine similarity plus 0.3 of the share of the
question's words that it has, rare words counting more. Vectors find what is meant in other words, words find names,
codes and numbers, which vectors blur (docs/tools.md has the measurements).
"""

from __future__ import annotations

NEAR = 200
"""Passages that the index gives."""

THOROUGH = """
    SET LOCAL hnsw.ef_search = 200; SET LOCAL hnsw.iterative_scan = relaxed_order;
    SET LOCAL hnsw.max_scan_tuples = 100000
"""
"""What a transaction is set to that asks the index: for a user whose passages are few among those of others, it has to
look at many that are not hers."""

# The condition is that of the index.
_NEAREST = f"""
    AND vector_dims(p.embedding) = {{size}}
    ORDER BY p.embedding::halfvec({{size}}) <=> $6::halfvec({{size}}) LIMIT {NEAR}
"""
# Written so that no statistics of the planner, which knows nothing of new rows, can mislead it: every passage is read
# once, conditions on documents are looked up in a hash (an IN below an OR), the weights are computed once. The weight
# of a word is that of BM25, with the passages in question as the collection. A vector of zeros is like none.
_SEARCH = """
    WITH near AS MATERIALIZED (
        SELECT p.document_id, p.number, {hits}
            coalesce(nullif(1 - (p.embedding <=> $6::halfvec), 'NaN'), 0) AS similarity
        FROM document_passages p
        WHERE p.user_id = $1 AND p.space = $2 AND (cardinality($3::text[]) = 0 OR p.document_id = ANY($3::text[]))
            AND (cardinality($4::text[]) = 0 AND $5::jsonb = '{{}}' OR p.document_id IN (
                SELECT d.id FROM documents d WHERE d.user_id = $1 AND d.tags @> $4::text[] AND d.metadata @> $5::jsonb
            ))
        {nearest}
    ),
    weights AS MATERIALIZED (SELECT {weights} FROM near),
    best AS (
        SELECT document_id, number, 0.7 * greatest(similarity, 0) + 0.3 * {share} AS score
        FROM near, weights ORDER BY score DESC, document_id, number LIMIT $7
    )
    SELECT best.document_id, best.number, best.score, p.text, d.tags, d.metadata
    FROM best
    JOIN document_passages p ON p.user_id = $1 AND p.document_id = best.document_id AND p.number = best.number
    JOIN documents d ON d.user_id = $1 AND d.id = best.document_id
    ORDER BY score DESC, document_id, number
"""
_HIT = "p.words @@ ($8::tsquery[])[{n}] AS hit_{n},"
_WEIGHT = """
    ln(1 + (count(*) - count(*) FILTER (WHERE hit_{n}) + 0.5::float8) / (count(*) FILTER (WHERE hit_{n}) + 0.5::float8))
        AS weight_{n}
"""
_SHARE = "CASE WHEN hit_{n} THEN weight_{n} ELSE 0 END"


def search(size: int, words: int, *, exact: bool) -> str:
    """The statement for vectors of that size and a question with so many words; it compares all passages, or asks the
    index. Its arguments: user, space, ids, tags, metadata, vector, how many passages, and lexemes if there are any."""
    numbers = range(1, words + 1)
    found = " + ".join(_SHARE.format(n=n) for n in numbers)
    asked = " + ".join(f"weight_{n}" for n in numbers)
    return _SEARCH.format(
        size=size,
        nearest="" if exact else _NEAREST.format(size=size),
        hits=" ".join(_HIT.format(n=n) for n in numbers),
        weights=", ".join(_WEIGHT.format(n=n) for n in numbers) or "1 AS weight",
        share=f"({found}) / ({asked})" if words else "0",
    )
