-- ab_log: what became of an A/B test's tasks, one row for each arm, stratum of complexity and step of time.
-- A query with parameters, no part of the schema; streams/ab_log.py reads the answer.
-- A task counts once, with the first of its decisions; decisions without a task_id are tasks of their own.
WITH
    -- Whether a part of the setting is as it was given; null where the run does not report it.
    (given, used) -> if(used IS NULL, NULL, toFloat64(assumeNotNull(used)) = toFloat64(given)) AS same
SELECT
    arm,
    stratum,
    step,
    countIf(turn = 1) AS tasks,
    countIf(turn > 1) AS repeats,
    countIf(turn = 1 AND runs = 0) AS pending,
    countIf(turn = 1 AND runs > 0 AND success IS NULL) AS unjudged,
    countIf(turn = 1 AND runs > 0 AND success IS NOT NULL AND total_cost IS NULL) AS unpriced,
    countIf(turn = 1 AND by_dice) AS explored,
    countIf(turn = 1 AND notEmpty(parts)) AS reporting,
    countIf(turn = 1 AND notEmpty(parts) AND NOT has(parts, 0)) AS complied,
    countIf(turn = 1 AND old) AS due,
    countIf(turn = 1 AND old AND runs > 0) AS returned,
    sum(ifNull(total_cost, 0.)) AS spend,
    max(completed_at) AS until,
    countIf(counts) AS n,
    avgIf(y, counts) AS y_mean,
    avgIf(c, counts) AS c_mean,
    varPopStableIf(y, counts) AS yy,
    covarPopStableIf(y, c, counts) AS yc,
    varPopStableIf(c, counts) AS cc
FROM
(
    SELECT
        arm,
        runs,
        success,
        total_cost,
        completed_at,
        explored AS by_dice,
        decided_at < now64(3) - toIntervalSecond({patience:UInt32}) AS old,
        row_number() OVER (PARTITION BY unit ORDER BY decided_at, decision_id) AS turn,
        turn = 1 AND success IS NOT NULL AND total_cost IS NOT NULL AS counts,
        toFloat64(assumeNotNull(success)) AS y,
        assumeNotNull(total_cost) AS c,
        -- Fifths of [0, 1], 1 in the last; tasks of unknown complexity apart.
        if(complexity IS NULL, 5, toInt8(least(4, floor(5 * assumeNotNull(complexity))))) AS stratum,
        toUnixTimestamp64Milli(assumeNotNull(completed_at)) AS ended,
        minIf(ended, runs > 0) OVER () AS earliest,
        maxIf(ended, runs > 0) OVER () AS latest,
        if(runs = 0, -1, toInt16(least(
            {steps:UInt16} - 1, floor({steps:UInt16} * (ended - earliest) / greatest(latest - earliest, 1))
        ))) AS step,
        arrayFilter(part -> part IS NOT NULL, [
            same(decision.agent_count, run.agent_count),
            same(decision.max_iterations, run.max_iterations),
            same(decision.context_budget, run.context_budget),
            same(decision.parallelism, run.parallelism_level)
        ]) AS parts
    FROM
    (
        SELECT
            *,
            coalesce(nullIf(JSONExtract(task, 'task_id', 'Nullable(String)'), ''), decision_id) AS unit
        FROM decision_outcomes
        WHERE test = {test:String}
    ) AS decision
    LEFT JOIN
    (
        SELECT toNullable(agent_run_id) AS agent_run_id, agent_count, max_iterations, context_budget, parallelism_level
        FROM observations
        WHERE decision_id IS NOT NULL
    ) AS run USING (agent_run_id)
)
GROUP BY arm, stratum, step
ORDER BY arm, stratum, step
