-- joint_cells: a context's runs, one row for each full setting, complexity bin, fold, task group and project.
-- A query with parameters, no part of the schema; streams/joint_cells.py puts the condition in and reads the answer.
WITH
    x -> x > 64 OR x != floor(x) AS in_bin,
    -- A number of its own, or the index of its quarter octave.
    x -> if(in_bin(x), floor(4 * log2(x)), x) AS place,
    x -> if(x = 0, 0., log(x)) AS ln,
    y -> log(if(y < 0.001, 0.001, y)) AS clipped_ln
SELECT
    fold,
    task_group,
    project,
    complexity,
    category,
    COLUMNS('^bin '),
    COLUMNS('^x '),
    countIf(decided) AS policy,
    countIf(NOT decided) AS observational,
    COLUMNS('^ln ') APPLY avg,
    COLUMNS('^y ') APPLY count,
    COLUMNS('^y ') APPLY avg,
    COLUMNS('^y ') APPLY varPopStable
FROM
(
    SELECT
        xxHash64(coalesce(task_id, agent_run_id)) AS task,
        toUInt8(task % 5) AS fold,
        toUInt8(task % 64) AS task_group,
        toString(project) AS project,
        -- Ten equal bins; 1 belongs to the last.
        if(task_complexity IS NULL, -1, toInt8(least(9, floor(10 * assumeNotNull(task_complexity))))) AS complexity,
        toString(model_size_category) AS category,
        decision_id IS NOT NULL OR policy_version IS NOT NULL AS decided,

        toFloat64(agent_count) AS agents,
        toFloat64(max_iterations) AS iteration_limit,
        total_iterations / agent_count AS iterations,
        toFloat64(parallelism_level) AS parallelism,
        toFloat64(context_budget) AS context_limit,
        toFloat64(context_tokens) AS context,
        toFloat64(retry_limit) + 1 AS attempt_limit,
        toFloat64(retry_count) + 1 AS attempts,

        in_bin(agents) AS `bin agent_count realised`,
        in_bin(iteration_limit) AS `bin iterations dose`,
        in_bin(iterations) AS `bin iterations realised`,
        in_bin(parallelism) AS `bin parallelism_level realised`,
        in_bin(context_limit) AS `bin context dose`,
        in_bin(context) AS `bin context realised`,
        in_bin(attempt_limit) AS `bin attempts dose`,
        in_bin(attempts) AS `bin attempts realised`,
        -- A model's size is never put into a bin.
        0 AS `bin model_size realised`,

        place(agents) AS `x agent_count realised`,
        place(iteration_limit) AS `x iterations dose`,
        place(iterations) AS `x iterations realised`,
        place(parallelism) AS `x parallelism_level realised`,
        place(context_limit) AS `x context dose`,
        place(context) AS `x context realised`,
        place(attempt_limit) AS `x attempts dose`,
        place(attempts) AS `x attempts realised`,
        model_params_b AS `x model_size realised`,

        ln(agents) AS `ln agent_count realised`,
        ln(iteration_limit) AS `ln iterations dose`,
        ln(iterations) AS `ln iterations realised`,
        ln(parallelism) AS `ln parallelism_level realised`,
        ln(context_limit) AS `ln context dose`,
        ln(context) AS `ln context realised`,
        ln(attempt_limit) AS `ln attempts dose`,
        ln(attempts) AS `ln attempts realised`,
        ln(model_params_b) AS `ln model_size realised`,

        toFloat64(success) AS `y success`,
        quality_score AS `y quality_score`,
        time_to_complete AS `y time_to_complete`,
        total_cost AS `y total_cost`,
        clipped_ln(time_to_complete) AS `y ln_time`,
        clipped_ln(total_cost) AS `y clipped_ln_cost`,
        clipped_ln(quality_score) AS `y clipped_ln_quality`,
        if(success, quality_score, NULL) AS `y quality_given_success`,
        -- A failed run is worth nothing, whatever its quality; of a successful one the quality must be known.
        multiIf(success, quality_score, NOT success, 0., NULL) AS `y success_times_quality`
    FROM observations
    WHERE {condition}
)
GROUP BY ALL
-- The same runs give the same rows in the same order; the keys come first and decide.
ORDER BY ALL
