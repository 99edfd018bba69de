"""What happens on an event: plain functions over batches, mappings and callables; no Kafka, no HTTP."""
