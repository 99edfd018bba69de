-- reconciliation: how many runs each context has, and how many of them carry each outcome.
-- A query with parameters, no part of the schema; streams/extents.py puts keys, sets and condition in.
SELECT
    {outside} AS outside,
    count() AS runs,
    count(success) AS success,
    count(quality_score) AS quality_score,
    count(time_to_complete) AS time_to_complete,
    count(total_cost) AS total_cost,
    {names}
FROM
(
    SELECT {texts}, success, quality_score, time_to_complete, total_cost
    FROM observations
    WHERE {condition}
)
GROUP BY GROUPING SETS ({sets})
HAVING {complete}
ORDER BY outside, runs DESC, {names}
LIMIT {most} BY outside
