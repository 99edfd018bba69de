-- corrections: the runs of a context with a record below a cut whose content is another by now.
-- A query with parameters, no part of the schema; streams/verification.py puts the context's condition in.
WITH offset < {cut:Map(UInt16, UInt64)}[partition] AS below
SELECT
    agent_run_id,
    argMaxIf(content_hash, (revision, offset), below) AS then,
    argMax(content_hash, (revision, offset)) AS now,
    agent_run_id IN (SELECT agent_run_id FROM observations WHERE {condition}) AS inside
FROM scaling_records
GROUP BY agent_run_id
HAVING countIf(below) > 0 AND then != now
ORDER BY inside DESC, agent_run_id
