-- ab_settings: what the dynamic arm of an A/B test gave, by tenths of complexity; geometric means, without exploration.
-- A query with parameters, no part of the schema; streams/ab_log.py reads the answer.
SELECT
    least(9, floor(10 * assumeNotNull(complexity))) / 10 AS tenth,
    count() AS tasks,
    exp(avg(log(agent_count))) AS agent_count,
    exp(avg(log(max_iterations))) AS max_iterations,
    exp(avg(log(context_budget))) AS context_budget,
    exp(avg(log(parallelism))) AS parallelism
FROM decisions
WHERE test = {test:String} AND arm = 'dynamic' AND NOT explored AND complexity IS NOT NULL
GROUP BY tenth
ORDER BY tenth
