-- rebuild: the runs of a partition with a record below a cut, in their newest revision and the order of its offset.
-- A query with parameters, no part of the schema; streams/rebuilding.py puts the condition `below` in.
SELECT
    agent_run_id,
    revision,
    project,
    task_type,
    task_id,
    model,
    task_complexity,
    project_characteristics,
    agent_count,
    parallelism_level,
    total_iterations,
    max_iterations,
    retry_limit,
    context_budget,
    retry_count,
    context_tokens,
    model_size_category,
    model_params_b,
    toUInt8(success) AS success,
    quality_score,
    time_to_complete,
    total_cost,
    decision_id,
    policy_version,
    toUnixTimestamp64Milli(completed_at) AS completed_ms,
    content_hash,
    offset
FROM observations
WHERE partition = {partition:UInt16} AND {below}
ORDER BY offset
