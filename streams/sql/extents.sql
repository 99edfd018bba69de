-- extents: how many runs each context has, and a fingerprint of what they say.
-- A query with parameters, no part of the schema; streams/extents.py puts keys, sets and condition in.
-- `outside` has a bit for each key, the first the highest: whether the row is not grouped by it.
SELECT
    {outside} AS outside,
    count() AS runs,
    groupBitXor(content) AS fingerprint,
    {names}
FROM
(
    SELECT {texts}, xxHash64(agent_run_id, content_hash) AS content
    FROM observations
    WHERE {condition}
)
GROUP BY GROUPING SETS ({sets})
-- A run that lacks a key of a set is in no context of it.
HAVING {complete}
ORDER BY outside, runs DESC, {names}
LIMIT {most} BY outside
