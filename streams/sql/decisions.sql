-- decisions: what the allocator gave each task, how likely it was at the time, and what it would have chosen itself.
CREATE TABLE IF NOT EXISTS {database}.scaling_decisions
(
    decision_id String COMMENT 'echoed by the run',
    decided_at DateTime64(3, 'UTC'),
    policy_version LowCardinality(String),
    agent_count UInt64 COMMENT 'what was given, as are the next four columns',
    max_iterations UInt64,
    context_budget UInt64 COMMENT 'tokens',
    parallelism UInt64,
    model_size LowCardinality(String) COMMENT 'empty where it was not chosen',
    propensity Float64 COMMENT 'of what was given, over exploration and the A/B test',
    choice String COMMENT 'the setting before exploration, JSON',
    objective LowCardinality(String),
    outcome LowCardinality(String) COMMENT 'what was bought',
    method LowCardinality(String),
    contexts Array(String),
    task String COMMENT 'what was known of the task, a JSON object',
    complexity Nullable(Float64),
    budget Nullable(Float64) COMMENT 'US dollars',
    explored Bool COMMENT 'the dice gave the setting',
    test LowCardinality(String) COMMENT 'the A/B test, empty without one',
    arm LowCardinality(String),
    expected Map(String, Float64) COMMENT 'outcome by outcome',
    laws Map(String, UInt64) COMMENT 'the versions of the laws used',
    overrides String COMMENT 'in force for it, JSON',
    override_cost Float64 COMMENT 'in the unit of the objective',
    partition UInt16,
    offset UInt64 COMMENT 'on scaling.decisions',
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'),
    INDEX decided_at_range decided_at TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(offset)
ORDER BY decision_id;

CREATE OR REPLACE VIEW {database}.decisions AS
SELECT * FROM {database}.scaling_decisions FINAL;

-- Each decision with the run that echoed it; of several the first to end counts. Without one its columns are null.
CREATE OR REPLACE VIEW {database}.decision_outcomes AS
SELECT
    decision.*,
    run.first.1 AS agent_run_id,
    run.first.2 AS completed_at,
    -- Of the task as it was asked for, else as the run tells it.
    coalesce(JSONExtract(decision.task, 'task_id', 'Nullable(String)'), run.first.3) AS task_id,
    run.first.4 AS success,
    run.first.5 AS quality_score,
    run.first.6 AS time_to_complete,
    run.first.7 AS total_cost,
    run.runs AS runs
FROM {database}.decisions AS decision
LEFT JOIN
(
    SELECT
        assumeNotNull(decision_id) AS decision_id,
        argMin(
            tuple(toNullable(agent_run_id), toNullable(completed_at), task_id, success, quality_score,
                time_to_complete, total_cost),
            tuple(completed_at, agent_run_id)
        ) AS first,
        count() AS runs
    FROM {database}.observations
    WHERE decision_id IS NOT NULL
    GROUP BY decision_id
) AS run USING (decision_id);
