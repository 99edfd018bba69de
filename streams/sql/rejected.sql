-- rejected: records of scaling.runs that are not valid events, by the coordinates they had there.
CREATE TABLE IF NOT EXISTS {database}.scaling_rejected
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64,
    timestamp DateTime64(3, 'UTC'),
    reason String,
    size UInt64 COMMENT 'bytes of the original',
    sha256 FixedString(64) COMMENT 'of the whole original, hexadecimal',
    payload String COMMENT 'the first 64 KiB of the original',
    encoding LowCardinality(String) COMMENT 'of payload: utf-8 or base64',
    key Nullable(String),
    key_encoding LowCardinality(String) COMMENT 'of key: utf-8 or base64',
    headers Map(String, String),
    import_id LowCardinality(Nullable(String)),
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (topic, partition, offset);

CREATE OR REPLACE VIEW {database}.rejected AS
SELECT * FROM {database}.scaling_rejected FINAL;
